//! The part of the engine for those who start while others are away: what they have not heard themselves, they are told.
//!
//! A speaker that starts has never heard the speakers that are away at that time. Left to itself it would hold their nodes for
//! gone and take their addresses over, although everybody else knows that they only restart.
//!
//! The same holds for one that falls silent soon after: whoever has just started may have heard that it is there, but not which
//! links it has, and could neither answer in its name nor find out where it does not.

use core::time::Duration;
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_member::PeerState;
use metallb_sansio::Instant;

use crate::Cause;
use crate::engine::Engine;
use crate::talk::{Absence, Talk};

/// How often it is told, and how long after each other: nobody confirms it.
const TOLD: u8 = 5;
const AGAIN: Duration = Duration::from_millis(70);
/// For so long a peer that starts may not have heard from everybody.
const NEWCOMER: Duration = Duration::from_secs(5);

impl Engine {
    /// A peer starts: it is told who is away, and for a while who will be.
    pub(crate) fn tell_absences(&mut self, now: Instant, peer: &NodeName) {
        self.newcomers.set(Arc::clone(peer), now + NEWCOMER, ());
        if !self.away.is_empty() {
            self.absence_news.set(Arc::clone(peer), now, TOLD);
        }
    }

    /// Somebody is away now: those who started lately are told.
    pub(crate) fn tell_newcomers(&mut self, now: Instant) {
        while self.newcomers.pop_due(now).is_some() {}
        for peer in self.newcomers.keys() {
            self.absence_news.set(Arc::clone(peer), now, TOLD);
        }
    }

    /// Says what is due.
    pub(crate) fn say_absences(&mut self, now: Instant) {
        while let Some((peer, times)) = self.absence_news.pop_due(now) {
            if !self.member.is_live(&peer) {
                continue;
            }
            let absences = self
                .away
                .iter()
                .filter(|(node, until)| **node != peer && **until > now);
            let words: Vec<Vec<u8>> = absences
                .map(|(node, until)| {
                    let absence = Absence {
                        node: Arc::clone(node),
                        left: *until - now,
                        facts: self.neighbours.facts_of(node),
                    };
                    Talk::Away(absence).encode()
                })
                .collect();
            if !words.is_empty() && times > 1 {
                self.absence_news.set(Arc::clone(&peer), now + AGAIN, times - 1);
            }
            self.say(now, &peer, words);
        }
    }

    /// Somebody says that a node's speaker is away. Whoever heard that speaker itself knows better, but for its links if it has not
    /// told those.
    pub(crate) fn heard_absence(&mut self, now: Instant, absence: Absence) {
        let Absence { node, left, facts } = absence;
        let state = self.member.state(&node);
        if node == *self.node() || self.found_gone.contains_key(&node) {
            return;
        }
        let unheard = matches!(state, Some(PeerState::Presumed | PeerState::Unheard));
        let linkless = self.neighbours.number_of(&node) == 0;
        if !unheard && !linkless {
            return;
        }
        if self.neighbours.learn_of(&node, facts) {
            self.befriend(now);
            self.watch_again = true;
            self.decide_about_away(now, &node);
        }
        let until = now + left.min(self.options.grace);
        match state {
            Some(PeerState::Presumed) => {
                self.absent.insert(node, until);
            }
            Some(PeerState::Unheard) if !self.away.contains_key(&node) => {
                self.is_away(now, &node, until);
                for key in self.concerned(&node) {
                    self.decide(now, &key, &Cause::NodeLost(Arc::clone(&node)));
                }
            }
            _ => {}
        }
    }

    /// A peer that was never heard counts no longer as there: is it only away, by what others said?
    pub(crate) fn away_by_hearsay(&mut self, now: Instant, node: &NodeName) {
        if let Some(until) = self.absent.remove(node).filter(|until| *until > now) {
            self.is_away(now, node, until);
        }
    }

    fn is_away(&mut self, now: Instant, node: &NodeName, until: Instant) {
        self.watch_again = true;
        self.away.insert(Arc::clone(node), until);
        self.follow_watch(now);
    }
}
