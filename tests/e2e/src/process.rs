//! Detached processes. A process is started through this program's own hidden command `internal run`, which writes down its
//! process id and start time, joins its cgroup and namespaces and then becomes the program: there is no moment in
//! which a process exists and is not on record.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Hierarchies, signal};
use crate::node_root::{self, NodeRoot};
use crate::state::{State, write_atomic};

/// This program, also after its file has been replaced by a newer build.
pub const SELF_EXE: &str = "/proc/self/exe";

/// Where a process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Room {
    /// The host's own namespaces.
    Host,
    /// A named network namespace.
    Netns {
        /// Name under /run/netns.
        name: String,
    },
    /// A network namespace and a new mount and UTS namespace: the first process of a node.
    NewNode(NodeRoot),
    /// The namespaces of a running process: all further processes of a node.
    Inside {
        /// Process id of the node's first process.
        pid: i32,
    },
}

/// What to start and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the process in this cluster; also the name of its log.
    pub id: String,
    /// Absolute path of the program, as seen from its room.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Additions to the environment.
    pub env: Vec<(String, String)>,
    /// Where it lives.
    pub room: Room,
    /// Its cgroup, which exists already.
    pub cgroup: String,
    /// File that gets its output, as seen from the host.
    pub log: PathBuf,
}

/// A process on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcRecord {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of /proc/PID/stat: with it a reused process id is told apart.
    pub start_time: u64,
}

impl ProcRecord {
    /// True while this very process runs (not merely waits to be reaped).
    pub fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|text| parse_stat(&text))
            .is_some_and(|stat| stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Kills it with SIGKILL if it still runs.
    pub fn kill(&self) -> Result<()> {
        if self.is_alive() {
            signal(self.pid, Signal::SIGKILL)
        } else {
            Ok(())
        }
    }
}

/// The two fields of /proc/PID/stat that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_time: u64,
}

/// The command name stands in parentheses and may itself hold spaces and parentheses, so fields count from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_time })
}

const SPEC_SUFFIX: &str = ".spec.json";

fn spec_path(state: &State, id: &str) -> PathBuf {
    state.dir().join("proc").join(format!("{id}{SPEC_SUFFIX}"))
}

fn record_path(state: &State, id: &str) -> PathBuf {
    state.dir().join("proc").join(format!("{id}.json"))
}

/// Starts the process and returns when it has become the program. Its specification is kept, so that it can be started
/// again by name.
pub fn start(state: &State, spec: &Spec) -> Result<ProcRecord> {
    write_atomic(&spec_path(state, &spec.id), &serde_json::to_vec_pretty(spec)?)?;
    start_again(state, &spec.id)
}

/// Starts a process from its kept specification.
pub fn start_again(state: &State, id: &str) -> Result<ProcRecord> {
    let spec = spec_path(state, id);
    let record = record_path(state, id);
    if let Some(running) = lookup(state, id)?
        && running.is_alive()
    {
        return Ok(running);
    }
    let mut child = Command::new(SELF_EXE)
        .args(["internal", "run"])
        .args([&spec, &record])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {id}"))?;
    // The pipe closes when the child becomes the program; whatever comes before is a failure of the start itself.
    let mut said = String::new();
    child
        .stderr
        .take()
        .context("standard error is piped")?
        .read_to_string(&mut said)
        .with_context(|| format!("listen to the start of {id}"))?;
    if !said.is_empty() {
        let status = child
            .wait()
            .with_context(|| format!("wait for the failed start of {id}"))?;
        bail!("{id} did not start ({status}): {}", said.trim());
    }
    lookup(state, id)?.with_context(|| format!("{id} left no process record"))
}

/// The kept specification of a process.
pub fn spec(state: &State, id: &str) -> Result<Spec> {
    let path = spec_path(state, id);
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
}

/// The record of a process; `None` if it was never started.
pub fn lookup(state: &State, id: &str) -> Result<Option<ProcRecord>> {
    let path = record_path(state, id);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?,
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

/// When a process was last started, by the clock of its record.
pub fn started_at(state: &State, id: &str) -> Result<std::time::SystemTime> {
    let path = record_path(state, id);
    fs::metadata(&path)
        .and_then(|m| m.modified())
        .with_context(|| format!("look at {}", path.display()))
}

/// All processes on record with their names.
pub fn all(state: &State) -> Result<Vec<(String, ProcRecord)>> {
    let dir = state.dir().join("proc");
    let mut records = Vec::new();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        Err(e) => return Err(e).with_context(|| format!("list {}", dir.display())),
    };
    for entry in entries {
        let name = entry
            .with_context(|| format!("list {}", dir.display()))?
            .file_name();
        let name = name.to_string_lossy();
        if let Some(id) = name.strip_suffix(".json")
            && !name.ends_with(SPEC_SUFFIX)
            && let Some(record) = lookup(state, id)?
        {
            records.push((id.to_owned(), record));
        }
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(records)
}

/// The last lines of a process's log, for messages.
pub fn log_tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The child's side of [`start_again`]: becomes the program; returns only with an error.
pub fn become_program(spec: &Path, record: &Path) -> Result<std::convert::Infallible> {
    let bytes = fs::read(spec).with_context(|| format!("read {}", spec.display()))?;
    let spec: Spec = serde_json::from_slice(&bytes).with_context(|| format!("read {}", spec.display()))?;
    let own = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    let stat = parse_stat(&own).context("understand /proc/self/stat")?;
    let pid = std::process::id();
    let me = ProcRecord {
        pid: i32::try_from(pid)?,
        start_time: stat.start_time,
    };
    write_atomic(record, &serde_json::to_vec(&me)?)?;
    Hierarchies::detect()?.join(&spec.cgroup, pid)?;
    nix::unistd::setsid().context("start a session")?;
    // Opened before the namespaces change: inside a node this path means something else.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)
        .with_context(|| format!("open {}", spec.log.display()))?;
    enter(&spec.room)?;
    let error = Command::new(&spec.program)
        .args(&spec.args)
        // The caller's environment (proxies, locale, secrets) is no business of the cluster.
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .envs(spec.env.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .exec();
    Err(error).with_context(|| format!("become {}", spec.program.display()))
}

fn enter(room: &Room) -> Result<()> {
    match room {
        Room::Host => Ok(()),
        Room::Netns { name } => crate::netns::enter(name),
        Room::NewNode(root) => {
            crate::netns::enter(&root.netns)?;
            node_root::build(root)
        }
        Room::Inside { pid } => {
            let open = |ns: &str| {
                let path = format!("/proc/{pid}/ns/{ns}");
                File::open(&path).with_context(|| format!("open {path}; is the node running?"))
            };
            let (net, uts, mnt) = (open("net")?, open("uts")?, open("mnt")?);
            setns(net, CloneFlags::CLONE_NEWNET).context("enter the node's network namespace")?;
            setns(uts, CloneFlags::CLONE_NEWUTS).context("enter the node's UTS namespace")?;
            setns(mnt, CloneFlags::CLONE_NEWNS).context("enter the node's mount namespace")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_command_name() {
        let text = "42 (a) Z (b c) S 1 42 42 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 987654 1000 2 18446744073709551615";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                state: 'S',
                start_time: 987_654
            })
        );
        assert_eq!(parse_stat("42 (cut off) S 1 2"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_reused_process_id_is_not_ours() {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let start_time = parse_stat(&text).unwrap().start_time;
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(ProcRecord { pid, start_time }.is_alive());
        assert!(
            !ProcRecord {
                pid,
                start_time: start_time + 1
            }
            .is_alive()
        );
    }
}
