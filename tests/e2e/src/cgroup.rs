//! The cluster's cgroups. They hold every process of the cluster, down to the last container, which makes them the way
//! to find, freeze and kill a node at once. Both layouts: version 1 hierarchies and the unified version 2.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_every;

/// The hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchies {
    /// Version 1: the mount point of each hierarchy, and that of the freezer.
    V1 {
        /// All hierarchies.
        roots: Vec<PathBuf>,
        /// The one that freezes; it is also where processes are looked up.
        freezer: PathBuf,
        /// The version 2 tree of a hybrid layout: no controllers, but runc makes its groups there too.
        unified: Option<PathBuf>,
    },
    /// Version 2: the mount point.
    V2(PathBuf),
}

impl Hierarchies {
    /// Looks at what is mounted.
    pub fn detect() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        Self::from_mountinfo(&mounts)
    }

    fn from_mountinfo(text: &str) -> Result<Self> {
        let mut roots = Vec::new();
        let mut freezer = None;
        let mut v2 = None;
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount_point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            let fstype = right.next().unwrap_or_default();
            let options = right.nth(1).unwrap_or_default();
            match fstype {
                "cgroup" => {
                    if options.split(',').any(|o| o == "freezer") {
                        freezer = Some(mount_point.clone());
                    }
                    if !roots.contains(&mount_point) {
                        roots.push(mount_point);
                    }
                }
                "cgroup2" => v2 = Some(mount_point),
                _ => {}
            }
        }
        match (freezer, v2) {
            // With the freezer in version 1 the other controllers are there too (hybrid layout).
            (Some(freezer), unified) => Ok(Self::V1 {
                roots,
                freezer,
                unified,
            }),
            (None, Some(root)) => Ok(Self::V2(root)),
            (None, None) => {
                bail!("no cgroup hierarchy is mounted under /sys/fs/cgroup; kubelet cannot run without")
            }
        }
    }

    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1 { roots, .. } => roots.iter().map(PathBuf::as_path).collect(),
            Self::V2(root) => vec![root],
        }
    }

    /// Where groups of ours may be found: the roots, and those that container runtimes add by themselves.
    fn removal_roots(&self) -> Vec<&Path> {
        let mut all = self.roots();
        if let Self::V1 {
            unified: Some(unified),
            ..
        } = self
        {
            all.push(unified);
        }
        all
    }

    fn tracking_root(&self) -> &Path {
        match self {
            Self::V1 { freezer, .. } => freezer,
            Self::V2(root) => root,
        }
    }

    /// Makes the cgroup and its parents in every hierarchy, ready for processes.
    pub fn create(&self, path: &str) -> Result<()> {
        for root in self.roots() {
            let mut dir = root.to_owned();
            for part in path.split('/') {
                if let Self::V2(_) = self {
                    enable_controllers(&dir)?;
                }
                let parent = dir.clone();
                dir.push(part);
                match fs::create_dir(&dir) {
                    Ok(()) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e).with_context(|| format!("create cgroup {}", dir.display())),
                }
                // An empty cpuset of version 1 refuses processes, and kubelet calls the group missing.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if matches!(self, Self::V1 { .. }) && dir.join(file).exists() {
                        let value = fs::read_to_string(parent.join(file))
                            .with_context(|| format!("read {file} of {}", parent.display()))?;
                        fs::write(dir.join(file), value.trim())
                            .with_context(|| format!("set {file} of {}", dir.display()))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves a process into the cgroup in every hierarchy.
    pub fn join(&self, path: &str, pid: u32) -> Result<()> {
        for root in self.roots() {
            let file = root.join(path).join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("move process {pid} to {}", file.display()))?;
        }
        Ok(())
    }

    /// Takes a process out of its group's share of processor time, in version 1: its groups have no real-time share there, so the
    /// kernel would refuse real-time priority. The other controllers, by which it is found and killed, keep it. Version 2 has no
    /// such shares.
    pub fn leave_cpu_group(&self, pid: i32) -> Result<()> {
        let Self::V1 { roots, .. } = self else {
            return Ok(());
        };
        for root in roots
            .iter()
            .filter(|root| root.join("cpu.shares").exists() || root.join("cpu.rt_runtime_us").exists())
        {
            let file = root.join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("move process {pid} to {}", file.display()))?;
        }
        Ok(())
    }

    /// All processes in the cgroup and below it.
    pub fn pids(&self, path: &str) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        walk(&self.tracking_root().join(path), &mut |dir| {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
        pids
    }

    /// Stops or continues every process in the cgroup and below it, without their noticing.
    pub fn freeze(&self, path: &str, frozen: bool) -> Result<()> {
        let dir = self.tracking_root().join(path);
        let (file, value, shown) = match (self, frozen) {
            (Self::V1 { .. }, true) => ("freezer.state", "FROZEN", "FROZEN"),
            (Self::V1 { .. }, false) => ("freezer.state", "THAWED", "THAWED"),
            (Self::V2(_), true) => ("cgroup.freeze", "1", "frozen 1"),
            (Self::V2(_), false) => ("cgroup.freeze", "0", "frozen 0"),
        };
        fs::write(dir.join(file), value)
            .with_context(|| format!("write {value} to {file} of {}", dir.display()))?;
        let report = if matches!(self, Self::V2(_)) {
            "cgroup.events"
        } else {
            file
        };
        wait_every(
            &format!("{value} in {}", dir.display()),
            Duration::from_millis(5),
            Duration::from_secs(5),
            || {
                Ok(fs::read_to_string(dir.join(report))?
                    .contains(shown)
                    .then_some(()))
            },
        )
    }

    /// Kills every process in the cgroup and below it with SIGKILL, all in one instant: they are frozen first, so that none
    /// sees another die. Returns when they are gone.
    pub fn kill(&self, path: &str) -> Result<()> {
        if !self.tracking_root().join(path).exists() {
            return Ok(());
        }
        wait_every(
            &format!("the processes of cgroup {path} to end"),
            Duration::from_millis(20),
            Duration::from_secs(20),
            || {
                let pids = self.pids(path);
                if pids.is_empty() {
                    return Ok(Some(()));
                }
                // A freeze that does not complete only makes the kill less sudden.
                let frozen = self.freeze(path, true);
                for pid in pids {
                    signal(pid, Signal::SIGKILL)?;
                }
                drop(frozen);
                self.thaw_all(path);
                Ok(None)
            },
        )
    }

    /// Thaws every group of the tree by itself: in version 1 a node that was frozen stays so when its parent thaws, and a
    /// frozen process does not die. A group that vanishes meanwhile needs no thawing; one that stays is tried again.
    fn thaw_all(&self, path: &str) {
        let (file, value) = match self {
            Self::V1 { .. } => ("freezer.state", "THAWED"),
            Self::V2(_) => ("cgroup.freeze", "0"),
        };
        walk(&self.tracking_root().join(path), &mut |dir| {
            drop(fs::write(dir.join(file), value));
        });
    }

    /// Removes the cgroup and all below it, in every hierarchy. The processes must be gone.
    pub fn remove(&self, path: &str) -> Result<()> {
        for root in self.removal_roots() {
            let top = root.join(path);
            wait_every(
                &format!("cgroup {} to be removable", top.display()),
                Duration::from_millis(20),
                Duration::from_secs(10),
                || {
                    remove_tree(&top)?;
                    Ok(Some(()))
                },
            )?;
        }
        Ok(())
    }
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => bail!("send {signal} to process {pid}: {e}"),
    }
}

