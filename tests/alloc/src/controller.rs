//! The two controllers under comparison, as processes of this machine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metallb_e2e::{Progress, build, checkout, sh};

use crate::child::{Child, Spec};
use crate::plane::{CONTROLLER_POD, CONTROLLER_USER, Flavour, NAMESPACE, Plane, free_ports};
use crate::wait;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// Our allocator.
    pub ours: PathBuf,
    /// Go's controller.
    pub go: PathBuf,
}

/// Which build of our allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// What `cargo build` makes.
    Dev,
    /// What goes into the image: static and small.
    Image,
}

impl Binaries {
    /// Builds what is missing. `ALLOCATOR` in the environment names a binary to use instead of a build of ours.
    ///
    /// # Errors
    /// A build fails.
    pub fn ensure(build: Build, progress: &Progress) -> Result<Self> {
        Ok(Self {
            ours: ours(build, progress)?,
            go: build::ensure_metallb(progress)?.join("controller"),
        })
    }
}

/// Builds our allocator alone; see [`Binaries::ensure`].
///
/// # Errors
/// The build fails.
pub fn ours(build: Build, progress: &Progress) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("ALLOCATOR") {
        return Ok(given.into());
    }
    match build {
        Build::Dev => cargo_build(progress),
        Build::Image => {
            let binary = checkout::root().join("target/images/bin/metallb-allocator");
            ensure!(
                binary.is_file(),
                "{} is not there: run `make images` first",
                binary.display()
            );
            Ok(binary)
        }
    }
}

/// Builds it, and puts it where no other build replaces it while it is in use.
fn cargo_build(progress: &Progress) -> Result<PathBuf> {
    progress.line("building our allocator");
    let root = checkout::root();
    let mut command = Command::new("cargo");
    command
        .args([
            "build",
            "--locked",
            "-q",
            "-p",
            "metallb-allocator",
            "--message-format",
            "json",
        ])
        .current_dir(&root);
    let built = executable(&sh::run(&mut command).context("build our allocator")?)?;
    let dir = root.join("target/alloc-lab");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let (new, kept) = (
        dir.join(format!("new-{}", std::process::id())),
        dir.join("metallb-allocator"),
    );
    fs::copy(&built, &new).with_context(|| format!("copy {}", built.display()))?;
    fs::rename(&new, &kept).with_context(|| format!("move {} into place", new.display()))?;
    Ok(kept)
}

/// The program in what cargo says about a build.
fn executable(messages: &str) -> Result<PathBuf> {
    let mut found = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    found.next().context("cargo names no program")
}

/// How to run a controller.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--lb-class`.
    pub class: String,
    /// Name of the replica; also its pod's UID.
    pub replica: String,
    /// API server to use instead of the plane's own address (a proxy).
    pub server: Option<String>,
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    health: SocketAddr,
}

impl Controller {
    /// Starts it; returns at once.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(plane: &Plane, flavour: Flavour, program: &Path, options: &Options) -> Result<Self> {
        let [metrics, health] = free_ports()?;
        let server = options.server.as_deref().unwrap_or(plane.server());
        let user = if options.replica.is_empty() {
            CONTROLLER_USER
        } else {
            &options.replica
        };
        let kubeconfig = plane.kubeconfig_for(user, server)?;
        let name = match (flavour, options.replica.as_str()) {
            (Flavour::Ours, "") => "allocator".to_owned(),
            (Flavour::Ours, replica) => replica.to_owned(),
            (Flavour::Go, _) => "go-controller".to_owned(),
        };
        let mut args = vec![
            format!("--port={metrics}"),
            format!("--health-probe-port={health}"),
            "--log-level=info".to_owned(),
            "--webhook-mode=disabled".to_owned(),
        ];
        if !options.class.is_empty() {
            args.push(format!("--lb-class={}", options.class));
        }
        let text = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let mut env = vec![
            text("KUBECONFIG", &kubeconfig.display().to_string()),
            text("METALLB_NAMESPACE", NAMESPACE),
            text("METALLB_POD_NAME", CONTROLLER_POD),
            text("METALLB_BGP_TYPE", "frr"),
        ];
        if flavour == Flavour::Ours {
            env.push(text("METALLB_POD_UID", &format!("uid-of-{name}")));
        }
        let child = Child::start(Spec {
            log: plane.dir().join(format!("{name}.log")),
            name,
            program: program.to_owned(),
            args,
            env,
        })?;
        Ok(Self {
            child,
            health: ([127, 0, 0, 1], health).into(),
        })
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// The process, to end it.
    pub fn into_child(self) -> Child {
        self.child
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// Whether `/readyz` says yes.
    pub fn is_ready(&self) -> bool {
        ask(self.health)
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"))
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// It ends, or takes longer than a minute.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{} to be ready", self.child.spec().name);
        wait::until(&what, Duration::from_secs(60), async || {
            self.check()?;
            Ok(self.is_ready().then_some(()))
        })
        .await
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let patience = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
