//! The part of the machine that probes seldom while nothing depends on it.
//!
//! `foca` is told no other period, which it could not take up while it runs: the timers that it asks for are set later, and are
//! brought forward when there is reason to hurry.

use core::time::Duration;

use foca::{State, Timer};
use metallb_sansio::Instant;

use super::{Member, Wake};
use crate::Identity;

/// Whether the member rests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    /// The layer above has nothing against it.
    pub(super) wanted: bool,
    /// When timers were set that ring later than usual.
    slow_since: Option<Instant>,
    /// When the next peer is probed.
    pub(crate) probe_at: Option<Instant>,
}

/// Whether the timer is one that comes again and again for as long as there are peers.
const fn is_periodic(timer: &Timer<Identity>) -> bool {
    matches!(timer, Timer::ProbeRandomMember(_) | Timer::PeriodicGossip(_))
}

impl Member {
    /// Nobody is in doubt, here or by what others say, and there is nothing to be told.
    fn rests(&self) -> bool {
        self.rest.wanted
            && self.suspicions.is_empty()
            && self.foca.updates_backlog() == 0
            && self.peers.values().all(|peer| peer.doubted_until.is_none())
            && self
                .foca
                .iter_members()
                .all(|member| member.state() != State::Suspect)
    }

    /// When a timer of `foca` rings that it wants after that time.
    pub(super) fn ring_at(&mut self, now: Instant, timer: &Timer<Identity>, after: Duration) -> Instant {
        let mut at = now + after;
        if is_periodic(timer) && self.rests() {
            self.rest.slow_since = Some(now);
            at = now + self.timing.rest_period;
        }
        match timer {
            Timer::ProbeRandomMember(_) => {
                self.rest.probe_at = Some(at);
                at
            }
            // Together with the next probe: it need not wake us for itself.
            Timer::PeriodicGossip(_) => {
                let probe_at = self.rest.probe_at.filter(|probe| *probe > now);
                probe_at.map_or(at, |probe| probe.min(at))
            }
            _ => at,
        }
    }

    /// The timers were put off by that long.
    pub(super) fn postpone_rest(&mut self, by: Duration) {
        for at in [&mut self.rest.slow_since, &mut self.rest.probe_at] {
            *at = at.map(|at| at + by);
        }
    }

    /// When there is no longer rest, the next probe comes when it would have come without.
    pub(super) fn wake_from_rest(&mut self, now: Instant) {
        if self.rest.slow_since.is_some() && !self.rests() {
            self.hurry(now);
        }
    }

    /// Ends the periods under way as if they were of the usual length.
    pub(super) fn hurry(&mut self, now: Instant) {
        let Some(since) = self.rest.slow_since.take() else {
            return;
        };
        let mut end = since + self.timing.probe_period;
        while end < now {
            end += self.timing.probe_period;
        }
        self.rest.probe_at = self.rest.probe_at.map(|at| at.min(end));
        self.timers.bring_forward(
            end,
            |wake| matches!(wake, Wake::Foca(timer) if is_periodic(timer)),
        );
    }
}
