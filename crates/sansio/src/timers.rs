use core::time::Duration;
use std::collections::BTreeMap;

use crate::Instant;

/// Pending timers of one machine, in order of their deadline; equal deadlines keep the order in which they were set.
///
/// Timers are values: the holder decides at expiry whether one still means anything, so that nothing needs cancelling
/// for correctness. [`retain`](Timers::retain) is there to keep the list short.
#[derive(Clone, Debug)]
pub struct Timers<T> {
    pending: BTreeMap<(Instant, u64), T>,
    sequence: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            sequence: 0,
        }
    }
}

impl<T> Timers<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `timer` to expire at `at`.
    pub fn set(&mut self, at: Instant, timer: T) {
        self.pending.insert((at, self.sequence), timer);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes and returns the earliest timer whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.pending.pop_first().map(|(_, timer)| timer)
    }

    /// Keeps only the timers for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.pending.retain(|_, timer| keep(timer));
    }

    /// Moves every deadline `by` later, in unchanged order. For a holder that was itself stalled and must give the world
    /// the time it was not watching.
    pub fn postpone(&mut self, by: Duration) {
        self.pending = core::mem::take(&mut self.pending)
            .into_iter()
            .map(|((at, n), timer)| ((at + by, n), timer))
            .collect();
    }

    /// Has those for which `which` says so expire at `by` unless they do earlier.
    pub fn bring_forward(&mut self, by: Instant, which: impl Fn(&T) -> bool) {
        let later = |((at, _), timer): &((Instant, u64), T)| *at > by && which(timer);
        let all = core::mem::take(&mut self.pending).into_iter();
        let (forward, rest) = all.partition::<Vec<_>, _>(later);
        self.pending.extend(rest);
        for (_, timer) in forward {
            self.set(by, timer);
        }
    }

    /// How many timers are pending.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is pending.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_brought_forward_only_when_they_are_chosen_and_later() {
        let mut timers = Timers::new();
        for (at, timer) in [(10, "early"), (20, "late"), (30, "other"), (40, "last")] {
            timers.set(Instant::from_millis(at), timer);
        }
        timers.bring_forward(Instant::from_millis(15), |timer| *timer != "other");
        assert_eq!(timers.pop_due(Instant::from_millis(14)), Some("early"));
        assert_eq!(timers.pop_due(Instant::from_millis(14)), None);
        assert_eq!(timers.pop_due(Instant::from_millis(15)), Some("late"));
        assert_eq!(timers.pop_due(Instant::from_millis(15)), Some("last"));
        assert_eq!(timers.pop_due(Instant::from_millis(29)), None);
        assert_eq!(timers.pop_due(Instant::from_millis(30)), Some("other"));
    }

    #[test]
    fn expire_in_order_of_deadline_then_of_setting() {
        let mut timers = Timers::new();
        timers.set(Instant::from_millis(20), "late");
        timers.set(Instant::from_millis(10), "first");
        timers.set(Instant::from_millis(10), "second");
        assert_eq!(timers.next(), Some(Instant::from_millis(10)));
        assert_eq!(timers.pop_due(Instant::from_millis(9)), None);
        assert_eq!(timers.pop_due(Instant::from_millis(15)), Some("first"));
        assert_eq!(timers.pop_due(Instant::from_millis(15)), Some("second"));
        assert_eq!(timers.pop_due(Instant::from_millis(15)), None);
        assert_eq!(timers.pop_due(Instant::from_millis(20)), Some("late"));
        assert!(timers.is_empty());
    }

    #[test]
    fn postpone_keeps_order_and_distance() {
        let mut timers = Timers::new();
        timers.set(Instant::from_millis(10), 'a');
        timers.set(Instant::from_millis(12), 'b');
        timers.postpone(Duration::from_millis(100));
        assert_eq!(timers.pop_due(Instant::from_millis(109)), None);
        assert_eq!(timers.pop_due(Instant::from_millis(110)), Some('a'));
        assert_eq!(timers.next(), Some(Instant::from_millis(112)));
    }
}
