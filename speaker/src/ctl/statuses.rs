//! `ServiceL2Status` objects and the events that go with them.
//!
//! A task of its own, so that a slow API server delays nothing else. It watches all of these objects, is told what this
//! node owns, and makes the two agree: one object for each service owned, none otherwise, other nodes' objects for
//! these services removed. It writes nothing that is already so. When two nodes disagree for a while (a partition of the
//! LAN, not of the API) they would undo each other's writes for ever; so after a few of them writes about one service get slower
//! and slower. Events do not wait for that.

mod plan;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use metallb_api::names::{labels, objects};
use metallb_api::{Raw, ServiceL2Status};
use metallb_kubeio::{Event, EventSink, Relist, WatchConfig, watch};
use metallb_speaker_core::ServiceKey;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::plan::{Action, Content, Known};
use self::told::{Publish, Told};
use super::assigned::{Assignment, Update};

/// So many writes about one service wait for nothing: services come and go under one name.
const FREE: u32 = 10;
/// The first pause after those; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After this much quiet the first write goes out at once again.
const FORGET: Duration = Duration::from_secs(180);
/// Longest label value that Kubernetes takes.
const LABEL_MAX: usize = 63;

/// Who writes.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) node: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
    pub(super) events: EventSink,
}

enum Message {
    Assign(ServiceKey, Update),
    PodUid(String),
    Begin,
}

/// The task, seen from outside.
pub(super) struct Statuses {
    messages: mpsc::UnboundedSender<Message>,
    pod: String,
    pod_uid_known: bool,
}

impl Statuses {
    /// Starts the task; it writes nothing before [`Statuses::begin`].
    pub(super) fn start(writer: Writer) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let statuses = Self {
            messages,
            pod: writer.pod.clone(),
            pod_uid_known: !writer.pod_uid.is_empty(),
        };
        let task = Task {
            api: Api::namespaced(writer.client.clone(), &writer.namespace),
            writer,
            known: BTreeMap::new(),
            owned: BTreeMap::new(),
            told: BTreeMap::new(),
            seen: BTreeSet::new(),
            dirty: BTreeSet::new(),
            pace: BTreeMap::new(),
            listed: false,
            begun: false,
        };
        tokio::spawn(task.run(inbox));
        statuses
    }

    /// Name of our pod.
    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    /// Our pod's UID, when it was not given. Whether that is new.
    pub(super) fn pod_uid(&mut self, uid: &str) -> bool {
        let new = !std::mem::replace(&mut self.pod_uid_known, true);
        if new {
            self.send(Message::PodUid(uid.to_owned()));
        }
        new
    }

    /// What this node owns of a service.
    pub(super) fn assign(&self, key: ServiceKey, assignment: Update) {
        self.send(Message::Assign(key, assignment));
    }

    /// Everything that this node owns was told.
    pub(super) fn begin(&self) {
        self.send(Message::Begin);
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::error!("the task that writes statuses has ended");
        }
    }
}

/// When the next write about a service may go out.
struct Pace {
    next: Instant,
    writes: u32,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self { next: now, writes: 0 }
    }

    /// There is a write now. How long the next one has to wait.
    fn wrote(&mut self, now: Instant) -> Duration {
        self.writes = self.writes.saturating_add(1);
        let pause = self.writes.checked_sub(FREE).map_or(Duration::ZERO, |over| {
            PAUSE.saturating_mul(1 << over.min(16)).min(PAUSE_MAX)
        });
        self.next = now + pause;
        pause
    }

    /// The write failed: the next waits in any case.
    fn failed(&mut self, now: Instant) -> Duration {
        self.next = self.next.max(now + PAUSE);
        self.next - now
    }
}

