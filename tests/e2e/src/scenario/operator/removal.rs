//! The operator in a namespace of its own, the resource in another; and how all of it goes, whatever goes first.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{
    super::{
        clean::{OPERATOR, remove_manifest, wait_nothing_outside},
        install::{NAMESPACE, manifest_with, push_image, read, wait_available},
        workload::{
            Lb, SOON, fresh_namespace, pids_of, remove_namespace, resident_bytes, restart_speakers,
            wait_address, wait_page, web_pods,
        },
    },
    OWNED, owned, record, settled,
};
use crate::{Cluster, wait_for};

const SERVED: &str = "removal";
/// Resident memory of an operator at most, in MiB.
const MEMORY_MAX: f64 = 15.0;

/// Every order of removal, each after an installation over what the one before has left.
pub fn removal(cluster: &mut Cluster) -> Result<()> {
    let cluster: &Cluster = cluster;
    let manifest = apart(&manifest_with(|name| push_image(cluster, name))?);
    install(cluster, &manifest)?;
    // The first time nodes pull the images.
    create(cluster)?;
    serve(cluster)?;
    resource_first(cluster)?;

    let time = create(cluster)?;
    let memory = memory(cluster)?;
    record(
        "operator",
        &[
            ("operator_create_to_available", "s", time.as_secs_f64(), 1),
            ("operator_rss_max", "MiB", memory, 1),
        ],
    )?;
    ensure!(
        memory <= MEMORY_MAX,
        "an operator took {memory:.1} MiB, more than {MEMORY_MAX}"
    );
    wait_served(cluster)?;
    operator_first(cluster)?;

    // What it left outside of the namespace belongs to a resource that is no more.
    install(cluster, &manifest)?;
    wait_nothing_outside(cluster)?;
    create(cluster)?;
    namespace_first(cluster)?;

    remove_namespace(cluster, SERVED)?;
    remove_namespace(cluster, OPERATOR)?;
    remove_manifest(cluster, &manifest)?;
    wait_for("nothing to be left", SOON, || nothing_owned(cluster))
}

/// The manifest with the operator in a namespace of its own.
fn apart(manifest: &str) -> String {
    let moved = manifest.replace(
        &format!("namespace: {NAMESPACE}\n"),
        &format!("namespace: {OPERATOR}\n"),
    );
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {OPERATOR}\n---\n{moved}")
}

fn install(cluster: &Cluster, manifest: &str) -> Result<()> {
    cluster.apply(manifest)?;
    let deployment = "deployment/metallb-operator-controller-manager";
    cluster
        .kubectl(&["rollout", "status", "-n", OPERATOR, deployment, "--timeout=120s"])
        .context("the operator does not start")
        .map(drop)
}

/// Creates the resource, a pool and an advertisement; how long it took until the resource said Available.
fn create(cluster: &Cluster) -> Result<Duration> {
    let start = Instant::now();
    cluster.apply(&read("config/samples/metallb.yaml")?)?;
    wait_available(cluster, Duration::from_secs(120))?;
    let took = start.elapsed();
    for sample in ["pool.yaml", "l2-advertisement.yaml"] {
        cluster.apply(&read(&format!("config/samples/{sample}"))?)?;
    }
    Ok(took)
}

fn serve(cluster: &Cluster) -> Result<()> {
    fresh_namespace(cluster, SERVED)?;
    web_pods(cluster, SERVED, "web", 2)?;
    Lb {
        namespace: SERVED,
        name: "web",
        app: "web",
        ..Lb::default()
    }
    .apply(cluster)?;
    wait_served(cluster)
}

fn wait_served(cluster: &Cluster) -> Result<()> {
    let address = wait_address(cluster, SERVED, "web")?;
    wait_page(cluster, address, SOON).map(drop)
}

/// Nothing with the operator's label is there, and no pod of an operand.
fn nothing_owned(cluster: &Cluster) -> Result<Option<()>> {
    let mut left: Vec<String> = owned(cluster)?.keys().map(ToString::to_string).collect();
    let pods = cluster.kubectl(&["get", "pods", "-A", "-l", "app=metallb", "-o", "name"])?;
    left.extend(pods.lines().map(str::to_owned));
    if left.is_empty() {
        return Ok(Some(()));
    }
    bail!("there are still {left:?} (label {OWNED})")
}

fn resource_first(cluster: &Cluster) -> Result<()> {
    let address = wait_address(cluster, SERVED, "web")?;
    cluster.kubectl(&["delete", "metallb", "-n", NAMESPACE, "metallb"])?;
    wait_for("everything to go with the resource", SOON, || {
        nothing_owned(cluster)
    })?;
    wait_for(&format!("nobody to answer for {address}"), SOON, || {
        Ok(cluster.announcing_node(address).is_err().then_some(()))
    })?;
    // Users' own things stay.
    cluster
        .kubectl(&["get", "ipaddresspools", "-n", NAMESPACE, "-o", "name"])
        .and_then(|pools| {
            ensure!(!pools.is_empty(), "the pool is gone");
            Ok(())
        })
}

/// Without the operator everything goes on, also what needs the API; and what it made goes with what it was made for.
fn operator_first(cluster: &Cluster) -> Result<()> {
    settled(cluster)?;
    cluster.kubectl(&["delete", "clusterrole,clusterrolebinding", "metallb-operator"])?;
    remove_namespace(cluster, OPERATOR)?;
    wait_served(cluster)?;
    // Speakers that start now still have their rights, and the controller still assigns.
    restart_speakers(cluster)?;
    Lb {
        namespace: SERVED,
        name: "late",
        app: "web",
        ..Lb::default()
    }
    .apply(cluster)?;
    let late = wait_address(cluster, SERVED, "late")?;
    wait_page(cluster, late, SOON)?;

    cluster.kubectl(&["delete", "metallb", "-n", NAMESPACE, "metallb", "--timeout=60s"])?;
    wait_for("the pods to go with the resource", SOON, || {
        let pods = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", "app=metallb", "-o", "name"])?;
        ensure!(pods.is_empty(), "there are still {pods}");
        Ok(Some(()))
    })?;
    let left: Vec<String> = owned(cluster)?.keys().map(ToString::to_string).collect();
    ensure!(
        left.iter().all(|id| id.starts_with("cluster")),
        "in the namespace there are still {left:?}"
    );
    ensure!(
        !left.is_empty(),
        "what is outside of the namespace has gone by itself: is this test still needed?"
    );
    Ok(())
}

/// The namespace goes with all that is in it while the operator watches, and does not hang.
fn namespace_first(cluster: &Cluster) -> Result<()> {
    remove_namespace(cluster, NAMESPACE)?;
    wait_for("everything to go with the namespace", SOON, || {
        nothing_owned(cluster)
    })?;
    // And once more without an operator: what is outside of the namespace belongs to it.
    let manifest = apart(&manifest_with(|name| push_image(cluster, name))?);
    install(cluster, &manifest)?;
    create(cluster)?;
    settled(cluster)?;
    cluster.kubectl(&["delete", "clusterrole,clusterrolebinding", "metallb-operator"])?;
    remove_namespace(cluster, OPERATOR)?;
    remove_namespace(cluster, NAMESPACE)?;
    wait_for(
        "everything to go with the namespace, without an operator",
        SOON,
        || nothing_owned(cluster),
    )
}

/// Resident memory of the operator's larger replica, in MiB.
fn memory(cluster: &Cluster) -> Result<f64> {
    let mut most = 0;
    for pid in pids_of(cluster, "metallb-operator")? {
        most = most.max(resident_bytes(pid)?);
    }
    Ok(most as f64 / f64::from(1 << 20))
}
