//! What has to be written, decided from what was seen.

use crate::{
    drift::{self, Difference},
    world::{World, id_of},
};
use kube::core::DynamicObject;
use metallb_api::{
    MetalLBSpec,
    names::{annotations, objects},
};
use metallb_render::{Installation, Kind, ObjectId, operands};
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
    pub(crate) delete: Vec<Delete>,
}

/// What an apply left different, because the API server writes a value in another way (`0.5` as `500m`) or drops a field that
/// it does not know. Applying again would change nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    body: Value,
    residue: Vec<Difference>,
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
            // The event that shows the account starts the next pass.
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
        plan.create_key = world.live(&key).is_none();
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

/// Whether the operator made the object. The watches select by label already but for the Secret, which is watched by name.
fn is_ours(live: &DynamicObject) -> bool {
    use metallb_api::names::labels;
    live.metadata.labels.as_ref().is_some_and(|labels| {
        labels
            .get(labels::MANAGED_BY)
            .is_some_and(|by| by == labels::MANAGED_BY_OPERATOR)
            && labels.contains_key(labels::METALLB_UID)
    })
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
mod tests {
    use super::*;
    use crate::world::Input;
    use metallb_kubeio::Event;
    use metallb_render::{Images, Installer, Ports};
    use serde_json::json;

    fn desired(spec: Value) -> Desired {
        Desired {
            spec: serde_json::from_value(spec).unwrap(),
            installation: Installation {
                namespace: "metallb-system".into(),
                images: Images {
                    controller: "c:1".into(),
                    speaker: "s:1".into(),
                },
                ports: Ports::default(),
                installer: Installer::Operator {
                    uid: "u".into(),
                    namespace_uid: "n".into(),
                    speaker_secrets: BTreeSet::new(),
                },
            },
        }
    }

    fn put(world: &mut World, kind: Kind, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        world.take(Input::Owned(kind, Event::Apply(object)));
    }

    /// A world in which everything that is wanted exists as applied, defaults of the API server included.
    fn settled_world(desired: &Desired) -> World {
        let mut world = World::default();
        for (i, object) in operands(&desired.spec, &desired.installation).iter().enumerate() {
            let body = for_account(&world, &object.id(), object.to_value()).expect("accounts come first");
            let mut body = drift::with_digest(body);
            // As an item of a list.
            body.as_object_mut()
                .unwrap()
                .retain(|field, _| field != "apiVersion" && field != "kind");
            body["metadata"]["uid"] = format!("uid-{i}").into();
            body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
            put(&mut world, object.kind(), body);
        }
        put(
            &mut world,
            Kind::Secret,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "metallb-memberlist", "namespace": "metallb-system",
                "labels": {"app.kubernetes.io/managed-by": "metallb-operator", "metallb.io/metallb-uid": "u"}}}),
        );
        world
    }

    fn names(plan: &Plan) -> (Vec<String>, Vec<String>) {
        (
            plan.apply.iter().map(|a| a.id.to_string()).collect(),
            plan.delete.iter().map(|d| d.id.to_string()).collect(),
        )
    }

    #[test]
    fn an_empty_cluster_gets_everything_and_a_settled_one_nothing() {
        let desired = desired(json!({}));
        let all = plan(&World::default(), Some(&desired), &BTreeMap::new());
        // The two workloads wait for their accounts.
        assert_eq!(
            all.apply.len(),
            operands(&desired.spec, &desired.installation).len() - 2
        );
        assert!(all.create_key);
        assert_eq!(
            plan(&settled_world(&desired), Some(&desired), &BTreeMap::new()),
            Plan::default()
        );
    }

    #[test]
    fn drift_is_found_and_named() {
        let desired = desired(json!({}));
        let mut world = settled_world(&desired);
        let id = ObjectId {
            kind: Kind::DaemonSet,
            namespace: Some("metallb-system".into()),
            name: "speaker".into(),
        };
        let mut edited = value(id.kind, world.live(&id).unwrap());
        edited["spec"]["template"]["spec"]["hostNetwork"] = false.into();
        put(&mut world, Kind::DaemonSet, edited);
        let found = plan(&world, Some(&desired), &BTreeMap::new());
        assert_eq!(names(&found).0, ["DaemonSet metallb-system/speaker"]);
        assert_eq!(
            found.apply[0].differences[0].path,
            "spec.template.spec.hostNetwork"
        );
    }

    #[test]
    fn a_setting_that_is_taken_back_is_found_by_the_digest() {
        let before = desired(json!({"speakerConfig": {"annotations": {"a": "b"}}}));
        let found = plan(
            &settled_world(&before),
            Some(&desired(json!({}))),
            &BTreeMap::new(),
        );
        assert_eq!(names(&found).0, ["DaemonSet metallb-system/speaker"]);
    }

    #[test]
    fn a_value_that_the_api_server_writes_otherwise_is_applied_once() {
        let desired = desired(json!({"speakerConfig": {"resources": {"limits": {"cpu": "0.5"}}}}));
        let mut world = settled_world(&desired);
        let id = ObjectId {
            kind: Kind::DaemonSet,
            namespace: Some("metallb-system".into()),
            name: "speaker".into(),
        };
        let mut canonical = value(id.kind, world.live(&id).unwrap());
        canonical["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "500m".into();
        put(&mut world, Kind::DaemonSet, canonical.clone());
        let first = plan(&world, Some(&desired), &BTreeMap::new());
        assert_eq!(first.apply.len(), 1);

        let live = world.live(&id).unwrap();
        let settled = BTreeMap::from([(id.clone(), Settled::after(&first.apply[0], live).unwrap())]);
        assert_eq!(plan(&world, Some(&desired), &settled), Plan::default());

        canonical["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "9".into();
        put(&mut world, Kind::DaemonSet, canonical);
        assert_eq!(
            plan(&world, Some(&desired), &settled).apply.len(),
            1,
            "an edit is seen all the same"
        );
    }

    #[test]
    fn pods_are_rolled_when_their_account_was_made_anew() {
        let desired = desired(json!({}));
        let mut world = settled_world(&desired);
        put(
            &mut world,
            Kind::ServiceAccount,
            json!({"metadata": {"name": "speaker", "namespace": "metallb-system", "uid": "another",
                "labels": {"app.kubernetes.io/managed-by": "metallb-operator", "metallb.io/metallb-uid": "u"}}}),
        );
        let found = plan(&world, Some(&desired), &BTreeMap::new());
        let rolled = found
            .apply
            .iter()
            .find(|apply| apply.id.kind == Kind::DaemonSet)
            .expect("the speakers are rolled");
        assert_eq!(
            rolled.body["spec"]["template"]["metadata"]["annotations"][annotations::SERVICE_ACCOUNT_UID],
            "another"
        );
        assert!(
            !found.apply.iter().any(|apply| apply.id.kind == Kind::Deployment),
            "the controller is not"
        );
    }

    #[test]
    fn without_a_ruler_everything_of_ours_goes_workloads_first() {
        let before = desired(json!({}));
        let mut world = settled_world(&before);
        put(
            &mut world,
            Kind::Secret,
            json!({"metadata": {"name": "metallb-memberlist", "namespace": "someone-elses"}}),
        );
        let found = plan(&world, None, &BTreeMap::new());
        let (_, deleted) = names(&found);
        assert_eq!(
            deleted[..2],
            [
                "DaemonSet metallb-system/speaker",
                "Deployment metallb-system/controller"
            ]
        );
        assert!(deleted.contains(&"ClusterRole metallb-system:speaker".to_owned()));
        assert!(!deleted.iter().any(|name| name.contains("someone-elses")));
        assert!(found.apply.is_empty() && !found.create_key);
    }

    #[test]
    fn what_the_cluster_does_not_know_is_left_out_until_it_does() {
        let desired = desired(json!({"metrics": {"monitor": "ServiceMonitor"}}));
        let mut world = World::default();
        world.take(Input::NotServed("servicemonitors"));
        let monitors = |world: &World| {
            let found = plan(world, Some(&desired), &BTreeMap::new());
            let (applied, _) = names(&found);
            applied
                .iter()
                .filter(|name| name.starts_with("ServiceMonitor"))
                .count()
        };
        assert_eq!(monitors(&world), 0);
        world.take(Input::Works("servicemonitors"));
        assert_eq!(monitors(&world), 2);
    }

    #[test]
    fn what_a_setting_brought_goes_with_it() {
        let with = desired(
            json!({"metrics": {"monitor": "ServiceMonitor", "alerts": {"enabled": true}}, "networkPolicies": {"enabled": true}}),
        );
        let found = plan(&settled_world(&with), Some(&desired(json!({}))), &BTreeMap::new());
        let (applied, deleted) = names(&found);
        assert_eq!(applied, Vec::<String>::new());
        assert_eq!(
            deleted,
            [
                "ServiceMonitor metallb-system/controller-monitor",
                "ServiceMonitor metallb-system/speaker-monitor",
                "PrometheusRule metallb-system/metallb-alerts",
                "Service metallb-system/controller-monitor-service",
                "Service metallb-system/speaker-monitor-service",
                "NetworkPolicy metallb-system/controller",
            ]
        );
    }

    #[test]
    fn what_a_former_ruler_left_is_pruned() {
        let mut world = settled_world(&desired(json!({})));
        let mut moved = desired(json!({}));
        moved.installation.namespace = "elsewhere".into();
        let found = plan(&world, Some(&moved), &BTreeMap::new());
        let all = operands(&moved.spec, &moved.installation).len();
        assert_eq!(
            found.apply.len(),
            all - 2,
            "the workloads wait for their accounts"
        );
        assert_eq!(found.delete.len(), all + 1, "and its key");
        assert!(found.create_key);

        let id = ObjectId {
            kind: Kind::ConfigMap,
            namespace: Some("metallb-system".into()),
            name: "old".into(),
        };
        put(
            &mut world,
            Kind::ConfigMap,
            json!({"metadata": {"name": "old", "namespace": "metallb-system", "uid": "x",
                "labels": {"app.kubernetes.io/managed-by": "metallb-operator", "metallb.io/metallb-uid": "u"}}}),
        );
        let found = plan(&world, Some(&desired(json!({}))), &BTreeMap::new());
        assert_eq!(
            found.delete,
            [Delete {
                id,
                uid: Some("x".into())
            }]
        );
    }
}
