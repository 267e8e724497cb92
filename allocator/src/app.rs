//! The one owner of all state: what happened goes in, writes and Events go out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Resource};
use metallb_alloc::{ClassPolicy, Counters, Input, Output, ServiceId, Severity, World};
use metallb_kubeio::{Event, EventKind, EventSink, thin};
use metallb_model::{Config, Issue, Kind, ObjectRef};
use metallb_telemetry::Health;
use tokio::sync::mpsc::UnboundedSender;

use crate::configuration::{self, Report};
use crate::happening::{Happening, ServiceAnswer, StatusAnswer};
use crate::lease::Fence;
use crate::metrics::Metrics;
use crate::objects::{Change, ObjectKey, Objects, Snapshot};
use crate::run::{L2, NAMESPACES, POOLS, SERVICES};
use crate::service::{convert, id_of};
use crate::status;
use crate::writer::{self, Queue, Writer};

/// Changes of counters within this time share one write.
const COALESCE: Duration = Duration::from_millis(200);
/// Pause after a failed write of the `ConfigurationState`.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// Which initial lists are complete.
#[derive(Default)]
struct Synced {
    services: bool,
    namespaces: bool,
    pools: bool,
    /// All were: decisions are made.
    told: bool,
}

/// The `ConfigurationState`: what it should say, and what it says.
#[derive(Default)]
struct Reporting {
    wanted: Option<Report>,
    written: Option<Report>,
    under_way: Option<Report>,
    pausing: bool,
}

pub(crate) struct App {
    around: Surroundings,
    world: World,
    objects: Objects,
    issues: Vec<Issue>,
    counters: BTreeMap<String, Counters>,
    node_addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    synced: Synced,
    leading: bool,
    config_due: bool,
    services: Queue<ServiceId>,
    statuses: Queue<ObjectKey>,
    /// Configuration objects whose status is to be looked at when the pause is over.
    flush_due: BTreeSet<ObjectKey>,
    report: Reporting,
}

/// What the process has around it.
pub(crate) struct Surroundings {
    pub(crate) client: Client,
    /// Namespace of the configuration.
    pub(crate) namespace: String,
    pub(crate) writer: Writer,
    pub(crate) events: EventSink,
    pub(crate) fence: Fence,
    pub(crate) tell: UnboundedSender<Happening>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

impl App {
    pub(crate) fn new(around: Surroundings, classes: ClassPolicy) -> Self {
        Self {
            around,
            world: World::new(classes),
            objects: Objects::default(),
            issues: Vec::new(),
            counters: BTreeMap::new(),
            node_addresses: BTreeMap::new(),
            synced: Synced::default(),
            leading: false,
            config_due: false,
            services: Queue::default(),
            statuses: Queue::default(),
            flush_due: BTreeSet::new(),
            report: Reporting::default(),
        }
    }

    /// Decides nothing any more; writes under way may end.
    pub(crate) fn stop(&mut self) {
        self.world.handle(Input::Leading(false));
    }

    /// Whether no write is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.services.is_idle() && self.statuses.is_idle()
    }

    /// Takes one thing in; nothing is decided yet.
    pub(crate) fn take_in(&mut self, happening: Happening) {
        match happening {
            Happening::Service(event) => self.service(event),
            Happening::Namespace(event) => self.namespace(event),
            Happening::Node(event) => self.node(event),
            Happening::Pool(event) => self.object(Kind::IpAddressPool, event),
            Happening::L2(event) => self.object(Kind::L2Advertisement, event),
            Happening::Leading(leading) => self.lead(leading),
            Happening::ServiceWritten(id, answer) => self.service_written(&id, answer),
            Happening::RetryService(id) => self.ask_for_write(id),
            Happening::FlushStatuses => {
                for key in std::mem::take(&mut self.flush_due) {
                    self.statuses.push(key);
                }
            }
            Happening::StatusWritten(key, answer) => self.status_written(&key, answer),
            Happening::RetryStatus(key) => self.statuses.push(key),
            Happening::ReportWritten(answer) => self.report_written(answer),
            Happening::Nudge | Happening::Stop => {}
        }
    }

