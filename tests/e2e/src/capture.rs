//! Packet captures in a place of the lab, for looking at after a scenario and as evidence when it fails.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::cgroup::signal;
use crate::cluster::Cluster;
use crate::wait::wait_for;

/// A capture under way; it ends when dropped.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Cluster {
    /// Starts tcpdump in a place (`lan` with interface `lan` sees the whole LAN; `p-n2` there is n2's cable) and returns
    /// when it listens. `filter` is in pcap's language, empty for everything.
    pub fn capture(&self, part: &str, interface: &str, filter: &str, file: &Path) -> Result<Capture> {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        let mut command = self.exec(part, "tcpdump")?;
        // In immediate mode, because what waits in the kernel's buffer (up to a second) is lost when tcpdump is told to end.
        let options = [
            "--immediate-mode",
            "-i",
            interface,
            "-n",
            "-U",
            "-s",
            "0",
            "-Z",
            "root",
            "-w",
        ];
        command.args(options).arg(file);
        if !filter.is_empty() {
            command.arg(filter);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start tcpdump")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.contains("listening on") => break,
                Some(Ok(line)) => said = said + &line + "\n",
                _ => bail!("tcpdump in {part} did not start: {}", said.trim()),
            }
        }
        // Whatever it says at its end is of no interest, but it must find somebody who reads.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Capture {
            child,
            file: file.to_owned(),
        })
    }
}

impl Capture {
    /// Ends the capture; the file is complete.
    pub fn stop(mut self) -> Result<PathBuf> {
        self.end()?;
        Ok(self.file.clone())
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait().context("look at tcpdump")?.is_none() {
            signal(i32::try_from(self.child.id())?, Signal::SIGINT)?;
            wait_for("tcpdump to end", Duration::from_secs(5), || {
                Ok(self.child.try_wait()?.map(drop))
            })?;
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("capture {}: {error:#}", self.file.display());
        }
    }
}
