//! Moves and restarts on purpose, and what goes over the wire meanwhile.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    LONG, Settings,
    engine::Engine,
    rounds::samples,
    store::{Figure, Store},
};
use crate::{
    Cluster, Progress,
    checkout::root,
    figures,
    frames::Word,
    lan::LAN_BRIDGE,
    pcap,
    scenario::{
        layer2::{
            STEADY,
            field::{Field, advertise},
            moves::{EXCLUDE, wait_left},
            watch::{DATAGRAMS, Outcome, Watch},
        },
        workload::restart_speakers,
    },
};

/// Kinds of moves on purpose.
pub(super) const MOVES: [&str; 3] = ["drain", "preference", "rolling-restart"];

/// Rounds of each kind for so many cuts.
pub(super) fn rounds_of(kind: &str, cuts: usize) -> usize {
    if kind == "rolling-restart" {
        cuts.div_ceil(25)
    } else {
        cuts.div_ceil(5)
    }
}

/// All that are wanted and not there yet.
pub(super) fn run(
    cluster: &Cluster,
    field: &Field,
    engine: Engine,
    settings: &Settings,
    store: &mut Store,
    progress: &Progress,
) -> Result<()> {
    for kind in MOVES {
        // Go MetalLB 0.16.1 knows no preference.
        if kind == "preference" && engine == Engine::Go {
            continue;
        }
        let wanted = rounds_of(kind, settings.rounds_of(engine));
        for round in store.rounds(engine, kind)..wanted {
            let outcomes = one(cluster, field, kind).with_context(|| format!("{kind}, round {round}"))?;
            let lost: u64 = outcomes.iter().map(|o| o.report.lost()).sum();
            progress.line(&format!(
                "{engine} {kind} {}/{wanted}: {lost} lost, {}",
                round + 1,
                figures::load()
            ));
            store.add(samples(engine, kind, round, &outcomes))?;
        }
    }
    if !store.has(engine, "wire") {
        store.set(wire(cluster, field, engine)?)?;
    }
    Ok(())
}

fn one(cluster: &Cluster, field: &Field, kind: &str) -> Result<Vec<Outcome>> {
    let target = field.target();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    match kind {
        "drain" => {
            exclude(cluster, &target.owner, true)?;
            wait_left(cluster, field, &target.owner)?;
            let mark = watch.mark();
            std::thread::sleep(Duration::from_secs(2));
            watch.wait_flow(&mark, STEADY, LONG)?;
            exclude(cluster, &target.owner, false)?;
        }
        "preference" => {
            let all = cluster.nodes();
            let other = all
                .iter()
                .find(|node| node.name != target.owner && node.name != field.server);
            let other = other.context("three nodes that may own")?.name.clone();
            let wish =
                json!([{"weight": 100, "preference": {"matchLabels": {"kubernetes.io/hostname": other}}}]);
            advertise(cluster, &json!({"preferredNodeSelectors": wish}))?;
            field.wait_owners(cluster, LONG, |_| other.clone())?;
            advertise(cluster, &json!({"preferredNodeSelectors": []}))?;
        }
        _ => {
            restart_speakers(cluster)?;
        }
    }
    field.wait_as_laid(cluster)?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, LONG)?;
    watch.stop()
}

/// Labels a node as one that takes no part, or takes the label away.
fn exclude(cluster: &Cluster, node: &str, away: bool) -> Result<()> {
    let label = format!("{EXCLUDE}{}", if away { "=" } else { "-" });
    cluster
        .kubectl(&["label", "node", "--overwrite", node, &label])
        .map(drop)
}

/// Frames of membership and announcements while nothing happens, and announcements of a move.
fn wire(cluster: &Cluster, field: &Field, engine: Engine) -> Result<Vec<Figure>> {
    const TIME: u64 = 30;
    // Announcements of a move are over after five seconds.
    const MOVED: Duration = Duration::from_secs(6);
    let filter = "arp or icmp6 or port 7946";
    let file = root().join("target/bench/l2-wire.pcap");
    let count = |of: &dyn Fn(&Word) -> bool| -> Result<f64> {
        let seen = pcap::read(&file)?;
        Ok(seen.iter().filter(|s| of(&s.word)).count() as f64)
    };
    let speakers = cluster.nodes().len() as f64;
    let value = |name: &str, unit: &str, value: f64, note: &str| Figure {
        engine,
        part: "wire".to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        value,
        runs: 1,
        note: note.to_owned(),
    };
    let addresses = field.addresses();
    let announces =
        |word: &Word, of: &[IpAddr]| matches!(word, Word::Announces(address, _) if of.contains(address));

    std::thread::sleep(MOVED);
    let capture = cluster.capture("lan", LAN_BRIDGE, filter, &file)?;
    std::thread::sleep(Duration::from_secs(TIME));
    capture.stop()?;
    let membership = count(&|word| matches!(word, Word::Membership))?;
    let announced = count(&|word| announces(word, &addresses))?;

    let target = field.target().addresses();
    let capture = cluster.capture("lan", LAN_BRIDGE, filter, &file)?;
    let owner = &field.target().owner;
    exclude(cluster, owner, true)?;
    wait_left(cluster, field, owner)?;
    std::thread::sleep(MOVED);
    capture.stop()?;
    let moved = count(&|word| announces(word, &target))? / target.len() as f64;
    exclude(cluster, owner, false)?;
    field.wait_as_laid(cluster)?;
    std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    Ok(vec![
        value(
            "idle_membership_frames_per_second",
            "frames/s",
            membership / TIME as f64 / speakers,
            "by the speaker; everything from or to port 7946 on the LAN while nothing happens",
        ),
        value(
            "idle_announcements_per_second",
            "frames/s",
            announced / TIME as f64,
            "gratuitous ARP and unsolicited advertisements while nothing happens",
        ),
        value(
            "move_announcements",
            "frames",
            moved,
            "gratuitous ARP or unsolicited advertisements for an address that moves to another node",
        ),
    ])
}
