//! Taking a cluster down: whatever its records name, and nothing else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::cgroup::{Hierarchies, signal};
use crate::plan::Plan;
use crate::state::{Made, Phase, State};
use crate::wait::wait_every;
use crate::{netns, process};

/// Removes everything on record, in an order in which nothing hangs on what is gone; safe to repeat after a kill.
pub(crate) fn tear_down(plan: &Plan, state: &State) -> Result<()> {
    if let Some(mut record) = state.load().unwrap_or_default() {
        record.phase = Phase::Stopping;
        state.save(&record)?;
    }
    let mut made = state.made()?;
    // The bulk data outlives a reboot, the records do not.
    for own in [
        Made::Dir {
            path: plan.data_dir(),
        },
        Made::Dir { path: plan.run_dir() },
    ] {
        made.retain(|m| *m != own);
        made.push(own);
    }
    for (_, process) in process::all(state)? {
        process.kill()?;
    }
    let groups = Hierarchies::detect()?;
    for made in &made {
        if let Made::Cgroup { path } = made {
            groups.kill(path)?;
        }
    }
    let namespaces: Vec<String> = made
        .iter()
        .filter_map(|m| {
            if let Made::Netns { name } = m {
                Some(name.clone())
            } else {
                None
            }
        })
        .collect();
    // What a person runs in a namespace of the cluster (`lab exec`) is in no cgroup of it.
    let me = i32::try_from(std::process::id())?;
    wait_every(
        "the processes in the cluster's namespaces to end",
        Duration::from_millis(20),
        Duration::from_secs(10),
        || {
            let mut left = netns::pids(&namespaces)?;
            left.remove(&me);
            for pid in &left {
                signal(*pid, Signal::SIGKILL)?;
            }
            Ok(left.is_empty().then_some(()))
        },
    )?;
    for name in &namespaces {
        netns::remove(name)?;
    }
    for made in &made {
        if let Made::Cgroup { path } = made {
            groups.remove(path)?;
        }
    }
    // The run directory goes last: while anything is left, the record of it is.
    for made in &made {
        if let Made::Dir { path } = made {
            remove_dir(path)?;
        }
    }
    Ok(())
}

/// Removes a directory of the cluster. A guard beside the records: nothing outside the two directories of the tool.
fn remove_dir(path: &Path) -> Result<()> {
    let inside = ["/run/metallb-lab", "/var/lib/metallb-lab"]
        .iter()
        .any(|base| path.parent() == Some(Path::new(base)));
    if !inside {
        bail!(
            "{} is on record but not in a directory of the lab; look into it by hand",
            path.display()
        );
    }
    wait_every(
        &format!("{} to be removable", path.display()),
        Duration::from_millis(50),
        Duration::from_secs(10),
        || match fs::remove_dir_all(path) {
            Ok(()) => Ok(Some(())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Some(())),
            Err(e) => Err(e).with_context(|| format!("remove {}", path.display())),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_removed() {
        for bad in [
            "/",
            "/var/lib",
            "/var/lib/metallb-lab",
            "/run/metallb-lab/x/y",
            "/home/x",
        ] {
            assert!(remove_dir(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
