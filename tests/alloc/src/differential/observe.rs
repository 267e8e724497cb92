//! What one API server shows of its services and their Events, kept current by watches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Event, Service};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The annotation in which both controllers record the pool.
const RECORD: &str = "metallb.io/ip-allocated-from-pool";

/// Who writes the Events of either controller.
const SOURCE: &str = "metallb-controller";

/// A service as its users see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `metadata.uid`.
    pub uid: String,
    /// `status.loadBalancer.ingress`, in order, sorted by family and number: the order means nothing.
    pub ips: BTreeSet<IpAddr>,
    /// Entries of the ingress that are no plain address.
    pub strange: Vec<String>,
    /// The recorded pool.
    pub pool: Option<String>,
    /// `metadata.resourceVersion`, to tell that it is the answer to an edit.
    pub version: u64,
}

#[derive(Default)]
struct Table {
    services: BTreeMap<String, Seen>,
    /// Reasons by `metadata.uid` of the service.
    reasons: BTreeMap<String, BTreeSet<String>>,
    changed: Option<Instant>,
}

/// The watches of one API server; they end when this is dropped.
pub struct Observer {
    table: Arc<Mutex<Table>>,
    news: Arc<Notify>,
    tasks: Vec<JoinHandle<()>>,
}

impl Observer {
    /// Starts watching.
    pub fn start(client: &Client) -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let news = Arc::new(Notify::new());
        let services = {
            let (table, news) = (Arc::clone(&table), Arc::clone(&news));
            let stream = watcher(Api::<Service>::all(client.clone()), watcher::Config::default());
            tokio::spawn(follow(stream, move |event| {
                note_service(&mut lock(&table), event);
                news.notify_waiters();
            }))
        };
        let events = {
            let (table, news) = (Arc::clone(&table), Arc::clone(&news));
            let stream = watcher(Api::<Event>::all(client.clone()), watcher::Config::default());
            tokio::spawn(follow(stream, move |event| {
                note_event(&mut lock(&table), event);
                news.notify_waiters();
            }))
        };
        Self {
            table,
            news,
            tasks: vec![services, events],
        }
    }

    /// Services by `namespace/name`.
    pub fn services(&self) -> BTreeMap<String, Seen> {
        lock(&self.table).services.clone()
    }

    /// One service.
    pub fn service(&self, key: &str) -> Option<Seen> {
        lock(&self.table).services.get(key).cloned()
    }

    /// Reasons of all Events on a service so far.
    pub fn reasons(&self, uid: &str) -> BTreeSet<String> {
        lock(&self.table).reasons.get(uid).cloned().unwrap_or_default()
    }

    /// How long nothing has changed.
    pub fn quiet_for(&self) -> Duration {
        lock(&self.table)
            .changed
            .map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Waits for a change, or for `patience`.
    pub async fn wait(&self, patience: Duration) {
        let news = self.news.notified();
        // Either outcome is a reason to look again.
        drop(tokio::time::timeout(patience, news).await);
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A panic elsewhere has not spoilt plain data.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow<K>(
    stream: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    mut note: impl FnMut(watcher::Event<K>),
) {
    let mut stream = std::pin::pin!(stream.map_err(|error| eprintln!("a watch of the driver: {error}")));
    while let Some(next) = stream.next().await {
        match next {
            Ok(event) => note(event),
            Err(()) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn note_service(table: &mut Table, event: watcher::Event<Service>) {
    let key = |service: &Service| {
        let metadata = &service.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
    };
    match event {
        watcher::Event::Apply(service) | watcher::Event::InitApply(service) => {
            let key = key(&service);
            let seen = see(service);
            table.services.insert(key, seen);
        }
        watcher::Event::Delete(service) => {
            table.services.remove(&key(&service));
        }
        watcher::Event::Init => table.services.clear(),
        watcher::Event::InitDone => {}
    }
    table.changed = Some(Instant::now());
}

fn see(service: Service) -> Seen {
    let mut seen = Seen {
        uid: service.metadata.uid.unwrap_or_default(),
        pool: service
            .metadata
            .annotations
            .and_then(|mut all| all.remove(RECORD)),
        version: service
            .metadata
            .resource_version
            .and_then(|v| v.parse().ok())
            .unwrap_or(0),
        ..Seen::default()
    };
    let status = service
        .status
        .and_then(|status| status.load_balancer)
        .unwrap_or_default();
    for entry in status.ingress.unwrap_or_default() {
        match entry.ip.as_deref().map(str::parse) {
            Some(Ok(ip)) if seen.ips.insert(ip) => {}
            _ => seen.strange.push(format!("{entry:?}")),
        }
    }
    seen
}

fn note_event(table: &mut Table, event: watcher::Event<Event>) {
    if let watcher::Event::Apply(event) | watcher::Event::InitApply(event) = event
        && let (Some(uid), Some(reason)) = (event.involved_object.uid, event.reason)
        && event.involved_object.kind.as_deref() == Some("Service")
        // The API server itself has something to say about cluster addresses now and then.
        && (event.reporting_component.as_deref() == Some(SOURCE)
            || event.source.and_then(|source| source.component).as_deref() == Some(SOURCE))
        && table.reasons.entry(uid).or_default().insert(reason)
    {
        table.changed = Some(Instant::now());
    }
}
