//! The part of the machine that watches single peers closely, suspects and judges them, and carries words between them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
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
        self.look_at_watched(now);
        if self.watches.next().is_some() && !core::mem::replace(&mut self.renewing, true) {
            self.timers
                .set(now + self.timing.watch_renewed, Wake::RenewWatches);
        }
    }

    /// Says again to those under watch that they are, before they forget it.
    pub(crate) fn renew_watches(&mut self, now: Instant) {
        let watched: Vec<NodeName> = self.watches.names().cloned().collect();
        self.renewing = !watched.is_empty();
        if self.renewing {
            self.timers
                .set(now + self.timing.watch_renewed, Wake::RenewWatches);
        }
        for name in watched {
            self.ask_for_beats(&name);
        }
    }

    fn ask_for_beats(&mut self, name: &str) {
        let Some(peer) = self.peers.get(name).filter(|peer| peer.state == PeerState::Alive) else {
            return;
        };
        let (to, from) = (peer.address, self.foca.identity().clone());
        self.send(to, &Content::Watch(from));
    }

    /// Asks those under watch whose beats are late, and suspects those that have been silent.
    pub(crate) fn look_at_watched(&mut self, now: Instant) {
        let due = self.watches.take_due(now);
        for name in due.ask {
            self.ask_for_beats(&name);
        }
        for name in due.silent {
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

    /// Somebody watches us: a beat now, and from now on.
    pub(crate) fn watched_by(&mut self, now: Instant, watcher: Identity) {
        // Nobody makes us send to whom we do not know.
        if !self.peers.contains_key(&watcher.name) {
            self.counters.rejected += 1;
            return;
        }
        self.beat(watcher.address);
        self.watchers
            .insert(watcher.name, (watcher.address, now + self.timing.watch_lasts));
        if !core::mem::replace(&mut self.beating, true) {
            self.timers.set(now + self.timing.watch_every, Wake::Beat);
        }
    }

    fn beat(&mut self, to: SocketAddr) {
        let from = self.foca.identity().clone();
        let number = self.beats;
        self.send(to, &Content::Beat { from, number });
    }

    /// The next beat to all who watch us.
    pub(crate) fn beat_tick(&mut self, now: Instant) {
        self.watchers.retain(|_, (_, until)| *until > now);
        self.beating = !self.watchers.is_empty();
        if !self.beating {
            return;
        }
        self.timers.set(now + self.timing.watch_every, Wake::Beat);
        self.beats = self.beats.wrapping_add(1);
        let watchers: Vec<SocketAddr> = self.watchers.values().map(|(address, _)| *address).collect();
        for to in watchers {
            self.beat(to);
        }
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
