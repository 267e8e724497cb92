//! From samples to figures.

use std::time::Duration;

use super::{
    engine::Engine,
    moves::MOVES,
    store::{Sample, Store},
};
use crate::figures::{Entry, percentile};

/// All figures that there are; those of Go stand beside ours.
pub(super) fn entries(store: &Store) -> Vec<Entry> {
    let mut all = Vec::new();
    for (part, name) in [
        ("link-cut", "link_cut"),
        ("node-kill", "node_kill"),
        ("speaker-kill", "speaker_kill"),
    ] {
        let ours = worst(&store.samples(Engine::Ours, part));
        let go = worst(&store.samples(Engine::Go, part));
        if ours.is_empty() {
            continue;
        }
        for (suffix, hundredth) in [("p50", 50), ("p99", 99), ("max", 100)] {
            all.push(Entry {
                name: format!("{name}_{suffix}_ms"),
                unit: "ms".to_owned(),
                ours: percentile(&ours, hundredth),
                peer: (!go.is_empty()).then(|| percentile(&go, hundredth)),
                runs: ours.len(),
                note: format!(
                    "longest time without an answer of the worst client in each round; ours: {}; Go ({} runs): {}",
                    by_client(&store.samples(Engine::Ours, part)),
                    go.len(),
                    by_client(&store.samples(Engine::Go, part))
                ),
            });
        }
    }
    planned(store, &mut all);
    values(store, &mut all);
    all
}

/// The worst client's time of each round.
fn worst(samples: &[&Sample]) -> Vec<Duration> {
    let rounds = samples.iter().map(|s| s.round + 1).max().unwrap_or_default();
    (0..rounds)
        .filter_map(|round| {
            let of_round = samples.iter().filter(|s| s.round == round);
            of_round.map(|s| s.longest_ms).reduce(f64::max)
        })
        .map(|ms| Duration::from_secs_f64(ms / 1e3))
        .collect()
}

/// p50 and p99 of each client.
fn by_client(samples: &[&Sample]) -> String {
    let mut clients: Vec<&str> = samples.iter().map(|s| s.client.as_str()).collect();
    clients.sort_unstable();
    clients.dedup();
    let one = |client: &str| {
        let of = samples.iter().filter(|s| s.client == client);
        let times: Vec<_> = of.map(|s| Duration::from_secs_f64(s.longest_ms / 1e3)).collect();
        format!(
            "{client} p50 {:.0} p99 {:.0}",
            percentile(&times, 50),
            percentile(&times, 99)
        )
    };
    clients.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

fn planned(store: &Store, all: &mut Vec<Entry>) {
    let lost = |engine: Engine, kind: &str| -> (u64, usize) {
        let samples = store.samples(engine, kind);
        (samples.iter().map(|s| s.lost).sum(), store.rounds(engine, kind))
    };
    let sum = |engine: Engine| {
        MOVES
            .iter()
            .map(|kind| lost(engine, kind))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    };
    let ((ours, runs), (go, go_runs)) = (sum(Engine::Ours), sum(Engine::Go));
    if runs == 0 {
        return;
    }
    let words = |engine: Engine| {
        let one = |kind: &&str| {
            let (lost, rounds) = lost(engine, kind);
            format!("{kind} {lost} in {rounds}")
        };
        MOVES.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    all.push(Entry {
        name: "planned_move_lost_packets".to_owned(),
        unit: "packets".to_owned(),
        ours: ours as f64,
        peer: (go_runs > 0).then_some(go as f64),
        runs,
        note: format!(
            "four clients (two families, one keeps and one flushes its neighbours) at 200/s each; Go 0.16.1 has no preference; \
             ours: {}; Go: {}",
            words(Engine::Ours),
            words(Engine::Go)
        ),
    });
}

fn values(store: &Store, all: &mut Vec<Entry>) {
    let go = store.values(Engine::Go);
    for ours in store.values(Engine::Ours) {
        let peer = go.iter().find(|value| value.name == ours.name);
        all.push(Entry {
            name: ours.name.clone(),
            unit: ours.unit.clone(),
            ours: ours.value,
            peer: peer.map(|value| value.value),
            runs: ours.runs,
            note: match peer {
                Some(peer) if peer.note != ours.note => format!("ours: {}; Go: {}", ours.note, peer.note),
                _ => ours.note.clone(),
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Figure;
    use super::*;

    fn sample(engine: Engine, part: &str, round: usize, client: &str, longest_ms: f64) -> Sample {
        Sample {
            engine,
            part: part.to_owned(),
            round,
            client: client.to_owned(),
            longest_ms,
            lost: 3,
            load: String::new(),
        }
    }

    #[test]
    fn the_worst_client_of_each_round_counts_and_go_stands_beside_ours() {
        let file = std::env::temp_dir().join(format!("mlb-l2-report-{}.json", std::process::id()));
        let mut store = Store::open(&file, true).unwrap();
        let add = |store: &mut Store, sample: Sample| store.add(vec![sample]).unwrap();
        for (round, times) in [[400.0, 500.0], [450.0, 410.0]].iter().enumerate() {
            add(
                &mut store,
                sample(Engine::Ours, "link-cut", round, "v4_keeps", times[0]),
            );
            add(
                &mut store,
                sample(Engine::Ours, "link-cut", round, "v6_keeps", times[1]),
            );
        }
        add(&mut store, sample(Engine::Go, "link-cut", 0, "v4_keeps", 5300.0));
        add(&mut store, sample(Engine::Ours, "drain", 0, "v4_keeps", 10.0));
        let figure = Figure {
            engine: Engine::Ours,
            part: "replies".to_owned(),
            name: "arp_replies_per_second".to_owned(),
            unit: "replies/s".to_owned(),
            value: 1e5,
            runs: 1,
            note: String::new(),
        };
        store.set(vec![figure]).unwrap();
        let all = entries(&store);
        let of = |name: &str| all.iter().find(|e| e.name == name).unwrap();
        let near = |one: f64, other: f64| (one - other).abs() < 1e-6;
        assert!(near(of("link_cut_p50_ms").ours, 450.0));
        assert!(near(of("link_cut_p99_ms").ours, 500.0));
        assert!(near(of("link_cut_p99_ms").peer.unwrap(), 5300.0));
        assert_eq!(of("link_cut_p99_ms").runs, 2);
        assert!(near(of("planned_move_lost_packets").ours, 3.0));
        assert_eq!(of("planned_move_lost_packets").peer, None);
        assert!(near(of("arp_replies_per_second").ours, 1e5));
        assert!(all.iter().all(|e| !e.name.starts_with("node_kill")));
        std::fs::remove_file(&file).unwrap();
    }
}
