//! The `ConfigurationState` of this component: kept as it should be, whoever changes or deletes it.

use std::time::Duration;

use metallb_api::{ConfigurationState, Raw};
use metallb_kubeio::Event;
use metallb_model::Kind;

use super::App;
use crate::configuration::{self, Report};
use crate::happening::Happening;
use crate::objects::is_older;
use crate::run::{NAMESPACES, NODES, SERVICES};
use crate::writer::{self, Writer};

/// Pause after a failed write.
const PAUSE: Duration = Duration::from_secs(10);
/// A leader that cannot read its lists says so after this time. A start takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it should say, and what it says.
#[derive(Default)]
pub(super) struct Reporting {
    wanted: Option<Report>,
    idle: Option<bool>,
    stored: Option<Raw<ConfigurationState>>,
    /// The stored object has been listed.
    known: bool,
    listing: Option<Raw<ConfigurationState>>,
    under_way: bool,
    pausing: bool,
}

impl Reporting {
    /// What it should say from now on. `idle`: nothing is configured.
    pub(super) fn want(&mut self, report: Report, idle: bool) {
        if self.idle.replace(idle) != Some(idle) && (idle || self.wanted.is_some()) {
            if idle {
                tracing::info!("no pool is configured: idle until there is a valid IPAddressPool");
            } else {
                tracing::info!("pools are configured");
            }
        }
        self.wanted = Some(report);
    }

    /// This process leads from now on.
    pub(super) fn leading(&mut self, writer: &Writer) {
        if self.wanted.is_none() {
            writer.later(PATIENCE, Happening::StillWaiting);
        }
    }

    pub(super) fn pause_over(&mut self) {
        self.pausing = false;
    }

    fn store(&mut self, object: Raw<ConfigurationState>) {
        let version =
            |object: &Raw<ConfigurationState>| object.metadata.resource_version.clone().unwrap_or_default();
        let stale = self.stored.as_ref().is_some_and(|known| {
            known.metadata.uid == object.metadata.uid && is_older(&version(&object), &version(known))
        });
        if !stale {
            self.stored = Some(object);
        }
    }
}

impl App {
    pub(super) fn report_seen(&mut self, event: Event<Raw<ConfigurationState>>) {
        match event {
            Event::Init => self.report.listing = None,
            Event::InitApply(object) => self.report.listing = Some(object),
            Event::InitDone => {
                self.report.known = true;
                match self.report.listing.take() {
                    Some(object) => self.report.store(object),
                    None => self.report.stored = None,
                }
            }
            Event::Apply(object) => self.report.store(object),
            Event::Delete(_) => self.report.stored = None,
        }
    }

    /// The lists are not complete a while after this process became the leader: that is worth saying.
    pub(super) fn still_waiting(&mut self) {
        if !self.leading || self.synced.configuration() {
            return;
        }
        let kinds = Kind::ALL.iter().filter(|kind| !self.synced.kinds.contains(kind));
        let mut missing: Vec<&str> = kinds.map(|kind| kind.as_str()).collect();
        for (name, done) in [
            (SERVICES, self.synced.services),
            (NAMESPACES, self.synced.namespaces),
            (NODES, self.synced.nodes),
        ] {
            if !done {
                missing.push(name);
            }
        }
        tracing::warn!(
            missing = missing.join(", "),
            "the configuration cannot be read yet"
        );
        self.report.wanted = Some(Report::unknown(&missing));
    }

    pub(super) fn pump_report(&mut self) {
        let Reporting {
            wanted: Some(report),
            stored,
            known: true,
            under_way: under_way @ false,
            pausing: false,
            ..
        } = &mut self.report
        else {
            return;
        };
        if !self.leading || !self.secrets.all_asked() {
            return;
        }
        let now = configuration::now();
        let Some(change) =
            configuration::difference(stored.as_ref(), report, self.around.owner.as_ref(), &now)
        else {
            return;
        };
        *under_way = true;
        let write = configuration::write(
            self.around.client.clone(),
            self.around.namespace.clone(),
            self.around.fence.clone(),
            change,
        );
        let tell = self.around.tell.clone();
        tokio::spawn(async move {
            writer::send(&tell, Happening::ReportWritten(write.await));
        });
    }

    pub(super) fn report_written(&mut self, answer: Result<Option<Raw<ConfigurationState>>, String>) {
        self.report.under_way = false;
        match answer {
            Ok(Some(object)) => self.report.store(object),
            // The fence had fallen.
            Ok(None) => {}
            Err(error) => {
                self.around.metrics.update_errors.inc();
                tracing::warn!(
                    error,
                    "ConfigurationState controller could not be written, trying again"
                );
                self.report.pausing = true;
                self.around.writer.later(PAUSE, Happening::ReportAgain);
            }
        }
    }
}
