//! A host outside the cluster that has an address of ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    Figures,
    field::{POOL, advertise, create, remove_pool, serve, service, wait_addresses},
};
use crate::{
    Cluster,
    lan::LAN_BRIDGE,
    plan::{Pair, gateway, lan_host},
    scenario::{
        clean::run_in,
        workload::{SOON, fresh_namespace, remove_namespace, wait_event},
    },
    wait_for,
};

const NS: &str = "foreign-host";
const STRANGER: &str = "stranger";
const NUMBER: u8 = 102;
/// What the stranger has from the start, and what it takes later.
const FIRST: [&str; 2] = ["192.168.124.179", "fd00:124::179"];
const LATER: [&str; 2] = ["192.168.124.178", "fd00:124::178"];

fn take(cluster: &Cluster, addresses: [&str; 2]) -> Result<()> {
    for (address, more) in addresses.iter().zip([&[][..], &["nodad"]]) {
        let words = [&["ip", "addr", "replace", address, "dev", "eth0"], more].concat();
        run_in(cluster, STRANGER, &words)?;
    }
    Ok(())
}

/// Addresses of a service, asked for by name.
fn asked_for(name: &str, addresses: [&str; 2]) -> serde_json::Value {
    let annotations = json!({"metallb.io/loadBalancerIPs": addresses.join(",")});
    service(NS, name, POOL, &annotations)
}

/// An address that a stranger has is announced all the same, and an Event names the stranger; so does one for an address
/// that it takes later, in both families.
pub fn foreign_host(cluster: &mut Cluster) -> Result<()> {
    fresh_namespace(cluster, NS)?;
    advertise(cluster, &json!({}))?;
    let server = cluster.nodes().remove(0).name;
    serve(cluster, NS, &server)?;
    cluster.add_host(
        STRANGER,
        &[(LAN_BRIDGE, lan_host(NUMBER))],
        false,
        Some(gateway()),
    )?;
    let outcome = conflicts(cluster);
    cluster.remove_host(STRANGER)?;
    outcome?;
    remove_namespace(cluster, NS)?;
    remove_pool(cluster, POOL)
}

fn conflicts(cluster: &Cluster) -> Result<()> {
    let mac = lan_host(NUMBER).mac();
    take(cluster, FIRST)?;
    create(cluster, &[asked_for("first", FIRST), asked_for("later", LATER)])?;
    let addresses = wait_addresses(cluster, NS, &["first".to_owned(), "later".to_owned()])?;
    for address in addresses["first"] {
        wait_for(
            &format!("a node to answer for {address} beside the stranger"),
            SOON,
            || {
                let heard = cluster.owners(&[address])?.remove(&address).unwrap_or_default();
                ensure!(heard.contains(&mac) && heard.len() == 2, "{heard:?} answer");
                Ok(Some(()))
            },
        )?;
    }
    for address in FIRST {
        wait_event(cluster, NS, "first", "addressConflict", &[&mac, address])?;
    }

    for address in addresses["later"] {
        wait_for(&format!("one node to answer for {address}"), SOON, || {
            let heard = cluster.owners(&[address])?.remove(&address).unwrap_or_default();
            ensure!(heard.len() == 1 && !heard.contains(&mac), "{heard:?} answer");
            Ok(Some(()))
        })?;
    }
    let start = Instant::now();
    take(cluster, LATER)?;
    // As a host does whose address has just been set: one announcement, unasked.
    cluster
        .exec(STRANGER, "arping")?
        .args(["-U", "-c", "1", "-w", "1", "-I", "eth0", LATER[0]])
        .output()?;
    wait_event(cluster, NS, "later", "addressConflict", &[&mac, LATER[0]])?;
    let told = start.elapsed().min(Duration::from_secs(3600)).as_secs_f64() * 1e3;
    // In IPv6 a host that does no duplicate address detection is first heard when it asks for a neighbour.
    let [v4, v6] = LATER;
    let source = Pair {
        v4: v4.parse().context("an IPv4 address")?,
        v6: v6.parse().context("an IPv6 address")?,
    };
    cluster
        .asks_as(STRANGER, lan_host(NUMBER), source)?
        .ask(gateway().v6.into())?;
    wait_event(cluster, NS, "later", "addressConflict", &[&mac, v6])?;
    let mut figures = Figures::new("foreign-host");
    figures.add(
        "later_claim_event_ms",
        "ms",
        told,
        "from the stranger's command to the Event, kubectl's own time included",
    );
    figures.write()
}