    /// Decides what is due and starts the writes.
    pub(crate) fn act(&mut self) {
        if self.synced.pools && self.config_due {
            self.config_due = false;
            self.rebuild();
        }
        if !self.synced.told && self.synced.services && self.synced.namespaces && self.synced.pools {
            self.synced.told = true;
            tracing::info!(services = self.world.len(), "all initial lists are complete");
            self.world.handle(Input::Synced);
        }
        if self.leading && !self.around.fence.is_open() {
            // The process stood still for longer than the lease: nothing is decided, and nothing told, until the election
            // has its say.
            self.around.writer.later(COALESCE, Happening::Nudge);
            return;
        }
        for output in self.world.drain() {
            match output {
                Output::Write(id) => self.ask_for_write(id),
                Output::Event(event) => {
                    let kind = match event.reason.severity() {
                        Severity::Normal => EventKind::Normal,
                        Severity::Warning => EventKind::Warning,
                    };
                    let about = ObjectReference {
                        api_version: Some("v1".into()),
                        kind: Some("Service".into()),
                        namespace: Some(event.service.namespace().into()),
                        name: Some(event.service.name().into()),
                        uid: Some(event.uid.into()),
                        ..ObjectReference::default()
                    };
                    tracing::info!(
                        event = event.reason.as_str(),
                        service = %event.service,
                        "{}",
                        event.message
                    );
                    self.around
                        .events
                        .publish(about, kind, event.reason.as_str(), event.message);
                }
                Output::Counters(pool, counters) => {
                    self.around.metrics.set_pool(&pool, counters);
                    match counters {
                        Some(counters) => self.counters.insert(pool.clone(), counters),
                        None => self.counters.remove(&pool),
                    };
                    self.look_at_status(ObjectKey {
                        kind: Kind::IpAddressPool,
                        namespace: self.around.namespace.clone(),
                        name: pool,
                    });
                }
                Output::Decided(decision) => tracing::debug!(?decision, "decided"),
            }
        }
        self.around.writer.pump_services(&mut self.services, &self.world);
        self.pump_statuses();
        self.pump_report();
    }

    fn service(&mut self, event: Event<thin::Service>) {
        let input = match event {
            Event::Init => Input::ListStarted,
            Event::InitApply(service) => Input::Listed(Box::new(convert(service))),
            Event::InitDone => {
                self.synced.services = true;
                self.around.health.ready(SERVICES);
                Input::ListDone
            }
            Event::Apply(service) => Input::Applied(Box::new(convert(service))),
            Event::Delete(service) => {
                let id = id_of(&service);
                self.services.forget(&id);
                Input::Deleted(id)
            }
        };
        self.around.metrics.updates.inc();
        self.world.handle(input);
    }

    fn namespace(&mut self, event: Event<thin::Namespace>) {
        let (object, present) = match event {
            // A namespace that vanished unseen has no services left whose pools could be judged by its labels.
            Event::Init => return,
            Event::InitDone => {
                self.synced.namespaces = true;
                self.around.health.ready(NAMESPACES);
                return;
            }
            Event::InitApply(object) | Event::Apply(object) => (object, true),
            Event::Delete(object) => (object, false),
        };
        let labels = present.then(|| object.metadata.labels.unwrap_or_default());
        self.world
            .handle(Input::Namespace(object.metadata.name.unwrap_or_default(), labels));
    }

    fn node(&mut self, event: Event<thin::Node>) {
        let changed = match event {
            Event::Init => {
                // Nodes that are gone are not listed again; those that are come right after.
                self.node_addresses.clear();
                false
            }
            Event::InitDone => true,
            Event::InitApply(node) => {
                self.set_node(node);
                false
            }
            Event::Apply(node) => self.set_node(node),
            Event::Delete(node) => self
                .node_addresses
                .remove(&node.metadata.name.unwrap_or_default())
                .is_some(),
        };
        if changed {
            let all = self.node_addresses.values().flatten().copied().collect();
            self.world.handle(Input::Reserved(all));
        }
    }

