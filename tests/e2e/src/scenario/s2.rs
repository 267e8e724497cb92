//! An edge site: Helm, into namespace `default`, one address, a client behind an edge router with 1:1 NAT.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::{
    clean::{LanNetwork, run_in},
    helm::{Helm, chart, image_values, pool, remove_release},
    workload::{Lb, SOON, fresh_namespace, remove_namespace, wait_address, wait_event, web_pods},
};
use crate::{Cluster, plan::Pair, sh, wait_for};

/// The one address, in the site's network.
const ADDRESS: &str = "10.220.2.214";
/// What the world knows it as.
const PUBLIC: &str = "203.0.113.214";
const WORK: &str = "s2";

fn pair(v4: &str, v6: &str) -> Result<Pair> {
    Ok(Pair {
        v4: v4.parse()?,
        v6: v6.parse()?,
    })
}

/// The whole scenario.
pub fn edge_site(cluster: &mut Cluster) -> Result<()> {
    let site = LanNetwork::new(cluster, "10.220.2")?;
    edge_router(cluster)?;
    let helm = Helm::new(cluster, WORK)?;
    helm.clear("default")?;
    helm.package(&chart())?;
    let _repository = helm.add_repository()?;
    let images = image_values(cluster)?;
    // No namespace is named: it is `default`.
    helm.run(&["install", "metallb", "metallb/metallb", "--set", &images])?;
    let objects = pool("default", "first-pool", &format!("{ADDRESS}-{ADDRESS}"));
    cluster.apply(&objects)?;

    fresh_namespace(cluster, WORK)?;
    web_pods(cluster, WORK, "ingress", 2)?;
    let lb = |name| Lb {
        namespace: WORK,
        name,
        app: "ingress",
        ..Lb::default()
    };
    lb("ingress").apply(cluster)?;
    let address = wait_address(cluster, WORK, "ingress")?;
    ensure!(
        address == ADDRESS.parse::<IpAddr>()?,
        "the ingress service got {address}"
    );
    lb("second").apply(cluster)?;
    wait_event(cluster, WORK, "second", "AllocationFailed", &["no available IPs"])?;

    let public: IpAddr = PUBLIC.parse()?;
    let page = wait_for("the page behind the edge router", SOON, || {
        cluster.http_get_from("far", public, 80, 2).map(Some)
    })?;
    ensure!(
        page.contains(PUBLIC),
        "the page is not whoami's for {PUBLIC}: {page}"
    );

    remove_namespace(cluster, WORK)?;
    cluster.delete(&objects)?;
    remove_release(cluster, &helm, "default")?;
    remove_edge_router(cluster)?;
    for node in cluster.nodes() {
        run_in(cluster, &node.name, &["ip", "route", "del", "203.0.113.0/24"])?;
    }
    site.remove()
}

/// A router between the site and the world, where a client is. The site's address goes out as the public one and back.
fn edge_router(cluster: &Cluster) -> Result<()> {
    remove_edge_router(cluster)?;
    cluster.add_segment("wan")?;
    let inside = ("lan", pair("10.220.2.1", "fd00:124::2:1")?);
    let outside = ("wan", pair("203.0.113.1", "fd00:113::1")?);
    cluster.add_host("edge", &[inside, outside], true, None)?;
    let far = pair("203.0.113.100", "fd00:113::100")?;
    cluster.add_host("far", &[("wan", far)], false, Some(outside.1))?;
    run_in(
        cluster,
        "edge",
        &["ip", "addr", "add", &format!("{PUBLIC}/32"), "dev", "eth1"],
    )?;
    let nat = format!(
        "table ip nat {{ chain in {{ type nat hook prerouting priority dstnat; ip daddr {PUBLIC} dnat to {ADDRESS}; }}; \
         chain out {{ type nat hook postrouting priority srcnat; ip saddr {ADDRESS} snat to {PUBLIC}; }}; }}"
    );
    run_in(cluster, "edge", &["nft", &nat])?;
    // The way back: the router is the site's gateway to the world.
    for node in cluster.nodes() {
        run_in(
            cluster,
            &node.name,
            &["ip", "route", "replace", "203.0.113.0/24", "via", "10.220.2.1"],
        )?;
    }
    Ok(())
}

/// Removes router, client and the segment between them, as far as they are there.
fn remove_edge_router(cluster: &Cluster) -> Result<()> {
    cluster.remove_host("far")?;
    cluster.remove_host("edge")?;
    if sh::succeeds(cluster.exec("lan", "ip")?.args(["link", "show", "wan"])) {
        cluster.remove_segment("wan")?;
    }
    Ok(())
}
