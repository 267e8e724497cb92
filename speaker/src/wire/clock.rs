//! The machines' clock over the operating system's.

use std::time::Duration;

use metallb_sansio::Instant;

/// Time since the start of the process on a clock that goes on while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Duration);

impl Clock {
    /// One that starts now.
    pub(crate) fn start() -> Self {
        Self(metallb_net::since_boot())
    }

    /// The present.
    pub(crate) fn now(self) -> Instant {
        let elapsed = metallb_net::since_boot().saturating_sub(self.0);
        Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    /// That time on the clock of the operating system.
    pub(crate) fn since_boot(self, at: Instant) -> Duration {
        self.0 + Duration::from_nanos(at.as_nanos())
    }

    /// Waits until then; for ever without one.
    pub(crate) async fn until(self, at: Option<Instant>) {
        match at {
            Some(at) => {
                let now = self.now();
                let left = if at > now { at - now } else { Duration::ZERO };
                tokio::time::sleep(left).await;
            }
            None => std::future::pending().await,
        }
    }
}
