//! The Operator Lifecycle Manager on a lab cluster, as its users have it: olm-operator, catalog-operator and packageserver in
//! the namespace `olm`, a namespace `operators`, and a cluster DNS, because it dials its catalogs by name.
//!
//! Its programs are built from its Go module, and its CRDs are read from the module of its API; all other objects are written
//! here, after the flags of its programs and what its chart makes.

mod dns;
mod images;
mod objects;

pub(crate) use images::busybox;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::wait::wait_for;

pub use crate::build::OLM as VERSION;

/// Namespace of OLM itself, and of the catalogs that all namespaces see.
pub const NAMESPACE: &str = "olm";
/// Namespace where a console puts operators by default.
pub const OPERATORS: &str = "operators";
/// The aggregated API of packageserver.
const PACKAGES: &str = "v1.packages.operators.coreos.com";
/// Long enough for images to be pulled on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Kinds whose objects OLM's programs have to take leave of, in the order in which they go: nothing may be installed again by
/// what is still there.
const KINDS: [&str; 6] = [
    "subscriptions.operators.coreos.com",
    "installplans.operators.coreos.com",
    "catalogsources.operators.coreos.com",
    "clusterserviceversions.operators.coreos.com",
    "operatorgroups.operators.coreos.com",
    "olmconfigs.operators.coreos.com",
];

/// Builds its programs and images into the cache.
///
/// # Errors
/// A build that fails.
pub fn prepare(progress: &Progress) -> Result<()> {
    images::ensure(progress).map(drop)
}

/// Brings OLM up and waits until all of it works; at once if it is there.
///
/// # Errors
/// A build that fails, or a part that does not get ready.
pub fn up(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let images = images::push(cluster, progress)?;
    progress.line(&format!("OLM {VERSION}: cluster DNS, definitions, its programs"));
    cluster.apply(&dns::objects(&images.coredns).to_string())?;
    let definitions = images.definitions.display().to_string();
    // One of them is larger than the annotation that client-side apply keeps.
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &definitions])?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "-f",
        &definitions,
    ])?;
    cluster.apply(&objects::programs(&images).to_string())?;
    rolled_out(cluster, "kube-system", "deployment/coredns")?;
    for deployment in ["deployment/olm-operator", "deployment/catalog-operator"] {
        rolled_out(cluster, NAMESPACE, deployment)?;
    }
    cluster.apply(&objects::resources(&images).to_string())?;
    // An aggregated API that does not answer would be in the way of everything that lists all kinds, so this is waited for.
    wait_for("packageserver to serve packages", PATIENCE, || {
        let service = cluster.kubectl_json(&["get", "apiservice", PACKAGES])?;
        match condition(&service, "Available") {
            Some(available) if available["status"] == "True" => Ok(Some(())),
            other => bail!("its condition is {other:?}"),
        }
    })
    .with_context(|| {
        format!(
            "its ClusterServiceVersion says: {}",
            csv_text(cluster, NAMESPACE, "packageserver")
        )
    })?;
    progress.line("OLM works");
    Ok(())
}

/// Whether anything of OLM is on the cluster.
///
/// # Errors
/// kubectl's words.
pub fn is_there(cluster: &Cluster) -> Result<bool> {
    let kinds = cluster.kubectl(&["get", "crds", "--ignore-not-found", "-o", "name", KINDS[0]])?;
    Ok(!kinds.is_empty())
}

/// Takes OLM off the cluster with all that it holds: what was installed through it goes as if a user had removed it, then OLM.
///
/// # Errors
/// What does not go.
pub fn remove(cluster: &Cluster) -> Result<()> {
    if is_there(cluster)? {
        for kind in KINDS {
            // Its programs still run: they clean up behind ClusterServiceVersions.
            let output = cluster.kubectl_output(&["delete", kind, "-A", "--all", "--timeout=90s"])?;
            let words = String::from_utf8_lossy(&output.stderr);
            // Copies of what was deleted a moment ago vanish on their own.
            ensure!(
                output.status.success()
                    || words.contains("NotFound")
                    || words.contains("doesn't have a resource"),
                "kubectl delete {kind}: {words}"
            );
        }
    }
    // The aggregated API before what serves it, or lists of all kinds fail meanwhile.
    cluster.kubectl(&["delete", "apiservice", PACKAGES, "--ignore-not-found"])?;
    for namespace in [OPERATORS, NAMESPACE] {
        cluster.kubectl(&[
            "delete",
            "namespace",
            namespace,
            "--ignore-not-found",
            "--timeout=120s",
        ])?;
    }
    let crds = cluster.kubectl(&["get", "crds", "-o", "name"])?;
    let of_olm: Vec<&str> = crds
        .lines()
        .filter(|name| name.ends_with(".operators.coreos.com"))
        .collect();
    if !of_olm.is_empty() {
        cluster.kubectl(&[&["delete", "--timeout=90s"], of_olm.as_slice()].concat())?;
    }
    cluster.kubectl(&[
        "delete",
        "clusterroles,clusterrolebindings",
        "-l",
        "olm.managed=true",
    ])?;
    cluster.delete(&objects::rights().to_string())?;
    cluster.delete(&dns::objects("").to_string()).map(drop)
}

fn rolled_out(cluster: &Cluster, namespace: &str, what: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    cluster
        .kubectl(&["rollout", "status", "-n", namespace, what, &timeout])
        .with_context(|| format!("{what} in {namespace} does not start"))
        .map(drop)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)
}

/// Phase, reason and message of a `ClusterServiceVersion`, for a message.
pub fn csv_text(cluster: &Cluster, namespace: &str, name: &str) -> String {
    match cluster.kubectl_json(&["get", KINDS[3], "-n", namespace, name]) {
        Ok(csv) => {
            let word = |key: &str| csv["status"][key].as_str().unwrap_or_default().to_owned();
            format!("{} {} ({})", word("phase"), word("reason"), word("message"))
        }
        Err(error) => format!("nothing ({error:#})"),
    }
}
