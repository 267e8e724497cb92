//! The replicas, each behind a proxy of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use metallb_e2e::Progress;
use nix::sys::signal::Signal;
use serde_json::json;

use super::proxy::{Proxy, Way};
use crate::api::{self, send};
use crate::controller::{Controller, Options};
use crate::differential::observe::{Observer, Seen};
use crate::plane::{Flavour, NAMESPACE, Plane, Programs};
use crate::wait;

/// Namespace of the services.
pub const SERVICES: &str = "load";
/// After the last fault, the Lease of a dead leader runs out and another takes over: 15 s, one request time-out, and a retry.
pub const TAKE_OVER: Duration = Duration::from_secs(30);

/// One replica.
pub struct Replica {
    name: String,
    proxy: Proxy,
    process: Option<Controller>,
}

/// All replicas and what users see.
pub struct Replicas {
    /// What users see.
    pub observer: Observer,
    all: Vec<Replica>,
    plane: Plane,
    program: PathBuf,
}

impl Replicas {
    /// Starts so many replicas on a fresh API server, and waits until one leads.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(programs: &Programs, program: &Path, count: usize) -> Result<Self> {
        let plane = Plane::start("ha", programs, Flavour::Ours).await?;
        let target = plane
            .server()
            .trim_start_matches("https://")
            .parse()
            .context("address of the API server")?;
        let mut replicas = Vec::new();
        for number in 0..count {
            let name = format!("replica-{number}");
            replicas.push(Replica {
                proxy: Proxy::start(target).await?,
                process: None,
                name,
            });
        }
        let observer = Observer::start(plane.client());
        let mut all = Self {
            observer,
            all: replicas,
            plane,
            program: program.to_owned(),
        };
        all.post(&api::namespace(""), &json!({"metadata": {"name": SERVICES}}))
            .await?;
        for number in 0..count {
            all.run(number)?;
        }
        all.leader().await?;
        Ok(all)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The control plane.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Starts a replica that does not run. It comes back with the name that it had, as a container restarts in its pod.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&mut self, number: usize) -> Result<()> {
        let replica = &mut self.all[number];
        if replica.process.is_none() {
            let options = Options {
                replica: replica.name.clone(),
                server: Some(replica.proxy.url()),
                ..Options::default()
            };
            replica.process = Some(Controller::start(
                &self.plane,
                Flavour::Ours,
                &self.program,
                &options,
            )?);
        }
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        if let Some(process) = self.all[number].process.take() {
            process.into_child().kill()?;
        }
        Ok(())
    }

    /// Freezes or thaws.
    ///
    /// # Errors
    /// It has ended by itself.
    pub fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        match &self.all[number].process {
            Some(process) => process.child().signal(signal),
            None => Ok(()),
        }
    }

    /// Opens or cuts its way to the API server.
    pub fn way(&self, number: usize, way: Way) {
        self.all[number].proxy.set(way);
    }

    /// Fails when a replica has ended by itself.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let mut running = self.all.iter_mut().filter_map(|replica| replica.process.as_mut());
        running.try_for_each(Controller::check)
    }

    /// The replica that the Lease names; waits until it names one.
    ///
    /// # Errors
    /// There is none for longer than a take-over takes.
    pub async fn leader(&self) -> Result<usize> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/metallb-controller");
        wait::until("a leader", TAKE_OVER, async || {
            let lease = send(self.plane.client(), Method::GET, &path, None)
                .await?
                .unwrap_or_default();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            Ok(self
                .all
                .iter()
                .position(|replica| holder == format!("uid-of-{}", replica.name)))
        })
        .await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn post(&self, path: &str, object: &serde_json::Value) -> Result<()> {
        let answer = send(self.plane.client(), Method::POST, path, Some(object)).await?;
        ensure!(answer.is_ok(), "the API server refuses {path}: {answer:?}");
        Ok(())
    }

    /// The service that is called so in [`SERVICES`].
    pub fn service(&self, name: &str) -> Option<Seen> {
        self.observer.service(&format!("{SERVICES}/{name}"))
    }

    /// Copies the logs to where they stay.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn save_logs(&self, progress: &Progress) -> Result<()> {
        let dir = metallb_e2e::checkout::root().join("target/ha");
        self.plane.save_logs(&dir)?;
        progress.line(&format!("logs: {}", dir.display()));
        Ok(())
    }
}
