//! Processes that never outlive this one: killed when dropped, and by the kernel when this process dies.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child as Std, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use metallb_e2e::usage::{self, Usage};

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name in messages, and of the log file.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment besides `PATH` and `HOME`.
    pub env: Vec<(String, String)>,
    /// File that gets its output, appended.
    pub log: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub struct Child {
    spec: Spec,
    process: Std,
}

impl Child {
    /// Starts it through `setpriv`, which asks the kernel for SIGKILL when the thread that starts it ends, and becomes the program.
    ///
    /// # Errors
    /// The program or its log cannot be opened.
    pub fn start(spec: Spec) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .with_context(|| format!("open {}", spec.log.display()))?;
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&spec.program)
            .args(&spec.args)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/nonexistent")
            .envs(spec.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(clone(&log, &spec.log)?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {} ({})", spec.name, spec.program.display()))?;
        Ok(Self { spec, process })
    }

    /// What it was started with.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails with the end of its log when it has ended.
    ///
    /// # Errors
    /// It ended, or its state cannot be asked.
    pub fn check(&mut self) -> Result<()> {
        let state = self.process.try_wait().context("ask for a process's state")?;
        if let Some(status) = state {
            bail!(
                "{} ended ({status}); the end of {}:\n{}",
                self.spec.name,
                self.spec.log.display(),
                tail(&self.spec.log, 8)
            );
        }
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id()).context("a process id is small")?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.spec.name))
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self) -> Result<Spec> {
        self.end()?;
        Ok(self.spec.clone())
    }

    /// SIGTERM, and waits for its end; SIGKILL after `patience`.
    ///
    /// # Errors
    /// It did not end in time, or cannot be waited for.
    pub async fn terminate(mut self, patience: Duration) -> Result<Spec> {
        self.signal(Signal::SIGTERM)?;
        let deadline = std::time::Instant::now() + patience;
        while self.process.try_wait().context("wait for a process")?.is_none() {
            if std::time::Instant::now() > deadline {
                self.end()?;
                bail!("{} did not end within {patience:?} of SIGTERM", self.spec.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self.spec.clone())
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&self) -> Result<Usage> {
        usage::of(self.id())
    }

    fn end(&mut self) -> Result<()> {
        if self
            .process
            .try_wait()
            .context("ask for a process's state")?
            .is_none()
        {
            self.process.kill().context("kill a process")?;
            self.process.wait().context("wait for a process")?;
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.spec.name);
        }
    }
}

fn clone(log: &File, path: &Path) -> Result<File> {
    log.try_clone()
        .with_context(|| format!("share {}", path.display()))
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    metallb_e2e::process::log_tail(log, lines)
}
