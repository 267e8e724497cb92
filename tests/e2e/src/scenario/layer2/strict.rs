//! Strict mode: an address is answered for by whoever holds its Lease, and the Leases go with the MetalLB resource.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    Cluster,
    scenario::{
        install::{NAMESPACE, wait_available},
        operator::{configure, metallb},
        workload::{SOON, fresh_namespace, remove_namespace, restart_speakers, serve_page, wait_page},
    },
    wait_for,
};

const ROLLOUT: Duration = Duration::from_secs(180);

/// Serves in strict mode; each Lease belongs to the MetalLB resource, also after a restart of its speaker.
pub fn strict(cluster: &mut Cluster) -> Result<()> {
    let ns = "strict";
    fresh_namespace(cluster, ns)?;
    set(cluster, &json!(true))?;
    let outcome = serve(cluster, ns);
    set(cluster, &Value::Null)?;
    outcome?;
    remove_namespace(cluster, ns)
}

fn set(cluster: &Cluster, strict: &Value) -> Result<()> {
    configure(cluster, &json!({"layer2": {"strict": strict}}))?;
    wait_available(cluster, ROLLOUT)
}

fn serve(cluster: &Cluster, ns: &str) -> Result<()> {
    let address = serve_page(cluster, ns)?;
    wait_owned(cluster)?;
    restart_speakers(cluster)?;
    wait_page(cluster, address, SOON)?;
    wait_owned(cluster)
}

/// Waits until the Leases of nodes and addresses are there, and each belongs to the MetalLB resource, with which it goes.
fn wait_owned(cluster: &Cluster) -> Result<()> {
    wait_for(
        "the Leases of strict mode to belong to the MetalLB resource",
        SOON,
        || {
            let metallb = metallb(cluster)?;
            let leases = cluster.kubectl_json(&["get", "leases", "-n", NAMESPACE])?;
            let (mut nodes, mut addresses) = (0, 0);
            for lease in leases["items"].as_array().into_iter().flatten() {
                let name = lease["metadata"]["name"].as_str().unwrap_or_default();
                if name.starts_with("metallb-speaker-") {
                    nodes += 1;
                } else if name.starts_with("metallb-l2-") {
                    addresses += 1;
                } else {
                    continue;
                }
                let owners = &lease["metadata"]["ownerReferences"];
                let owned = owners.as_array().is_some_and(|owners| {
                    owners
                        .iter()
                        .any(|owner| owner["kind"] == "MetalLB" && owner["uid"] == metallb["metadata"]["uid"])
                });
                ensure!(owned, "the owners of Lease {name} are {owners}");
            }
            let all = cluster.nodes().len();
            ensure!(
                nodes >= all && addresses > 0,
                "there are Leases of {nodes} of {all} nodes and of {addresses} addresses"
            );
            Ok(Some(()))
        },
    )
}
