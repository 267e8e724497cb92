//! One pass: look at everything, decide, write what differs, say how it stands.

mod writes;

use crate::{
    api::{self, Failure},
    config::Settings,
    drift,
    metrics::Metrics,
    pace::Paces,
    plan::{self, Desired, Plan, Settled, is_made_for, key_id, value},
    report,
    world::{World, id_of},
};
use kube::Client;
use metallb_api::{MetalLBSpec, names::objects};
use metallb_kubeio::{EventSink, lease::Fence};
use metallb_render::{Installer, Kind, ObjectId};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Pause while it is not sure that this replica leads.
const UNSURE: Duration = Duration::from_secs(1);
/// Pause after a namespace whose UID could not be read.
const RETRY: Duration = Duration::from_secs(5);
/// How often a pass decides anew on what its own writes have brought: a workload waits for its account, and an answer may show
/// what somebody else has changed meanwhile. What is left then is for the next pass.
const ROUNDS: u32 = 3;
/// What the pace knows a deletion by, and a write of the membership key: they have no rendering.
const DELETION: &str = "deletion";
const KEY: &str = "key";

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
    /// UIDs of the objects that were seen alive under the ruling resource with the UID before them: what is missing of them
    /// somebody has deleted.
    seen: (String, BTreeMap<ObjectId, Option<String>>),
    /// Whether the last pass left something that it should have applied for later, because it was written too often or with
    /// too little success of late. The operands are not as wanted then, whatever they look like.
    pub(crate) postponed: bool,
}

/// What came of a plan.
#[derive(Default)]
struct Acted {
    /// Whether anything was written.
    wrote: bool,
    /// When the earliest of the writes that had to be put off may be made.
    again: Option<Instant>,
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
            seen: Default::default(),
            postponed: false,
        }
    }

    /// Returns when to pass again at the latest, if something has to be repeated.
    pub(crate) async fn pass(&mut self) -> Option<Instant> {
        self.metrics.reconciles.inc();
        let namespace_again = self.find_namespace().await;
        let (desired, spec_problem) = self.desired();
        // A spec that was never readable, not even before: nothing is known, so nothing is touched.
        let blind = spec_problem.is_some() && desired.is_none();
        let mut again = None;
        for round in 1..=ROUNDS {
            let plan = if blind {
                Plan::default()
            } else {
                plan::plan(&self.world, desired.as_ref(), &self.settled)
            };
            self.forget_past(&plan, desired.as_ref());
            self.remember_seen();
            let acted = self.act(&plan, desired.as_ref()).await;
            again = acted.again;
            if !acted.wrote {
                break;
            }
            if round == ROUNDS {
                again = Some(Instant::now());
            }
        }
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
                || ((plan.create_key || plan.repair_key.is_some()) && key.as_ref() == Some(id))
        };
        self.failures.retain(|id, _| pending(id));
        let world = &self.world;
        self.settled.retain(|id, _| world.live(id).is_some());
    }

    /// Notes what is alive, so that it is missed when it is not.
    fn remember_seen(&mut self) {
        let ruler = self
            .world
            .ruler()
            .and_then(|(_, ruler)| ruler.metadata.uid.clone())
            .unwrap_or_default();
        if self.seen.0 != ruler {
            self.seen = (ruler, BTreeMap::new());
        }
        let (ruler, seen) = &mut self.seen;
        for (kind, cache) in &self.world.owned {
            // What a former ruler left goes with it, and nobody has deleted it by hand.
            for (key, live) in cache.iter().filter(|(_, live)| is_made_for(live, ruler)) {
                seen.insert(id_of(*kind, key), live.metadata.uid.clone());
            }
        }
    }

    /// Writes what the plan says and the paces allow.
    async fn act(&mut self, plan: &Plan, desired: Option<&Desired>) -> Acted {
        let mut acted = Acted::default();
        self.postponed = false;
        if let Some(desired) = desired.filter(|_| plan.create_key || plan.repair_key.is_some()) {
            let id = key_id(&desired.installation.namespace);
            if !self.must_wait(&id, KEY, &mut acted) {
                let (what, outcome) = match &plan.repair_key {
                    Some(repair) => ("repaired", self.repair_key(desired, repair).await),
                    None => ("created", self.create_key(desired).await),
                };
                self.note(&id, KEY, what, outcome, &mut acted);
            }
        }
        for apply in &plan.apply {
            let digest = drift::digest(&apply.body);
            if self.must_wait(&apply.id, digest, &mut acted) {
                self.postponed |= self.fence.is_open();
            } else {
                let outcome = self.apply(apply).await;
                self.note(&apply.id, digest, "applied", outcome, &mut acted);
            }
        }
        for delete in &plan.delete {
            if !self.must_wait(&delete.id, DELETION, &mut acted) {
                let outcome = self.delete(delete).await;
                self.note(&delete.id, DELETION, "deleted", outcome, &mut acted);
            }
        }
        acted
    }

    /// Also while the Lease is not renewed: either another replica leads soon, and does the rest, or this one goes on.
    fn must_wait(&self, id: &ObjectId, digest: &str, acted: &mut Acted) -> bool {
        let wait = if self.fence.is_open() {
            self.paces.wait(id, digest, Instant::now())
        } else {
            Some(Instant::now() + UNSURE)
        };
        if let Some(at) = wait {
            acted.again = Some(acted.again.map_or(at, |earlier| earlier.min(at)));
        }
        wait.is_some()
    }

    fn note(
        &mut self,
        id: &ObjectId,
        digest: &str,
        what: &str,
        outcome: Result<(), Failure>,
        acted: &mut Acted,
    ) {
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                tracing::info!(object = %id, "{what}");
                acted.wrote = true;
                self.failures.remove(id);
                self.paces.wrote(id, digest, now);
            }
            Err(error) => {
                tracing::warn!(object = %id, %error, "could not be {what}, trying again");
                self.metrics.errors.with_label_values(&[id.kind.name()]).inc();
                self.failures.insert(id.clone(), error);
                self.paces.failed(id, digest, now);
                self.must_wait(id, digest, acted);
            }
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
