//! Writes that keep what the API server stores as it should be: a bounded number at a time, one per object, only while
//! this process leads, tried again with a growing pause.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use metallb_alloc::{ServiceId, World};
use metallb_api::names::{annotations, field_managers};
use metallb_kubeio::{configuration::resource, lease::Fence, thin};
use metallb_model::Kind;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use crate::happening::{Happening, ServiceAnswer, StatusAnswer};
use crate::objects::ObjectKey;
use crate::service::deprecated_record_key;

/// Writes under way at a time, of each queue.
pub(crate) const CONCURRENT: usize = 16;
/// A write is given up after this time; a new leader waits as long before it writes.
const REQUEST: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many writes of one object without a calm between mean that somebody else writes it too.
const CONTESTED: u32 = 5;
/// Longer than [`PAUSE_MAX`], or every pause would be a calm.
const CALM: Duration = Duration::from_secs(60);
/// Objects whose last write is remembered before the calm ones are forgotten.
const REMEMBERED: usize = 1024;

/// Objects that wait for a write, in the order in which they came; each at most once, and never two writes of one.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    waiting: VecDeque<K>,
    known: BTreeSet<K>,
    under_way: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
    /// The last write of an object, while it is recent.
    recent: BTreeMap<K, Recent>,
}

/// When an object was last written, what, and how many times in a row the same without a calm between.
#[derive(Debug)]
struct Recent {
    at: Instant,
    content: u64,
    times: u32,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            known: BTreeSet::new(),
            under_way: BTreeSet::new(),
            failures: BTreeMap::new(),
            recent: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone + Debug> Queue<K> {
    /// Asks for a write.
    pub(crate) fn push(&mut self, key: K) {
        if self.known.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// Asks for a write, unless the same was written to the object again and again just now: then somebody else writes it too, and
    /// the two must not keep the API server busy. Returns how long to wait before asking again.
    pub(crate) fn push_calmly(&mut self, key: K, now: Instant) -> Option<Duration> {
        if let Some(Recent { at, times, .. }) = self.recent.get(&key)
            && *times >= CONTESTED
        {
            let pause = PAUSE_FIRST
                .saturating_mul(1 << (times - CONTESTED).min(16))
                .min(PAUSE_MAX);
            let waited = now.saturating_duration_since(*at);
            if waited < pause {
                return Some(pause.saturating_sub(waited));
            }
        }
        self.push(key);
        None
    }

    /// The write went through; `content` is the same for equal content.
    pub(crate) fn wrote(&mut self, key: &K, content: u64, now: Instant) {
        self.done(key);
        let calm = |at: Instant| now.saturating_duration_since(at) > CALM;
        if self.recent.len() >= REMEMBERED {
            self.recent.retain(|_, recent| !calm(recent.at));
        }
        let last = self.recent.entry(key.clone()).or_insert(Recent {
            at: now,
            content,
            times: 0,
        });
        last.times = if calm(last.at) || last.content != content {
            1
        } else {
            last.times.saturating_add(1)
        };
        last.at = now;
        last.content = content;
    }

    /// The object is gone; another of its name starts anew.
    pub(crate) fn forget(&mut self, key: &K) {
        self.recent.remove(key);
        self.failures.remove(key);
    }

    /// The next object to write, if there is room; counts as under way.
    pub(crate) fn pop(&mut self) -> Option<K> {
        if self.under_way.len() >= CONCURRENT {
            return None;
        }
        // What is under way is looked at again when that write ends.
        let index = self
            .waiting
            .iter()
            .position(|key| !self.under_way.contains(key))?;
        let key = self.waiting.remove(index)?;
        self.known.remove(&key);
        self.under_way.insert(key.clone());
        Some(key)
    }

    /// The write is not needed after all, or has ended well.
    pub(crate) fn done(&mut self, key: &K) {
        self.under_way.remove(key);
        self.failures.remove(key);
    }

    /// The write has failed; returns how long to wait before the next one.
    pub(crate) fn failed(&mut self, key: &K) -> Duration {
        self.under_way.remove(key);
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = PAUSE_FIRST
            .saturating_mul(1 << (*failures).min(16))
            .min(PAUSE_MAX);
        *failures = failures.saturating_add(1);
        pause
    }

    /// Forgets what waits: this process does not write any more.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.known.clear();
        self.failures.clear();
    }

    /// Whether no write is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }
}

/// The same number for equal content, within this process.
pub(crate) fn digest(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// What every write needs.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    fence: Fence,
    tell: UnboundedSender<Happening>,
}

impl Writer {
    pub(crate) fn new(client: Client, fence: Fence, tell: UnboundedSender<Happening>) -> Self {
        Self { client, fence, tell }
    }

