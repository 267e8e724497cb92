//! Services and their addresses: the main job, deletion, exhaustion, traffic policy.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{
    install::NAMESPACE,
    workload::{
        Lb, SOON, addresses, fresh_namespace, remove_namespace, wait_address, wait_event, wait_one_owner,
        wait_page, web_pods,
    },
};
use crate::{Cluster, wait_for};

/// A service gets an address of the pool, one node answers for it, the client reads the page; statuses and events say so.
pub fn main_job(cluster: &mut Cluster) -> Result<()> {
    let ns = "main-job";
    fresh_namespace(cluster, ns)?;
    web_pods(cluster, ns, "web", 2)?;
    let service = Lb {
        namespace: ns,
        name: "web",
        app: "web",
        ..Lb::default()
    };
    service.apply(cluster)?;
    let address = wait_address(cluster, ns, "web")?;
    let page = wait_page(cluster, address, SOON)?;
    ensure!(
        page.contains("Hostname: web-"),
        "the page is not whoami's: {page}"
    );
    let owner = wait_one_owner(cluster, address, SOON)?;

    let object = cluster.kubectl_json(&["get", "service", "-n", ns, "web"])?;
    let pool = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
    ensure!(pool == "lan", "ip-allocated-from-pool is {pool}, not lan");
    wait_event(cluster, ns, "web", "IPAllocated", &[&address.to_string()])?;
    wait_event(cluster, ns, "web", "nodeAssigned", &[&owner])?;
    wait_for("a ServiceL2Status that names the owner", SOON, || {
        let list = cluster.kubectl_json(&["get", "servicel2statuses", "-n", NAMESPACE])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let ours: Vec<_> = items
            .iter()
            .filter(|s| s["status"]["serviceName"] == "web" && s["status"]["serviceNamespace"] == ns)
            .filter_map(|s| s["status"]["node"].as_str())
            .collect();
        if ours == [owner.as_str()] {
            Ok(Some(()))
        } else {
            bail!("there are: {ours:?}, the owner is {owner}")
        }
    })?;
    wait_for("the pool's counters to count it", SOON, || {
        let pool = cluster.kubectl_json(&["get", "ipaddresspool", "-n", NAMESPACE, "lan"])?;
        let (assigned, free) = (
            pool["status"]["assignedIPv4"].as_i64(),
            pool["status"]["availableIPv4"].as_i64(),
        );
        match (assigned, free) {
            (Some(assigned), Some(free)) if assigned >= 1 && assigned + free == 51 => Ok(Some(())),
            other => bail!("assigned and available are {other:?}"),
        }
    })?;
    remove_namespace(cluster, ns)
}

/// A deleted service frees its address and falls silent; created again it gets one and answers.
pub fn recreate(cluster: &mut Cluster) -> Result<()> {
    let ns = "recreate";
    fresh_namespace(cluster, ns)?;
    web_pods(cluster, ns, "web", 1)?;
    let service = Lb {
        namespace: ns,
        name: "web",
        app: "web",
        ..Lb::default()
    };
    for _ in 0..2 {
        service.apply(cluster)?;
        let address = wait_address(cluster, ns, "web")?;
        wait_page(cluster, address, SOON)?;
        cluster.kubectl(&["delete", "service", "-n", ns, "web"])?;
        wait_for(&format!("nobody to answer for {address}"), SOON, || {
            let macs = cluster.client_who_has(address)?;
            if macs.is_empty() {
                Ok(Some(()))
            } else {
                bail!("{macs:?} answer")
            }
        })?;
    }
    // A type change frees it as well, and clears the status.
    service.apply(cluster)?;
    wait_address(cluster, ns, "web")?;
    let to_cluster_ip = r#"{"spec":{"type":"ClusterIP"}}"#;
    cluster.kubectl(&[
        "patch",
        "service",
        "-n",
        ns,
        "web",
        "--type=merge",
        "-p",
        to_cluster_ip,
    ])?;
    wait_for("the address to be cleared after the type change", SOON, || {
        Ok(addresses(cluster, ns, "web")?.is_empty().then_some(()))
    })?;
    remove_namespace(cluster, ns)
}

/// A pool of one address: the second service stays pending with an event that says so, and gets the address when it is freed.
pub fn exhausted(cluster: &mut Cluster) -> Result<()> {
    let ns = "exhausted";
    fresh_namespace(cluster, ns)?;
    let pool = "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: tiny, namespace: metallb-system}, \
                spec: {addresses: [192.168.124.190/32], autoAssign: false}}";
    cluster.apply(pool)?;
    let annotations = "metallb.io/address-pool: tiny";
    let service = |name| Lb {
        namespace: ns,
        name,
        app: "none",
        annotations,
        ..Lb::default()
    };
    service("first").apply(cluster)?;
    let address = wait_address(cluster, ns, "first")?;
    ensure!(
        address.to_string() == "192.168.124.190",
        "the pool holds .190 alone, not {address}"
    );
    service("second").apply(cluster)?;
    let message = wait_event(cluster, ns, "second", "AllocationFailed", &["tiny"])?;
    ensure!(
        addresses(cluster, ns, "second")?.is_empty(),
        "the second service has an address though: {message}"
    );
    cluster.kubectl(&["delete", "service", "-n", ns, "first"])?;
    let moved = wait_address(cluster, ns, "second").context("after the first service was deleted")?;
    ensure!(moved == address, "the freed address is {address}, not {moved}");
    cluster.delete(pool)?;
    remove_namespace(cluster, ns)
}

