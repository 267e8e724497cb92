//! The part of the machine that probes seldom while nothing depends on it.
//!
//! `foca` is told no other period, which it could not take up while it runs: the timers that it asks for are set later, and are
//! brought forward when there is reason to hurry.

use core::time::Duration;

use foca::Timer;
use metallb_sansio::Instant;

use super::{Member, Wake};
use crate::Identity;

/// Whether the member rests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    /// The layer above has nothing against it.
    pub(super) wanted: bool,
    /// Timers were set later than usual.
    slow: bool,
    /// When the period under way ends.
    probe_at: Option<Instant>,
}

/// Whether the timer is one that comes again and again for as long as there are peers.
const fn is_periodic(timer: &Timer<Identity>) -> bool {
    matches!(timer, Timer::ProbeRandomMember(_) | Timer::PeriodicGossip(_))
}

impl Member {
    /// Nobody is in doubt, and there is nothing to be told.
    fn rests(&self) -> bool {
        self.rest.wanted
            && self.suspicions.is_empty()
            && self.foca.updates_backlog() == 0
            && self.peers.values().all(|peer| peer.doubted_until.is_none())
    }

    /// When a timer of `foca` rings that it wants after that time.
    pub(super) fn ring_at(&mut self, now: Instant, timer: &Timer<Identity>, after: Duration) -> Instant {
        let mut at = now + after;
        if is_periodic(timer) && self.rests() {
            self.rest.slow = true;
            at = now + self.timing.rest_period;
        }
        match timer {
            Timer::ProbeRandomMember(_) => self.rest.probe_at = Some(at),
            // Together with the next probe: it need not wake us for itself.
            Timer::PeriodicGossip(_) => {
                return self
                    .rest
                    .probe_at
                    .filter(|probe| *probe > now && *probe < at)
                    .unwrap_or(at);
            }
            _ => {}
        }
        at
    }

    /// The peer that is probed should have answered by now: the period ends when it usually does, and it is suspected.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.hurry(now + self.timing.probe_period.saturating_sub(self.timing.probe_rtt));
    }

    /// When there is no longer rest, the next probe is not further away than it usually is.
    pub(super) fn wake_from_rest(&mut self, now: Instant) {
        if self.rest.slow && !self.rests() {
            self.hurry(now + self.timing.probe_period);
        }
    }

    /// Ends the periods under way by then.
    fn hurry(&mut self, by: Instant) {
        if !core::mem::take(&mut self.rest.slow) {
            return;
        }
        self.rest.probe_at = self.rest.probe_at.map(|at| at.min(by));
        self.timers
            .bring_forward(by, |wake| matches!(wake, Wake::Foca(timer) if is_periodic(timer)));
    }
}