struct Task {
    writer: Writer,
    api: Api<ServiceL2Status>,
    /// All objects there are, by name.
    known: BTreeMap<String, Known>,
    owned: BTreeMap<ServiceKey, Assignment>,
    /// What was published last about a service owned.
    told: BTreeMap<ServiceKey, Told>,
    /// Services that this process has owned: what is on record about them may be of that time.
    seen: BTreeSet<ServiceKey>,
    dirty: BTreeSet<ServiceKey>,
    pace: BTreeMap<ServiceKey, Pace>,
    listed: bool,
    begun: bool,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let raw: Api<Raw<ServiceL2Status>> =
            Api::namespaced(self.writer.client.clone(), &self.writer.namespace);
        let mut objects = Box::pin(watch("service l2 statuses", raw, WatchConfig::default()));
        let mut relist = Relist::default();
        loop {
            let due = self.next_due();
            let wait = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.message(message),
                    None => return,
                },
                Some(event) = objects.next() => self.event(event, &mut relist),
                () = wait => self.work().await,
            }
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Assign(key, Update::Owned(assignment)) => {
                self.owned.insert(key.clone(), assignment);
                if self.is_ready() {
                    self.tell(&key);
                }
                self.dirty.insert(key);
            }
            Message::Assign(key, Update::Lost) => {
                self.owned.remove(&key);
                self.told.remove(&key);
                self.dirty.insert(key);
            }
            Message::PodUid(uid) => self.writer.pod_uid = uid,
            Message::Begin => {
                self.begun = true;
                self.tell_all();
                // Objects of ours from an earlier life may be for services that are not ours now.
                self.dirty
                    .extend(self.known.values().map(|known| known.service.clone()));
            }
        }
    }

    fn event(&mut self, event: Event<Raw<ServiceL2Status>>, relist: &mut Relist) {
        match event {
            Event::Init => relist.begin(),
            Event::InitApply(object) => {
                relist.saw(&object);
                self.object(&object);
            }
            Event::Apply(object) => self.object(&object),
            Event::Delete(object) => self.object_gone(&object.name_any()),
            Event::InitDone => {
                let namespace = self.writer.namespace.clone();
                for (_, name) in relist.gone(self.known.keys().map(|name| (&*namespace, &**name))) {
                    self.object_gone(&name);
                }
                self.listed = true;
                self.tell_all();
            }
        }
    }

    fn object(&mut self, object: &Raw<ServiceL2Status>) {
        let Some(known) = Known::read(object) else { return };
        self.dirty.insert(known.service.clone());
        self.known.insert(object.name_any(), known);
    }

    fn object_gone(&mut self, name: &str) {
        if let Some(gone) = self.known.remove(name) {
            let service = gone.service;
            if !self.owned.contains_key(&service) && self.known.values().all(|known| known.service != service)
            {
                self.seen.remove(&service);
            }
            self.dirty.insert(service);
        }
    }

    /// Whether all that is there is known, and all that this node owns.
    const fn is_ready(&self) -> bool {
        self.listed && self.begun
    }

    /// When there is something to do next.
    fn next_due(&self) -> Option<Instant> {
        if !self.is_ready() {
            return None;
        }
        let now = Instant::now();
        self.dirty
            .iter()
            .map(|key| self.pace.get(key).map_or(now, |pace| pace.next.max(now)))
            .min()
    }

    /// Makes one service agree.
    async fn work(&mut self) {
        let now = Instant::now();
        self.pace.retain(|_, pace| now < pace.next + FORGET);
        let due = |key: &&ServiceKey| self.pace.get(*key).is_none_or(|pace| pace.next <= now);
        let Some(key) = self.dirty.iter().find(due).cloned() else {
            return;
        };
        self.dirty.remove(&key);
        let actions = plan::actions(&key, &self.writer.node, self.owned.get(&key), &self.known);
        if actions.is_empty() {
            return;
        }
        self.pace.entry(key.clone()).or_insert(Pace::new(now)).wrote(now);
        for action in actions {
            if let Err(error) = self.perform(&key, action).await {
                let now = Instant::now();
                let retry = self.pace.entry(key.clone()).or_insert(Pace::new(now)).failed(now);
                tracing::warn!(
                    service = key.as_str(),
                    error = format!("{error:#}"),
                    retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX),
                    "the ServiceL2Status could not be written"
                );
                self.dirty.insert(key);
                return;
            }
        }
    }

    /// Publishes about all services owned what was not published yet, once everything is known.
    fn tell_all(&mut self) {
        if self.is_ready() {
            let owned: Vec<_> = self.owned.keys().cloned().collect();
            for key in &owned {
                self.tell(key);
            }
        }
    }

    /// Publishes that the service came to this node, or what this node does not answer for though it should; each once.
    fn tell(&mut self, key: &ServiceKey) {
        let Some(assignment) = self.owned.get(key) else {
            return;
        };
        let node = &self.writer.node;
        // After a restart of the speaker nothing has changed for the user.
        let recorded = |known: &Known| known.service == *key && known.node == *node;
        let restarted = self.seen.insert(key.clone()) && self.known.values().any(recorded);
        let told = self.told.entry(key.clone());
        let news = told
            .or_insert_with(|| Told::of(assignment, restarted))
            .take(node, assignment);
        if news.is_empty() {
            return;
        }
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(key.namespace().into()),
            name: Some(key.name().into()),
            uid: Some(assignment.uid.clone()),
            ..Default::default()
        };
        for Publish {
            kind,
            reason,
            message,
        } in news
        {
            self.writer.events.publish(about.clone(), kind, reason, message);
        }
    }

    async fn perform(&mut self, key: &ServiceKey, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Create(content) => {
                let name = self.create(key).await.context("create")?;
                let node = self.writer.node.clone();
                let known = Known {
                    service: key.clone(),
                    node,
                    written: false,
                    content: Content::default(),
                };
                self.known.insert(name.clone(), known);
                self.write(key, &name, content)
                    .await
                    .context("status of a new object")
            }
            Action::Write { name, content } => self.write(key, &name, content).await.context("status"),
            Action::Delete { name } => {
                match self.api.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(error).context("delete"),
                }
                self.known.remove(&name);
                Ok(())
            }
        }
    }

    async fn create(&self, key: &ServiceKey) -> anyhow::Result<String> {
        let mut object = ServiceL2Status::default();
        object.metadata.generate_name = Some(objects::SERVICE_L2_STATUS_PREFIX.into());
        let all = [
            (labels::NODE, self.writer.node.as_str()),
            (labels::SERVICE_NAME, key.name()),
            (labels::SERVICE_NAMESPACE, key.namespace()),
        ];
        let fitting = all.into_iter().filter(|(_, value)| value.len() <= LABEL_MAX);
        object.metadata.labels = Some(
            fitting
                .map(|(label, value)| (label.into(), value.into()))
                .collect(),
        );
        if !self.writer.pod_uid.is_empty() {
            let owner = json!([{
                "apiVersion": "v1", "kind": "Pod", "name": self.writer.pod, "uid": self.writer.pod_uid,
            }]);
            object.metadata.owner_references = Some(serde_json::from_value(owner)?);
        }
        let created = self.api.create(&PostParams::default(), &object).await?;
        Ok(created.name_any())
    }

    async fn write(&mut self, key: &ServiceKey, name: &str, content: Content) -> anyhow::Result<()> {
        let names: Vec<_> = content
            .interfaces
            .iter()
            .map(|name| json!({ "name": name }))
            .collect();
        let patch = json!({ "status": {
            "node": self.writer.node,
            "serviceName": key.name(),
            "serviceNamespace": key.namespace(),
            "interfaces": names,
            "conflicts": content.conflicts,
        }});
        match self
            .api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                // The former owner, or the next one, removed it meanwhile: look again.
                self.known.remove(name);
                self.dirty.insert(key.clone());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let node = self.writer.node.clone();
        let known = Known {
            service: key.clone(),
            node,
            written: true,
            content,
        };
        self.known.insert(name.to_owned(), known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_wait_only_when_there_are_many() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for write in 1..FREE {
            assert_eq!(pace.wrote(start), Duration::ZERO, "write {write}");
            assert_eq!(pace.next, start);
        }
        assert_eq!(pace.wrote(start), PAUSE);
        assert_eq!(pace.wrote(start), PAUSE * 2);
        for _ in 0..10 {
            pace.wrote(start);
        }
        assert_eq!(pace.wrote(start), PAUSE_MAX);
        let mut pace = Pace::new(start);
        pace.wrote(start);
        assert_eq!(pace.failed(start), PAUSE, "a failure waits even so");
    }
}
