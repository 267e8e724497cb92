//! Real-time priority for what measures: clients and echo servers. They need next to no processor time, but when they wait for it
//! on a busy machine, an answer that is there in time looks lost or late. What is measured keeps the priority that users give it.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{cgroup::Hierarchies, sh};

/// The lowest of the real-time priorities: above everything of normal priority, below the kernel's own threads.
const PRIORITY: &str = "1";

/// Gives the calling thread real-time priority. Where the machine refuses, it says so and goes on: then streams are as late as
/// everything else.
pub fn prefer_thread() {
    let thread = nix::unistd::gettid().as_raw();
    if let Err(error) = chrt(&["--fifo", "--pid", PRIORITY, &thread.to_string()]) {
        eprintln!("a measuring thread runs at normal priority: {error:#}");
    }
}

/// Gives a container's process, with all its threads and those that it starts, real-time priority.
///
/// # Errors
/// The kernel refuses.
pub fn prefer_process(pid: i32) -> Result<()> {
    Hierarchies::detect()?.leave_cpu_group(pid)?;
    chrt(&["--fifo", "--all-tasks", "--pid", PRIORITY, &pid.to_string()])
        .with_context(|| format!("real-time priority for process {pid}"))
}

fn chrt(args: &[&str]) -> Result<()> {
    sh::run(Command::new("chrt").args(args)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn a_process_and_a_thread_get_it() {
        let policy = |pid: i32| sh::run(Command::new("chrt").args(["--pid", &pid.to_string()])).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!policy(pid).contains("SCHED_FIFO"), "{}", policy(pid));
        prefer_process(pid).unwrap();
        assert!(policy(pid).contains("SCHED_FIFO"), "{}", policy(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::spawn(move || {
            prefer_thread();
            let own = policy(nix::unistd::gettid().as_raw());
            assert!(own.contains("SCHED_FIFO"), "{own}");
        })
        .join()
        .unwrap();
    }
}
