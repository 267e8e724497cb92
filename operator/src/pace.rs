//! How soon an object is written again: at once when it drifted or is wanted otherwise, slower each time when writing fails,
//! and slower also when somebody else keeps changing it back.

use metallb_render::ObjectId;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// So many repairs in a row are no contest yet.
const FREE_REPAIRS: u32 = 20;
/// An object left alone for this long, from when it might have been written, starts afresh.
const CALM: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Entry {
    /// Digest of the rendering that was written last, or should have been.
    digest: String,
    failures: u32,
    /// How often the same rendering was written again.
    repairs: u32,
    not_before: Instant,
}

/// Pace of every object that was written lately.
#[derive(Debug, Default)]
pub(crate) struct Paces(BTreeMap<ObjectId, Entry>);

impl Paces {
    /// `None` when the rendering of this digest may be written now, else when it may. What is wanted otherwise than before
    /// never waits.
    pub(crate) fn wait(&self, id: &ObjectId, digest: &str, now: Instant) -> Option<Instant> {
        self.0
            .get(id)
            .filter(|entry| entry.digest == digest)
            .map(|entry| entry.not_before)
            .filter(|at| *at > now)
    }

    /// A write failed.
    pub(crate) fn failed(&mut self, id: &ObjectId, digest: &str, now: Instant) {
        let (entry, _) = self.entry(id, digest, now);
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = now + exponential(entry.failures);
    }

    /// A write succeeded. It is a repair when the same was written before.
    pub(crate) fn wrote(&mut self, id: &ObjectId, digest: &str, now: Instant) {
        let (entry, known) = self.entry(id, digest, now);
        // A write that failed before was none.
        if known && entry.failures == 0 {
            entry.repairs = entry.repairs.saturating_add(1);
        }
        entry.failures = 0;
        entry.not_before = match entry.repairs.checked_sub(FREE_REPAIRS) {
            None | Some(0) => now,
            Some(excess) => now + exponential(excess),
        };
    }

    /// Forgets objects that are calm, so that the map does not grow.
    pub(crate) fn forget_calm(&mut self, now: Instant) {
        self.0
            .retain(|_, entry| entry.failures > 0 || !entry.is_calm(now));
    }

    /// The object's entry, and whether it was there for this rendering, and not calm.
    fn entry(&mut self, id: &ObjectId, digest: &str, now: Instant) -> (&mut Entry, bool) {
        let known = self
            .0
            .get(id)
            .is_some_and(|entry| entry.digest == digest && (entry.failures > 0 || !entry.is_calm(now)));
        let fresh = || Entry {
            digest: digest.to_owned(),
            failures: 0,
            repairs: 0,
            not_before: now,
        };
        let entry = self.0.entry(id.clone()).or_insert_with(fresh);
        if !known {
            *entry = fresh();
        }
        (entry, known)
    }
}

impl Entry {
    fn is_calm(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.not_before) > CALM
    }
}

fn exponential(step: u32) -> Duration {
    FIRST_RETRY
        .saturating_mul(1 << step.saturating_sub(1).min(16))
        .min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metallb_render::Kind;

    fn id() -> ObjectId {
        ObjectId {
            kind: Kind::ConfigMap,
            namespace: Some("ns".into()),
            name: "n".into(),
        }
    }

    #[test]
    fn failures_slow_down_up_to_a_minute_and_success_clears_them() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        assert_eq!(paces.wait(&id(), "a", now), None);
        let mut waits = Vec::new();
        for _ in 0..9 {
            paces.failed(&id(), "a", now);
            waits.push(paces.wait(&id(), "a", now).unwrap() - now);
        }
        assert_eq!(waits[0], FIRST_RETRY);
        assert_eq!(waits[1], FIRST_RETRY * 2);
        assert_eq!(waits[8], LAST_RETRY);
        assert_eq!(
            paces.wait(&id(), "b", now),
            None,
            "what may be right now is tried at once"
        );
        paces.wrote(&id(), "a", now);
        assert_eq!(paces.wait(&id(), "a", now), None);
    }

    #[test]
    fn drift_is_repaired_at_once_but_a_contest_slows_down() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        for _ in 0..=FREE_REPAIRS {
            paces.wrote(&id(), "a", now);
            assert_eq!(paces.wait(&id(), "a", now), None);
        }
        paces.wrote(&id(), "a", now);
        let first = paces.wait(&id(), "a", now).unwrap();
        paces.wrote(&id(), "a", first);
        let second = paces.wait(&id(), "a", first).unwrap();
        assert_eq!(second - first, (first - now) * 2);
        let later = second + CALM + FIRST_RETRY;
        paces.wrote(&id(), "a", later);
        assert_eq!(paces.wait(&id(), "a", later), None, "left alone in between");
    }

    #[test]
    fn a_contest_that_waits_for_a_minute_is_still_one() {
        let (mut paces, mut now) = (Paces::default(), Instant::now());
        for _ in 0..FREE_REPAIRS * 2 {
            paces.wrote(&id(), "a", now);
            now = paces.wait(&id(), "a", now).unwrap_or(now);
            paces.forget_calm(now);
        }
        let soon = now + FIRST_RETRY;
        paces.wrote(&id(), "a", soon);
        assert_eq!(paces.wait(&id(), "a", soon), Some(soon + LAST_RETRY));
    }

    #[test]
    fn settings_that_change_are_no_contest() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        for i in 0..FREE_REPAIRS * 3 {
            paces.wrote(&id(), &i.to_string(), now);
            assert_eq!(paces.wait(&id(), &i.to_string(), now), None);
        }
        for _ in 0..FREE_REPAIRS * 2 {
            paces.wrote(&id(), "a", now);
        }
        assert!(paces.wait(&id(), "a", now).is_some());
        assert_eq!(paces.wait(&id(), "b", now), None);
        paces.wrote(&id(), "b", now);
        assert_eq!(paces.wait(&id(), "b", now), None);
    }
}