/// Addresses asked for: both annotation prefixes and `spec.loadBalancerIP`, and a pool that gives nothing unasked.
pub fn explicit(cluster: &mut Cluster) -> Result<()> {
    let ns = "explicit";
    fresh_namespace(cluster, ns)?;
    let wishes: [(&str, &str, &str, &str); 3] = [
        (
            "new-prefix",
            "metallb.io/loadBalancerIPs: 192.168.124.241",
            "",
            "192.168.124.241",
        ),
        (
            "old-prefix",
            "metallb.universe.tf/loadBalancerIPs: 192.168.124.242",
            "",
            "192.168.124.242",
        ),
        (
            "spec-field",
            "",
            "loadBalancerIP: 192.168.124.243",
            "192.168.124.243",
        ),
    ];
    for (name, annotations, more, wanted) in wishes {
        Lb {
            namespace: ns,
            name,
            app: "none",
            annotations,
            more,
            ..Lb::default()
        }
        .apply(cluster)?;
        let address = wait_address(cluster, ns, name)?;
        ensure!(
            address.to_string() == wanted,
            "{name} asked for {wanted} and got {address}"
        );
    }
    // Taken: pending with the name of the service that holds it.
    let annotations = "metallb.io/loadBalancerIPs: 192.168.124.241";
    Lb {
        namespace: ns,
        name: "late",
        app: "none",
        annotations,
        ..Lb::default()
    }
    .apply(cluster)?;
    wait_event(cluster, ns, "late", "AllocationFailed", &["192.168.124.241"])?;
    remove_namespace(cluster, ns)
}

/// `externalTrafficPolicy: Local`: the owner is the node with the pod, and follows it.
pub fn local_policy(cluster: &mut Cluster) -> Result<()> {
    let ns = "local-policy";
    fresh_namespace(cluster, ns)?;
    web_pods(cluster, ns, "web", 1)?;
    Lb {
        namespace: ns,
        name: "web",
        app: "web",
        more: "externalTrafficPolicy: Local",
        ..Lb::default()
    }
    .apply(cluster)?;
    let address = wait_address(cluster, ns, "web")?;
    for node in cluster.nodes() {
        let pin = format!(
            r#"{{"spec":{{"template":{{"spec":{{"nodeName":"{}"}}}}}}}}"#,
            node.name
        );
        cluster.kubectl(&["patch", "deployment", "-n", ns, "web", "--type=merge", "-p", &pin])?;
        super::workload::rolled_out(cluster, ns, "web")?;
        wait_for(
            &format!("{} to answer for {address}, where the pod is", node.name),
            SOON,
            || {
                let owner = cluster.announcing_node(address)?;
                if owner == node.name {
                    Ok(Some(()))
                } else {
                    bail!("{owner} does")
                }
            },
        )?;
        let page = wait_page(cluster, address, SOON)?;
        ensure!(
            page.contains("192.168.124.100"),
            "the client's own address is not on the page: {page}"
        );
    }
    remove_namespace(cluster, ns)
}

/// The label that excludes a node moves its addresses away; without it they come back.
pub fn exclude_label(cluster: &mut Cluster) -> Result<()> {
    const LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    let ns = "exclude-label";
    fresh_namespace(cluster, ns)?;
    web_pods(cluster, ns, "web", 2)?;
    Lb {
        namespace: ns,
        name: "web",
        app: "web",
        ..Lb::default()
    }
    .apply(cluster)?;
    let address = wait_address(cluster, ns, "web")?;
    let first = wait_one_owner(cluster, address, SOON)?;
    cluster.kubectl(&["label", "node", &first, &format!("{LABEL}=")])?;
    let moved = wait_for(
        &format!("another node than {first} to answer for {address}"),
        SOON,
        || {
            let owner = cluster.announcing_node(address)?;
            Ok((owner != first).then_some(owner))
        },
    );
    cluster.kubectl(&["label", "node", &first, &format!("{LABEL}-")])?;
    let moved = moved?;
    wait_for(
        &format!("{first} to take {address} back from {moved}"),
        SOON,
        || Ok((cluster.announcing_node(address)? == first).then_some(())),
    )?;
    wait_page(cluster, address, Duration::from_secs(10))?;
    remove_namespace(cluster, ns)
}
