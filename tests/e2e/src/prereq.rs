//! What the host must offer, checked before anything is changed; every failure is one sentence with what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{self, GO_MIN};
use crate::cache;
use crate::progress::Progress;
use crate::sh;

const GIB: u64 = 1 << 30;

/// Debian package, and a program or file of it that tells whether it is installed.
const PACKAGES: [(&str, &str); 16] = [
    ("iproute2", "ip"),
    ("util-linux", "nsenter"),
    ("nftables", "nft"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("runc", "runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("buildah", "buildah"),
    ("skopeo", "skopeo"),
    ("docker-registry", "docker-registry"),
    ("tcpdump", "tcpdump"),
    ("iputils-arping", "arping"),
    ("iputils-ping", "ping"),
    ("ndisc6", "ndisc6"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
];

/// Checks everything that can be checked without installing anything.
pub fn check() -> Result<()> {
    check_host(
        std::env::consts::OS,
        std::env::consts::ARCH,
        nix::unistd::geteuid().is_root(),
    )?;
    crate::cgroup::Hierarchies::detect()?;
    let (_, built) = build::locate()?;
    if !built {
        let version = Command::new("go")
            .arg("version")
            .env("GOTOOLCHAIN", "local")
            .output();
        check_go(
            version
                .ok()
                .filter(|o| o.status.success())
                .map(|o| String::from_utf8_lossy(&o.stdout).into_owned()),
        )?;
    }
    // Compiling Kubernetes fills Go's caches with about 5 GiB; a running cluster needs about one.
    let cache_need = if built { GIB } else { 8 * GIB };
    check_disk(
        &cache::dir()?,
        cache_need,
        "set METALLB_LAB_CACHE to a directory with more room",
    )?;
    check_disk(Path::new("/var/lib"), 2 * GIB, "make room there")?;
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default();
    check_inotify(inotify_instances(), limit.trim().parse().unwrap_or(u64::MAX))?;
    if !missing().is_empty() && !on_path("apt-get") {
        let names: Vec<_> = missing().into_iter().map(|(p, _)| p).collect();
        bail!(
            "these programs are missing and there is no apt-get to install them: {}",
            names.join(", ")
        );
    }
    if on_path("ip") && on_path("unshare") {
        check_kernel_network()?;
    }
    Ok(())
}

/// inotify instances that are open on this machine; most are root's.
fn inotify_instances() -> u64 {
    let mut open = 0;
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        // What is no process, or has ended meanwhile, has no open files to show.
        for file in std::fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify") {
                open += 1;
            }
        }
    }
    open
}

/// A kubelet without one never gets its node Ready, and says so only in its log.
fn check_inotify(open: u64, limit: u64) -> Result<()> {
    if open + 40 > limit {
        bail!(
            "{open} of {limit} inotify instances are in use and a cluster needs about 40: \
             `sysctl -w fs.inotify.max_user_instances=512`"
        );
    }
    Ok(())
}

fn check_host(os: &str, arch: &str, root: bool) -> Result<()> {
    if os != "linux" {
        bail!("the local cluster runs on Linux only, this is {os}; use a Linux machine or virtual machine");
    }
    if !matches!(arch, "x86_64" | "aarch64") {
        bail!("the local cluster runs on x86_64 (amd64) and aarch64 (arm64), this machine is {arch}");
    }
    if !root {
        bail!("the local cluster needs root for namespaces, mounts and bridges; run the command with sudo");
    }
    Ok(())
}

fn check_go(version: Option<String>) -> Result<()> {
    let (major, minor, patch) = GO_MIN;
    let need = format!(
        "Go {major}.{minor}.{patch} or newer is needed to build Kubernetes {} (once)",
        build::KUBERNETES
    );
    let get = "install it from https://go.dev/dl and put its bin directory into PATH";
    let Some(text) = version else {
        bail!("{need}, and there is no `go` in PATH; {get}")
    };
    match build::parse_go_version(&text) {
        Some(found) if found >= GO_MIN => Ok(()),
        _ => bail!("{need}; this is {}; {get}", text.trim()),
    }
}

/// Checks the free space where `path` is or will be.
fn check_disk(path: &Path, need: u64, advice: &str) -> Result<()> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(existing)?;
    let free = stat.blocks_available() * stat.fragment_size();
    if free < need {
        bail!(
            "{} has {:.1} GiB free and {:.0} GiB are needed; {advice}",
            path.display(),
            free as f64 / GIB as f64,
            need as f64 / GIB as f64
        );
    }
    Ok(())
}

