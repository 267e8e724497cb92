//! What a process uses, from /proc.

use anyhow::{Context, Result};

/// Figures of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Largest resident size so far, in bytes.
    pub peak_rss: u64,
    /// Resident size now, in bytes.
    pub rss: u64,
}

/// Looks at one process.
///
/// # Errors
/// It has ended, or /proc speaks another language.
pub fn of(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
    };
    let ticks = cpu_ticks(&read("stat")?).context("understand /proc/PID/stat")?;
    let status = read("status")?;
    // USER_HZ is 100 on every architecture that Kubernetes runs on.
    let by_ticks = ticks as f64 / 100.0;
    Ok(Usage {
        // A speaker that idles uses less than a tick in a second: the scheduler's own account is finer, where there is one.
        // It leaves out threads that have ended, so it is taken only when it is about as large.
        cpu_seconds: scheduled(pid)
            .filter(|seconds| *seconds + 0.5 > by_ticks)
            .unwrap_or(by_ticks),
        peak_rss: bytes(&status, "VmHWM:").context("no VmHWM in /proc/PID/status")?,
        rss: bytes(&status, "VmRSS:").context("no VmRSS in /proc/PID/status")?,
    })
}

/// Time on a processor of all threads that are there, in seconds.
fn scheduled(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0_u64;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e9)
}

/// Fields 14 and 15 of /proc/PID/stat; the command name may itself hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_this_very_process() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.peak_rss >= usage.rss && usage.rss > 1 << 20);
    }

    #[test]
    fn a_hostile_command_name() {
        let stat = "42 (a) Z (b c) S 1 42 42 0 -1 4194560 1 0 0 0 50 6 0 0 20 0 1 0 987654 1000 2 18446744073709551615";
        assert_eq!(cpu_ticks(stat), Some(56));
        assert_eq!(
            bytes("VmPeak:\t1 kB\nVmHWM:\t   12 kB\n", "VmHWM:"),
            Some(12 * 1024)
        );
    }
}
