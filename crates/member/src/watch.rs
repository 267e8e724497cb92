//! Watching single peers closely: who is watched sends beats, who watches notices when they stay away.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use metallb_sansio::{Deadlines, Instant};

use crate::{NodeName, Timing};

/// Beats in a row after which the estimate of losses has half forgotten what was before.
const MEMORY: f32 = 0.9;
/// Silence is suspicious when losses alone make it so rarely.
const RARE: f32 = 0.001;
/// A longer silence was an absence and counts as so many losses.
const FORGIVING: u32 = 5;
/// A beat that comes after a later one was sent at most so many before it.
const OVERTAKEN: u32 = 16;
/// The wait is not stretched further, however much gets lost.
const MAX_STRETCH: u32 = 4;

/// One peer under watch.
#[derive(Clone, Debug)]
struct Watched {
    /// When its last beat came, or when watching it began or began anew.
    heard: Instant,
    /// The number of its last beat.
    number: Option<u32>,
    /// Estimated share of beats that get lost, as of the last one: a silence does not excuse itself.
    lost: f32,
    /// When it is asked unless it is heard before.
    ask_at: Instant,
}

/// How fast beats come and how long silence is borne.
#[derive(Clone, Copy, Debug)]
struct Pace {
    every: Duration,
    silence: Duration,
}

impl Watched {
    /// When it is silent for too long.
    fn over_at(&self, pace: Pace) -> Instant {
        self.heard + pace.silence + pace.every * self.stretch()
    }

    /// How many periods longer than usual its silence is borne: two beats are always lost together when it is dead; with losses
    /// it takes as many as are rarely lost in a row.
    fn stretch(&self) -> u32 {
        let mut chance = self.lost * self.lost;
        let mut stretch = 0;
        while chance > RARE && stretch < MAX_STRETCH {
            chance *= self.lost;
            stretch += 1;
        }
        stretch
    }
}

/// The peers under watch.
///
/// Each has one time at which something is to be done about it, which every beat puts off: so watching a peer that is well
/// needs no timer. A beat that is late is asked for before its sender is held for silent.
#[derive(Debug)]
pub(crate) struct Watches {
    pace: Pace,
    peers: Deadlines<NodeName, Watched>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DueWatches {
    /// These are to be asked for beats.
    pub(crate) ask: Vec<NodeName>,
    /// These have been silent for too long. They were given their time anew.
    pub(crate) silent: Vec<NodeName>,
}

impl Watches {
    pub(crate) const fn new(timing: &Timing) -> Self {
        Self {
            pace: Pace {
                every: timing.watch_every,
                silence: timing.watch_silence,
            },
            peers: Deadlines::new(),
        }
    }

    /// Watches these from now on; those watched before go on being so.
    pub(crate) fn set(&mut self, now: Instant, peers: &BTreeSet<NodeName>) {
        self.peers.retain(|name, _| peers.contains(name));
        for name in peers {
            if !self.peers.contains(name) {
                let fresh = Watched {
                    heard: now,
                    number: None,
                    lost: 0.0,
                    ask_at: now,
                };
                self.peers.set(Arc::clone(name), now, fresh);
            }
        }
    }

    /// Whoever is watched.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.keys()
    }

