//! Questions about the state of `wire`, answered in pages so that no answer holds up a packet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use metallb_l2::{Counters, MacAddr};
use metallb_speaker_core::{Engine, MemberReport, ServiceKey, ServiceReport};
use tokio::sync::{mpsc, oneshot};

use super::Command;
use super::links::{LinkReport, Links};

/// Services told at once.
const PAGE: usize = 64;
/// How long an answer may take: one turn of the loop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the answer to wherever it is waited for.
type Deliver = Box<dyn FnOnce(Reply) + Send>;

/// One question.
pub(crate) struct Request {
    what: What,
    deliver: Deliver,
}

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
    Surroundings(Vec<MemberReport>, Vec<LinkReport>, BTreeMap<IpAddr, Vec<MacAddr>>),
    Counts(Counts),
}

/// Counters of the thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// For each address that was ever announced.
    pub(crate) addresses: BTreeMap<IpAddr, Counters>,
    /// Stations outside the cluster that claimed an address of ours within the last minute.
    pub(crate) conflicts: BTreeMap<IpAddr, Vec<MacAddr>>,
    /// Membership.
    pub(crate) membership: metallb_member::Counters,
}

/// All of the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) members: Vec<MemberReport>,
    pub(crate) links: Vec<LinkReport>,
    pub(crate) conflicts: BTreeMap<IpAddr, Vec<MacAddr>>,
    pub(crate) services: Vec<ServiceReport>,
}

/// Asks `wire`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reporter(mpsc::Sender<Command>);

impl Reporter {
    pub(super) const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self(commands)
    }

    /// One whom nobody answers.
    #[cfg(test)]
    pub(crate) fn unanswered() -> Self {
        Self(mpsc::channel(1).0)
    }

    /// One service; `None` inside when it has no plan.
    pub(crate) async fn service(&self, key: &ServiceKey) -> anyhow::Result<Option<ServiceReport>> {
        let services = self.services(What::Service(key.clone())).await?;
        Ok(services.into_iter().next())
    }

    /// All services, by key.
    pub(crate) async fn all_services(&self) -> anyhow::Result<Vec<ServiceReport>> {
        let mut all: Vec<ServiceReport> = Vec::new();
        loop {
            let after = all.last().map(|report| report.service.clone());
            let page = self.services(What::Services(after)).await?;
            let done = page.len() < PAGE;
            all.extend(page);
            if done {
                return Ok(all);
            }
        }
    }

    async fn services(&self, what: What) -> anyhow::Result<Vec<ServiceReport>> {
        match self.reply(what).await? {
            Reply::Services(services) => Ok(services),
            _ => anyhow::bail!("the wire thread answered another question"),
        }
    }

    /// How every speaker stands.
    pub(crate) async fn members(&self) -> anyhow::Result<Vec<MemberReport>> {
        match self.reply(What::Surroundings).await? {
            Reply::Surroundings(members, ..) => Ok(members),
            _ => anyhow::bail!("the wire thread answered another question"),
        }
    }

    async fn reply(&self, what: What) -> anyhow::Result<Reply> {
        let (sender, answer) = oneshot::channel();
        let deliver: Deliver = Box::new(move |reply| {
            if sender.send(reply).is_err() {
                tracing::debug!("nobody waits for a report");
            }
        });
        let request = Request { what, deliver };
        self.0
            .send(Command::Report(request))
            .await
            .ok()
            .context("the wire thread has ended")?;
        answer.await.context("the wire thread gave no answer")
    }

    /// Everything, for a caller that cannot wait asynchronously; `None` when the thread does not answer in time.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let Reply::Surroundings(members, links, conflicts) = self.ask(|| What::Surroundings)? else {
            return None;
        };
        let mut services: Vec<ServiceReport> = Vec::new();
        loop {
            let after = services.last().map(|report| report.service.clone());
            let Reply::Services(page) = self.ask(|| What::Services(after.clone()))? else {
                return None;
            };
            let done = page.len() < PAGE;
            services.extend(page);
            if done {
                return Some(Snapshot {
                    members,
                    links,
                    conflicts,
                    services,
                });
            }
        }
    }

    /// The counters; `None` when the thread does not answer in time.
    pub(crate) fn counts(&self) -> Option<Counts> {
        match self.ask(|| What::Counts)? {
            Reply::Counts(counts) => Some(counts),
            _ => None,
        }
    }

    /// Blocks for the moment that an answer takes: `wire` never waits for the thread that asks.
    fn ask(&self, what: impl Fn() -> What) -> Option<Reply> {
        let deadline = Instant::now() + PATIENCE;
        let (sender, answer) = sync_channel(1);
        loop {
            let sender = sender.clone();
            let deliver: Deliver = Box::new(move |reply| {
                if sender.try_send(reply).is_err() {
                    tracing::debug!("nobody waits for a report");
                }
            });
            match self.0.try_send(Command::Report(Request {
                what: what(),
                deliver,
            })) {
                Ok(()) => return answer.recv_timeout(PATIENCE).ok(),
                // The queue is full of plans, which takes a moment.
                Err(mpsc::error::TrySendError::Full(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return None,
            }
        }
    }
}

/// Answers one question.
pub(super) fn answer(now: metallb_sansio::Instant, engine: &Engine, links: &Links, request: Request) {
    let reply = match request.what {
        What::Services(after) => {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            Reply::Services(engine.services_from(from).take(PAGE).collect())
        }
        What::Service(key) => Reply::Services(engine.service(&key).into_iter().collect()),
        What::Surroundings => Reply::Surroundings(engine.members(), links.report(), conflicts(now, engine)),
        What::Counts => Reply::Counts(Counts {
            addresses: engine.announcer().counters().clone(),
            conflicts: conflicts(now, engine),
            membership: engine.member().counters(),
        }),
    };
    (request.deliver)(reply);
}

fn conflicts(now: metallb_sansio::Instant, engine: &Engine) -> BTreeMap<IpAddr, Vec<MacAddr>> {
    let mut all: BTreeMap<IpAddr, Vec<MacAddr>> = BTreeMap::new();
    for (address, mac) in engine.announcer().conflicts(now) {
        all.entry(address).or_default().push(mac);
    }
    all
}
