//! One process's common knowledge of whether the API server answers.
//!
//! Every response that arrives tells everybody who waits. So a single watch (the scout of the moment) asks often during
//! an outage, the others seldom, and all of them are back as soon as the first request of anybody got through.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

const FIRST: Duration = Duration::from_millis(200);
/// Longest pause of whoever asks on behalf of all.
const SCOUT_MAX: Duration = Duration::from_secs(1);
/// Longest pause of the others, who are woken when the scout gets through.
const OTHERS_MAX: Duration = Duration::from_secs(8);
/// Longest pause after a refusal that no other request's success changes.
const REFUSED_MAX: Duration = Duration::from_secs(30);
/// Nobody is woken earlier than this after a failure that others did not have.
const FLOOR_MAX: Duration = Duration::from_millis(500);

static AWAY: AtomicBool = AtomicBool::new(false);
/// Counts returns of the API server.
static RETURNS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));
static SCOUT: Semaphore = Semaphore::const_new(1);

/// A request had no answer, or one that says that the API server cannot serve now.
pub(crate) fn unanswered() {
    AWAY.store(true, Ordering::Relaxed);
}

/// A request was answered.
pub(crate) fn answered() {
    if AWAY.swap(false, Ordering::Relaxed) {
        RETURNS.send_modify(|count| *count += 1);
    }
}

/// How a request that did not do its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No answer, or one that says "not now".
    Unreachable,
    /// A clear answer that stays the same until somebody changes something.
    Refused,
}

/// The pauses of one watch between its attempts.
#[derive(Debug)]
pub(crate) struct Patience {
    failures: u32,
    /// Refusals in a row. Counted apart: an API server that has just come back refuses for a moment what it will grant.
    refusals: u32,
    returns: watch::Receiver<u64>,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            failures: 0,
            refusals: 0,
            returns: RETURNS.subscribe(),
        }
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// It works. Returns how often it had failed before.
    pub(crate) fn success(&mut self) -> u32 {
        self.refusals = 0;
        std::mem::take(&mut self.failures)
    }

    /// Call before an attempt: a return of the API server during the attempt cuts the pause after it short.
    pub(crate) fn attempt(&mut self) {
        self.returns.mark_unchanged();
    }

    /// Waits until it is time for the next attempt.
    pub(crate) async fn pause(&mut self, failure: Failure) {
        let (failures, jitter) = (self.failures, jitter());
        self.failures = failures.saturating_add(1);
        if failure == Failure::Refused {
            let refusals = self.refusals;
            self.refusals = refusals.saturating_add(1);
            tokio::time::sleep(step(refusals, REFUSED_MAX, jitter)).await;
            return;
        }
        self.refusals = 0;
        // Held during the pause only: whoever fails while the scout is asking becomes the next one.
        let scout = SCOUT.try_acquire().ok();
        let wait = Wait::new(failures, scout.is_some(), jitter);
        tokio::time::sleep(wait.at_least).await;
        if !wait.more.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait.more) => {}
                // Never an error: the sender is static.
                Ok(()) = self.returns.changed() => {}
            }
        }
    }
}

/// One pause.
#[derive(Clone, Copy, Debug)]
struct Wait {
    at_least: Duration,
    /// This much longer, unless the API server is found to be back.
    more: Duration,
}

impl Wait {
    fn new(failures: u32, scout: bool, jitter: u8) -> Self {
        if scout {
            return Self {
                at_least: step(failures, SCOUT_MAX, jitter),
                more: Duration::ZERO,
            };
        }
        let at_least = step(failures, FLOOR_MAX, jitter);
        Self {
            at_least,
            more: step(failures, OTHERS_MAX, jitter).saturating_sub(at_least),
        }
    }
}

/// Exponential from [`FIRST`] to `max`, the upper half of each step left to `jitter` (0..=255).
fn step(failures: u32, max: Duration, jitter: u8) -> Duration {
    let step = FIRST.saturating_mul(1 << failures.min(10)).min(max);
    step / 2 + step / 2 * u32::from(jitter) / 255
}

/// Low bits of the clock: enough to keep a cluster's watches from asking in step after an outage.
fn jitter() -> u8 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| (since.subsec_nanos() >> 10) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_cap_and_never_reach_zero() {
        assert_eq!(step(0, OTHERS_MAX, 0), FIRST / 2);
        assert_eq!(step(0, OTHERS_MAX, 255), FIRST);
        assert!(step(3, OTHERS_MAX, 128) > step(2, OTHERS_MAX, 128));
        assert_eq!(step(40, OTHERS_MAX, 255), OTHERS_MAX);
        // What bounds the time in which a return is noticed: the scout's pause, then the floor of the others.
        assert!(step(40, SCOUT_MAX, 255) + step(40, FLOOR_MAX, 255) <= Duration::from_millis(1500));
    }

    /// Watches of one process through an outage: `(attempts, longest time until one is back)`.
    fn outage(watches: usize, lasts: Duration, seed: u8) -> (usize, Duration) {
        struct Waiting {
            failures: u32,
            since: Duration,
            wait: Wait,
            scout: bool,
        }
        let mut jitter = seed;
        let mut next_jitter = || {
            jitter = jitter.wrapping_mul(141).wrapping_add(83);
            jitter
        };
        let mut all: Vec<Waiting> = (0..watches)
            .map(|at| Waiting {
                failures: 0,
                since: Duration::ZERO,
                wait: Wait::new(0, at == 0, next_jitter()),
                scout: at == 0,
            })
            .collect();
        let mut attempts = 0;
        loop {
            let due = |waiting: &Waiting| waiting.since + waiting.wait.at_least + waiting.wait.more;
            let at = (0..all.len()).min_by_key(|at| due(&all[*at])).expect("some");
            let now = due(&all[at]);
            if now >= lasts {
                let awake = |waiting: &Waiting| {
                    let awake = (waiting.since + waiting.wait.at_least).max(now);
                    awake.saturating_sub(lasts)
                };
                return (attempts, all.iter().map(awake).max().expect("some"));
            }
            attempts += 1;
            all[at].scout = false;
            let scout = !all.iter().any(|waiting| waiting.scout);
            let waiting = &mut all[at];
            waiting.failures += 1;
            waiting.since = now;
            waiting.wait = Wait::new(waiting.failures, scout, next_jitter());
            waiting.scout = scout;
        }
    }

    #[test]
    fn one_asks_often_and_all_are_back_at_once() {
        for seed in 0..=255 {
            let (attempts, back) = outage(12, Duration::from_secs(60), seed);
            assert!(
                back <= Duration::from_millis(1500),
                "seed {seed}: back after {back:?}"
            );
            assert!(
                attempts <= 60 * 4,
                "seed {seed}: {attempts} attempts of 12 watches in a minute"
            );
        }
    }
}
