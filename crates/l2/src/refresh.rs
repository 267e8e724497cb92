//! Announcements repeated for ever, for switches that forget where a silent station is.

use core::ops::Bound;
use core::time::Duration;
use std::net::IpAddr;

use metallb_sansio::Instant;

use crate::announcer::{Announcer, Due, Role};

/// Shortest time in which every address may be announced again.
pub const REFRESH_MIN: Duration = Duration::from_secs(1);

/// Turns of the refresh are not closer than this; with many addresses several are announced in one.
const TURN_MIN: Duration = Duration::from_millis(10);

/// Where the refresh stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refresh {
    /// In what time every address has its turn; zero: there is no refresh.
    pub(crate) every: Duration,
    /// Its timer is set.
    running: bool,
    /// The address that was announced last.
    last: Option<IpAddr>,
}

impl Refresh {
    /// How long until the next turn, and how many of `held` addresses it announces.
    fn turn(&self, held: usize) -> (Duration, usize) {
        let held = u32::try_from(held.max(1)).unwrap_or(u32::MAX);
        let pause = (self.every / held).max(TURN_MIN);
        // As many as are needed to have them all in time.
        let turns = (self.every.as_nanos() / pause.as_nanos()).max(1);
        (pause, u128::from(held).div_ceil(turns) as usize)
    }
}

impl Announcer {
    /// Sets the timer of the first turn.
    pub(crate) fn start_refresh(&mut self, now: Instant) {
        if !self.refresh.every.is_zero() && !core::mem::replace(&mut self.refresh.running, true) {
            self.due.set(now + self.refresh.every, Due::Refresh);
        }
    }

    /// Announces the addresses whose turn it is.
    pub(crate) fn refresh_tick(&mut self, now: Instant) {
        if self.held.is_empty() {
            self.refresh.running = false;
            return;
        }
        let (pause, count) = self.refresh.turn(self.held.len());
        for _ in 0..count {
            let Some(address) = self.next_in_turn() else { break };
            self.refresh.last = Some(address);
            self.send_unsolicited(address, None);
        }
        self.due.set(now + pause, Due::Refresh);
    }

    /// The next owned address after the last one, over the end from the beginning.
    fn next_in_turn(&self) -> Option<IpAddr> {
        let owned = |held: &&crate::announcer::Held| matches!(held.role, Role::Owner(_));
        let after = self.refresh.last.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.held.range((after, Bound::Unbounded));
        let mut turn = rest.chain(&self.held).filter(|(_, held)| owned(held));
        turn.next().map(|(address, _)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_turn_in_time() {
        let refresh = |seconds| Refresh {
            every: Duration::from_secs(seconds),
            ..Refresh::default()
        };
        for (seconds, held) in [
            (1, 1),
            (30, 1),
            (30, 7),
            (30, 1_000),
            (1, 1_000),
            (60, 10_000),
            (1, 9_999),
        ] {
            let (pause, count) = refresh(seconds).turn(held);
            assert!(pause >= TURN_MIN, "{seconds} s, {held}");
            let round = pause * u32::try_from(held.div_ceil(count)).expect("few");
            assert!(
                round <= Duration::from_secs(seconds) + pause,
                "{seconds} s, {held}: {round:?}"
            );
            assert!(
                round >= Duration::from_secs(seconds) / 2,
                "{seconds} s, {held}: {round:?}"
            );
        }
    }
}
