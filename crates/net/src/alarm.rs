//! A timer of the kernel on the clock of [`since_boot`](crate::since_boot).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use crate::fd;

/// Rings once at the time that it was last set to. It wakes its thread exactly then: tokio's own timers also wake it at each step
/// that they come nearer, which for periods of some tens of milliseconds is as often again.
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    /// The kernel's; there is no runtime.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let timer =
            unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if timer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        let timer = unsafe { OwnedFd::from_raw_fd(timer) };
        Ok(Self {
            timer: fd::register(timer)?,
        })
    }

    /// Rings at that time since the machine was started, at once when it is over, and no longer at the time set before; not at all
    /// without one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&mut self, at: Option<Duration>) -> io::Result<()> {
        // All zero means never.
        let at = at.map_or(Duration::ZERO, |at| at.max(Duration::from_nanos(1)));
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = libc::timespec {
            tv_sec: at.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        let times = libc::itimerspec {
            it_interval: zero,
            it_value: value,
        };
        let timer = self.timer.get_ref().as_raw_fd();
        // SAFETY: `times` is a live `itimerspec` that the kernel only reads; the former time is not asked for. The
        // descriptor is open as long as `self` lives.
        let result = unsafe {
            libc::timerfd_settime(
                timer,
                libc::TFD_TIMER_ABSTIME,
                &raw const times,
                std::ptr::null_mut(),
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Waits until it rings, once for each time that it is set. Safe to cancel.
    ///
    /// # Errors
    /// The runtime has ended.
    pub async fn rings(&self) -> io::Result<()> {
        // Setting it again makes it ready again, so its counter need not be read.
        self.timer.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::since_boot;

    #[test]
    fn it_rings_when_it_is_due_and_not_when_it_was_put_off() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut alarm = Alarm::new().expect("a timer");
            for wait in [20, 0, 5] {
                let at = since_boot() + Duration::from_millis(wait);
                alarm
                    .set(Some(since_boot() + Duration::from_secs(3_600)))
                    .expect("set");
                alarm.set(Some(at)).expect("set");
                alarm.rings().await.expect("rings");
                assert!(since_boot() >= at);
            }
            alarm.set(Some(Duration::ZERO)).expect("set");
            alarm.rings().await.expect("what is long over rings at once");
            alarm
                .set(Some(since_boot() + Duration::from_millis(1)))
                .expect("set");
            alarm.set(None).expect("set");
            let rang = tokio::time::timeout(Duration::from_millis(20), alarm.rings()).await;
            assert!(rang.is_err(), "it is not set");
        });
    }
}
