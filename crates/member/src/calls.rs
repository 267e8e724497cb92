//! The part of the machine that knows who there should be and calls whoever is silent.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use metallb_sansio::Instant;

use crate::interface::{Output, PeerState};
use crate::machine::{Member, Wake};
use crate::peer::Peer;
use crate::{Identity, NodeName};

/// Peers called at one tick at most, so that many dead nodes cost little.
const CALLS_AT_ONCE: usize = 8;
/// How long a dead peer that is no longer listed is still called: the list may be stale.
const CALL_UNLISTED_FOR: Duration = Duration::from_secs(600);

impl Member {
    pub(crate) fn list(&mut self, now: Instant, listed: BTreeMap<NodeName, SocketAddr>) {
        let first = !core::mem::replace(&mut self.listed_once, true);
        let own = Arc::clone(self.node());
        for peer in self.peers.values_mut() {
            peer.listed = false;
        }
        for (name, address) in listed.into_iter().filter(|(name, _)| *name != own) {
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.listed = true;
                peer.address = address;
            } else {
                let state = if first {
                    PeerState::Presumed
                } else {
                    PeerState::Unheard
                };
                if first {
                    self.outputs.push_back(Output::Joined(Arc::clone(&name)));
                }
                self.peers.insert(
                    name,
                    Peer {
                        listed: true,
                        ..Peer::new(now, state, address)
                    },
                );
            }
        }
        self.forget_unlisted(now);
        if first {
            self.timers
                .set(now + self.timing.presumption, Wake::EndPresumption);
            self.call_all(now);
            return;
        }
        self.call(now);
    }

    pub(crate) fn forget_unlisted(&mut self, now: Instant) {
        self.peers
            .retain(|_, peer| peer.listed || peer.state.is_live() || now - peer.since < CALL_UNLISTED_FOR);
    }

    /// Calls peers that are known and not heard, some at a time and in turn.
    pub(crate) fn call(&mut self, now: Instant) {
        let silent = |peer: &Peer| peer.state != PeerState::Alive;
        let after = self.call_after.take();
        let wrapped = self
            .peers
            .iter()
            .filter(|(name, _)| after.as_ref().is_none_or(|a| *name > a));
        let rest = self
            .peers
            .iter()
            .filter(|(name, _)| after.as_ref().is_some_and(|a| *name <= a));
        let called: Vec<Identity> = wrapped
            .chain(rest)
            .filter(|(_, peer)| silent(peer))
            .take(CALLS_AT_ONCE)
            .map(|(name, peer)| peer.callable(name))
            .collect();
        self.call_after = called.last().map(|identity| Arc::clone(&identity.name));
        for identity in called {
            self.drive(now, |foca, collected| foca.announce(identity, collected));
        }
    }

    /// Calls those that are presumed alive, quickly: somebody else has answered by now, so they would too.
    pub(crate) fn call_presumed(&mut self, now: Instant) {
        let presumed = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.state == PeerState::Presumed);
        let called: Vec<Identity> = presumed.map(|(name, peer)| peer.callable(name)).collect();
        if called.is_empty() {
            return;
        }
        self.timers
            .set(now + self.timing.call_presumed_every, Wake::CallPresumed);
        for identity in called {
            self.drive(now, |foca, collected| foca.announce(identity, collected));
        }
    }

    /// Calls every peer, whatever it is held for.
    pub(crate) fn call_all(&mut self, now: Instant) {
        let all: Vec<Identity> = self
            .peers
            .iter()
            .map(|(name, peer)| peer.callable(name))
            .collect();
        for identity in all {
            self.drive(now, |foca, collected| foca.announce(identity, collected));
        }
    }

    pub(crate) fn end_presumption(&mut self, now: Instant) {
        for (name, peer) in &mut self.peers {
            if peer.state == PeerState::Presumed {
                peer.state = PeerState::Unheard;
                peer.since = now;
                self.outputs.push_back(Output::Lost(Arc::clone(name)));
            }
        }
    }
}
