//! Questions about the state of `wire`, answered in pages so that no answer holds up a packet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use metallb_l2::Counters;
use metallb_speaker_core::{Engine, MemberReport, ServiceKey, ServiceReport};
use tokio::sync::mpsc;

use super::Command;
use super::links::{LinkReport, Links};

/// Services told at once.
const PAGE: usize = 64;
/// How long an answer may take: one turn of the loop.
const PATIENCE: Duration = Duration::from_secs(1);

/// One question.
#[derive(Debug)]
pub(crate) struct Request {
    what: What,
    reply: SyncSender<Reply>,
}

#[derive(Debug)]
enum What {
    /// Services after this one.
    Services(Option<ServiceKey>),
    /// One service.
    Service(ServiceKey),
    /// Nodes and interfaces.
    Surroundings,
    /// Counters.
    Counts,
}

enum Reply {
    Services(Vec<ServiceReport>),
    Surroundings(Vec<MemberReport>, Vec<LinkReport>),
    Counts(Counts),
}

/// Counters of the thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// For each address that was ever announced.
    pub(crate) addresses: BTreeMap<IpAddr, Counters>,
    /// Membership.
    pub(crate) membership: metallb_member::Counters,
}

/// All of the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) members: Vec<MemberReport>,
    pub(crate) links: Vec<LinkReport>,
    pub(crate) services: Vec<ServiceReport>,
}

/// Asks `wire`. Cheap to clone. Blocks the asking thread for the moment that an answer takes.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<Command>);

impl Reporter {
    pub(super) const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self(commands)
    }

    /// One service; `None` when it has no plan (or the thread does not answer).
    pub(crate) fn service(&self, key: &ServiceKey) -> Option<ServiceReport> {
        match self.ask(What::Service(key.clone()))? {
            Reply::Services(services) => services.into_iter().next(),
            _ => None,
        }
    }

    /// Everything; `None` when the thread does not answer in time.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let Reply::Surroundings(members, links) = self.ask(What::Surroundings)? else {
            return None;
        };
        let mut services: Vec<ServiceReport> = Vec::new();
        loop {
            let after = services.last().map(|report| report.service.clone());
            let Reply::Services(page) = self.ask(What::Services(after))? else {
                return None;
            };
            let done = page.len() < PAGE;
            services.extend(page);
            if done {
                return Some(Snapshot {
                    members,
                    links,
                    services,
                });
            }
        }
    }

    /// The counters; `None` when the thread does not answer in time.
    pub(crate) fn counts(&self) -> Option<Counts> {
        match self.ask(What::Counts)? {
            Reply::Counts(counts) => Some(counts),
            _ => None,
        }
    }

    fn ask(&self, what: What) -> Option<Reply> {
        let (reply, answer): (_, Receiver<Reply>) = sync_channel(1);
        self.0.try_send(Command::Report(Request { what, reply })).ok()?;
        answer.recv_timeout(PATIENCE).ok()
    }
}

/// Answers one question.
pub(super) fn answer(engine: &Engine, links: &Links, request: Request) {
    let reply = match request.what {
        What::Services(after) => {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            Reply::Services(engine.services_from(from).take(PAGE).collect())
        }
        What::Service(key) => Reply::Services(engine.service(&key).into_iter().collect()),
        What::Surroundings => Reply::Surroundings(engine.members(), links.report()),
        What::Counts => Reply::Counts(Counts {
            addresses: engine.announcer().counters().clone(),
            membership: engine.member().counters(),
        }),
    };
    if request.reply.try_send(reply).is_err() {
        tracing::debug!("nobody waits for a report");
    }
}
