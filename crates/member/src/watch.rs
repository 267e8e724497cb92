//! Watching single peers closely.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metallb_sansio::Instant;

use crate::NodeName;

/// Answers in a row, or questions without one, after which the estimate of losses has half forgotten what was before.
const MEMORY: f32 = 0.9;
/// Silence is suspicious when losses alone make it so rarely.
const RARE: f32 = 0.001;
/// A longer silence was an absence and counts as so many losses.
const FORGIVING: u32 = 5;
/// The wait is not stretched further, however much gets lost.
const MAX_STRETCH: u32 = 4;

/// One peer under watch.
#[derive(Clone, Debug)]
struct Watched {
    /// When it last answered, or when watching it began or began anew.
    heard: Instant,
    /// The last question, if it is not answered.
    open: Option<u32>,
    /// Questions without an answer since the last answer.
    missed: u32,
    /// Estimated share of questions without an answer, as of the last answer: a silence does not excuse itself.
    lost: f32,
}

/// The peers under watch.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    peers: BTreeMap<NodeName, Watched>,
    number: u32,
}

impl Watches {
    /// Watches these from now on; those watched before go on being so.
    pub(crate) fn set(&mut self, now: Instant, peers: &BTreeSet<NodeName>) {
        self.peers.retain(|name, _| peers.contains(name));
        for name in peers {
            self.peers.entry(Arc::clone(name)).or_insert(Watched {
                heard: now,
                open: None,
                missed: 0,
                lost: 0.0,
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The next question to each peer that `asks` names.
    pub(crate) fn ask(&mut self, asks: impl Fn(&NodeName) -> bool) -> Vec<(NodeName, u32)> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        let mut questions = Vec::new();
        for (name, watched) in &mut self.peers {
            if asks(name) {
                if watched.open.replace(number).is_some() {
                    watched.missed += 1;
                }
                questions.push((Arc::clone(name), number));
            }
        }
        questions
    }

    /// A peer answered.
    pub(crate) fn answered(&mut self, now: Instant, name: &str, number: u32) {
        if let Some(watched) = self.peers.get_mut(name) {
            watched.heard = now;
            for _ in 0..core::mem::take(&mut watched.missed).min(FORGIVING) {
                watched.lost = watched.lost.mul_add(MEMORY, 1.0 - MEMORY);
            }
            if watched.open == Some(number) {
                watched.open = None;
                watched.lost *= MEMORY;
            }
        }
    }

    /// The peer is given its time anew: it lives again, or it is suspected and judged by others now.
    pub(crate) fn restart(&mut self, now: Instant, name: &str) {
        if let Some(watched) = self.peers.get_mut(name) {
            watched.heard = now;
        }
    }

    /// We ourselves were away for that long.
    pub(crate) fn postpone(&mut self, by: Duration) {
        for watched in self.peers.values_mut() {
            watched.heard += by;
        }
    }

    /// When somebody who has missed a question will have been silent for `silence`.
    pub(crate) fn next_silent(&self, silence: Duration) -> Option<Instant> {
        let missing = self.peers.values().filter(|watched| watched.missed > 0);
        missing.map(|watched| watched.heard + silence).min()
    }

    /// The peers that have been silent for `silence`, or longer where much gets lost.
    pub(crate) fn silent(&self, now: Instant, every: Duration, silence: Duration) -> Vec<NodeName> {
        let silent = self.peers.iter().filter(|(_, watched)| {
            // Two questions are always lost together when it is dead; with losses it takes as many as are rarely lost in a row.
            let mut chance = watched.lost * watched.lost;
            let mut stretch = 0;
            while chance > RARE && stretch < MAX_STRETCH {
                chance *= watched.lost;
                stretch += 1;
            }
            now - watched.heard >= silence + every * stretch
        });
        silent.map(|(name, _)| Arc::clone(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(50);
    const SILENCE: Duration = Duration::from_millis(120);

    /// Asks every 50 ms; the answer comes when `answers` says so.
    fn watch(watches: &mut Watches, from: u64, until: u64, answers: impl Fn(u64) -> bool) -> Option<u64> {
        for at in (from..until).step_by(10) {
            let now = Instant::from_millis(at);
            if at % 50 == 0 {
                for (name, number) in watches.ask(|_| true) {
                    if answers(at) {
                        watches.answered(now, &name, number);
                    }
                }
            }
            if !watches.silent(now, EVERY, SILENCE).is_empty() {
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn silence_is_noticed_after_two_questions_and_losses_stretch_it() {
        let mut watches = Watches::default();
        watches.set(Instant::ZERO, &["a".into()].into());
        assert_eq!(watch(&mut watches, 0, 5_000, |_| true), None);
        let noticed = watch(&mut watches, 5_000, 6_000, |_| false).expect("noticed");
        assert!((5_050..=5_130).contains(&noticed), "{noticed}");

        let mut lossy = Watches::default();
        lossy.set(Instant::ZERO, &["a".into()].into());
        assert_eq!(watch(&mut lossy, 0, 20_000, |at| at / 50 % 3 != 0), None);
        let noticed = watch(&mut lossy, 20_000, 21_000, |_| false).expect("noticed");
        assert!((20_200..=20_400).contains(&noticed), "{noticed}");
    }

    #[test]
    fn whoever_is_no_longer_watched_is_forgotten() {
        let mut watches = Watches::default();
        watches.set(Instant::ZERO, &["a".into(), "b".into()].into());
        watches.set(Instant::ZERO, &["b".into()].into());
        assert_eq!(
            watches.silent(Instant::from_millis(500), EVERY, SILENCE),
            ["b".into()]
        );
        watches.restart(Instant::from_millis(500), "b");
        assert!(
            watches
                .silent(Instant::from_millis(510), EVERY, SILENCE)
                .is_empty()
        );
        watches.set(Instant::ZERO, &BTreeSet::new());
        assert!(watches.is_empty());
    }
}
