//! The part of the machine that watches single peers closely, suspects and judges them, and carries words between them.

use std::collections::BTreeSet;
use std::sync::Arc;

use foca::State;
use metallb_sansio::Instant;

use crate::interface::{Output, PeerState, TALK_MAX};
use crate::machine::{Member, Wake};
use crate::message::Content;
use crate::{Identity, NodeName};

impl Member {
    /// Watches exactly these peers closely.
    pub(crate) fn watch(&mut self, now: Instant, peers: &BTreeSet<NodeName>) {
        self.watches.set(now, peers);
        if !self.watches.is_empty() && !core::mem::replace(&mut self.watching, true) {
            self.timers.set(now, Wake::Watch);
        }
    }

    /// Asks those under watch.
    pub(crate) fn watch_tick(&mut self, now: Instant) {
        if self.watches.is_empty() {
            self.watching = false;
            return;
        }
        self.timers.set(now + self.timing.watch_every, Wake::Watch);
        self.look_for_silence(now);
        let peers = &self.peers;
        let questions = self
            .watches
            .ask(|name| peers.get(name).is_some_and(|peer| peer.state == PeerState::Alive));
        for (name, number) in questions {
            let Some(peer) = self.peers.get(&name) else {
                continue;
            };
            let from = self.foca.identity().clone();
            self.send(peer.address, &Content::Ping { from, number });
        }
        // Between two ticks only when somebody is near his time.
        let next = self.watches.next_silent(self.timing.watch_silence);
        if let Some(at) = next.filter(|at| *at > now && *at < now + self.timing.watch_every) {
            self.timers.set(at, Wake::Silence);
        }
    }

    /// Suspects those under watch that have been silent.
    pub(crate) fn look_for_silence(&mut self, now: Instant) {
        let silent = self
            .watches
            .silent(now, self.timing.watch_every, self.timing.watch_silence);
        for name in silent {
            self.watches.restart(now, &name);
            let alive = self
                .peers
                .get(&name)
                .is_some_and(|peer| peer.state == PeerState::Alive);
            if !alive || self.suspicions.contains_key(&name) {
                continue;
            }
            let member = self.foca.iter_members().find(|member| member.id().name == name);
            let Some((id, incarnation)) = member.map(|m| (m.id().clone(), m.incarnation())) else {
                continue;
            };
            let suspect = foca::Member::new(id.clone(), incarnation, State::Suspect);
            self.drive(now, |foca, collected| {
                foca.apply_many(core::iter::once(suspect), true, collected)
            });
            self.suspected_now(now, id.clone(), incarnation);
            let patience = if self.is_recovering() {
                self.timing.suspicion_after_stall
            } else {
                self.timing.suspicion
            };
            let verdict = Wake::Verdict {
                accused: id,
                incarnation,
            };
            self.timers.set(now + patience, verdict);
        }
    }

    /// A suspicion of ours begins: the accused is told, and so is the layer above.
    pub(crate) fn suspected_now(&mut self, now: Instant, accused: Identity, incarnation: u16) {
        self.counters.suspicions += 1;
        let name = Arc::clone(&accused.name);
        self.suspicions
            .insert(Arc::clone(&name), (accused.clone(), incarnation));
        self.outputs.push_back(Output::Suspected(name));
        self.timers.set(now, Wake::Accuse { accused, incarnation });
    }

    /// A suspicion no longer stands.
    pub(crate) fn cleared(&mut self, now: Instant, accused: &Identity, incarnation: u16) {
        let same = |(id, number): &(Identity, u16)| id == accused && *number == incarnation;
        if self.suspicions.get(&accused.name).is_some_and(same) {
            self.suspicions.remove(&accused.name);
            self.watches.restart(now, &accused.name);
            self.outputs
                .push_back(Output::Unsuspected(Arc::clone(&accused.name)));
        }
    }

    /// Whoever is suspected still, after all that time, is dead.
    pub(crate) fn verdict(&mut self, now: Instant, accused: Identity, incarnation: u16) {
        if !self.suspects(&accused, incarnation) {
            return;
        }
        self.drive(now, |foca, collected| {
            foca.apply_many(core::iter::once(foca::Member::down(accused)), true, collected)
        });
        self.spread(now);
    }

    /// The others hear of it now and not with the next round of gossip.
    pub(crate) fn spread(&mut self, now: Instant) {
        for _ in 0..2 {
            self.drive(now, |foca, collected| foca.gossip(collected));
        }
    }

    /// Somebody watches us.
    pub(crate) fn pinged(&mut self, from: &Identity, number: u32) {
        let answer = Content::Pong {
            from: self.foca.identity().clone(),
            number,
        };
        self.send(from.address, &answer);
    }

    /// Says something of the layer above to a peer.
    pub(crate) fn talk(&mut self, to: &str, body: &[u8]) {
        let Some(peer) = self.peers.get(to).filter(|_| body.len() <= TALK_MAX) else {
            self.counters.rejected += 1;
            return;
        };
        let from = self.foca.identity().clone();
        self.send(peer.address, &Content::Talk { from, body });
    }

    /// A peer says something to the layer above; an earlier life of it no longer counts.
    pub(crate) fn heard(&mut self, from: &Identity, body: &[u8]) {
        let known = self.peers.get(&from.name);
        let stale = known
            .and_then(|peer| peer.identity.as_ref())
            .is_some_and(|identity| identity.generation > from.generation);
        if known.is_none() || stale {
            self.counters.rejected += 1;
            return;
        }
        self.outputs.push_back(Output::Heard {
            from: Arc::clone(&from.name),
            body: body.to_vec(),
        });
    }
}
