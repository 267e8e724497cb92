//! Who the peers are and how they stand: the listed ones, those that are heard, and calls to those that are not.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use metallb_sansio::Instant;

use super::{Member, Wake};
use crate::interface::{Output, PeerState};
use crate::message::Content;
use crate::peer::Peer;
use crate::{Identity, NodeName};

/// Peers called at one tick at most, so that many dead nodes cost little.
const CALLS_AT_ONCE: usize = 8;
/// Of them named in one datagram at most: names may be long.
const MISSED_AT_ONCE: usize = 4;
/// How long a dead peer that is no longer listed is still called: the list may be stale.
const CALL_UNLISTED_FOR: Duration = Duration::from_secs(600);

impl Member {
    pub(super) fn list(&mut self, now: Instant, listed: BTreeMap<NodeName, SocketAddr>) {
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
        } else {
            self.call(now);
        }
        self.keep_calling(now);
    }

    /// Sees to it that somebody who is known and not heard is called before long.
    pub(super) fn keep_calling(&mut self, now: Instant) {
        let silent = self.peers.values().any(|peer| peer.state != PeerState::Alive);
        if silent && !core::mem::replace(&mut self.calling, true) {
            let jitter = self.rng.up_to(self.timing.call_every / 4);
            self.timers.set(now + self.timing.call_every + jitter, Wake::Call);
        }
    }

    pub(super) fn forget_unlisted(&mut self, now: Instant) {
        self.peers
            .retain(|_, peer| peer.listed || peer.state.is_live() || now - peer.since < CALL_UNLISTED_FOR);
    }

    /// Calls peers that are known and not heard, some at a time and in turn.
    pub(super) fn call(&mut self, now: Instant) {
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
        self.ask_about(&called);
        for identity in called {
            self.drive(now, |foca, collected| foca.announce(identity, collected));
        }
    }

    /// Tells a peer whom of those that are called we hold for dead. Where two no longer hear each other, no call gets through,
    /// and gossip of the time when nobody was there to hear it is spent.
    fn ask_about(&mut self, called: &[Identity]) {
        let dead = |identity: &&Identity| {
            let peer = self.peers.get(&identity.name);
            peer.is_some_and(|peer| peer.state == PeerState::Dead && peer.identity.as_ref() == Some(identity))
        };
        let missed: Vec<Identity> = called.iter().filter(dead).cloned().collect();
        let alive = self.peers.values().filter(|peer| peer.state == PeerState::Alive);
        let alive: Vec<SocketAddr> = alive.map(|peer| peer.address).collect();
        let asked = self.rng.below(alive.len() as u64) as usize;
        if let Some(to) = alive.get(asked) {
            for some in missed.chunks(MISSED_AT_ONCE) {
                self.send(*to, &Content::Missed(some.to_vec()));
            }
        }
    }

    /// Calls those that are presumed alive, quickly: somebody else has answered by now, so they would too.
    pub(super) fn call_presumed(&mut self, now: Instant) {
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
    pub(super) fn call_all(&mut self, now: Instant) {
        let all: Vec<Identity> = self
            .peers
            .iter()
            .map(|(name, peer)| peer.callable(name))
            .collect();
        for identity in all {
            self.drive(now, |foca, collected| foca.announce(identity, collected));
        }
    }

    /// Takes over which peers `foca` holds for alive and reports the differences.
    pub(super) fn compare(&mut self, now: Instant) {
        let active: BTreeMap<NodeName, Identity> = self
            .foca
            .iter_members()
            .map(|member| (Arc::clone(&member.id().name), member.id().clone()))
            .collect();
        let mut doubted = Vec::new();
        for (name, peer) in &mut self.peers {
            if peer.state != PeerState::Alive || active.contains_key(name) {
                peer.doubted_until = None;
                continue;
            }
            let hearsay = self
                .hearsay
                .as_ref()
                .is_some_and(|suspected| !suspected.contains(name));
            if peer.doubted_until.is_none() && hearsay {
                peer.doubted_until = Some(now + self.timing.doubt);
                self.timers.set(now + self.timing.doubt, Wake::EndDoubt);
                doubted.push(peer.callable(name));
            }
            if peer.doubted_until.is_none_or(|until| until <= now) {
                peer.doubted_until = None;
                peer.state = PeerState::Dead;
                peer.since = now;
                self.suspicions.remove(name);
                self.outputs.push_back(Output::Lost(Arc::clone(name)));
            }
        }
        if !active.is_empty() && !core::mem::replace(&mut self.heard_once, true) {
            self.timers.set(now, Wake::CallPresumed);
            self.timers
                .set(now + self.timing.presumption_once_heard, Wake::EndPresumption);
        }
        for (name, identity) in active {
            let address = identity.address;
            let unheard = Peer::new(now, PeerState::Unheard, address);
            let peer = self.peers.entry(Arc::clone(&name)).or_insert(unheard);
            let another = peer.identity.as_ref().is_none_or(|known| *known != identity);
            if peer.state != PeerState::Alive {
                if !peer.state.is_live() {
                    self.outputs.push_back(Output::Joined(Arc::clone(&name)));
                }
                peer.state = PeerState::Alive;
                peer.since = now;
                self.watches.restart(now, &name);
            } else if another {
                // It does not know that it is watched.
                self.watches.restart(now, &name);
            }
            peer.identity = Some(identity);
        }
        self.keep_calling(now);
        // Its answer comes under an identity that we hold for dead, and is told so: it takes a new one.
        for identity in doubted {
            self.drive(now, |foca, collected| foca.announce(identity, collected));
        }
    }

    pub(super) fn end_presumption(&mut self, now: Instant) {
        for (name, peer) in &mut self.peers {
            if peer.state == PeerState::Presumed {
                peer.state = PeerState::Unheard;
                peer.since = now;
                self.outputs.push_back(Output::Lost(Arc::clone(name)));
            }
        }
    }
}
