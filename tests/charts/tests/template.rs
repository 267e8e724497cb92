//! What Helm makes of the chart. These tests run Helm itself, which is built when it is not in the cache: the lane `charts`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use metallb_api::yaml;
use metallb_charts::{CHART, Helm, by_id, native, normalised, root};
use serde_json::{Value, json};

fn chart() -> String {
    root().join(CHART).display().to_string()
}

fn values() -> PathBuf {
    root().join("tests/charts/tests/values")
}

/// The chart's objects under the names of the plain manifests.
fn renamed(object: &Value) -> Value {
    let text = object
        .to_string()
        .replace("\"metallb:controller\"", "\"metallb-system:controller\"")
        .replace("\"metallb:speaker\"", "\"metallb-system:speaker\"")
        .replace("\"metallb-controller\"", "\"controller\"")
        .replace("\"metallb-speaker\"", "\"speaker\"")
        .replace(
            "app.kubernetes.io/name=metallb,app.kubernetes.io/instance=metallb,app.kubernetes.io/component=speaker",
            "app=metallb,component=speaker",
        );
    let mut object: Value = serde_json::from_str(&text).unwrap();
    if object["kind"] == "CustomResourceDefinition" {
        let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
        assert_eq!(annotations.remove("helm.sh/resource-policy"), Some(json!("keep")));
        if annotations.is_empty() {
            object["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    object
}

#[test]
#[ignore = "runs Helm"]
fn the_chart_installs_what_the_plain_manifest_does() {
    let helm = Helm::new().unwrap();
    let rendered = helm
        .template("metallb-system", &["--set", "frrk8s.enabled=false"])
        .unwrap();
    let rendered = by_id(rendered.iter().map(renamed).map(normalised).collect());
    let mut manifest = by_id(native(&root()).unwrap().into_iter().map(normalised).collect());
    // A release's namespace is the user's, or made by --create-namespace.
    manifest.remove("Namespace metallb-system").unwrap();
    let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&rendered), names(&manifest));
    for (id, wanted) in &manifest {
        let found = &rendered[id];
        assert!(
            found == wanted,
            "{id} differs.\nconfig/manifests:\n{}\nchart:\n{}",
            yaml::to_string(wanted).unwrap(),
            yaml::to_string(found).unwrap()
        );
    }
}

/// What `helm template` renders with the values of each file under `tests/values`: all objects of the first one, `default`, and
/// what differs from it for the others. The CRDs are the same in all.
#[test]
#[ignore = "runs Helm"]
fn what_the_values_make() {
    let helm = Helm::new().unwrap();
    let render = |name: &str| {
        let file = values().join(format!("{name}.yaml")).display().to_string();
        let objects = helm.template("metallb-system", &["-f", &file]);
        let objects = objects.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let mut objects = by_id(objects);
        objects.retain(|id, _| !id.starts_with("CustomResourceDefinition "));
        for (id, object) in &mut objects {
            // Generated, and compared with the manifest's by another test.
            if id.contains("Role ") && !id.ends_with("-prometheus") {
                object["rules"] = json!("generated");
            }
        }
        objects
    };
    let mut names: Vec<String> = fs::read_dir(values())
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .filter(|name| name != "default")
        .collect();
    names.sort();
    let default = render("default");
    insta::assert_snapshot!("default", text(default.values()));
    for name in names {
        let rendered = render(&name);
        let mut shown = String::new();
        for id in default.keys().filter(|id| !rendered.contains_key(*id)) {
            writeln!(shown, "# gone: {id}").unwrap();
        }
        let changed = rendered
            .iter()
            .filter(|(id, object)| default.get(*id) != Some(object));
        shown += &text(changed.map(|(_, object)| object));
        insta::assert_snapshot!(name, shown);
    }
}

fn text<'a>(objects: impl Iterator<Item = &'a Value>) -> String {
    yaml::to_string_all(&objects.collect::<Vec<_>>()).unwrap()
}

