//! The inside of a node: its own /var (the node's disk, which survives a restart of the node), its own empty /run, and
//! its own host name. Built by the node's first process for itself and, by inheritance, for all that follow.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

/// Where the binaries appear inside a node.
pub const BIN_KUBERNETES: &str = "/var/lib/lab/bin/kubernetes";
/// Where containerd's binaries appear inside a node.
pub const BIN_CONTAINERD: &str = "/var/lib/lab/bin/containerd";

/// Kernel settings that kubelet wants to change for the whole machine. Inside a node they appear as set already, so kubelet
/// is content and the host keeps its own.
const PRETENDED_SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What a node's root is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRoot {
    /// Host name.
    pub hostname: String,
    /// Name of its network namespace.
    pub netns: String,
    /// Directory of its disk on the host; `var` in it becomes /var.
    pub disk: PathBuf,
    /// Host directory of the Kubernetes binaries.
    pub bin_kubernetes: PathBuf,
    /// Host directory of containerd's binaries.
    pub bin_containerd: PathBuf,
}

const NONE: Option<&str> = None;

/// Gives the calling process the node's mount and UTS namespaces. The caller is single-threaded and already in the
/// node's network namespace.
pub fn build(root: &NodeRoot) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context("new mount and UTS namespaces")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("cut mounts off from the host")?;
    // In the new UTS namespace this file is the node's own host name.
    fs::write("/proc/sys/kernel/hostname", &root.hostname).context("set the host name")?;
    let var = root.disk.join("var");
    for dir in [
        "lib/kubelet",
        "lib/containerd",
        "log/pods",
        "log/containers",
        "tmp",
    ] {
        let dir = var.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let run = var.join("run");
    if !run.is_symlink() {
        std::os::unix::fs::symlink("/run", &run).with_context(|| format!("link {}", run.display()))?;
    }
    for (from, to) in [
        (&root.bin_kubernetes, BIN_KUBERNETES),
        (&root.bin_containerd, BIN_CONTAINERD),
    ] {
        let inside = var.join(to.trim_start_matches("/var/"));
        fs::create_dir_all(&inside).with_context(|| format!("create {}", inside.display()))?;
        bind(from, &inside)?;
    }
    pretend_sysctls(&var.join("lib/lab/sysctl"))?;
    bind(&var, Path::new("/var"))?;
    // Mounts of the host under /run (named network namespaces of other nodes among them) have no place in a node.
    detach_below("/run")?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )
    .context("mount an empty /run")?;
    // As on a machine that booted with systemd: volumes may propagate between the node and its pods.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).context("share mounts inside the node")
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

fn pretend_sysctls(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for (name, value) in PRETENDED_SYSCTLS {
        let real = Path::new("/proc/sys").join(name);
        if real.exists() {
            let file = dir.join(name.replace('/', "."));
            fs::write(&file, format!("{value}\n")).with_context(|| format!("write {}", file.display()))?;
            bind(&file, &real)?;
        }
    }
    Ok(())
}

fn detach_below(top: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for point in mounts_below(&mounts, top).into_iter().rev() {
        umount2(point.as_str(), MntFlags::MNT_DETACH).with_context(|| format!("detach {point}"))?;
    }
    Ok(())
}

/// Mount points strictly below `top`, in the order in which they were mounted.
fn mounts_below(mountinfo: &str, top: &str) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_are_found() {
        let text = "1 0 8:1 / / rw - ext4 a rw\n2 1 0:1 / /run rw - tmpfs b rw\n\
                    3 2 0:2 / /run/netns rw - tmpfs c rw\n4 3 0:3 net:[1] /run/netns/x rw - nsfs d rw\n5 1 0:4 / /runner rw - e f rw\n";
        assert_eq!(mounts_below(text, "/run"), ["/run/netns", "/run/netns/x"]);
    }
}