    /// Starts as many writes of service statuses as there is room for. Returns the services that need none.
    pub(crate) fn pump_services(&self, queue: &mut Queue<ServiceId>, world: &World) -> Vec<ServiceId> {
        let mut settled = Vec::new();
        while let Some(id) = queue.pop() {
            let Some(write) = world.status_write(&id) else {
                queue.done(&id);
                settled.push(id);
                continue;
            };
            let Self { client, fence, tell } = self.clone();
            tokio::spawn(async move {
                let answer = write_service(client, &fence, &write).await;
                send(&tell, Happening::ServiceWritten(write.service, answer));
            });
        }
        settled
    }

    /// Starts one write of the status of a configuration object.
    pub(crate) fn write_status(&self, write: StatusWrite) {
        let Self { client, fence, tell } = self.clone();
        tokio::spawn(async move {
            let answer = write_object(client, &fence, &write).await;
            send(&tell, Happening::StatusWritten(write.key, answer));
        });
    }

    /// Tells something after a pause.
    pub(crate) fn later(&self, pause: Duration, happening: Happening) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            send(&tell, happening);
        });
    }
}

/// Tells the owner of all state.
pub(crate) fn send(tell: &UnboundedSender<Happening>, happening: Happening) {
    if tell.send(happening).is_err() {
        tracing::debug!("the process ends; nobody hears how a write went");
    }
}

fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(field_managers::CONTROLLER.into()),
        ..PatchParams::default()
    }
}

/// Merge patch of the status subresource; it carries the annotation too, so that both change in one write.
fn service_body(write: &metallb_alloc::StatusWrite) -> Value {
    let mut notes = serde_json::Map::new();
    notes.insert(annotations::ALLOCATED_FROM_POOL.to_owned(), json!(write.pool));
    if write.remove_deprecated_record {
        notes.insert(deprecated_record_key(), Value::Null);
    }
    let ingress: Vec<Value> = write.ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "metadata": {"resourceVersion": write.resource_version, "annotations": notes},
        "status": {"loadBalancer": {"ingress": if ingress.is_empty() { Value::Null } else { json!(ingress) }}},
    })
}

async fn write_service(client: Client, fence: &Fence, write: &metallb_alloc::StatusWrite) -> ServiceAnswer {
    let id = &write.service;
    let api: Api<thin::Service> = Api::namespaced(client, id.namespace());
    let attempt = async {
        if !fence.is_open() {
            return ServiceAnswer::Failed("another replica leads".to_owned());
        }
        match api
            .patch_status(id.name(), &parameters(), &Patch::Merge(service_body(write)))
            .await
        {
            Ok(service) => ServiceAnswer::Written(Box::new(service)),
            // Somebody changed it meanwhile: decide again from what it is now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                match api.get_opt(id.name()).await {
                    Ok(Some(service)) => ServiceAnswer::Is(Box::new(service)),
                    Ok(None) => ServiceAnswer::Gone,
                    Err(error) => ServiceAnswer::Failed(error.to_string()),
                }
            }
            Err(error) => ServiceAnswer::Failed(error.to_string()),
        }
    };
    let timed_out = |_| ServiceAnswer::Failed(format!("no answer within {REQUEST:?}"));
    tokio::time::timeout(REQUEST, attempt)
        .await
        .unwrap_or_else(timed_out)
}

/// A write to a configuration object.
pub(crate) struct StatusWrite {
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    /// Merge patch of the status, for the `ConfigMap` of its metadata; bound to a version.
    pub(crate) body: Value,
    /// What the `ConfigMap` records then.
    pub(crate) recorded: Option<Value>,
}