/// What kubelet insists on in version 2. Others are enabled where the host allows it.
const NEEDED_CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

fn enable_controllers(dir: &Path) -> Result<()> {
    let there = fs::read_to_string(dir.join("cgroup.controllers"))
        .with_context(|| format!("read controllers of {}", dir.display()))?;
    for controller in there.split_whitespace() {
        let enabled = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        if NEEDED_CONTROLLERS.contains(&controller) {
            enabled.with_context(|| format!("enable controller {controller} below {}", dir.display()))?;
        }
    }
    Ok(())
}

/// Calls `visit` for the directory and all below it, children first. What vanishes meanwhile is passed over.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                walk(&entry.path(), visit);
            }
        }
        visit(dir);
    }
}

fn remove_tree(top: &Path) -> Result<()> {
    let mut failed = None;
    walk(top, &mut |dir| {
        if let Err(e) = fs::remove_dir(dir)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            failed = Some((dir.to_owned(), e));
        }
    });
    match failed {
        Some((dir, e)) => Err(e).with_context(|| format!("remove cgroup {}", dir.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let hybrid = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
27 25 0:24 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer\n\
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Hierarchies::V1 {
            roots,
            freezer,
            unified,
        } = Hierarchies::from_mountinfo(hybrid).unwrap()
        else {
            panic!("hybrid is version 1")
        };
        assert_eq!(roots.len(), 2);
        assert_eq!(freezer, PathBuf::from("/sys/fs/cgroup/freezer"));
        assert_eq!(unified, Some("/sys/fs/cgroup/unified".into()));
        let unified = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            Hierarchies::from_mountinfo(unified).unwrap(),
            Hierarchies::V2("/sys/fs/cgroup".into())
        );
        assert!(Hierarchies::from_mountinfo("").is_err());
    }

    #[test]
    #[ignore = "needs root and the host's cgroups"]
    fn a_group_of_processes_is_found_frozen_killed_and_removed() {
        let detected = Hierarchies::detect().unwrap();
        let mut all = vec![detected.clone()];
        if let Hierarchies::V1 {
            unified: Some(root), ..
        } = detected
        {
            all.push(Hierarchies::V2(root));
        }
        for groups in all {
            let top = format!("mlb-test-{}", std::process::id());
            let leaf = format!("{top}/n1/sys");
            groups.create(&leaf).unwrap();
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            groups.join(&leaf, child.id()).unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            assert_eq!(groups.pids(&top), BTreeSet::from([pid]), "{groups:?}");
            groups.freeze(&top, true).unwrap();
            groups.freeze(&top, false).unwrap();
            // A frozen node must not survive the kill of the whole.
            groups.freeze(&format!("{top}/n1"), true).unwrap();
            groups.kill(&top).unwrap();
            assert!(!child.wait().unwrap().success());
            groups.remove(&top).unwrap();
            assert!(!groups.tracking_root().join(&top).exists());
        }
    }
}