    fn set_node(&mut self, node: thin::Node) -> bool {
        let addresses: BTreeSet<IpAddr> = node
            .status
            .addresses
            .iter()
            .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|address| address.address.parse().ok())
            .collect();
        let name = node.metadata.name.unwrap_or_default();
        self.node_addresses.insert(name, addresses.clone()) != Some(addresses)
    }

    fn object<K: Resource<DynamicType = ()>>(&mut self, kind: Kind, event: Event<metallb_api::Raw<K>>) {
        let change = match event {
            Event::Init => {
                self.objects.list_started(kind);
                Change::None
            }
            Event::InitDone => {
                match kind {
                    Kind::IpAddressPool => {
                        self.synced.pools = true;
                        self.around.health.ready(POOLS);
                    }
                    Kind::L2Advertisement => self.around.health.ready(L2),
                }
                self.objects.list_done(kind);
                // Once more even if nothing is new: the first list may be empty, and that is a configuration too.
                Change::Content
            }
            Event::InitApply(raw) | Event::Apply(raw) => {
                let snapshot = Snapshot::new(kind, raw);
                let key = snapshot.key();
                let change = self.objects.apply(snapshot);
                if change == Change::Status {
                    self.look_at_status(key);
                }
                change
            }
            Event::Delete(raw) => self.objects.delete(&Snapshot::new(kind, raw).key()),
        };
        self.around.metrics.updates.inc();
        self.config_due |= change == Change::Content;
    }

    /// Builds the configuration anew from all objects.
    fn rebuild(&mut self) {
        let (config, issues) = Config::from_sources(&self.objects.sources(), &self.around.namespace);
        let bad: BTreeSet<&ObjectRef> = issues
            .iter()
            .filter(|issue| issue.is_error())
            .map(|issue| &issue.object)
            .collect();
        self.objects.found_valid(|object| !bad.contains(object));
        for issue in issues.iter().filter(|issue| !self.issues.contains(issue)) {
            tracing::warn!(object = %issue.object, field = issue.field, reason = %issue.reason, "{issue}");
        }
        self.around.metrics.config_loaded.set(1);
        self.around
            .metrics
            .config_stale
            .set(i64::from(issues.iter().any(configuration::is_ours)));
        self.report.wanted = Some(Report::new(&issues, config.is_empty()));
        self.issues = issues;
        self.world.handle(Input::Config(Arc::new(config)));
        self.look_at_all_statuses();
    }

    fn lead(&mut self, leading: bool) {
        self.leading = leading;
        self.world.handle(Input::Leading(leading));
        self.report.written = None;
        if leading {
            self.look_at_all_statuses();
        } else {
            self.services.clear();
            self.statuses.clear();
            // The leader shows them; two sources of one gauge would add up.
            for pool in std::mem::take(&mut self.counters).into_keys() {
                self.around.metrics.set_pool(&pool, None);
            }
        }
    }

    fn service_written(&mut self, id: &ServiceId, answer: ServiceAnswer) {
        match answer {
            ServiceAnswer::Is(service) => {
                let service = convert(*service);
                let content = (&service.ingress, &service.recorded_pool);
                self.services
                    .wrote(id, writer::digest(&content), tokio::time::Instant::now());
                self.world.handle(Input::Applied(Box::new(service)));
                // A conflict may have changed nothing that matters, then only the version is new.
                self.ask_for_write(id.clone());
            }
            ServiceAnswer::Gone => {
                self.services.done(id);
                self.world.handle(Input::Deleted(id.clone()));
            }
            ServiceAnswer::Failed(error) => {
                self.around.metrics.update_errors.inc();
                let pause = self.services.failed(id);
                tracing::warn!(service = %id, error, ?pause, "the status could not be written, trying again");
                self.around
                    .writer
                    .later(pause, Happening::RetryService(id.clone()));
            }
        }
    }

    fn ask_for_write(&mut self, id: ServiceId) {
        let Some(pause) = self.services.push_calmly(id.clone(), tokio::time::Instant::now()) else {
            return;
        };
        if self.world.status_write(&id).is_some() {
            tracing::warn!(service = %id, ?pause, "another controller keeps changing the status of this service; writing it more seldom");
            self.around.writer.later(pause, Happening::RetryService(id));
        }
    }

    fn look_at_all_statuses(&mut self) {
        let all: Vec<ObjectKey> = self.objects.keys().cloned().collect();
        for key in all {
            self.look_at_status(key);
        }
    }

    fn look_at_status(&mut self, key: ObjectKey) {
        if !self.leading {
            return;
        }
        if self.flush_due.is_empty() {
            self.around.writer.later(COALESCE, Happening::FlushStatuses);
        }
        self.flush_due.insert(key);
    }

    fn pump_statuses(&mut self) {
        if !self.leading || !self.synced.told {
            return;
        }
        let now = Time(Timestamp::now());
        while let Some(key) = self.statuses.pop() {
            let Some(stored) = self.objects.get(&key) else {
                self.statuses.done(&key);
                continue;
            };
            let object = &stored.now.object;
            let issues: Vec<&Issue> = self
                .issues
                .iter()
                .filter(|issue| issue.object == *object)
                .collect();
            let own = key.kind == Kind::IpAddressPool && key.namespace == self.around.namespace;
            let counters = own.then(|| self.counters.get(&key.name).copied()).flatten();
            let Some(patch) = status::patch(stored, &issues, counters, &now) else {
                self.statuses.done(&key);
                continue;
            };
            if let Some((kind, reason, message)) = patch.event {
                let about = ObjectReference {
                    api_version: Some("metallb.io/v1beta1".into()),
                    kind: Some(object.kind.as_str().into()),
                    namespace: Some(object.namespace.clone()),
                    name: Some(object.name.clone()),
                    uid: Some(object.uid.clone()),
                    ..ObjectReference::default()
                };
                self.around.events.publish(about, kind, reason, message);
            }
            self.around.writer.write_status(key, patch.body);
        }
    }

    fn status_written(&mut self, key: &ObjectKey, answer: StatusAnswer) {
        match answer {
            StatusAnswer::Is(snapshot) => {
                self.statuses.done(key);
                self.config_due |= self.objects.apply(*snapshot) == Change::Content;
            }
            StatusAnswer::Superseded => self.statuses.done(key),
            StatusAnswer::Failed(error) => {
                self.around.metrics.update_errors.inc();
                let pause = self.statuses.failed(key);
                let ObjectKey {
                    kind,
                    namespace,
                    name,
                } = key;
                tracing::warn!(%kind, namespace, name, error, ?pause, "the status could not be written, trying again");
                self.around
                    .writer
                    .later(pause, Happening::RetryStatus(key.clone()));
            }
        }
    }

    fn pump_report(&mut self) {
        let Reporting {
            wanted,
            written,
            under_way,
            pausing,
        } = &mut self.report;
        let Some(report) = wanted.as_ref().filter(|wanted| written.as_ref() != Some(wanted)) else {
            return;
        };
        if !self.leading || under_way.is_some() || *pausing {
            return;
        }
        *under_way = Some(report.clone());
        let write = configuration::write(
            self.around.client.clone(),
            self.around.namespace.clone(),
            self.around.fence.clone(),
            report.clone(),
        );
        let tell = self.around.tell.clone();
        tokio::spawn(async move {
            if tell.send(Happening::ReportWritten(write.await)).is_err() {
                tracing::debug!("the process ends");
            }
        });
    }

    fn report_written(&mut self, answer: Result<(), String>) {
        let report = self.report.under_way.take();
        match answer {
            Ok(()) => {
                self.report.written = report;
                self.report.pausing = false;
            }
            Err(error) => {
                tracing::warn!(
                    error,
                    "ConfigurationState controller could not be written, trying again"
                );
                self.report.pausing = true;
                self.around
                    .writer
                    .later(REPORT_PAUSE, Happening::ReportWritten(Ok(())));
            }
        }
    }
}
