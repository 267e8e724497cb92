//! `config/manifests` and the kustomizations beside it: what `kubectl apply` installs without Helm and OLM.
//!
//! An installation without the operator exists under the names of every time: `namespace.yaml` and `metallb.yaml` (tutorials of
//! v0.3 to v0.12), `metallb-native.yaml`, `metallb-frr.yaml` and `metallb-frr-k8s.yaml` (since v0.13), each of these also with
//! what the Prometheus operator needs. The flavours differ in one variable.

use crate::{
    generate::{Files, header},
    release::Release,
};
use anyhow::Context as _;
use metallb_api::{
    MetalLBSpec, crd,
    metallb::{MetricsConfig, Monitor, PrometheusAccount},
    names::{env, labels, objects},
    yaml,
};
use metallb_render::{Installation, Installer, Object, Ports, operands, operator};
use serde_json::{Value, json};

/// Flavours of BGP that are manifests of their own, as their file names have them.
const FLAVOURS: [&str; 3] = ["native", "frr", "frr-k8s"];

/// Directories that this module fills, and nobody else.
pub(crate) const DIRECTORIES: [&str; 9] = [
    "config/manifests",
    "config/native",
    "config/frr",
    "config/frr-k8s",
    "config/frr-k8s-external",
    "config/prometheus",
    "config/prometheus-native",
    "config/prometheus-frr",
    "config/prometheus-frr-k8s",
];

/// All files below [`DIRECTORIES`].
pub(crate) fn manifests(release: &Release) -> anyhow::Result<Files> {
    let by_hand = Installation {
        namespace: objects::DEFAULT_NAMESPACE.into(),
        images: release.operands(),
        ports: Ports::default(),
        installer: Installer::Manifests,
    };
    let mut files = kustomizations()?;
    let mut manifest = |name: &str, about: &str, objects: &[Value]| -> anyhow::Result<()> {
        let text = header("manifests") + about + &yaml::to_string_all(objects)?;
        files.insert(format!("config/manifests/{name}.yaml"), text);
        Ok(())
    };
    manifest(
        "metallb-operator",
        "# The operator. What it should run is said by a MetalLB resource: config/samples/metallb.yaml.\n",
        &with_operator(release)?,
    )?;
    manifest(
        "namespace",
        "# The namespace alone, for those who install in two steps. metallb.yaml holds it too.\n",
        &[namespace()],
    )?;
    manifest(
        "metallb",
        &format!(
            "# Controller and speakers without the operator, under the name of releases up to v0.12.\n{IDLE}"
        ),
        &without_operator(&spec("native"), &by_hand)?,
    )?;
    for flavour in FLAVOURS {
        let about = about(flavour);
        let spec = spec(flavour);
        manifest(
            &format!("metallb-{flavour}"),
            &about,
            &without_operator(&spec, &by_hand)?,
        )?;
        manifest(
            &format!("metallb-{flavour}-prometheus"),
            &format!("{about}{SCRAPED}"),
            &without_operator(&scraped(spec), &by_hand)?,
        )?;
    }
    let plain = operands(&spec("native"), &by_hand);
    let monitors: Vec<Value> = operands(&scraped(spec("native")), &by_hand)
        .iter()
        .filter(|object| !plain.contains(object))
        .map(Object::to_value)
        .collect();
    files.insert(
        "config/prometheus/monitors.yaml".into(),
        header("manifests") + SCRAPED + &yaml::to_string_all(&monitors)?,
    );
    Ok(files)
}

const IDLE: &str = "# It stays idle until it is told which addresses it may give away: config/samples/pool.yaml, l2-advertisement.yaml.\n";
const SCRAPED: &str = "# With ServiceMonitors for the Prometheus operator, which must be installed before, and rights for the account\n\
     # prometheus-k8s in namespace monitoring.\n";

fn about(flavour: &str) -> String {
    let engine = match flavour {
        "native" => String::new(),
        other => format!(
            "# BGP is spoken by the speakers themselves, as in all of these manifests: no FRR runs beside them. {other} selects what\n\
             # users of that mode see: its default LOCAL_PREF and the names of its metrics.\n"
        ),
    };
    format!("# Controller and speakers without the operator.\n{engine}{IDLE}")
}

fn with_operator(release: &Release) -> anyhow::Result<Vec<Value>> {
    let namespace = objects::DEFAULT_NAMESPACE;
    let mut objects = operator::objects(
        namespace,
        release.tag(),
        release.image("operator"),
        &release.operands(),
    );
    let rest = objects.split_off(1);
    let mut all = values(&objects);
    all.extend(definitions(&crd::all())?);
    all.extend(values(&rest));
    Ok(all)
}

