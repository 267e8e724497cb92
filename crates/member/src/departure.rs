//! The part of the machine that goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use metallb_sansio::{Instant, Timers};

use crate::interface::Output;
use crate::machine::{Member, Wake};
use crate::message::Content;
use crate::{Identity, NodeName};

/// A departure under way, or done.
#[derive(Debug)]
pub(crate) struct Departure {
    /// Who has not answered yet.
    waiting: BTreeMap<NodeName, SocketAddr>,
    until: Instant,
    done: bool,
}

impl Member {
    /// Says to every live peer that we go.
    pub(crate) fn leave(&mut self, now: Instant) {
        let waiting = self.peers.iter().filter(|(_, peer)| peer.state.is_live());
        let waiting = waiting
            .map(|(name, peer)| (Arc::clone(name), peer.address))
            .collect();
        self.timers = Timers::new();
        self.watches.set(now, &BTreeSet::new());
        self.departure = Some(Departure {
            waiting,
            until: now + self.timing.farewell,
            done: false,
        });
        self.farewell_tick(now);
        // For those whom we do not know; gossip carries it further.
        self.drive(now, |foca, collected| foca.leave_cluster(collected));
        self.timers.retain(|wake| matches!(wake, Wake::Farewell));
    }

    /// Says so again to those who have not answered.
    pub(crate) fn farewell_tick(&mut self, now: Instant) {
        let Some(departure) = self.departure.as_mut().filter(|departure| !departure.done) else {
            return;
        };
        if departure.waiting.is_empty() || departure.until <= now {
            departure.done = true;
            self.timers = Timers::new();
            self.outputs.push_back(Output::Left);
            return;
        }
        let waiting: Vec<SocketAddr> = departure.waiting.values().copied().collect();
        let identity = self.foca.identity().clone();
        for peer in waiting {
            self.send(peer, &Content::Leaving(identity.clone()));
        }
        self.timers.set(now + self.timing.farewell_every, Wake::Farewell);
    }

    /// All that still matters while we go: who has heard of it, and who goes too.
    pub(crate) fn while_leaving(&mut self, now: Instant, content: &[u8]) {
        let heard = match Content::decode(content) {
            Ok(Content::Farewell { from, leaver }) if leaver.name == *self.node() => from.name,
            Ok(Content::Leaving(identity)) => {
                self.say_farewell(identity.clone());
                identity.name
            }
            _ => return,
        };
        if let Some(departure) = &mut self.departure {
            departure.waiting.remove(&heard);
            if departure.waiting.is_empty() {
                self.farewell_tick(now);
            }
        }
    }

    /// Tells one who goes that we know.
    pub(crate) fn say_farewell(&mut self, leaver: Identity) {
        if leaver.name != *self.node() {
            let from = self.foca.identity().clone();
            self.send(leaver.address, &Content::Farewell { from, leaver });
        }
    }
}
