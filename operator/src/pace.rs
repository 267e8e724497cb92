//! How soon an object is written again: at once when it drifted, slower each time when writing fails, and slower also when
//! somebody else keeps changing it back.

use metallb_render::ObjectId;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// So many repairs in a row are no contest yet.
const FREE_REPAIRS: u32 = 20;
/// An object left alone for this long starts afresh.
const CALM: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Entry {
    failures: u32,
    repairs: u32,
    last: Instant,
    not_before: Instant,
}

/// Pace of every object that was written lately.
#[derive(Debug, Default)]
pub(crate) struct Paces(BTreeMap<ObjectId, Entry>);

impl Paces {
    /// `None` when the object may be written now, else when it may.
    pub(crate) fn wait(&self, id: &ObjectId, now: Instant) -> Option<Instant> {
        self.0
            .get(id)
            .map(|entry| entry.not_before)
            .filter(|at| *at > now)
    }

    /// A write failed.
    pub(crate) fn failed(&mut self, id: &ObjectId, now: Instant) {
        let entry = self.entry(id, now);
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        entry.not_before = now + exponential(entry.failures);
    }

    /// A write succeeded.
    pub(crate) fn wrote(&mut self, id: &ObjectId, now: Instant) {
        let entry = self.entry(id, now);
        if now.duration_since(entry.last) > CALM {
            entry.repairs = 0;
        }
        entry.failures = 0;
        entry.repairs = entry.repairs.saturating_add(1);
        entry.last = now;
        entry.not_before = match entry.repairs.checked_sub(FREE_REPAIRS) {
            None | Some(0) => now,
            Some(excess) => now + exponential(excess),
        };
    }

    /// Forgets objects that are calm, so that the map does not grow.
    pub(crate) fn forget_calm(&mut self, now: Instant) {
        self.0
            .retain(|_, entry| entry.failures > 0 || now.duration_since(entry.last) <= CALM);
    }

    fn entry(&mut self, id: &ObjectId, now: Instant) -> &mut Entry {
        self.0.entry(id.clone()).or_insert(Entry {
            failures: 0,
            repairs: 0,
            last: now,
            not_before: now,
        })
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
        assert_eq!(paces.wait(&id(), now), None);
        let mut waits = Vec::new();
        for _ in 0..9 {
            paces.failed(&id(), now);
            waits.push(paces.wait(&id(), now).unwrap() - now);
        }
        assert_eq!(waits[0], FIRST_RETRY);
        assert_eq!(waits[1], FIRST_RETRY * 2);
        assert_eq!(waits[8], LAST_RETRY);
        paces.wrote(&id(), now);
        assert_eq!(paces.wait(&id(), now), None);
    }

    #[test]
    fn drift_is_repaired_at_once_but_a_contest_slows_down() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        for _ in 0..FREE_REPAIRS {
            paces.wrote(&id(), now);
            assert_eq!(paces.wait(&id(), now), None);
        }
        paces.wrote(&id(), now);
        assert!(paces.wait(&id(), now).is_some());
        let later = now + CALM + LAST_RETRY;
        paces.wrote(&id(), later);
        assert_eq!(paces.wait(&id(), later), None, "left alone in between");
    }
}