fn spec(flavour: &str) -> MetalLBSpec {
    MetalLBSpec {
        bgp_backend: flavour.into(),
        ..Default::default()
    }
}

/// With what the Prometheus operator needs, for the account that kube-prometheus runs Prometheus with.
fn scraped(spec: MetalLBSpec) -> MetalLBSpec {
    MetalLBSpec {
        metrics: Some(MetricsConfig {
            monitor: Some(Monitor::ServiceMonitor),
            interval: "30s".into(),
            prometheus: Some(PrometheusAccount {
                service_account: "prometheus-k8s".into(),
                namespace: "monitoring".into(),
            }),
            ..Default::default()
        }),
        ..spec
    }
}

fn without_operator(spec: &MetalLBSpec, installation: &Installation) -> anyhow::Result<Vec<Value>> {
    let mut all = vec![namespace()];
    all.extend(definitions(&crd::operands())?);
    all.extend(values(&operands(spec, installation)));
    Ok(all)
}

/// The namespace, with the label that manifests of v0.9 put on it.
fn namespace() -> Value {
    let mut namespace = operator::namespace(objects::DEFAULT_NAMESPACE);
    namespace
        .metadata
        .labels
        .get_or_insert_default()
        .insert(labels::APP.into(), labels::APP_METALLB.into());
    Object::Namespace(namespace).to_value()
}

fn values(objects: &[Object]) -> Vec<Value> {
    objects.iter().map(Object::to_value).collect()
}

fn definitions<T: serde::Serialize>(crds: &[T]) -> anyhow::Result<Vec<Value>> {
    crds.iter()
        .map(|crd| serde_json::to_value(crd).context("a definition is no JSON"))
        .collect()
}

/// Bases for `kubectl apply -k`, under the names that MetalLB's have. Each renders what the manifest of the same name holds.
fn kustomizations() -> anyhow::Result<Files> {
    let mut files = Files::new();
    let mut add = |directory: &str, about: &str, resources: &[&str], more: Value| -> anyhow::Result<()> {
        let mut kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": resources,
        });
        if !more.is_null() {
            kustomization["patches"] = more;
        }
        let text = format!(
            "{}# {about}\n{}",
            header("manifests"),
            yaml::to_string(&kustomization)?
        );
        files.insert(format!("config/{directory}/kustomization.yaml"), text);
        Ok(())
    };
    // Kustomize reads files of its own directory only, so the first one is where the manifest is.
    add(
        "manifests",
        "The installation without the operator, as config/native.",
        &["metallb-native.yaml"],
        Value::Null,
    )?;
    add(
        "native",
        "Controller and speakers without the operator.",
        &["../manifests"],
        Value::Null,
    )?;
    for flavour in ["frr", "frr-k8s"] {
        let about = format!("As config/native, with what users of the {flavour} mode see of BGP.");
        add(flavour, &about, &["../native"], flavour_patches(flavour)?)?;
    }
    add(
        "frr-k8s-external",
        "The same as config/frr-k8s: there is no frr-k8s beside the speakers.",
        &["../frr-k8s"],
        Value::Null,
    )?;
    add(
        "prometheus",
        "What the Prometheus operator needs, to be added to one of the others.",
        &["monitors.yaml"],
        Value::Null,
    )?;
    for flavour in FLAVOURS {
        let about = format!("As config/{flavour}, scraped by the Prometheus operator.");
        add(
            &format!("prometheus-{flavour}"),
            &about,
            &[&format!("../{flavour}"), "../prometheus"],
            Value::Null,
        )?;
    }
    Ok(files)
}

/// Strategic merge patches: lists of containers and variables are merged by their names.
fn flavour_patches(flavour: &str) -> anyhow::Result<Value> {
    let patch = |kind: &str, name: &str| -> anyhow::Result<Value> {
        let container = json!({"name": name, "env": [{"name": env::BGP_TYPE, "value": flavour}]});
        let patch = json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": objects::DEFAULT_NAMESPACE},
            "spec": {"template": {"spec": {"containers": [container]}}},
        });
        Ok(json!({"patch": yaml::to_string(&patch)?}))
    };
    Ok(json!([
        patch("Deployment", objects::CONTROLLER)?,
        patch("DaemonSet", objects::SPEAKER)?,
    ]))
}
