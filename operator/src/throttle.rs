//! How soon a pass follows on news, and how often at most: what somebody has changed is looked at at once, what is only to be told
//! of waits its turn. Whatever happens in the cluster, there are no more passes than [`RATE`] in the long run.

use std::time::Duration;
use tokio::time::Instant;

/// Passes a second, in the long run.
const RATE: f64 = 0.9;
/// Passes that may follow on each other at once after a calm.
const BURST: f64 = 7.0;
/// Of them those that are kept for what somebody has changed.
const RESERVE: f64 = 4.0;

/// What a message of a watch is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// It says what is known, such as the echo of a write of ours.
    #[default]
    Nothing,
    /// How something stands has changed; nothing has to be put right for that.
    Standing,
    /// Something is wanted otherwise, or is no longer as it was wanted.
    Change,
}

/// A bucket of passes that fills up again.
#[derive(Debug)]
pub(crate) struct Throttle {
    left: f64,
    at: Instant,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Throttle { left: BURST, at: now }
    }

    /// Takes a pass for the news; or returns when to ask again.
    pub(crate) fn take(&mut self, now: Instant, news: News) -> Result<(), Instant> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * RATE).min(BURST);
        self.at = now;
        let needed = if news == News::Change { 1.0 } else { 1.0 + RESERVE };
        if self.left < needed {
            let wait = Duration::from_secs_f64((needed - self.left) / RATE);
            // What is a rounding error too early would be asked for again without a pause.
            return Err(now + wait + Duration::from_millis(1));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes in ten minutes of such news every `every`, and the longest time that one of them waited.
    fn ten_minutes(news: News, every: Duration) -> (u32, Duration) {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let (mut passes, mut longest, mut waits_since) = (0, Duration::ZERO, None);
        let mut now = start;
        while now < start + Duration::from_secs(600) {
            let since = *waits_since.get_or_insert(now);
            if throttle.take(now, news).is_ok() {
                passes += 1;
                longest = longest.max(now - since);
                waits_since = None;
            }
            now += every;
        }
        (passes, longest)
    }

    #[test]
    fn no_flood_of_news_is_a_flood_of_passes() {
        for news in [News::Standing, News::Change] {
            let (passes, longest) = ten_minutes(news, Duration::from_millis(10));
            assert!((530..=600).contains(&passes), "{news:?}: {passes}");
            assert!(longest <= Duration::from_millis(1_150), "{news:?}: {longest:?}");
        }
    }

    #[test]
    fn what_comes_now_and_then_never_waits() {
        for news in [News::Standing, News::Change] {
            let seen = ten_minutes(news, Duration::from_millis(1_200));
            assert_eq!(seen, (500, Duration::ZERO), "{news:?}");
        }
    }

    #[test]
    fn a_flood_of_statuses_leaves_room_for_changes() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new(now);
        let mut passes = 0;
        for _ in 0..1_050 {
            now += Duration::from_millis(10);
            passes += u32::from(throttle.take(now, News::Standing).is_ok());
        }
        assert_eq!(
            passes, 12,
            "the burst without the reserve, and ten and a half seconds"
        );
        for change in 0..4 {
            assert_eq!(throttle.take(now, News::Change), Ok(()), "{change}");
        }
        let later = throttle.take(now, News::Standing).expect_err("they wait");
        assert_eq!(
            throttle.take(later, News::Standing),
            Ok(()),
            "as long as was said"
        );
    }
}
