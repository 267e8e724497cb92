//! The writes of a pass, each with what it takes to get it done.

use super::Operator;
use crate::{
    api::{self, Failure},
    drift::DIGEST,
    foreign,
    keys::KeyRepair,
    plan::{Apply, Delete, Desired, Settled, is_ours, key_id, value},
    repair,
    world::{Input, key_of},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource as _, core::DynamicObject};
use metallb_api::names::objects;
use metallb_kubeio::{Event, EventKind};
use metallb_render::{Installer, Kind, ObjectId};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

impl Operator {
    pub(super) async fn apply(&mut self, apply: &Apply) -> Result<(), Failure> {
        let id = &apply.id;
        if self.world.live(id).is_none() {
            self.spare_strangers(id).await?;
        }
        let mut live = match api::apply(&self.client, apply).await {
            Err(refusal @ Failure::Invalid { .. }) => self.replace(apply, refusal).await?,
            answer => answer?,
        };
        let tidying = repair::tidying(&apply.body, &value(id.kind, &live));
        if !tidying.is_empty() {
            live = api::change(&self.client, id, tidying).await?;
        }
        live.metadata.managed_fields = None;
        self.announce(apply, &live);
        self.settled.remove(id);
        if let Some(settled) = Settled::after(apply, &live) {
            self.settled.insert(id.clone(), settled);
        }
        self.world.owned.entry(id.kind).or_default().put(live);
        self.metrics.applied.with_label_values(&[id.kind.name()]).inc();
        Ok(())
    }

    /// An object that the watches do not show may be there all the same, without our labels.
    async fn spare_strangers(&self, id: &ObjectId) -> Result<(), Failure> {
        let found = api::find(&self.client, id).await?;
        match found.as_ref().and_then(foreign::stranger) {
            Some(whose) => Err(Failure::Other(format!(
                "{id} belongs to somebody else ({whose}); remove or rename it"
            ))),
            None => Ok(()),
        }
    }

    /// What the API server refuses to merge is made ours by a patch, and what it refuses to change is made anew.
    async fn replace(&self, apply: &Apply, refusal: Failure) -> Result<DynamicObject, Failure> {
        let id = &apply.id;
        let live = self.world.live(id);
        let Some(live) = live.filter(|live| is_ours(live) && live.metadata.deletion_timestamp.is_none())
        else {
            return Err(refusal);
        };
        let changes = repair::replacement(&apply.body, &value(id.kind, live));
        if changes.is_empty() {
            return Err(refusal);
        }
        match api::change(&self.client, id, changes).await {
            Ok(_) => tracing::info!(object = %id, %refusal, "replaced what the API server would not merge"),
            Err(Failure::Invalid {
                immutable: true,
                text,
            }) => {
                tracing::warn!(object = %id, reason = text, "is made anew, because it cannot be changed");
                let delete = Delete {
                    id: id.clone(),
                    uid: live.metadata.uid.clone(),
                };
                api::delete(&self.client, &delete).await?;
            }
            Err(Failure::Invalid { .. }) => return Err(refusal),
            Err(failure) => return Err(failure),
        }
        api::apply(&self.client, apply).await
    }

    pub(super) async fn delete(&mut self, delete: &Delete) -> Result<(), Failure> {
        api::delete(&self.client, delete).await?;
        if let Some(cache) = self.world.owned.get_mut(&delete.id.kind) {
            cache.forget(&key_of(&delete.id));
        }
        // Nobody misses it.
        self.seen.1.remove(&delete.id);
        self.metrics
            .deleted
            .with_label_values(&[delete.id.kind.name()])
            .inc();
        Ok(())
    }

    /// A key that is there is never overwritten.
    pub(super) async fn create_key(&mut self, desired: &Desired) -> Result<(), Failure> {
        let mut secret = random_secret(desired)?;
        if let Some(data) = self.last_key(desired) {
            secret.data = serde_json::from_value(data.clone())
                .map_err(|error| Failure::Other(format!("the key that was there cannot be read: {error}")))?;
        }
        let id = key_id(&desired.installation.namespace);
        if let Some(created) = api::create(&self.client, &id, json!(secret)).await? {
            if self.seen.1.contains_key(&id) {
                self.publish(format!("{id} was deleted by hand and has been made again"));
            }
            self.saw_key(created);
        }
        Ok(())
    }

