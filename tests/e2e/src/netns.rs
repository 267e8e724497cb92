//! Named network namespaces: making, entering, listing what lives in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::sh;
use crate::state::{Made, State};

/// The file that names the namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Makes the namespace (recorded first), with its loopback interface up.
pub fn add(state: &State, name: &str) -> Result<()> {
    state.about_to_make(&Made::Netns {
        name: name.to_owned(),
    })?;
    sh::run(Command::new("ip").args(["netns", "add", name]))?;
    ip_batch(name, "link set lo up\n")
}

/// Removes the namespace if it is there. Interfaces in it and their peers vanish with the last process in it.
pub fn remove(name: &str) -> Result<()> {
    if path(name).exists() {
        sh::run(Command::new("ip").args(["netns", "del", name]))?;
    }
    Ok(())
}

/// Moves the calling thread into the namespace.
pub fn enter(name: &str) -> Result<()> {
    let path = path(name);
    let file = File::open(&path).with_context(|| format!("open network namespace {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter network namespace {name}"))
}

/// Runs `work` in a thread of its own inside the namespace; sockets it opens belong there for good.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(name)?;
                work()
            })
            .join()
            .map_err(|_| anyhow::anyhow!("the thread in network namespace {name} panicked"))?
    })
}

/// A command that runs inside the namespace, otherwise on the host.
pub fn command(name: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", path(name).display()))
        .arg("--")
        .arg(program);
    command
}

/// Runs `ip` commands, one a line, in the namespace.
pub fn ip_batch(name: &str, lines: &str) -> Result<()> {
    sh::run_with_input(Command::new("ip").args(["-n", name, "-batch", "-"]), lines)
        .with_context(|| format!("in namespace {name}:\n{}", lines.trim_end()))
        .map(drop)
}

/// Sets kernel parameters of the namespace; `must_exist` false passes over those that this kernel does not have.
pub fn sysctl(name: &str, settings: &[(&str, &str)], must_exist: bool) -> Result<()> {
    within(name, || {
        for (key, value) in settings {
            let file = Path::new("/proc/sys").join(key);
            if must_exist || file.exists() {
                fs::write(&file, value).with_context(|| format!("set {} in {name}", file.display()))?;
            }
        }
        Ok(())
    })
}

/// The processes that live in each of the namespaces.
pub fn pids(names: &[String]) -> Result<BTreeSet<i32>> {
    let mut wanted = BTreeMap::new();
    for name in names {
        if let Ok(meta) = fs::metadata(path(name)) {
            wanted.insert((meta.dev(), meta.ino()), name);
        }
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ends meanwhile, or a kernel thread, has none to show.
        if let Ok(meta) = fs::metadata(entry.path().join("ns/net"))
            && wanted.contains_key(&(meta.dev(), meta.ino()))
        {
            found.insert(pid);
        }
    }
    Ok(found)
}
