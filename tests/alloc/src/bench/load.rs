//! Services in great numbers, and a watch light enough not to be what is measured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, stream};
use http::Method;
use k8s_openapi::api::core::v1::Service;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::api::{self, send};

/// Namespace of the services.
pub const LOAD: &str = "load";
/// The annotation that is written together with the addresses.
const RECORD: &str = "metallb.io/ip-allocated-from-pool";
/// Requests under way at once, as a busy deployment tool has them.
const AT_ONCE: usize = 16;

/// Which services have an address, by their metadata alone.
pub struct Assigned {
    when: Arc<Mutex<BTreeMap<String, Instant>>>,
    count: Arc<AtomicUsize>,
    news: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Assigned {
    /// Starts watching the services of [`LOAD`].
    pub fn watch(client: &Client) -> Self {
        let when = Arc::new(Mutex::new(BTreeMap::new()));
        let count = Arc::new(AtomicUsize::new(0));
        let news = Arc::new(Notify::new());
        let task = {
            let (when, count, news) = (Arc::clone(&when), Arc::clone(&count), Arc::clone(&news));
            let api = Api::<PartialObjectMeta<Service>>::namespaced(client.clone(), LOAD);
            let stream = watcher(api, watcher::Config::default());
            tokio::spawn(async move {
                let mut stream = std::pin::pin!(stream);
                while let Some(event) = stream.next().await {
                    let (watcher::Event::Apply(service) | watcher::Event::InitApply(service)) = (match event {
                        Ok(event) => event,
                        Err(error) => {
                            eprintln!("a watch of the driver: {error}");
                            tokio::time::sleep(Duration::from_millis(200)).await;
                            continue;
                        }
                    }) else {
                        continue;
                    };
                    let assigned = service
                        .metadata
                        .annotations
                        .is_some_and(|all| all.contains_key(RECORD));
                    if let (true, Some(name)) = (assigned, service.metadata.name) {
                        let mut when = when.lock().unwrap_or_else(PoisonError::into_inner);
                        when.entry(name).or_insert_with(Instant::now);
                        count.store(when.len(), Ordering::Relaxed);
                        news.notify_waiters();
                    }
                }
            })
        };
        Self {
            when,
            count,
            news,
            task,
        }
    }

    /// How many have an address.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// When a service was first seen with an address.
    pub fn at(&self, name: &str) -> Option<Instant> {
        self.when
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied()
    }

    /// Waits until a service has one.
    ///
    /// # Errors
    /// It takes longer than `patience`.
    pub async fn wait_one(&self, name: &str, patience: Duration) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let news = self.news.notified();
            if let Some(at) = self.at(name) {
                return Ok(at);
            }
            if Instant::now() > deadline {
                bail!("{name} got no address within {patience:?}");
            }
            drop(tokio::time::timeout(Duration::from_millis(100), news).await);
        }
    }

    /// Waits until so many have one; says every ten seconds how far it is.
    ///
    /// # Errors
    /// Nothing moves for two minutes.
    pub async fn wait_many(&self, wanted: usize, progress: &metallb_e2e::Progress) -> Result<()> {
        let (mut last, mut moved, mut told) = (0, Instant::now(), Instant::now());
        loop {
            let count = self.count();
            if count >= wanted {
                return Ok(());
            }
            if count != last {
                (last, moved) = (count, Instant::now());
            }
            if moved.elapsed() > Duration::from_secs(120) {
                bail!("{count} of {wanted} services have an address, and no more come");
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                progress.line(&format!("  {count} of {wanted} services have an address"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes the namespace and a pool of 65,536 addresses.
///
/// # Errors
/// The API server refuses.
pub async fn prepare(client: &Client) -> Result<()> {
    must(client, &api::namespace(""), &json!({"metadata": {"name": LOAD}})).await?;
    let pool = json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "bench", "namespace": crate::plane::NAMESPACE}, "spec": {"addresses": ["10.1.0.0/16"]}});
    must(client, &api::pool(""), &pool).await
}

/// Makes one service of type LoadBalancer, without node ports: there are not enough of them.
///
/// # Errors
/// The API server refuses.
pub async fn create(client: &Client, name: &str) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": LOAD},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": {"app": name},
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]}});
    must(client, &api::service(LOAD, ""), &service).await
}

/// Makes services `s0`, `s1` … with a bounded number of requests under way.
///
/// # Errors
/// The API server refuses.
pub async fn create_many(client: &Client, count: usize) -> Result<()> {
    let mut all = stream::iter(0..count)
        .map(|number| async move { create(client, &format!("s{number}")).await })
        .buffer_unordered(AT_ONCE);
    while let Some(outcome) = all.next().await {
        outcome?;
    }
    Ok(())
}

async fn must(client: &Client, path: &str, body: &Value) -> Result<()> {
    match send(client, Method::POST, path, Some(body))
        .await
        .with_context(|| format!("create in {path}"))?
    {
        Ok(_) => Ok(()),
        Err(code) => bail!("the API server refuses {body} with {code}"),
    }
}
