//! Restarts: of each component, of all together, of a whole node. No address changes, nothing needs a hand.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    install::{NAMESPACE, wait_available},
    workload::{
        Lb, SOON, fresh_namespace, kill_9, pids_of, remove_namespace, wait_address, wait_one_owner,
        wait_page, wait_product_ready, web_pods,
    },
};
use crate::{Cluster, wait_for};

const BINARIES: [&str; 3] = ["metallb-operator", "metallb-allocator", "metallb-speaker"];

/// Every service's addresses.
fn all_addresses(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let list = cluster.kubectl_json(&["get", "services", "-A"])?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let one = |s: &Value| {
        let name = format!(
            "{}/{}",
            text(&s["metadata"]["namespace"]),
            text(&s["metadata"]["name"])
        );
        (name, s["status"]["loadBalancer"]["ingress"].clone())
    };
    Ok(items
        .iter()
        .filter(|s| s["spec"]["type"] == "LoadBalancer")
        .map(one)
        .collect())
}

/// Some services in an order that a re-allocation from scratch would not give: the lowest address is free.
fn services(cluster: &Cluster, namespace: &str) -> Result<std::net::IpAddr> {
    fresh_namespace(cluster, namespace)?;
    web_pods(cluster, namespace, "web", 2)?;
    for name in ["a", "b", "web", "c"] {
        Lb {
            namespace,
            name,
            app: "web",
            ..Lb::default()
        }
        .apply(cluster)?;
        wait_address(cluster, namespace, name)?;
    }
    cluster.kubectl(&["delete", "service", "-n", namespace, "a"])?;
    let address = wait_address(cluster, namespace, "web")?;
    wait_page(cluster, address, SOON)?;
    Ok(address)
}

fn same(before: &BTreeMap<String, Value>, cluster: &Cluster, after_what: &str) -> Result<()> {
    let after = all_addresses(cluster)?;
    ensure!(
        *before == after,
        "after {after_what} addresses have changed: {before:?} became {after:?}"
    );
    Ok(())
}

/// Waits until each of these binaries runs with a process that was not there before.
fn wait_replaced(cluster: &Cluster, before: &BTreeMap<&str, Vec<i32>>) -> Result<()> {
    for (binary, old) in before {
        wait_for(
            &format!("{} new processes of {binary}", old.len()),
            Duration::from_secs(120),
            || {
                let new = pids_of(cluster, binary)?;
                let fresh = new.len() == old.len() && new.iter().all(|pid| !old.contains(pid));
                if fresh {
                    Ok(Some(()))
                } else {
                    bail!("were {old:?}, are {new:?}")
                }
            },
        )?;
    }
    wait_product_ready(cluster)
}

/// `kill -9` of each component alone, then of all together.
pub fn kill_components(cluster: &mut Cluster) -> Result<()> {
    let ns = "kill-components";
    let address = services(cluster, ns)?;
    let before = all_addresses(cluster)?;
    let rounds: [&[&str]; 4] = [&BINARIES[..1], &BINARIES[1..2], &BINARIES[2..], &BINARIES];
    for binaries in rounds {
        let mut killed = BTreeMap::new();
        for binary in binaries {
            let pids = pids_of(cluster, binary)?;
            kill_9(&pids).with_context(|| format!("processes of {binary}"))?;
            killed.insert(*binary, pids);
        }
        wait_replaced(cluster, &killed)?;
        wait_one_owner(cluster, address, SOON)?;
        wait_page(cluster, address, SOON)?;
        same(&before, cluster, &format!("kill -9 of {binaries:?}"))?;
    }
    // What was pending is served by the restarted allocator without a hand.
    Lb {
        namespace: ns,
        name: "late",
        app: "web",
        ..Lb::default()
    }
    .apply(cluster)?;
    let late = wait_address(cluster, ns, "late")?;
    wait_page(cluster, late, SOON)?;
    wait_available(cluster, SOON)?;
    remove_namespace(cluster, ns)
}

/// A rolling restart as a user does it, of the speakers and of the controller.
pub fn rollout_restart(cluster: &mut Cluster) -> Result<()> {
    let ns = "rollout-restart";
    let address = services(cluster, ns)?;
    let before = all_addresses(cluster)?;
    for what in ["deployment/controller", "daemonset/speaker"] {
        cluster.kubectl(&["rollout", "restart", "-n", NAMESPACE, what])?;
        // The annotation that asks for the restart is the user's, not drift to be repaired away.
        cluster.kubectl(&["rollout", "status", "-n", NAMESPACE, what, "--timeout=180s"])?;
        wait_page(cluster, address, SOON)?;
        same(&before, cluster, &format!("rollout restart of {what}"))?;
    }
    wait_available(cluster, SOON)?;
    remove_namespace(cluster, ns)
}

/// A power cut of the node that owns an address, and its return.
pub fn restart_node(cluster: &mut Cluster) -> Result<()> {
    let ns = "restart-node";
    let address = services(cluster, ns)?;
    let before = all_addresses(cluster)?;
    let owner = wait_one_owner(cluster, address, SOON)?;
    cluster.node_kill(&owner)?;
    let moved = wait_for(
        &format!("another node than {owner} to answer for {address}"),
        SOON,
        || {
            let now = cluster.announcing_node(address)?;
            Ok((now != owner).then_some(now))
        },
    );
    let returned = cluster
        .node_start(&owner)
        .and_then(|()| cluster.wait_nodes_ready(Duration::from_secs(120)));
    moved?;
    returned?;
    same(&before, cluster, &format!("the power cut of {owner}"))?;
    wait_product_ready(cluster)?;
    wait_for(&format!("{owner} to own {address} again"), SOON, || {
        let now = cluster.announcing_node(address)?;
        if now == owner {
            Ok(Some(()))
        } else {
            bail!("{now} owns it")
        }
    })?;
    wait_page(cluster, address, SOON)?;
    same(&before, cluster, &format!("the return of {owner}"))?;
    wait_available(cluster, Duration::from_secs(120))?;
    remove_namespace(cluster, ns)
}
