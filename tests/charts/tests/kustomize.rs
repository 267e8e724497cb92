//! What `kubectl kustomize` makes of the kustomizations beside the plain manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use metallb_api::yaml;
use metallb_charts::{by_id, root};
use metallb_e2e::{Progress, build};
use serde_json::{Value, json};

fn kustomize(directory: &str) -> BTreeMap<String, Value> {
    let kubectl = build::ensure(&Progress::start())
        .unwrap()
        .kubernetes
        .join("kubectl");
    let output = Command::new(kubectl)
        .args(["kustomize", directory])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Warnings too: a kustomization with a deprecated field is no example.
    assert!(output.status.success() && said.is_empty(), "{directory}: {said}");
    objects(&String::from_utf8(output.stdout).unwrap())
}

fn objects(text: &str) -> BTreeMap<String, Value> {
    let mut objects = by_id(yaml::from_str_all(text).unwrap());
    for object in objects.values_mut() {
        // A merged variable comes first, or last; the order means nothing, because none refers to another.
        if let Some(env) = object.pointer_mut("/spec/template/spec/containers/0/env") {
            env.as_array_mut()
                .unwrap()
                .sort_by_key(|variable| variable["name"].to_string());
        }
    }
    objects
}

/// Where two objects differ first. A number is the same whether it is written 32 or 32.0.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let of =
                |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or_default();
            keys.into_iter()
                .find_map(|key| first_difference(&format!("{path}.{key}"), &of(a, key), &of(b, key)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| first_difference(&format!("{path}[{i}]"), a, b))
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        _ if a == b => None,
        _ => Some(format!("{path} is {a}, not {b}")),
    }
}

#[test]
#[ignore = "runs kubectl"]
fn a_kustomization_makes_what_the_manifest_of_its_name_holds() {
    for (directory, manifest) in [
        ("manifests", "metallb"),
        ("native", "metallb-native"),
        ("frr", "metallb-frr"),
        ("frr-k8s", "metallb-frr-k8s"),
        ("frr-k8s-external", "metallb-frr-k8s"),
        ("prometheus-native", "metallb-native-prometheus"),
        ("prometheus-frr", "metallb-frr-prometheus"),
        ("prometheus-frr-k8s", "metallb-frr-k8s-prometheus"),
    ] {
        let text = std::fs::read_to_string(root().join(format!("config/manifests/{manifest}.yaml"))).unwrap();
        let (made, held) = (kustomize(&format!("config/{directory}")), objects(&text));
        let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&made), names(&held), "config/{directory}");
        for (id, wanted) in &held {
            let difference = first_difference("", &made[id], wanted);
            assert_eq!(difference, None, "config/{directory}: {id}");
        }
    }
}

/// Somebody who keeps a kustomization of their own changes the namespace and the images in it.
#[test]
#[ignore = "runs kubectl"]
fn an_overlay_moves_everything_into_another_namespace() {
    // Kustomize takes relative paths only.
    let dir = root().join(format!("target/kustomize-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "lb",
        "resources": ["../../config/native"],
        "images": [{"name": "quay.io/metallb-rs/speaker", "newName": "registry.example.org/speaker", "newTag": "v9"}],
    });
    std::fs::write(dir.join("kustomization.yaml"), yaml::to_string(&overlay).unwrap()).unwrap();
    let made = kustomize(&dir.display().to_string());
    std::fs::remove_dir_all(&dir).unwrap();
    for (id, object) in &made {
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace == "lb", "{id} is in {namespace}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "lb", "{id}");
        }
    }
    assert!(made.contains_key("Namespace lb"), "{:?}", made.keys());
    let speaker = &made["DaemonSet speaker"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(speaker["image"], "registry.example.org/speaker:v9");
}
