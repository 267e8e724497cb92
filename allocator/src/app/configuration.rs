//! Configuration objects: what is in force, and what their statuses say.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use metallb_alloc::{Counters, Input};
use metallb_kubeio::{ConfigEvent, configuration::resource};
use metallb_model::{Config, Issue, Kind, ObjectRef, SecretFacts};
use tokio::time::Instant;

use super::{App, COALESCE};
use crate::configuration::{self, Report};
use crate::happening::{Happening, StatusAnswer};
use crate::legacy::{self, Told};
use crate::objects::{Change, ObjectKey, by_object};
use crate::secrets;
use crate::status::{self, Note, PoolFacts};
use crate::writer::{self, StatusWrite};

/// Remarks about pools by name, and what was told about the `ConfigMap`.
#[derive(Default)]
pub(super) struct PoolRemarks {
    of_pools: BTreeMap<String, Vec<String>>,
    told: Told,
}

impl PoolRemarks {
    /// Another replica leads: it has its own.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl App {
    pub(super) fn object(&mut self, event: ConfigEvent) {
        let change = match event {
            ConfigEvent::ListStarted(kind) => {
                self.objects.list_started(kind);
                Change::None
            }
            ConfigEvent::ListDone(kind) => {
                self.synced.kinds.insert(kind);
                self.around.health.ready(kind.as_str());
                self.objects.list_done(kind);
                // Once more even if nothing is new: the first list may be empty, and that is a configuration too.
                Change::Content
            }
            ConfigEvent::Found(object) => {
                let key = ObjectKey::of(&object.object);
                let change = self.objects.apply(*object);
                if change == Change::Status {
                    self.look_at_status(key);
                }
                change
            }
            ConfigEvent::Gone {
                kind,
                namespace,
                name,
            } => self.objects.delete(&ObjectKey {
                kind,
                namespace,
                name,
            }),
        };
        self.around.metrics.updates.inc();
        self.config_due |= change == Change::Content;
    }

    /// Builds the configuration anew from all objects.
    pub(super) fn rebuild(&mut self) {
        let mut sources = self.objects.sources();
        self.secrets.want(&sources.secret_refs(), Instant::now());
        self.look_at_secrets();
        self.secrets.fill(&mut sources);
        let (config, issues) = Config::from_sources(&sources, &self.around.namespace);
        drop(sources);
        let known = |issue: &Issue| {
            self.issues
                .get(&issue.object)
                .is_some_and(|known| known.contains(issue))
        };
        for issue in issues.iter().filter(|issue| !known(issue)) {
            tracing::warn!(object = %issue.object, field = issue.field, reason = %issue.reason, "{issue}");
        }
        self.around.metrics.config_loaded.set(1);
        self.around
            .metrics
            .config_stale
            .set(i64::from(issues.iter().any(configuration::is_ours)));
        self.report
            .want(Report::new(issues.iter(), config.is_empty()), config.is_empty());
        self.issues = by_object(issues);
        self.objects.judged(&self.issues, self.secrets.all_asked());
        self.world.handle(Input::Config(Arc::new(config)));
        self.look_at_all_statuses();
    }

    pub(super) fn look_at_secrets(&mut self) {
        for name in self.secrets.due(Instant::now()) {
            let (client, namespace) = (self.around.client.clone(), self.around.namespace.clone());
            let tell = self.around.tell.clone();
            tokio::spawn(async move {
                let answer = secrets::read(client, &namespace, &name).await;
                writer::send(&tell, Happening::Secret(name, answer));
            });
        }
    }

    pub(super) fn secret(&mut self, name: &str, answer: Result<Option<SecretFacts>, String>) {
        let (changed, again) = self.secrets.answered(name, answer, Instant::now());
        self.config_due |= changed;
        if let Some(pause) = again {
            self.around.writer.later(pause, Happening::LookAtSecrets);
        }
    }

    pub(super) fn counted(&mut self, pool: &str, counters: Option<Counters>) {
        self.around.metrics.set_pool(pool, counters);
        match counters {
            Some(counters) => self.counters.insert(pool.to_owned(), counters),
            None => self.counters.remove(pool),
        };
        self.look_at_pool(pool);
    }

    pub(super) fn remarked(&mut self, pool: &str, warnings: Vec<String>) {
        if warnings.is_empty() {
            self.remarks.of_pools.remove(pool);
        } else {
            for warning in &warnings {
                tracing::warn!(pool, "{warning}");
            }
            self.remarks.of_pools.insert(pool.to_owned(), warnings);
        }
        self.look_at_pool(pool);
    }

    fn look_at_pool(&mut self, name: &str) {
        for kind in [Kind::IpAddressPool, Kind::AddressPool] {
            let key = ObjectKey {
                kind,
                namespace: self.around.namespace.clone(),
                name: name.to_owned(),
            };
            if self.objects.get(&key).is_some() {
                self.look_at_status(key);
            }
        }
    }

    pub(super) fn look_at_all_statuses(&mut self) {
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

    pub(super) fn pump_statuses(&mut self) {
        // A peer whose Secret nobody has looked for yet would be valid now and invalid in a moment.
        if !self.leading || !self.synced.told || !self.secrets.all_asked() {
            return;
        }
        let now = configuration::now();
        while let Some(key) = self.statuses.pop() {
            let Some(stored) = self.objects.get(&key) else {
                self.statuses.done(&key);
                continue;
            };
            let object = stored.now.object.clone();
            let issues = self.issues.get(&object).map_or(&[][..], Vec::as_slice);
            let (body, notes) = if key.kind == Kind::ConfigMap {
                let notes = legacy::notes(stored, issues, &mut self.remarks.told);
                (legacy::patch(stored), notes)
            } else {
                let own = key.namespace == self.around.namespace
                    && matches!(key.kind, Kind::IpAddressPool | Kind::AddressPool);
                let pool = own.then(|| PoolFacts {
                    counters: self.counters.get(&key.name).copied().unwrap_or_default(),
                    warnings: self.remarks.of_pools.get(&key.name).map_or(&[], Vec::as_slice),
                });
                match status::patch(stored, issues, pool, &now) {
                    Some(patch) => (Some(patch.body), patch.notes),
                    None => (None, Vec::new()),
                }
            };
            let recorded = stored.found_valid.as_ref().map(|valid| valid.spec.clone());
            self.tell_owner(&object, notes);
            match body {
                Some(body) => self.around.writer.write_status(StatusWrite {
                    key,
                    uid: object.uid,
                    body,
                    recorded,
                }),
                None => self.statuses.done(&key),
            }
        }
    }

    fn tell_owner(&self, object: &ObjectRef, notes: Vec<Note>) {
        for (kind, reason, message) in notes {
            let about = ObjectReference {
                api_version: Some(resource(object.kind).api_version),
                kind: Some(object.kind.as_str().into()),
                namespace: Some(object.namespace.clone()),
                name: Some(object.name.clone()),
                uid: Some(object.uid.clone()),
                ..ObjectReference::default()
            };
            self.around.events.publish(about, kind, reason, message);
        }
    }

    pub(super) fn status_written(&mut self, key: &ObjectKey, answer: StatusAnswer) {
        match answer {
            StatusAnswer::Written {
                uid,
                version,
                status,
                last_valid,
            } => {
                self.statuses.done(key);
                self.objects.written(key, &uid, version, status, last_valid);
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
}