async fn write_object(client: Client, fence: &Fence, write: &StatusWrite) -> StatusAnswer {
    let StatusWrite {
        key, uid, recorded, ..
    } = write;
    let attempt = async {
        if !fence.is_open() {
            return StatusAnswer::Failed("another replica leads".to_owned());
        }
        let body = Patch::Merge(&write.body);
        let answer = if key.kind == Kind::ConfigMap {
            let api: Api<ConfigMap> = Api::namespaced(client, &key.namespace);
            let object = api.patch_metadata(&key.name, &parameters(), &body).await;
            object.map(|object| (object.metadata, Value::Null, recorded.clone()))
        } else {
            let resource = resource(key.kind);
            let api: Api<DynamicObject> = Api::namespaced_with(client, &key.namespace, &resource);
            let object = api.patch_status(&key.name, &parameters(), &body).await;
            object.map(|mut object| {
                let status = object.data.get_mut("status").map(Value::take).unwrap_or_default();
                let last_valid = status
                    .get("lastValidSpec")
                    .filter(|spec| spec.is_object())
                    .cloned();
                (object.metadata, status, last_valid)
            })
        };
        match answer {
            Ok((metadata, status, last_valid)) => StatusAnswer::Written {
                uid: uid.clone(),
                version: metadata.resource_version.unwrap_or_default(),
                status,
                last_valid,
            },
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => StatusAnswer::Superseded,
            Err(error) => StatusAnswer::Failed(error.to_string()),
        }
    };
    let timed_out = |_| StatusAnswer::Failed(format!("no answer within {REQUEST:?}"));
    tokio::time::timeout(REQUEST, attempt)
        .await
        .unwrap_or_else(timed_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_carries_status_and_annotation_in_one_patch() {
        let write = metallb_alloc::StatusWrite {
            service: ServiceId::new("d", "w"),
            resource_version: "42".into(),
            ips: vec![
                "10.0.0.1".parse().expect("an address"),
                "2001:db8::1".parse().expect("an address"),
            ],
            pool: Some("gold".to_owned()),
            remove_deprecated_record: true,
        };
        let expected = json!({
            "metadata": {"resourceVersion": "42", "annotations": {
                "metallb.io/ip-allocated-from-pool": "gold",
                "metallb.universe.tf/ip-allocated-from-pool": null}},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"ip": "2001:db8::1"}]}},
        });
        assert_eq!(service_body(&write), expected);
        let clear = metallb_alloc::StatusWrite {
            ips: vec![],
            pool: None,
            remove_deprecated_record: false,
            ..write
        };
        let body = service_body(&clear);
        assert_eq!(body["status"]["loadBalancer"], json!({"ingress": null}));
        assert_eq!(
            body["metadata"]["annotations"],
            json!({"metallb.io/ip-allocated-from-pool": null})
        );
    }

    #[test]
    fn one_write_per_object_and_a_bounded_number_in_all() {
        let mut queue = Queue::default();
        for key in [1, 2, 1] {
            queue.push(key);
        }
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(1), Some(2), None));
        queue.push(1);
        assert_eq!(queue.pop(), None, "its write is under way");
        queue.done(&1);
        assert_eq!(queue.pop(), Some(1));
        for key in 10..40 {
            queue.push(key);
        }
        let mut under_way = 2;
        while queue.pop().is_some() {
            under_way += 1;
        }
        assert_eq!(under_way, CONCURRENT);
    }

    #[test]
    fn an_object_that_another_controller_writes_too_is_written_ever_more_seldom() {
        let mut queue = Queue::default();
        let start = Instant::now();
        let mut now = start;
        let mut writes = 0;
        while now < start + Duration::from_secs(60) {
            // The other one undoes every write at once.
            match queue.push_calmly('a', now) {
                Some(pause) => now += pause,
                None if queue.pop().is_some() => {
                    queue.wrote(&'a', 7, now);
                    writes += 1;
                    now += Duration::from_millis(5);
                }
                None => panic!("what was asked for is written"),
            }
        }
        assert!((8..=16).contains(&writes), "{writes} writes in a minute");
        assert_eq!(queue.push_calmly('b', now), None, "others are not held up");
        assert_eq!(queue.push_calmly('a', now + CALM * 2), None);
        queue.pop();
        queue.pop();
        queue.wrote(&'a', 7, now + CALM * 2);
        assert_eq!(
            queue.push_calmly('a', now + CALM * 2),
            None,
            "after a calm all is forgotten"
        );
    }

    #[test]
    fn quick_changes_of_one_object_are_written_at_once() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for content in 0..50 {
            assert_eq!(queue.push_calmly('a', now), None, "its owner changes it");
            queue.pop();
            queue.wrote(&'a', content, now);
        }
        for _ in 0..50 {
            assert_eq!(
                queue.push_calmly('b', now),
                None,
                "it is deleted and created again"
            );
            queue.pop();
            queue.wrote(&'b', 1, now);
            queue.forget(&'b');
        }
    }

    #[test]
    fn pauses_grow_and_end_with_success() {
        let mut queue = Queue::default();
        queue.push('a');
        let mut pauses = Vec::new();
        for _ in 0..12 {
            queue.pop();
            pauses.push(queue.failed(&'a'));
            queue.push('a');
        }
        assert_eq!(
            (pauses[0], pauses[1], pauses[11]),
            (PAUSE_FIRST, PAUSE_FIRST * 2, PAUSE_MAX)
        );
        queue.pop();
        queue.done(&'a');
        assert_eq!(queue.failed(&'a'), PAUSE_FIRST);
    }
}
