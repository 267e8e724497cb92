//! Tests of [`super`].

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
    let secret = memberlist_secret(&desired.installation, [7; KEY_BYTES]);
    put(&mut world, Kind::Secret, serde_json::to_value(secret).unwrap());
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
fn a_secret_that_lost_its_key_is_repaired_and_not_made_anew() {
    let desired = desired(json!({}));
    let mut world = settled_world(&desired);
    let mut secret = memberlist_secret(&desired.installation, [7; KEY_BYTES]);
    secret.data = None;
    put(&mut world, Kind::Secret, serde_json::to_value(secret).unwrap());
    let found = plan(&world, Some(&desired), &BTreeMap::new());
    assert!(!found.create_key);
    assert!(found.repair_key.unwrap().lacks_key);
    assert!(world.keys.last("metallb-system", "u").is_some());
}

#[test]
fn a_value_that_is_only_written_otherwise_is_no_repair() {
    let body = json!({"kind": "DaemonSet", "spec": {"cpu": "0.5", "replicas": 1}});
    let live = |cpu: &str, replicas: i32| -> DynamicObject {
        serde_json::from_value(json!({"metadata": {}, "spec": {"cpu": cpu, "replicas": replicas}})).unwrap()
    };
    let apply = |before: &DynamicObject| Apply {
        id: ObjectId {
            kind: Kind::DaemonSet,
            namespace: None,
            name: "n".into(),
        },
        body: body.clone(),
        differences: drift::differences(&body, &value(Kind::DaemonSet, before)),
    };
    let after = live("500m", 1);
    assert!(apply(&live("500m", 1)).repaired(&after).is_empty());
    let paths: Vec<String> = apply(&live("9", 2))
        .repaired(&after)
        .iter()
        .map(|difference| difference.path.clone())
        .collect();
    assert_eq!(paths, ["spec.cpu", "spec.replicas"]);
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

#[test]
fn an_object_is_told_by_both_its_marks() {
    let object = |labels: Value| -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap()
    };
    let ours =
        object(json!({"app.kubernetes.io/managed-by": "metallb-operator", "metallb.io/metallb-uid": "u"}));
    assert!(is_ours(&ours) && is_made_for(&ours, "u") && !is_made_for(&ours, "another"));
    assert!(!is_ours(&object(json!({"metallb.io/metallb-uid": "u"}))));
    assert!(!is_ours(&object(
        json!({"app.kubernetes.io/managed-by": "metallb-operator"})
    )));
}
