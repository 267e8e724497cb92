//! The operator: what it repairs, what it leaves alone, what it says, and how it goes.

mod audit;
mod conditions;
mod drift;
mod quiet;
mod removal;
mod rights;

pub use conditions::conditions;
pub use drift::{drift, soak};
pub use quiet::quiet;
pub use removal::removal;
pub use rights::rights;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::install::{NAMESPACE, wait_available};
use crate::{
    Cluster,
    checkout::root,
    figures::{self, Entry},
    wait_for,
};

/// Label of everything that the operator made.
const OWNED: &str = "metallb.io/metallb-uid";
/// Kinds that the operator makes objects of, as kubectl calls them.
const KINDS: [&str; 14] = [
    "configmaps",
    "secrets",
    "services",
    "networkpolicies.networking.k8s.io",
    "servicemonitors.monitoring.coreos.com",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "serviceaccounts",
    "deployments.apps",
    "daemonsets.apps",
];

/// Kind and name of an object, and its namespace if it has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    kind: &'static str,
    namespace: Option<String>,
    name: String,
}

impl Id {
    /// Arguments for kubectl: `KIND NAME -n NAMESPACE`.
    fn args(&self) -> Vec<&str> {
        let mut args = vec![self.kind, self.name.as_str()];
        if let Some(namespace) = &self.namespace {
            args.extend(["-n", namespace]);
        }
        args
    }

    fn get(&self, cluster: &Cluster) -> Result<Value> {
        cluster.kubectl_json(&[&["get"], &self.args()[..]].concat())
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.namespace.as_deref().unwrap_or("cluster");
        write!(f, "{} {place}/{}", self.kind, self.name)
    }
}

/// Everything that carries the operator's label, in the order of [`KINDS`]. Kinds that the cluster does not know have nothing.
fn owned(cluster: &Cluster) -> Result<BTreeMap<Id, Value>> {
    let mut all = BTreeMap::new();
    for kind in KINDS {
        let output = cluster.kubectl_output(&["get", kind, "-A", "-l", OWNED, "-o", "json"])?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(
                words.contains("the server doesn't have a resource type"),
                "kubectl get {kind}: {words}"
            );
            continue;
        }
        let list: Value = serde_json::from_slice(&output.stdout).with_context(|| kind.to_owned())?;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |field: &str| item["metadata"][field].as_str().map(str::to_owned);
            let id = Id {
                kind,
                namespace: text("namespace"),
                name: text("name").unwrap_or_default(),
            };
            all.insert(id, item.clone());
        }
    }
    Ok(all)
}

/// The definitions of the Prometheus operator, as far as an API server needs them to store its objects.
fn monitoring_definitions() -> String {
    let one = |kind: &str, plural: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
                }],
            },
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        one("ServiceMonitor", "servicemonitors"),
        one("PodMonitor", "podmonitors"),
        one("PrometheusRule", "prometheusrules"),
    ]})
    .to_string()
}

/// Changes the spec of the `MetalLB` resource by a merge patch.
pub(super) fn configure(cluster: &Cluster, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    let patch = [
        "patch",
        "metallb",
        "-n",
        NAMESPACE,
        "metallb",
        "--type=merge",
        "-p",
        &patch,
    ];
    cluster.kubectl(&patch).map(drop)
}

/// The `MetalLB` resource.
pub(super) fn metallb(cluster: &Cluster) -> Result<Value> {
    cluster.kubectl_json(&["get", "metallb", "-n", NAMESPACE, "metallb"])
}

/// Waits until the operator has nothing to do any more: Available, and no owned object has changed for a while.
fn settled(cluster: &Cluster) -> Result<()> {
    wait_available(cluster, Duration::from_secs(120))?;
    let mut last = versions(cluster)?;
    let mut since = std::time::Instant::now();
    wait_for(
        "everything of the operator's to stay as it is for 5 s",
        Duration::from_secs(120),
        || {
            let now = versions(cluster)?;
            if now != last {
                last = now;
                since = std::time::Instant::now();
            }
            Ok((since.elapsed() >= Duration::from_secs(5)).then_some(()))
        },
    )
}

/// The resourceVersion of every owned object, of the `MetalLB` resource and of everything in MetalLB's own group.
fn versions(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let version = |object: &Value| {
        object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let mut all: BTreeMap<_, _> = owned(cluster)?
        .iter()
        .map(|(id, object)| (id.to_string(), version(object)))
        .collect();
    let ours = "metallbs,ipaddresspools,l2advertisements,bgpadvertisements,bgppeers,bfdprofiles,communities,addresspools,\
                configurationstates,servicel2statuses,servicebgpstatuses";
    let list = cluster.kubectl_json(&["get", ours, "-A"])?;
    for item in list["items"].as_array().into_iter().flatten() {
        let metadata = &item["metadata"];
        all.insert(
            format!("{} {}/{}", item["kind"], metadata["namespace"], metadata["name"]),
            version(item),
        );
    }
    Ok(all)
}

/// Keeps figures: printed, and in target/e2e/NAME.json.
fn record(name: &str, figures: &[(&str, &str, f64, usize)]) -> Result<()> {
    let entries: Vec<Entry> = figures
        .iter()
        .map(|(name, unit, value, runs)| {
            println!("{name}: {value:.2} {unit}");
            Entry {
                name: (*name).to_owned(),
                unit: (*unit).to_owned(),
                ours: *value,
                peer: None,
                runs: *runs,
                note: figures::load(),
            }
        })
        .collect();
    figures::write(&root().join(format!("target/e2e/{name}.json")), &entries)
}