/// Tries the kernel's parts out in a network namespace that ends with the trial.
fn check_kernel_network() -> Result<()> {
    let trials = [
        ("bridges", "ip link add probe0 type bridge"),
        ("veth pairs", "ip link add probe1 type veth peer name probe2"),
        (
            "IPv6",
            "test -e /proc/sys/net/ipv6/conf/all/forwarding && ip -6 addr add fd00::1/64 dev lo nodad",
        ),
    ];
    for (what, script) in trials {
        trial(&["--net"], what, script)?;
    }
    Ok(())
}

/// Tries what needs installed programs: `nf_tables` with NAT and connection tracking, and overlayfs where nodes keep their disks.
pub fn check_after_install() -> Result<()> {
    check_kernel_network()?;
    trial(
        &["--net"],
        "nf_tables with NAT and connection tracking",
        "nft 'add table inet t; add chain inet t c { type nat hook postrouting priority 0; }; \
         add rule inet t c ct state new masquerade'",
    )?;
    let base = PathBuf::from("/var/lib/metallb-lab/.probe");
    let dir = base.display();
    trial(
        &["--mount"],
        "overlayfs on top of /var/lib (it fails when /var/lib itself is an overlay)",
        &format!(
            "set -e; rm -rf {dir}; mkdir -p {dir}/l {dir}/u {dir}/w {dir}/m; \
             mount -t overlay o -o lowerdir={dir}/l,upperdir={dir}/u,workdir={dir}/w {dir}/m; umount {dir}/m; rm -rf {dir}"
        ),
    )
}

fn trial(namespace: &[&str], what: &str, script: &str) -> Result<()> {
    let mut command = Command::new("unshare");
    match sh::run(command.args(namespace).args(["--", "sh", "-c", script])) {
        Ok(_) => Ok(()),
        Err(error) => bail!("this kernel does not offer {what}, which the local cluster needs: {error}"),
    }
}

fn on_path(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    // Debian keeps some of them out of an ordinary user's PATH.
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| Path::new(dir).join(program).exists())
}

fn missing() -> Vec<(&'static str, &'static str)> {
    PACKAGES
        .into_iter()
        .filter(|(_, probe)| !on_path(probe))
        .collect()
}

/// Installs the Debian packages that are missing, and says so.
pub fn install_missing(progress: &Progress) -> Result<()> {
    let names: Vec<&str> = missing().into_iter().map(|(package, _)| package).collect();
    if names.is_empty() {
        return Ok(());
    }
    install(&names, progress)
}

/// Installs Debian packages, and says so.
///
/// # Errors
/// apt-get's own words.
pub fn install(names: &[&str], progress: &Progress) -> Result<()> {
    let what = format!("installing Debian packages: {}", names.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y"])
            .args(args);
        sh::run(&mut command)
    };
    progress.long(
        &what,
        || "apt-get works".to_owned(),
        || {
            let _quiet = NoServices::new()?;
            apt(&["update"])?;
            apt(&[&["install", "--no-install-recommends"], names].concat())?;
            Ok(())
        },
    )
}

/// While this exists, Debian's package scripts start no service: docker-registry would run one on the host.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# metallb-lab installs packages; their services stay stopped\nexit 101\n";

impl NoServices {
    fn new() -> Result<Self> {
        if std::fs::read_to_string(POLICY).is_ok_and(|text| text != POLICY_TEXT) {
            // The administrator has a policy; it stays in force. (One with our text was left by a killed run.)
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY, POLICY_TEXT)?;
        std::fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            eprintln!("remove {POLICY} by hand, it keeps services from starting: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_inotify_instances_are_named() {
        assert!(check_inotify(80, 128).is_ok());
        let error = check_inotify(100, 128).unwrap_err().to_string();
        assert!(error.contains("fs.inotify.max_user_instances"), "{error}");
    }

    #[test]
    fn each_failure_says_what_to_do() {
        let cases = [
            (check_host("macos", "aarch64", true), "Linux"),
            (check_host("linux", "riscv64", true), "riscv64"),
            (check_host("linux", "x86_64", false), "sudo"),
            (check_go(None), "go.dev/dl"),
            (check_go(Some("go version go1.25.3 linux/amd64".into())), "1.26.6"),
            (check_disk(Path::new("/"), u64::MAX, "make room"), "make room"),
        ];
        for (result, needle) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(needle), "{text}");
        }
        check_host("linux", "x86_64", true).unwrap();
        check_go(Some("go version go1.26.8 linux/amd64".into())).unwrap();
    }
}
