//! What has to be written, decided from what was seen.

use crate::{
    drift::{self, Difference},
    keys::KeyRepair,
    world::{World, id_of},
};
use kube::core::DynamicObject;
use metallb_api::{
    MetalLBSpec,
    names::{annotations, labels, objects},
};
use metallb_render::{Installation, Installer, KEY_BYTES, Kind, ObjectId, memberlist_secret, operands};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What should run: the ruling resource's last readable spec, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired {
    pub(crate) spec: MetalLBSpec,
    pub(crate) installation: Installation,
}

/// An object to apply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Apply {
    pub(crate) id: ObjectId,
    pub(crate) body: Value,
    /// Why; empty when the object does not exist.
    pub(crate) differences: Vec<Difference>,
}

/// An object to delete, and its UID, so that a successor of the same name is spared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) id: ObjectId,
    pub(crate) uid: Option<String>,
}

/// What has to be written, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) apply: Vec<Apply>,
    pub(crate) create_key: bool,
    /// What the Secret with the membership key lacks.
    pub(crate) repair_key: Option<KeyRepair>,
    pub(crate) delete: Vec<Delete>,
}

/// What an apply left different, because the API server writes a value in another way (`0.5` as `500m`) or drops a field that
/// it does not know. Applying again would change nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    body: Value,
    residue: Vec<Difference>,
}

impl Apply {
    /// What an apply that was answered with `live` has put back. A value that is only written in another way is there after it
    /// as before.
    pub(crate) fn repaired(&self, live: &DynamicObject) -> Vec<&Difference> {
        let left = drift::differences(&self.body, &value(self.id.kind, live));
        let gone = self.differences.iter();
        gone.filter(|difference| !left.contains(difference)).collect()
    }
}

impl Settled {
    /// After an apply that was answered with `live`; `None` when nothing differs.
    pub(crate) fn after(apply: &Apply, live: &DynamicObject) -> Option<Self> {
        let residue = drift::differences(&apply.body, &value(apply.id.kind, live));
        (!residue.is_empty()).then(|| Settled {
            body: apply.body.clone(),
            residue,
        })
    }
}

/// `desired` is `None` when no resource rules: then everything goes.
pub(crate) fn plan(world: &World, desired: Option<&Desired>, settled: &BTreeMap<ObjectId, Settled>) -> Plan {
    let mut plan = Plan::default();
    let mut keep = BTreeSet::new();
    if let Some(desired) = desired {
        for object in operands(&desired.spec, &desired.installation) {
            let id = object.id();
            keep.insert(id.clone());
            // The first object of the kind that can be made starts the next pass.
            if id.kind.is_optional() && !world.is_served(id.kind) {
                continue;
            }
            // The account is before it in the list, and the pass looks again when it has made it.
            let Some(body) = for_account(world, &id, object.to_value()) else {
                continue;
            };
            let body = drift::with_digest(body);
            match world.live(&id) {
                None => plan.apply.push(Apply {
                    id,
                    body,
                    differences: Vec::new(),
                }),
                // It will be made anew when it is gone.
                Some(live) if live.metadata.deletion_timestamp.is_some() => {}
                Some(live) => {
                    let differences = drift::differences(&body, &value(id.kind, live));
                    let same_as_before = settled
                        .get(&id)
                        .is_some_and(|s| s.body == body && s.residue == differences);
                    if !differences.is_empty() && !same_as_before {
                        plan.apply.push(Apply {
                            id,
                            body,
                            differences,
                        });
                    }
                }
            }
        }
        let key = key_id(&desired.installation.namespace);
        let live = world.live(&key);
        plan.create_key = live.is_none();
        plan.repair_key = live
            .filter(|live| live.metadata.deletion_timestamp.is_none())
            .and_then(|live| repair_key(world, live, &desired.installation));
        keep.insert(key);
    }
    for kind in Kind::OWNED {
        let Some(cache) = world.owned.get(&kind) else {
            continue;
        };
        for (key, live) in cache.iter() {
            let id = id_of(kind, key);
            if !keep.contains(&id) && is_ours(live) && live.metadata.deletion_timestamp.is_none() {
                plan.delete.push(Delete {
                    id,
                    uid: live.metadata.uid.clone(),
                });
            }
        }
    }
    plan
}

/// A workload with its ServiceAccount's UID on its pods; `None` while there is no such account. Other objects as they are.
fn for_account(world: &World, id: &ObjectId, mut body: Value) -> Option<Value> {
    if !matches!(id.kind, Kind::Deployment | Kind::DaemonSet) {
        return Some(body);
    }
    let template = &mut body["spec"]["template"];
    let account = ObjectId {
        kind: Kind::ServiceAccount,
        namespace: id.namespace.clone(),
        name: template["spec"]["serviceAccountName"].as_str()?.to_owned(),
    };
    let live = world.live(&account)?;
    let uid = live.metadata.uid.clone()?;
    if live.metadata.deletion_timestamp.is_some() {
        return None;
    }
    template["metadata"]["annotations"][annotations::SERVICE_ACCOUNT_UID] = uid.into();
    Some(body)
}

/// The Secret with the membership key.
pub(crate) fn key_id(namespace: &str) -> ObjectId {
    ObjectId {
        kind: Kind::Secret,
        namespace: Some(namespace.into()),
        name: objects::MEMBERLIST_SECRET.into(),
    }
}

/// What the Secret lacks that it was made with.
fn repair_key(world: &World, live: &DynamicObject, installation: &Installation) -> Option<KeyRepair> {
    let Installer::Operator { uid, .. } = &installation.installer else {
        return None;
    };
    // Only its metadata counts here.
    let wanted = memberlist_secret(installation, [0; KEY_BYTES]).metadata;
    let wanted = serde_json::to_value(wanted).unwrap_or_default();
    world.keys.repair(live, uid, &wanted)
}

/// Whether the operator made the object. The watches select by label already but for the Secret, which is watched by name.
pub(crate) fn is_ours(live: &DynamicObject) -> bool {
    made_for(live).is_some()
}

/// Whether the operator made the object for the resource with this UID.
pub(crate) fn is_made_for(live: &DynamicObject, uid: &str) -> bool {
    made_for(live) == Some(uid)
}

fn made_for(live: &DynamicObject) -> Option<&str> {
    let labels = live.metadata.labels.as_ref()?;
    let is_ours = labels
        .get(labels::MANAGED_BY)
        .is_some_and(|by| by == labels::MANAGED_BY_OPERATOR);
    let uid = labels.get(labels::METALLB_UID).filter(|_| is_ours)?;
    Some(uid)
}

/// The object as JSON, which comparing needs. Items of a list come without their type, which is known from the watch.
pub(crate) fn value(kind: Kind, live: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(live).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".into(), kind.api_version().into());
        object.insert("kind".into(), kind.name().into());
    }
    value
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
