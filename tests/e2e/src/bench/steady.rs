//! What a speaker costs while it announces nothing, a hundred addresses and a thousand; how fast it answers, and how soon it
//! announces what the API says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Settings,
    engine::Engine,
    store::{Figure, Store},
};
use crate::{
    Cluster, Progress,
    checkout::root,
    clock, figures,
    frames::{Mac, Word},
    lan::LAN_BRIDGE,
    pcap,
    scenario::{
        layer2::{
            field::{create, pool, remove_pool, serve, service, wait_addresses, wait_single},
            many::{POOL, RANGES, names},
        },
        workload::restart_speakers,
    },
    usage,
    wire::OBSERVER,
};

/// Namespace of servers and services.
pub(super) const NS: &str = "bench-steady";
/// Pool of addresses that were never announced before, for each of the two ways.
const FRESH: [(&str, [&str; 2]); 2] = [
    ("fresh-a", ["10.78.0.0/24", "fd00:78::/120"]),
    ("fresh-b", ["10.79.0.0/24", "fd00:79::/120"]),
];
/// Parts, and first halves of names of figures: time from status to announcement as it is by default, and without probes.
const DEFAULT: &str = "status_to_garp_default";
const UNPROBED: &str = "status_to_garp";
/// Services of which the time from status to announcement is taken.
const SINGLES: usize = 50;

pub(super) fn run(
    cluster: &Cluster,
    server: &str,
    engine: Engine,
    settings: &Settings,
    store: &mut Store,
    progress: &Progress,
) -> Result<()> {
    serve(cluster, NS, server)?;
    if settings.wants("status") && !store.has(engine, DEFAULT) {
        store.set(status(cluster, engine, DEFAULT, &FRESH[0])?)?;
        progress.line(&format!("{engine}: time from status to announcement measured"));
    }
    if settings.wants("status") && !store.has(engine, UNPROBED) {
        // Go never probes.
        let measured = if engine == Engine::Ours {
            let measured = engine
                .with_argument(cluster, Some("--l2-probe=none"))
                .and_then(|()| status(cluster, engine, UNPROBED, &FRESH[1]));
            engine.with_argument(cluster, None)?;
            measured
        } else {
            status(cluster, engine, UNPROBED, &FRESH[1])
        };
        store.set(measured?)?;
        progress.line(&format!("{engine}: the same without probes measured"));
    }
    let wants = |part: &str| settings.wants(part) && !store.has(engine, part);
    let (resources, replies) = (wants("resources"), wants("replies"));
    if resources || replies {
        addresses(cluster, engine, resources, replies, store, progress)?;
    }
    clear(cluster)
}

/// The namespace controller deletes one service after the other.
fn clear(cluster: &Cluster) -> Result<()> {
    cluster
        .kubectl(&["delete", "namespace", NS, "--ignore-not-found", "--timeout=600s"])
        .map(drop)
}

/// No services, then fifty, then five hundred, all announced by the first node.
fn addresses(
    cluster: &Cluster,
    engine: Engine,
    resources: bool,
    replies: bool,
    store: &mut Store,
    progress: &Progress,
) -> Result<()> {
    let node = cluster.nodes().remove(0);
    let mut values = Vec::new();
    if resources {
        // New processes: what earlier parts left in them is not theirs at rest.
        restart_speakers(cluster)?;
        std::thread::sleep(Duration::from_secs(20));
        values.extend(cost(
            cluster,
            engine,
            &node.name,
            60,
            ("speaker_rss_idle_bytes", "speaker_idle_cpu_percent"),
        )?);
        progress.line(&format!("{engine}: cost at rest measured"));
    }
    let only = json!({"nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": node.name}}]});
    pool(cluster, POOL, &RANGES, &only)?;
    let names = names(500);
    let mut from = 0;
    for (upto, memory, processor) in [
        (50, "speaker_rss_100_bytes", "speaker_cpu_100_percent"),
        (500, "speaker_rss_1k_bytes", "speaker_cpu_1k_percent"),
    ] {
        let new = &names[from..upto];
        let services: Vec<_> = new
            .iter()
            .map(|name| service(NS, name, POOL, &json!({})))
            .collect();
        create(cluster, &services)?;
        from = upto;
        let found = wait_addresses(cluster, NS, new)?;
        wait_single(cluster, &found.into_values().flatten().collect::<Vec<_>>())?;
        if resources {
            // The announcements of new addresses go on for five seconds.
            std::thread::sleep(Duration::from_secs(10));
            values.extend(cost(cluster, engine, &node.name, 30, (memory, processor))?);
            progress.line(&format!("{engine}: cost with {} addresses measured", 2 * upto));
        }
    }
    store.set(values)?;
    if replies {
        let found = wait_addresses(cluster, NS, &names)?;
        let v4: Vec<IpAddr> = found.into_values().map(|[v4, _]| v4).collect();
        let mac = Mac::parse(&node.lan.mac()).context("a node has a hardware address")?;
        store.set(vec![flood(cluster, engine, &node.name, mac, &v4)?])?;
        progress.line(&format!("{engine}: answers a second measured"));
    }
    clear(cluster)?;
    remove_pool(cluster, POOL)
}