    pub(super) async fn repair_key(&mut self, desired: &Desired, repair: &KeyRepair) -> Result<(), Failure> {
        let id = key_id(&desired.installation.namespace);
        let mut body = json!({ "metadata": repair.metadata });
        if repair.lacks_key {
            let key = match self.last_key(desired) {
                Some(data) => data[objects::MEMBERLIST_SECRET_KEY].clone(),
                None => json!(random_secret(desired)?.data)[objects::MEMBERLIST_SECRET_KEY].clone(),
            };
            body["data"] = json!({ objects::MEMBERLIST_SECRET_KEY: key });
        }
        let live = api::merge(&self.client, &id, body).await?;
        self.saw_key(live);
        self.publish(format!("{id} was changed by hand and has been put back"));
        Ok(())
    }

    /// The answer to a write of the Secret.
    fn saw_key(&mut self, mut live: DynamicObject) {
        live.metadata.managed_fields = None;
        self.world.take(Input::Owned(Kind::Secret, Event::Apply(live)));
    }

    fn last_key(&self, desired: &Desired) -> Option<&Value> {
        match &desired.installation.installer {
            Installer::Operator { uid, .. } => self.world.keys.last(&desired.installation.namespace, uid),
            Installer::Manifests => None,
        }
    }

    /// What somebody else had changed or deleted is worth an Event.
    fn announce(&self, apply: &Apply, live: &DynamicObject) {
        if let Some(text) = repair_text(apply, live, self.seen.1.get(&apply.id)) {
            tracing::info!(object = %apply.id, "{text}");
            self.publish(text);
        }
    }

    fn publish(&self, text: String) {
        if let Some((_, ruler)) = self.world.ruler() {
            self.events
                .publish(ruler.object_ref(&()), EventKind::Normal, "DriftRepaired", text);
        }
    }
}

/// What an apply that was answered with `live` has repaired; `None` when nobody had changed anything. `seen` is the UID of the
/// object that was seen before, if there was one.
fn repair_text(apply: &Apply, live: &DynamicObject, seen: Option<&Option<String>>) -> Option<String> {
    let id = &apply.id;
    if apply.differences.is_empty() {
        let again = *seen? != live.metadata.uid;
        return Some(if again {
            format!("{id} was deleted by hand and has been made again")
        } else {
            format!("{id} was changed by hand (metadata.labels) and has been put back")
        });
    }
    // An older digest says that something else is wanted now.
    if apply
        .differences
        .iter()
        .any(|difference| difference.path.ends_with(DIGEST))
    {
        return None;
    }
    let repaired = apply.repaired(live);
    let paths: Vec<&str> = repaired
        .iter()
        .take(3)
        .map(|difference| difference.path.as_str())
        .collect();
    let fields = paths.join(", ");
    (!paths.is_empty()).then(|| format!("{id} was changed by hand ({fields}) and has been put back"))
}

/// The Secret around a new key.
fn random_secret(desired: &Desired) -> Result<Secret, Failure> {
    let mut random = [0; metallb_render::KEY_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Failure::Other("the kernel gave no random bytes".into()))?;
    Ok(metallb_render::memberlist_secret(&desired.installation, random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift;

    fn live(uid: &str, replicas: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"replicas": replicas}})).unwrap()
    }

    fn apply(before: Option<&DynamicObject>) -> Apply {
        let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}});
        Apply {
            id: ObjectId {
                kind: Kind::Deployment,
                namespace: Some("ns".into()),
                name: "controller".into(),
            },
            differences: before
                .map(|before| drift::differences(&body, &value(Kind::Deployment, before)))
                .unwrap_or_default(),
            body,
        }
    }

    #[test]
    fn only_what_was_put_back_is_told() {
        let edited = live("a", &json!(5));
        let after = live("a", &json!(1));
        assert_eq!(
            repair_text(&apply(Some(&edited)), &after, None).as_deref(),
            Some("Deployment ns/controller was changed by hand (spec.replicas) and has been put back")
        );
        assert_eq!(repair_text(&apply(Some(&edited)), &edited, None), None);
    }

    #[test]
    fn what_is_made_again_is_told_but_not_what_is_new() {
        let made = live("b", &json!(1));
        assert_eq!(repair_text(&apply(None), &made, None), None);
        assert_eq!(
            repair_text(&apply(None), &made, Some(&Some("a".into()))).as_deref(),
            Some("Deployment ns/controller was deleted by hand and has been made again")
        );
        assert_eq!(
            repair_text(&apply(None), &made, Some(&Some("b".into()))).as_deref(),
            Some("Deployment ns/controller was changed by hand (metadata.labels) and has been put back")
        );
    }
}
