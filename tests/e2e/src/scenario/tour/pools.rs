//! IPAddressPool: who is given which address.

use anyhow::{Result, ensure};

use super::{headings, sample, service, wait_within};
use crate::{
    Cluster,
    scenario::{
        configuration::wait_valid,
        install::NAMESPACE,
        workload::{addresses, fresh_namespace, remove_namespace, wait_event},
    },
};

const POOLS: [&str; 3] = [
    "pool-by-labels.yaml",
    "pool-reserved.yaml",
    "pool-avoid-buggy-addresses.yaml",
];
const LAN: (&str, &str) = ("192.168.124.200", "192.168.124.250");
const SHOP_WEB: (&str, &str) = ("192.168.124.128", "192.168.124.143");
const RESERVED: (&str, &str) = ("192.168.124.192", "192.168.124.199");

/// Every field of a pool decides about services as the samples say.
pub fn ip_address_pool(cluster: &mut Cluster) -> Result<()> {
    // One namespace has the label and the name that pools ask for, the other neither.
    let (shop, other) = ("shop", "ip-address-pool");
    fresh_namespace(cluster, shop)?;
    fresh_namespace(cluster, other)?;
    cluster.kubectl(&["label", "namespace", shop, "team=shop"])?;
    for file in POOLS {
        cluster.apply(&sample(file)?)?;
    }
    for name in ["shop-web", "reserved", "careful"] {
        let pool = ("ipaddresspools.metallb.io", NAMESPACE, name);
        wait_valid(cluster, pool, "True", "Accepted", &[])?;
    }
    headings(
        cluster,
        "ipaddresspools",
        NAMESPACE,
        &["NAME", "AUTO ASSIGN", "AVOID BUGGY IPS", "ADDRESSES", "VALID"],
    )?;
    by_labels(cluster, shop, other)?;
    reserved(cluster, shop, other)?;
    careful(cluster, other)?;
    remove_namespace(cluster, shop)?;
    remove_namespace(cluster, other)?;
    for file in POOLS {
        cluster.delete(&sample(file)?)?;
    }
    Ok(())
}

/// Namespaces by label, services by label, and the pool with a priority before the one without.
fn by_labels(cluster: &Cluster, shop: &str, other: &str) -> Result<()> {
    cluster.apply(
        &[
            service(shop, "both", "app: web", "", ""),
            service(shop, "other-label", "app: mail", "", ""),
            service(other, "other-namespace", "app: web", "", ""),
        ]
        .concat(),
    )?;
    wait_within(cluster, shop, "both", &[SHOP_WEB])?;
    wait_within(cluster, shop, "other-label", &[LAN])?;
    wait_within(cluster, other, "other-namespace", &[LAN])?;
    Ok(())
}

/// A pool that gives nothing unasked, and to one namespace only.
fn reserved(cluster: &Cluster, shop: &str, other: &str) -> Result<()> {
    cluster.apply(&sample("service-from-pool.yaml")?)?;
    wait_within(cluster, shop, "vip", &[RESERVED])?;
    let wish = "metallb.universe.tf/loadBalancerIPs: 192.168.124.195";
    cluster.apply(&service(shop, "by-address", "", wish, ""))?;
    let wanted = ("192.168.124.195", "192.168.124.195");
    wait_within(cluster, shop, "by-address", &[wanted])?;
    cluster.apply(&service(
        other,
        "refused",
        "",
        "metallb.io/address-pool: reserved",
        "",
    ))?;
    wait_event(cluster, other, "refused", "AllocationFailed", &["reserved"])?;
    ensure!(
        addresses(cluster, other, "refused")?.is_empty(),
        "a service of namespace {other} was given an address of the pool reserved"
    );
    Ok(())
}

/// Two of the four addresses are left, and none of the others can be had by asking.
fn careful(cluster: &Cluster, other: &str) -> Result<()> {
    let from = "metallb.io/address-pool: careful";
    cluster.apply(&service(other, "first", "", from, ""))?;
    wait_within(cluster, other, "first", &[("203.0.112.254", "203.0.112.254")])?;
    cluster.apply(&service(other, "second", "", from, ""))?;
    wait_within(cluster, other, "second", &[("203.0.113.1", "203.0.113.1")])?;
    cluster.apply(&service(other, "third", "", from, ""))?;
    wait_event(cluster, other, "third", "AllocationFailed", &["careful"])?;
    let zero = "metallb.io/loadBalancerIPs: 203.0.113.0";
    cluster.apply(&service(other, "zero", "", zero, ""))?;
    wait_event(cluster, other, "zero", "AllocationFailed", &["203.0.113.0"]).map(drop)
}
