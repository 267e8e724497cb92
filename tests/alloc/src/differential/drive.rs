//! One of the two worlds: an API server with its controller, and the hand that carries steps out on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::observe::Observer;
use super::steps::{PoolSpec, Step};
use crate::api::{self, Answer, send};
use crate::controller::{Controller, Options};
use crate::plane::{Flavour, Plane};
use crate::wait;

/// Namespace of the services that tell that everything before them has been worked on.
pub const MARKERS: &str = "marker";
const MARKER_POOL: &str = "marker";
/// A controller that takes longer than this over a new service is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// An API server, its controller, and what users see.
pub struct World {
    /// Whose controller.
    pub flavour: Flavour,
    /// What users see.
    pub observer: Observer,
    controller: Option<Controller>,
    plane: Plane,
    program: PathBuf,
    class: String,
    /// Pools in force: here as in Go's world, where a webhook keeps the others out.
    pools: BTreeMap<String, PoolSpec>,
    marker: u32,
}

impl World {
    /// Starts the controller on a fresh API server.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(plane: Plane, flavour: Flavour, program: PathBuf) -> Result<Self> {
        let mut world = Self {
            flavour,
            observer: Observer::start(plane.client()),
            controller: None,
            plane,
            program,
            class: String::new(),
            pools: BTreeMap::new(),
            marker: 0,
        };
        for namespace in [MARKERS, "red", "green", "blue"] {
            world
                .must(
                    Method::POST,
                    &api::namespace(""),
                    &json!({"metadata": {"name": namespace}}),
                )
                .await?;
        }
        let marker = PoolSpec {
            name: MARKER_POOL.to_owned(),
            addresses: vec!["10.99.0.0/16".to_owned()],
            auto_assign: false,
            avoid_buggy: false,
            allocation: None,
        };
        world.must(Method::POST, &api::pool(""), &marker.object()).await?;
        world.start_controller().await?;
        Ok(world)
    }

    /// Pools in force.
    pub fn pools(&self) -> &BTreeMap<String, PoolSpec> {
        &self.pools
    }

    /// The control plane.
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Removes everything that a sequence made, and starts the controller anew for this class.
    ///
    /// # Errors
    /// The API server refuses, or something stays.
    pub async fn reset(&mut self, class: &str) -> Result<()> {
        self.stop_controller().await?;
        for key in self.observer.services().into_keys() {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            if namespace != "default" {
                self.send(Method::DELETE, &api::service(namespace, name), None)
                    .await?
                    .ok();
            }
        }
        let all = self.send(Method::GET, &api::pool(""), None).await?;
        for pool in all.unwrap_or_default()["items"].as_array().into_iter().flatten() {
            if let Some(name) = pool["metadata"]["name"]
                .as_str()
                .filter(|name| *name != MARKER_POOL)
            {
                self.send(Method::DELETE, &api::pool(name), None).await?.ok();
            }
        }
        for namespace in ["red", "green", "blue"] {
            self.label(namespace, None).await?.ok();
        }
        self.pools.clear();
        wait::until("all services to be gone", Duration::from_secs(20), async || {
            Ok((self.observer.services().len() <= 1).then_some(()))
        })
        .await?;
        class.clone_into(&mut self.class);
        self.start_controller().await
    }

    /// Carries a step out. The answer says what the API server (or, for Go's pools, its webhook) thinks of it.
    ///
    /// # Errors
    /// The API server cannot be reached, or a controller does not start.
    pub async fn apply(&mut self, step: &Step) -> Result<Answer> {
        match step {
            Step::Namespace { name, team } => self.label(name, team.as_deref()).await,
            Step::Pool(spec) => self.pool(spec).await,
            Step::DeletePool(name) => {
                self.pools.remove(name);
                self.send(Method::DELETE, &api::pool(name), None).await?.ok();
                Ok(Ok(Value::Null))
            }
            Step::Service(spec) => {
                let all = api::service(&spec.namespace, "");
                let answer = api::upsert(
                    self.plane.client(),
                    &all,
                    &spec.name,
                    &spec.object(),
                    &spec.patch(),
                )
                .await?;
                if let Ok(object) = &answer {
                    self.see(&format!("{}/{}", spec.namespace, spec.name), object)
                        .await?;
                }
                Ok(answer.map(|_| Value::Null))
            }
            Step::DeleteService { namespace, name } => {
                self.delete(&format!("{namespace}/{name}")).await?;
                Ok(Ok(Value::Null))
            }
            Step::Restart => {
                self.stop_controller().await?;
                self.start_controller().await?;
                Ok(Ok(Value::Null))
            }
        }
    }

    /// Deletes a service and waits until the watch has seen it.
    ///
    /// # Errors
    /// The API server cannot be reached.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let (namespace, name) = key.split_once('/').context("a key is namespace/name")?;
        let uid = self.observer.service(key).map(|seen| seen.uid);
        self.send(Method::DELETE, &api::service(namespace, name), None)
            .await?
            .ok();
        wait::until("a deletion to be seen", STUCK, async || {
            Ok((self.observer.service(key).map(|seen| seen.uid) != uid || uid.is_none()).then_some(()))
        })
        .await
    }

    /// Makes a service that asks for an address of a pool of its own, and waits until it has it: what came before it in the
    /// controller's queue has been worked on. It frees nothing and wakes nobody.
    ///
    /// # Errors
    /// The controller ended or is stuck.
    pub async fn pass_marker(&mut self) -> Result<()> {
        self.marker += 1;
        let name = format!("m{}", self.marker);
        let mut annotations = json!({});
        annotations["metallb.io/address-pool"] = json!(MARKER_POOL);
        let class = if self.class.is_empty() {
            Value::Null
        } else {
            json!(self.class)
        };
        let marker = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": MARKERS, "annotations": annotations},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": class, "allocateLoadBalancerNodePorts": false,
                "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}});
        self.must(Method::POST, &api::service(MARKERS, ""), &marker)
            .await?;
        let key = format!("{MARKERS}/{name}");
        let deadline = std::time::Instant::now() + STUCK;
        while self.observer.service(&key).is_none_or(|seen| seen.ips.is_empty()) {
            if let Some(controller) = &mut self.controller {
                controller.check()?;
            }
            if std::time::Instant::now() > deadline {
                bail!(
                    "{:?}: a new service was not given an address within {STUCK:?}",
                    self.flavour
                );
            }
            self.observer.wait(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn pool(&mut self, spec: &PoolSpec) -> Result<Answer> {
        let admitted = spec.admitted_beside(self.pools.values());
        if admitted {
            self.pools.insert(spec.name.clone(), spec.clone());
        } else if self.flavour == Flavour::Go {
            return Ok(Err(422));
        }
        let object = spec.object();
        let mut patch = object.clone();
        if spec.allocation.is_none() {
            patch["spec"]["serviceAllocation"] = Value::Null;
        }
        let answer = api::upsert(self.plane.client(), &api::pool(""), &spec.name, &object, &patch).await?;
        // Ours may take a bad one in and answer in its status instead.
        Ok(if answer.is_ok() && admitted {
            Ok(Value::Null)
        } else {
            Err(422)
        })
    }

    async fn label(&self, namespace: &str, team: Option<&str>) -> Result<Answer> {
        let patch = json!({"metadata": {"labels": {"team": team}}});
        let answer = self
            .send(Method::PATCH, &api::namespace(namespace), Some(&patch))
            .await?;
        Ok(answer.map(|_| Value::Null))
    }

    /// Waits until the watch shows a service at least as new as this answer.
    async fn see(&self, key: &str, object: &Value) -> Result<()> {
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|v| v.parse::<u64>().ok());
        let version = version.context("an object has a version")?;
        wait::until("an edit to be seen", STUCK, async || {
            Ok(self
                .observer
                .service(key)
                .is_some_and(|seen| seen.version >= version)
                .then_some(()))
        })
        .await
    }

    async fn start_controller(&mut self) -> Result<()> {
        let options = Options {
            class: self.class.clone(),
            ..Options::default()
        };
        let mut controller = Controller::start(&self.plane, self.flavour, &self.program, &options)?;
        controller.wait_ready().await?;
        self.controller = Some(controller);
        Ok(())
    }

    async fn stop_controller(&mut self) -> Result<()> {
        let Some(controller) = self.controller.take() else {
            return Ok(());
        };
        let stopped = controller.into_child().terminate(Duration::from_secs(10)).await;
        // Go's controller sometimes waits for itself for ever; it is killed then.
        if self.flavour == Flavour::Ours {
            stopped?;
        }
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        send(self.plane.client(), method, path, body).await
    }

    async fn must(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        match self.send(method, path, Some(body)).await? {
            Ok(_) => Ok(()),
            Err(code) => bail!("the API server refuses {path} with {code}: {body}"),
        }
    }
}
