//! Five hundred services of both families at once.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{
    Figures,
    field::{create, pool, remove_pool, serve, service, wait_addresses, wait_single},
};
use crate::{
    Cluster,
    frames::Word,
    lan::LAN_BRIDGE,
    pcap,
    scenario::{evidence_dir, workload::fresh_namespace},
    wait_for,
};

/// Ranges with room for a thousand of each family. They need not be the LAN's: who asks for them there is answered.
pub const RANGES: [&str; 2] = ["10.77.0.0/22", "fd00:77::/118"];
/// Name of the pool.
pub const POOL: &str = "many";
const NS: &str = "many";
const SERVICES: usize = 500;

/// Names of so many services.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("m{n}")).collect()
}

/// Each of a thousand addresses is announced by one node, and by nobody once the services are gone.
pub fn many_services(cluster: &mut Cluster) -> Result<()> {
    fresh_namespace(cluster, NS)?;
    pool(cluster, POOL, &RANGES, &json!({}))?;
    let server = cluster.nodes().remove(0).name;
    serve(cluster, NS, &server)?;
    let file = evidence_dir("many-services").join("neighbours.pcap");
    let capture = cluster.capture("lan", LAN_BRIDGE, "arp or icmp6", &file)?;
    let start = Instant::now();
    let names = names(SERVICES);
    let services: Vec<_> = names
        .iter()
        .map(|name| service(NS, name, POOL, &json!({})))
        .collect();
    create(cluster, &services)?;
    let created = start.elapsed();
    let addresses = wait_addresses(cluster, NS, &names)?;
    let assigned = start.elapsed();
    let all: Vec<IpAddr> = addresses.into_values().flatten().collect();
    wait_single(cluster, &all)?;
    let answered = start.elapsed();
    let announcements = pcap::read(&capture.stop()?)?
        .iter()
        .filter(|seen| matches!(seen.word, Word::Announces(address, _) if all.contains(&address)))
        .count();

    let mut figures = Figures::new("many-services");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    figures.add(
        "created_ms",
        "ms",
        ms(created),
        "500 services of both families by kubectl",
    );
    figures.add("assigned_ms", "ms", ms(assigned), "from the first creation");
    figures.add(
        "answered_ms",
        "ms",
        ms(answered),
        "each of 1,000 addresses by one node, from the first creation",
    );
    figures.add(
        "announcements",
        "frames",
        announcements as f64,
        "gratuitous ARP and unsolicited advertisements until then",
    );
    figures.write()?;

    // The namespace controller deletes one service after the other.
    cluster.kubectl(&["delete", "namespace", NS, "--timeout=600s"])?;
    wait_for(
        "nobody to answer for deleted services",
        Duration::from_secs(60),
        || {
            let heard = cluster.owners(&all)?;
            let left = heard.values().filter(|nodes| !nodes.is_empty()).count();
            ensure!(left == 0, "{left} addresses are still answered for");
            Ok(Some(()))
        },
    )?;
    remove_pool(cluster, POOL)
}
