//! What this tool made, recorded on disk before it is made, so that any later run can take it down: the one that made it
//! may have been killed at any point.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// How far a cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being made; found by another run, it is a half-made cluster.
    Starting,
    /// Complete.
    Up,
    /// Being taken down.
    Stopping,
}

/// Directories with the binaries that this cluster runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl and etcd.
    pub kubernetes: PathBuf,
    /// containerd, its shim and ctr.
    pub containerd: PathBuf,
}

/// The record of one cluster, `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Name and size.
    pub plan: Plan,
    /// How far it has come.
    pub phase: Phase,
    /// TCP port on 127.0.0.1 of the API proxy; 0 until it is chosen.
    pub port: u16,
    /// Where its binaries are.
    pub tools: Tools,
    /// Nodes that were switched off on purpose.
    #[serde(default)]
    pub powered_off: Vec<String>,
}

/// Something to take down. Processes have records of their own (`proc/`), written by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Made {
    /// A named network namespace.
    Netns {
        /// Its name under /run/netns.
        name: String,
    },
    /// A cgroup and all below it.
    Cgroup {
        /// Path relative to the root of each hierarchy.
        path: String,
    },
    /// A directory and all in it.
    Dir {
        /// Absolute path.
        path: PathBuf,
    },
}

/// The directory under /run that holds a cluster's records.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// The records in `dir`, which need not exist yet.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory, readable for root only: it holds the administrator's key.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(self.dir.join("proc"))
            .with_context(|| format!("create {}", self.dir.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&self.dir, mode).with_context(|| format!("protect {}", self.dir.display()))
    }

    /// The kubeconfig for the host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Reads `cluster.json`; `None` if there is none. A damaged one is an error for the caller to show.
    pub fn load(&self) -> Result<Option<ClusterRecord>> {
        let path = self.dir.join("cluster.json");
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?,
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Replaces `cluster.json` in one step.
    pub fn save(&self, record: &ClusterRecord) -> Result<()> {
        write_atomic(
            &self.dir.join("cluster.json"),
            &serde_json::to_vec_pretty(record)?,
        )
    }

    /// Records something that is about to be made.
    pub fn about_to_make(&self, made: &Made) -> Result<()> {
        let path = self.dir.join("made.jsonl");
        let mut line = serde_json::to_string(made)?;
        line.push('\n');
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("record in {}", path.display()))
    }

    /// All records, oldest first, each once. A last line that was cut off by a kill is skipped: what it would have named
    /// had not been made yet.
    pub fn made(&self) -> Result<Vec<Made>> {
        let path = self.dir.join("made.jsonl");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(parse_made(&text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
        }
    }
}

fn parse_made(text: &str) -> Vec<Made> {
    let mut all: Vec<Made> = Vec::new();
    for made in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        if !all.contains(&made) {
            all.push(made);
        }
    }
    all
}

/// Writes a file so that a reader sees the old or the new content, never half of it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, bytes).with_context(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("replace {}", path.display()))
}

/// Names of the clusters that have records.
pub fn all_names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for base in ["/run/metallb-lab", "/var/lib/metallb-lab"] {
        match fs::read_dir(base) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry.with_context(|| format!("list {base}"))?;
                    if entry.path().is_dir() {
                        names.push(entry.file_name().to_string_lossy().into_owned());
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("list {base}")),
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> State {
        let dir = std::env::temp_dir().join(format!("mlb-state-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        let state = State::at(dir);
        state.create().unwrap();
        state
    }

    #[test]
    fn records_survive_a_torn_last_line_and_come_once() {
        let state = scratch("torn");
        let a = Made::Netns {
            name: "mlb-x-n1".into(),
        };
        let b = Made::Dir {
            path: "/var/lib/metallb-lab/x".into(),
        };
        let c = Made::Cgroup { path: "mlb-x".into() };
        for made in [&a, &b, &a, &c] {
            state.about_to_make(made).unwrap();
        }
        let path = state.dir().join("made.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"kind\":\"netns\",\"na");
        fs::write(&path, text).unwrap();
        assert_eq!(state.made().unwrap(), [a, b, c]);
        fs::remove_dir_all(state.dir()).unwrap();
    }

    #[test]
    fn cluster_record_round_trip_and_damage() {
        let state = scratch("record");
        assert_eq!(state.load().unwrap(), None);
        let record = ClusterRecord {
            plan: Plan::new("x", 3).unwrap(),
            phase: Phase::Starting,
            port: 0,
            tools: Tools {
                kubernetes: "/k".into(),
                containerd: "/c".into(),
            },
            powered_off: vec!["n2".into()],
        };
        state.save(&record).unwrap();
        assert_eq!(state.load().unwrap(), Some(record));
        fs::write(state.dir().join("cluster.json"), "{").unwrap();
        assert!(state.load().is_err());
        fs::remove_dir_all(state.dir()).unwrap();
    }
}
