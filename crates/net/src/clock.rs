//! The clock that goes on while the machine is suspended.
#![allow(unsafe_code)]

use std::time::Duration;

/// Time since the machine was started, by `CLOCK_BOOTTIME`. A clock that stood still during a suspension would let a node that
/// wakes up believe in what is long over.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live `timespec` that the call fills. It fails only for a clock that the kernel does not have, and
    // every kernel since 2.6.39 has this one; the time would then stay zero.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let (first, second) = (since_boot(), since_boot());
        assert!(first > Duration::ZERO && second >= first);
    }
}