/// Memory and processor of the speaker of a node during so many seconds.
fn cost(
    cluster: &Cluster,
    engine: Engine,
    node: &str,
    seconds: u32,
    (memory, processor): (&str, &str),
) -> Result<Vec<Figure>> {
    let pid = engine.speaker(cluster, node)?;
    let before = usage::of(pid)?;
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let after = usage::of(pid)?;
    let value = |name: &str, unit: &str, value: f64, note: String| Figure {
        engine,
        part: "resources".to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        value,
        runs: 1,
        note: format!("{note}; {}", figures::load()),
    };
    let percent = (after.cpu_seconds - before.cpu_seconds) / f64::from(seconds) * 100.0;
    Ok(vec![
        value(
            memory,
            "bytes",
            after.rss as f64,
            format!("peak {} bytes", after.peak_rss),
        ),
        value(
            processor,
            "%",
            percent,
            format!("of one processor, over {seconds} s, probes of kubelet included"),
        ),
    ])
}

/// Asks a node for its addresses as fast as it goes.
fn flood(cluster: &Cluster, engine: Engine, node: &str, mac: Mac, addresses: &[IpAddr]) -> Result<Figure> {
    const TIME: Duration = Duration::from_secs(10);
    let pid = engine.speaker(cluster, node)?;
    let wire = cluster.observer(false)?;
    let (usage_before, (received, _)) = (usage::of(pid)?, cluster.frames_counted(OBSERVER)?);
    let asked = wire.flood(mac, addresses, TIME)?;
    // What is in queues is still answered.
    std::thread::sleep(Duration::from_millis(500));
    let (usage_after, (received_after, _)) = (usage::of(pid)?, cluster.frames_counted(OBSERVER)?);
    let replies = (received_after - received) as f64;
    let busy = usage_after.cpu_seconds - usage_before.cpu_seconds;
    Ok(Figure {
        engine,
        part: "replies".to_owned(),
        name: "arp_replies_per_second".to_owned(),
        unit: "replies/s".to_owned(),
        value: replies / busy.max(0.001),
        runs: 1,
        note: format!(
            "replies by the second of processor time that the speaker took; {asked} questions to one node in {TIME:?}, \
             {replies} answered in {busy:.2} s of its processor time; {}",
            figures::load()
        ),
    })
}

/// Creates services one after the other, and compares the API server's audit log with a capture.
fn status(
    cluster: &Cluster,
    engine: Engine,
    part: &str,
    (pool_name, ranges): &(&str, [&str; 2]),
) -> Result<Vec<Figure>> {
    pool(cluster, pool_name, ranges, &json!({}))?;
    // Speakers have seen the pool, and have listened for what others announce.
    std::thread::sleep(Duration::from_secs(6));
    let file = root().join("target/bench/l2-status.pcap");
    let capture = cluster.capture("lan", LAN_BRIDGE, "arp or icmp6", &file)?;
    let names: Vec<String> = (0..SINGLES).map(|n| format!("{pool_name}-{n}")).collect();
    for single in &names {
        create(cluster, &[service(NS, single, pool_name, &json!({}))])?;
        wait_addresses(cluster, NS, std::slice::from_ref(single))?;
    }
    let found = wait_addresses(cluster, NS, &names)?;
    wait_single(cluster, &found.values().flatten().copied().collect::<Vec<_>>())?;
    let seen = pcap::read(&capture.stop()?)?;
    std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    let written = written(cluster)?;
    let mut times = Vec::new();
    for (name, addresses) in &found {
        let Some(at) = written.get(name).filter(|_| names.contains(name)) else {
            continue;
        };
        for address in addresses {
            let first = seen
                .iter()
                .find(|s| matches!(s.word, Word::Announces(of, _) if of == *address))
                .with_context(|| format!("{address} was never announced"))?;
            times.push(first.at.saturating_sub(*at));
        }
    }
    for name in &names {
        cluster.kubectl(&["delete", "service", "-n", NS, name, "--wait=false"])?;
    }
    remove_pool(cluster, pool_name)?;
    let value = |hundredth: usize| Figure {
        engine,
        part: part.to_owned(),
        name: format!("{part}_p{hundredth}_ms"),
        unit: "ms".to_owned(),
        value: figures::percentile(&times, hundredth),
        runs: times.len(),
        note: format!(
            "from the API server's answer to whoever wrote the status, to the first gratuitous ARP or advertisement on the wire; {}",
            figures::load()
        ),
    };
    Ok(vec![value(50), value(99)])
}

/// When the API server answered the first write of each service's status, by the audit log.
fn written(cluster: &Cluster) -> Result<BTreeMap<String, Duration>> {
    let path = cluster.audit_log();
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut all = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| format!("read {}", path.display()))?;
        if !line.contains("\"subresource\":\"status\"") || !line.contains(NS) {
            continue;
        }
        // The last line may still be being written.
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        let of = &event["objectRef"];
        if of["resource"] == "services"
            && of["namespace"] == NS
            && event["responseStatus"]["code"] == 200
            && let Some(name) = of["name"].as_str()
            && let Some(at) = event["stageTimestamp"].as_str().and_then(clock::parse)
        {
            all.entry(name.to_owned()).or_insert(at);
        }
    }
    Ok(all)
}