#[test]
#[ignore = "runs Helm"]
fn wrong_values_are_refused_with_a_sentence() {
    let helm = Helm::new().unwrap();
    let cases: [(&str, &[&str]); 9] = [
        (
            "speaker.frr.enabled=true",
            &["speaker.frr.enabled", "frrk8s.enabled", "choose one"],
        ),
        ("frrk8s.external=true", &["frrk8s.external", "choose one"]),
        ("controller.logLevel=loud", &["controller", "logLevel", "debug"]),
        ("speaker.memberlist.mlBindPort=seven", &["mlBindPort", "integer"]),
        ("imagePullSecrets[0].nam=x", &["imagePullSecrets", "nam"]),
        (
            "controller.image.repository=quay.io/metallb/controller",
            &["quay.io/metallb-rs/controller"],
        ),
        ("existingConfigMap=mine", &["existingConfigMap", "configInline"]),
        (
            "prometheus.podMonitor.enabled=true",
            &["prometheus.serviceAccount"],
        ),
        (
            "prometheus.podMonitor.enabled=true,prometheus.serviceMonitor.enabled=true",
            &["podMonitor", "serviceMonitor", "choose one"],
        ),
    ];
    for (set, words) in cases {
        let output = helm
            .output(&["template", "metallb", &chart(), "--set", set])
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{set} was taken");
        for word in words {
            assert!(said.contains(word), "{set}: no word about {word} in {said}");
        }
    }
}

#[test]
#[ignore = "runs Helm"]
fn lint_finds_nothing() {
    let helm = Helm::new().unwrap();
    helm.run(&["lint", "--strict", &chart()]).unwrap();
    for entry in fs::read_dir(values()).unwrap() {
        let file = entry.unwrap().path().display().to_string();
        helm.run(&["lint", "--strict", &chart(), "-f", &file]).unwrap();
    }
}

/// MetalLB's own chart, read from its Go module: every one of its values is taken, and what is in place after an upgrade keeps
/// its name and its selector.
#[test]
#[ignore = "runs Helm, and reads a Go module"]
fn an_installation_of_metallbs_chart_can_be_upgraded() {
    let helm = Helm::new().unwrap();
    let theirs = metallb_charts::metallb_chart().unwrap();
    let keys: Value = yaml::from_str(&fs::read_to_string(theirs.join("values.yaml")).unwrap()).unwrap();
    let file = theirs.join("values.yaml").display().to_string();
    let images = "controller.image.repository=a/controller,speaker.image.repository=a/speaker";
    let ours = by_id(
        helm.template("metallb-system", &["-f", &file, "--set", images])
            .unwrap(),
    );
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(root().join(CHART).join("values.schema.json")).unwrap())
            .unwrap();
    let mut unknown = Vec::new();
    unknown_keys("", &keys, &schema, &schema, &mut unknown);
    assert!(unknown.is_empty(), "the schema has no word about {unknown:?}");

    let theirs = by_id(helm.template_of(&theirs, "metallb-system", &[]).unwrap());
    for id in ["Deployment metallb-controller", "DaemonSet metallb-speaker"] {
        assert_eq!(
            ours[id]["spec"]["selector"], theirs[id]["spec"]["selector"],
            "{id}"
        );
    }
    for id in [
        "ServiceAccount metallb-controller",
        "ServiceAccount metallb-speaker",
        "ClusterRole metallb:controller",
        "ClusterRoleBinding metallb:speaker",
        "ConfigMap metallb-excludel2",
    ] {
        assert!(ours.contains_key(id) && theirs.contains_key(id), "{id}");
    }
    // References of bindings are immutable too.
    for (id, object) in ours.iter().filter(|(id, _)| id.contains("Binding ")) {
        if let Some(before) = theirs.get(id) {
            assert_eq!(object["roleRef"], before["roleRef"], "{id}");
        }
    }
}

/// Keys of values that the schema does not name. What is below a free-form object or a list is the user's.
fn unknown_keys(path: &str, values: &Value, schema: &Value, root: &Value, unknown: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(pointer) => root.pointer(pointer.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let (Some(fields), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else {
        return;
    };
    for (key, value) in fields {
        let path = format!("{path}.{key}");
        match properties.get(key) {
            Some(schema) => unknown_keys(&path, value, schema, root, unknown),
            None => unknown.push(path),
        }
    }
}
