//! One pass: look at everything, decide, write what differs, say how it stands.

use crate::{
    api,
    config::Settings,
    drift::DIGEST,
    metrics::Metrics,
    pace::Paces,
    plan::{self, Apply, Delete, Desired, Plan, Settled, key_id, value},
    report,
    world::{World, id_of, key_of},
};
use api::Failure;
use kube::{Client, Resource as _};
use metallb_api::{MetalLBSpec, names::objects};
use metallb_kubeio::{EventKind, EventSink, lease::Fence};
use metallb_render::{Installer, Kind, ObjectId};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Pause while it is not sure that this replica leads.
const UNSURE: Duration = Duration::from_secs(1);
/// Pause after a namespace whose UID could not be read.
const RETRY: Duration = Duration::from_secs(5);

/// The operator between two passes.
pub(crate) struct Operator {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) events: EventSink,
    pub(crate) metrics: Metrics,
    pub(crate) world: World,
    /// The ruling resource's UID and the last spec of it that could be read.
    last_good: Option<(String, MetalLBSpec)>,
    settled: BTreeMap<ObjectId, Settled>,
    paces: Paces,
    /// Writes that failed and were not repeated with success.
    failures: BTreeMap<ObjectId, Failure>,
    pub(crate) fence: Fence,
    /// The ruling resource's UID, and that of its namespace.
    namespace: Option<(String, String)>,
}

