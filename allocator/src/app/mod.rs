//! The one owner of all state: what happened goes in, writes and Events go out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use metallb_alloc::{Counters, Input, Output, Policy, ServiceId, Severity, World};
use metallb_kubeio::{EventKind, EventSink, lease::Fence};
use metallb_model::{Issue, Kind, ObjectRef};
use metallb_telemetry::Health;
use tokio::sync::mpsc::UnboundedSender;

use crate::happening::Happening;
use crate::metrics::Metrics;
use crate::objects::{ObjectKey, Objects};
use crate::secrets::Secrets;
use crate::telling::Telling;
use crate::writer::{Queue, Writer};

mod configuration;
mod reporting;
mod services;

use configuration::PoolRemarks;
use reporting::Reporting;

/// Changes of counters within this time share one write.
const COALESCE: Duration = Duration::from_millis(200);

/// Services that wait for an address are looked at this often even if nothing seems to have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// When the writer of Events had no room, it is asked again after this time.
pub(crate) const TELL_AGAIN: Duration = Duration::from_millis(100);

/// Which initial lists are complete.
#[derive(Default)]
struct Synced {
    services: bool,
    namespaces: bool,
    nodes: bool,
    /// Kinds of configuration.
    kinds: BTreeSet<Kind>,
    /// All were: decisions are made.
    told: bool,
}

impl Synced {
    fn configuration(&self) -> bool {
        self.kinds.len() == Kind::ALL.len()
    }

    fn all(&self) -> bool {
        // Nodes too: their addresses must not be given away.
        self.services && self.namespaces && self.nodes && self.configuration()
    }
}

pub(crate) struct App {
    around: Surroundings,
    world: World,
    objects: Objects,
    issues: BTreeMap<ObjectRef, Vec<Issue>>,
    secrets: Secrets,
    counters: BTreeMap<String, Counters>,
    remarks: PoolRemarks,
    node_addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    synced: Synced,
    leading: bool,
    config_due: bool,
    services: Queue<ServiceId>,
    statuses: Queue<ObjectKey>,
    /// Configuration objects whose status is to be looked at when the pause is over.
    flush_due: BTreeSet<ObjectKey>,
    telling: Telling,
    /// A look at the backlog of Events is due.
    tell_due: bool,
    report: Reporting,
}

/// What the process has around it.
pub(crate) struct Surroundings {
    pub(crate) client: Client,
    /// Namespace of the configuration.
    pub(crate) namespace: String,
    /// What the `ConfigurationState` belongs to.
    pub(crate) owner: Option<OwnerReference>,
    pub(crate) writer: Writer,
    pub(crate) events: EventSink,
    pub(crate) fence: Fence,
    pub(crate) tell: UnboundedSender<Happening>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

impl App {
    pub(crate) fn new(around: Surroundings, policy: Policy) -> Self {
        Self {
            around,
            world: World::new(policy),
            objects: Objects::default(),
            issues: BTreeMap::new(),
            secrets: Secrets::default(),
            counters: BTreeMap::new(),
            remarks: PoolRemarks::default(),
            node_addresses: BTreeMap::new(),
            synced: Synced::default(),
            leading: false,
            config_due: false,
            services: Queue::default(),
            statuses: Queue::default(),
            flush_due: BTreeSet::new(),
            telling: Telling::default(),
            tell_due: false,
            report: Reporting::default(),
        }
    }

    /// Decides nothing any more; writes under way may end.
    pub(crate) fn stop(&mut self) {
        self.world.handle(Input::Leading(false));
        self.telling.hurry();
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
            Happening::Config(event) => self.object(event),
            Happening::Secret(name, answer) => self.secret(&name, answer),
            Happening::LookAtSecrets => self.look_at_secrets(),
            Happening::Report(event) => self.report_seen(event),
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
            Happening::ReportAgain => self.report.pause_over(),
            Happening::LookAgain => {
                self.world.handle(Input::Retry);
                self.around.writer.later(LOOK_AGAIN, Happening::LookAgain);
            }
            Happening::StillWaiting => self.still_waiting(),
            Happening::Tell => {
                self.tell_due = false;
                self.tell();
            }
            Happening::Nudge | Happening::Stop => {}
        }
    }

    /// Decides what is due and starts the writes.
    pub(crate) fn act(&mut self) {
        if self.synced.configuration() && self.config_due {
            self.config_due = false;
            self.rebuild();
        }
        if !self.synced.told && self.synced.all() {
            self.synced.told = true;
            tracing::info!(services = self.world.len(), "all initial lists are complete");
            self.world.handle(Input::Synced);
            self.around.writer.later(LOOK_AGAIN, Happening::LookAgain);
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
                    let write_due = self.world.status_write(&event.service).is_some();
                    self.telling.say(event, write_due);
                }
                Output::Counters(pool, counters) => self.counted(&pool, counters),
                Output::PoolWarnings(pool, warnings) => self.remarked(&pool, warnings),
                Output::Decided(decision) => tracing::debug!(?decision, "decided"),
            }
        }
        for settled in self.around.writer.pump_services(&mut self.services, &self.world) {
            self.telling.settled(&settled);
        }
        self.tell();
        self.pump_statuses();
        self.pump_report();
    }

    /// Hands Events to their writer, as many as it takes. Returns whether more wait.
    pub(crate) fn tell(&mut self) -> bool {
        let events = &self.around.events;
        let more = self
            .telling
            .pump(events.room(), tokio::time::Instant::now(), |event| {
                let kind = match event.reason.severity() {
                    Severity::Normal => EventKind::Normal,
                    Severity::Warning => EventKind::Warning,
                };
                tracing::info!(event = event.reason.as_str(), service = %event.service, "{}", event.message);
                let about = ObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Service".into()),
                    namespace: Some(event.service.namespace().into()),
                    name: Some(event.service.name().into()),
                    uid: Some(event.uid.into()),
                    ..ObjectReference::default()
                };
                events.publish(about, kind, event.reason.as_str(), event.message);
            });
        if more && !self.tell_due {
            self.tell_due = true;
            self.around.writer.later(TELL_AGAIN, Happening::Tell);
        }
        more
    }

    fn lead(&mut self, leading: bool) {
        self.leading = leading;
        self.world.handle(Input::Leading(leading));
        if leading {
            self.look_at_all_statuses();
            self.report.leading(&self.around.writer);
        } else {
            self.services.clear();
            self.statuses.clear();
            self.telling.clear();
            // The leader shows them; two sources of one gauge would add up.
            for pool in std::mem::take(&mut self.counters).into_keys() {
                self.around.metrics.set_pool(&pool, None);
            }
            self.remarks.clear();
        }
    }
}
