//! The one timer of the thread.

use metallb_sansio::Instant;

use super::clock::Clock;

/// Rings at the time last set. Setting the same time again costs nothing.
pub(super) struct Alarm {
    clock: Clock,
    at: Option<Instant>,
    timer: metallb_net::Alarm,
}

impl Alarm {
    /// One that is not set.
    pub(super) fn new(clock: Clock) -> std::io::Result<Self> {
        Ok(Self {
            clock,
            at: None,
            timer: metallb_net::Alarm::new()?,
        })
    }

    /// Rings at that time and not at the one before; never without one.
    pub(super) fn set(&mut self, at: Option<Instant>) -> std::io::Result<()> {
        if self.at != at {
            self.timer.set(at.map(|at| self.clock.since_boot(at)))?;
            self.at = at;
        }
        Ok(())
    }

    /// Waits until it rings. Having rung it is not set. Safe to cancel.
    pub(super) async fn rings(&mut self) -> std::io::Result<()> {
        self.timer.rings().await?;
        self.at = None;
        Ok(())
    }
}