impl Operator {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        events: EventSink,
        metrics: Metrics,
        fence: Fence,
    ) -> Self {
        Operator {
            client,
            settings,
            events,
            metrics,
            world: World::default(),
            last_good: None,
            settled: BTreeMap::new(),
            paces: Paces::default(),
            failures: BTreeMap::new(),
            fence,
            namespace: None,
        }
    }

    /// Returns when to pass again at the latest, if something has to be repeated.
    pub(crate) async fn pass(&mut self) -> Option<Instant> {
        self.metrics.reconciles.inc();
        let namespace_again = self.find_namespace().await;
        let (desired, spec_problem) = self.desired();
        // A spec that was never readable, not even before: nothing is known, so nothing is touched.
        let blind = spec_problem.is_some() && desired.is_none();
        let plan = if blind {
            Plan::default()
        } else {
            plan::plan(&self.world, desired.as_ref(), &self.settled)
        };
        self.forget_past(&plan, desired.as_ref());
        let again = self.act(&plan, desired.as_ref()).await;
        let status_again = report::write(self, desired.as_ref(), spec_problem).await;
        self.paces.forget_calm(Instant::now());
        [again, status_again, namespace_again].into_iter().flatten().min()
    }

    /// Says what is not allowed, while too little is seen to do anything.
    pub(crate) async fn complain(&mut self) -> Option<Instant> {
        report::write_forbidden(self).await
    }

    /// Finds out the UID of the ruler's namespace, once for each ruler. Returns when to try again.
    async fn find_namespace(&mut self) -> Option<Instant> {
        let ((name, _), ruler) = self.world.ruler()?;
        let uid = ruler.metadata.uid.clone().unwrap_or_default();
        if self.namespace.as_ref().is_some_and(|(of, _)| *of == uid) {
            return None;
        }
        match api::namespace_uid(&self.client, name).await {
            Ok(Some(namespace)) => {
                self.namespace = Some((uid, namespace));
                None
            }
            Ok(None) => None,
            Err(error) => {
                tracing::info!(%error, namespace = name, "the namespace cannot be read, trying again");
                Some(Instant::now() + RETRY)
            }
        }
    }

    /// What should run, and why the present spec does not say it.
    fn desired(&mut self) -> (Option<Desired>, Option<String>) {
        let Some(((namespace, _), ruler)) = self.world.ruler() else {
            self.last_good = None;
            return (None, None);
        };
        let uid = ruler.metadata.uid.clone().unwrap_or_default();
        let known = self.namespace.as_ref().filter(|(of, _)| *of == uid);
        let installer = Installer::Operator {
            uid: uid.clone(),
            namespace_uid: known.map(|(_, namespace)| namespace.clone()).unwrap_or_default(),
            speaker_secrets: self.world.peer_secrets(namespace),
        };
        let installation = self.settings.installation(namespace, installer);
        match ruler.parse_spec::<MetalLBSpec>() {
            Ok(spec) => {
                self.last_good = Some((uid, spec.clone()));
                (Some(Desired { spec, installation }), None)
            }
            Err(error) => {
                let spec = self
                    .last_good
                    .as_ref()
                    .filter(|(of, _)| *of == uid)
                    .map(|(_, spec)| spec.clone());
                (
                    spec.map(|spec| Desired { spec, installation }),
                    Some(error.to_string()),
                )
            }
        }
    }

    /// Drops notes on objects that nobody wants any more.
    fn forget_past(&mut self, plan: &Plan, desired: Option<&Desired>) {
        let key = desired.map(|desired| key_id(&desired.installation.namespace));
        let pending = |id: &ObjectId| {
            plan.apply.iter().any(|apply| apply.id == *id)
                || plan.delete.iter().any(|delete| delete.id == *id)
                || (plan.create_key && key.as_ref() == Some(id))
        };
        self.failures.retain(|id, _| pending(id));
        let world = &self.world;
        self.settled.retain(|id, _| world.live(id).is_some());
    }

    /// Returns when the earliest of the writes that had to be put off may be made.
    async fn act(&mut self, plan: &Plan, desired: Option<&Desired>) -> Option<Instant> {
        let mut again = None;
        if let (true, Some(desired)) = (plan.create_key, desired) {
            let id = key_id(&desired.installation.namespace);
            if !self.must_wait(&id, &mut again) {
                let outcome = self.create_key(desired).await;
                self.note(&id, "created", outcome, &mut again);
            }
        }
        for apply in &plan.apply {
            if !self.must_wait(&apply.id, &mut again) {
                let outcome = self.apply(apply).await;
                self.note(&apply.id, "applied", outcome, &mut again);
            }
        }
        for delete in &plan.delete {
            if !self.must_wait(&delete.id, &mut again) {
                let outcome = self.delete(delete).await;
                self.note(&delete.id, "deleted", outcome, &mut again);
            }
        }
        again
    }

    /// Also while the Lease is not renewed: either another replica leads soon, and does the rest, or this one goes on.
    fn must_wait(&self, id: &ObjectId, again: &mut Option<Instant>) -> bool {
        let wait = if self.fence.is_open() {
            self.paces.wait(id, Instant::now())
        } else {
            Some(Instant::now() + UNSURE)
        };
        if let Some(at) = wait {
            *again = Some(again.map_or(at, |earlier| earlier.min(at)));
        }
        wait.is_some()
    }

    async fn apply(&mut self, apply: &Apply) -> Result<(), Failure> {
        let mut live = api::apply(&self.client, apply).await?;
        live.metadata.managed_fields = None;
        self.announce_repair(apply);
        self.settled.remove(&apply.id);
        if let Some(settled) = Settled::after(apply, &live) {
            self.settled.insert(apply.id.clone(), settled);
        }
        self.world.owned.entry(apply.id.kind).or_default().put(live);
        self.metrics
            .applied
            .with_label_values(&[apply.id.kind.name()])
            .inc();
        Ok(())
    }

    async fn delete(&mut self, delete: &Delete) -> Result<(), Failure> {
        api::delete(&self.client, delete).await?;
        if let Some(cache) = self.world.owned.get_mut(&delete.id.kind) {
            cache.forget(&key_of(&delete.id));
        }
        self.metrics
            .deleted
            .with_label_values(&[delete.id.kind.name()])
            .inc();
        Ok(())
    }

    async fn create_key(&self, desired: &Desired) -> Result<(), Failure> {
        let mut random = [0; metallb_render::KEY_BYTES];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Failure::Other("the kernel gave no random bytes".into()))?;
        let mut secret = metallb_render::memberlist_secret(&desired.installation, random);
        let known = match &desired.installation.installer {
            Installer::Operator { uid, .. } => self.world.last_key(&desired.installation.namespace, uid),
            Installer::Manifests => None,
        };
        if let Some(data) = known {
            secret.data = serde_json::from_value(data.clone())
                .map_err(|error| Failure::Other(format!("the key that was there cannot be read: {error}")))?;
        }
        api::create_secret(&self.client, &desired.installation.namespace, &secret).await
    }

    fn note(&mut self, id: &ObjectId, what: &str, outcome: Result<(), Failure>, again: &mut Option<Instant>) {
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                tracing::info!(object = %id, "{what}");
                self.failures.remove(id);
                self.paces.wrote(id, now);
            }
            Err(error) => {
                tracing::warn!(object = %id, %error, "could not be {what}, trying again");
                self.metrics.errors.with_label_values(&[id.kind.name()]).inc();
                self.failures.insert(id.clone(), error);
                self.paces.failed(id, now);
                self.must_wait(id, again);
            }
        }
    }

    /// An object that was there and has our newest digest was changed by somebody else: that is worth an Event.
    fn announce_repair(&self, apply: &Apply) {
        let newer = apply
            .differences
            .iter()
            .any(|difference| difference.path.ends_with(DIGEST));
        if apply.differences.is_empty() || newer {
            return;
        }
        let mut paths: Vec<&str> = apply
            .differences
            .iter()
            .map(|difference| difference.path.as_str())
            .collect();
        paths.truncate(3);
        let fields = paths.join(", ");
        tracing::info!(object = %apply.id, fields, "put back what somebody changed");
        if let Some((_, ruler)) = self.world.ruler() {
            let text = format!(
                "{} was changed by hand ({fields}) and has been put back",
                apply.id
            );
            self.events
                .publish(ruler.object_ref(&()), EventKind::Normal, "DriftRepaired", text);
        }
    }

    /// Failed writes as sentences: those that lack a right, and the others.
    pub(crate) fn write_problems(&self) -> (Vec<String>, Vec<String>) {
        let (mut lacking, mut others) = (Vec::new(), Vec::new());
        for (id, why) in &self.failures {
            match why {
                // Not for long: the resource is in that namespace too.
                Failure::Terminating => {}
                Failure::Forbidden(text) => lacking.push(format!("{id}: {text}")),
                why => others.push(format!("{id}: {why}")),
            }
        }
        (lacking, others)
    }

    /// A workload of the installation as it is in the cluster.
    pub(crate) fn workload(&self, kind: Kind, namespace: &str) -> Option<serde_json::Value> {
        let name = if kind == Kind::Deployment {
            objects::CONTROLLER
        } else {
            objects::SPEAKER
        };
        self.world
            .live(&id_of(kind, &(namespace.into(), name.into())))
            .map(|live| value(kind, live))
    }
}