    /// When something is to be done.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.peers.next()
    }

    /// Changes what is known of a peer, and with that when something is to be done about it.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Watched)) {
        if let Some(watched) = self.peers.get_mut(name) {
            change(watched);
            let at = watched.ask_at.min(watched.over_at(self.pace));
            self.peers.put_off(name, at);
        }
    }

    /// When a beat is so late that it is asked for.
    fn late(&self, now: Instant) -> Instant {
        now + self.pace.every * 8 / 5
    }

    /// A beat came.
    pub(crate) fn beat(&mut self, now: Instant, name: &str, number: u32) {
        let late = self.late(now);
        self.change(name, |watched| {
            watched.heard = now;
            watched.ask_at = late;
            let Some(last) = watched.number else {
                watched.number = Some(number);
                return;
            };
            // Asked for besides, or overtaken on its way.
            if last.wrapping_sub(number) < OVERTAKEN {
                return;
            }
            watched.number = Some(number);
            let ahead = number.wrapping_sub(last);
            // Another life counts anew.
            if ahead < u32::MAX / 2 {
                for _ in 1..ahead.min(FORGIVING + 1) {
                    watched.lost = watched.lost.mul_add(MEMORY, 1.0 - MEMORY);
                }
                watched.lost *= MEMORY;
            }
        });
    }

    /// The peer is given its time anew: it lives again, or it is suspected and judged by others now. It is asked at once: a
    /// new life of it does not know that it is watched.
    pub(crate) fn restart(&mut self, now: Instant, name: &str) {
        self.change(name, |watched| {
            watched.heard = now;
            watched.ask_at = now;
        });
    }

    /// We ourselves were away for that long.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.peers.postpone(by);
        self.peers.retain(|_, watched| {
            watched.heard += by;
            watched.ask_at += by;
            true
        });
    }

    /// What is due now.
    pub(crate) fn take_due(&mut self, now: Instant) -> DueWatches {
        let mut all = DueWatches::default();
        while let Some(name) = self.peers.first_due(now).cloned() {
            let over = |watched: &Watched| watched.over_at(self.pace) <= now;
            let over = self.peers.get(&name).is_some_and(over);
            let (late, again) = (self.late(now), now + self.pace.every);
            self.change(&name, |watched| {
                watched.ask_at = again;
                if over {
                    (watched.heard, watched.ask_at) = (now, late);
                }
            });
            if over {
                all.silent.push(name);
            } else {
                all.ask.push(name);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches(names: &[&str]) -> Watches {
        let mut watches = Watches::new(&Timing::default());
        let names = names.iter().map(|name| NodeName::from(*name)).collect();
        watches.set(Instant::ZERO, &names);
        watches
    }

    /// A beat every 50 ms, and one when it is asked for, if `arrives` says so; when silence was noticed, and how often was asked.
    fn watch(
        watches: &mut Watches,
        from: u64,
        until: u64,
        arrives: impl Fn(u64) -> bool,
    ) -> (Option<u64>, usize) {
        let mut asked = 0;
        for at in (from..until).step_by(5) {
            let now = Instant::from_millis(at);
            if at % 50 == 0 && arrives(at) {
                watches.beat(now, "a", (at / 50) as u32);
            }
            let due = watches.take_due(now);
            asked += due.ask.len();
            if !due.silent.is_empty() {
                return (Some(at), asked);
            }
            if !due.ask.is_empty() && arrives(at) {
                watches.beat(now, "a", (at / 50) as u32);
            }
        }
        (None, asked)
    }

    #[test]
    fn silence_is_noticed_after_two_beats_and_losses_stretch_it() {
        let mut well = watches(&["a"]);
        assert_eq!(watch(&mut well, 0, 5_000, |_| true), (None, 0), "never asked");
        let (noticed, asked) = watch(&mut well, 5_000, 6_000, |_| false);
        assert_eq!((noticed, asked), (Some(5_070), 1));

        let mut lossy = watches(&["a"]);
        assert_eq!(watch(&mut lossy, 0, 20_000, |at| at / 50 % 3 != 0).0, None);
        let noticed = watch(&mut lossy, 20_000, 21_000, |_| false).0.expect("noticed");
        assert!((20_150..=20_300).contains(&noticed), "{noticed}");
    }

    #[test]
    fn a_beat_that_was_asked_for_or_overtaken_is_no_loss() {
        let mut well = watches(&["a"]);
        for (at, number) in [(0, 7), (50, 8), (51, 10), (52, 9), (53, 10), (100, 11)] {
            well.beat(Instant::from_millis(at), "a", number);
        }
        // The gap before 10 counts until it is forgotten, that after 9 never did.
        for number in 12..40 {
            well.beat(Instant::from_millis(150), "a", number);
        }
        well.beat(Instant::from_millis(200), "a", 39);
        well.beat(Instant::from_millis(200), "a", 38);
        well.beat(Instant::from_millis(200), "a", 40);
        assert_eq!(well.take_due(Instant::from_millis(319)).silent.len(), 0);
        assert_eq!(well.take_due(Instant::from_millis(320)).silent.len(), 1);
    }

    #[test]
    fn a_peer_that_is_well_needs_no_timer_of_its_own() {
        let mut well = watches(&["a"]);
        assert_eq!(well.take_due(Instant::ZERO).ask, ["a".into()]);
        for at in (0..1_000).step_by(50) {
            let now = Instant::from_millis(at);
            assert!(well.next().is_none_or(|next| next > now), "{at}");
            well.beat(now, "a", (at / 50) as u32);
        }
    }

    #[test]
    fn whoever_is_no_longer_watched_is_forgotten_and_our_own_sleep_is_nobody_elses() {
        let mut both = watches(&["a", "b"]);
        both.set(Instant::ZERO, &["b".into()].into());
        let due = both.take_due(Instant::from_millis(500));
        assert_eq!((due.ask, due.silent), (vec![], vec!["b".into()]));
        assert_eq!(both.take_due(Instant::from_millis(510)), DueWatches::default());
        both.postpone(Duration::from_millis(1_000));
        assert_eq!(both.take_due(Instant::from_millis(1_570)), DueWatches::default());
        assert_eq!(both.take_due(Instant::from_millis(1_580)).ask, ["b".into()]);
        assert_eq!(both.take_due(Instant::from_millis(1_620)).silent, ["b".into()]);
        both.restart(Instant::from_millis(1_630), "b");
        assert_eq!(both.take_due(Instant::from_millis(1_630)).ask, ["b".into()]);
        both.set(Instant::from_millis(1_640), &BTreeSet::new());
        assert_eq!((both.next(), both.names().count()), (None, 0));
    }
}
