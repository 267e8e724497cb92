//! How long take-overs last and what pauses do, as distributions: these choose the periods of membership.

use std::collections::BTreeMap;
use std::time::Duration;

use metallb_sim::{Cluster, Fault, Loss, Notice, Run, Setup, percentile, takeover};

/// Trials of each kind.
const TRIALS: u64 = 120;

fn trials(setup: impl Fn(u64) -> Setup + Sync, loss: Loss) -> Vec<Option<Duration>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let setup = &setup;
        let one = move |seed| takeover(&setup(seed), loss).map(|(after, _)| after);
        let work = |worker| {
            move || {
                (worker..TRIALS)
                    .step_by(workers as usize)
                    .map(one)
                    .collect::<Vec<_>>()
            }
        };
        let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("no panic"))
            .collect()
    })
}

fn setup(nodes: usize, loss: u8) -> impl Fn(u64) -> Setup + Sync {
    move |seed| Setup {
        loss,
        ..Setup::new(nodes, 1, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[test]
fn a_failed_owner_is_replaced_within_a_second() {
    for nodes in [2, 3, 5, 10] {
        for percent in [0, 5, 20] {
            for loss in [Loss::LinkCut, Loss::Kill, Loss::Stop] {
                let times = trials(setup(nodes, percent), loss);
                let mut times: Vec<Duration> = times.into_iter().map(|t| t.expect("a take-over")).collect();
                times.sort_unstable();
                let [p50, p99, max] = [50, 99, 100].map(|at| percentile(&times, at).as_millis());
                println!(
                    "{nodes:3} nodes, {percent:2} % loss, {loss:?}: p50 {p50} ms, p99 {p99} ms, max {max} ms"
                );
                if percent <= 5 {
                    assert!(
                        max <= 1_000,
                        "{nodes} nodes, {percent} % loss, {loss:?}: {max} ms"
                    );
                }
            }
        }
    }
}

#[test]
fn short_pauses_move_nothing() {
    for nodes in [3, 5] {
        for milliseconds in [50, 100, 200, 300, 400, 500, 600, 800] {
            let pause = Loss::Pause(Duration::from_millis(milliseconds));
            let moved = trials(setup(nodes, 0), pause).into_iter().flatten().count();
            println!(
                "{nodes} nodes, owner paused for {milliseconds:3} ms: {moved} of {TRIALS} times taken over"
            );
            assert!(
                milliseconds > 300 || moved == 0,
                "{nodes} nodes, {milliseconds} ms: {moved} false take-overs"
            );
        }
    }
}

/// Every process waits for the processor now and then, as on nodes with more runnable threads than cores.
#[test]
fn a_starved_cluster_moves_nothing() {
    for (nodes, longest) in [(3, 60), (3, 150), (5, 60)] {
        let mut moves = 0;
        for seed in 0..10 {
            let mut rng = metallb_sansio::SeededRng::new(seed);
            let mut cluster = Cluster::new(Setup::new(nodes, 4, seed));
            (0..nodes).for_each(|node| cluster.start(node));
            cluster.run(Duration::from_secs(4));
            cluster.take_notices();
            let mut resume: BTreeMap<usize, u32> = BTreeMap::new();
            for millisecond in 0..60_000_u32 {
                for node in 0..nodes {
                    if resume.get(&node).is_some_and(|at| *at <= millisecond) {
                        resume.remove(&node);
                        cluster.resume(node);
                    } else if !resume.contains_key(&node) && rng.below(40) == 0 {
                        resume.insert(node, millisecond + 1 + rng.below(longest) as u32);
                        cluster.pause(node);
                    }
                }
                cluster.run(Duration::from_millis(1));
            }
            moves += cluster
                .take_notices()
                .iter()
                .filter(|(.., n)| matches!(n, Notice::Change(_)))
                .count();
        }
        println!(
            "{nodes} nodes, pauses of up to {longest} ms over and over for 10 min: {moves} owner changes"
        );
        assert!(longest > 60 || moves == 0);
    }
}

/// A node that was away believes that the others are dead. That must not become true.
#[test]
fn a_returning_node_moves_what_is_its_own_and_nothing_else() {
    let mut strays = 0;
    for seed in 0..100 {
        let mut cluster = Cluster::new(Setup::new(5, 4, seed));
        (0..5).for_each(|node| cluster.start(node));
        cluster.run(Duration::from_secs(4));
        let away = seed as usize % 5;
        cluster.isolate(away);
        cluster.run(Duration::from_secs(5));
        cluster.take_notices();
        cluster.drift(away, 0);
        cluster.run(Duration::from_secs(3));
        for (at, node, notice) in cluster.take_notices() {
            if let Notice::Change(change) = notice {
                let name = format!("n{away}");
                let own = node == away
                    || [&change.from, &change.to]
                        .iter()
                        .any(|n| n.as_deref() == Some(&name));
                if !own {
                    strays += 1;
                    println!("seed {seed}, n{away} away, {at} n{node}: {change:?}");
                }
            }
        }
    }
    assert_eq!(strays, 0);
}

/// While one node is dead for long, another's speaker restarts. Peers that hear it hand its addresses back to it, so it
/// must know by then what it owns, and must not wait for the dead one.
#[test]
fn a_starting_speaker_leaves_nothing_unanswered_although_another_node_is_dead() {
    for seed in 0..60 {
        let (dead, starting) = (seed as usize % 3, (seed as usize + 1) % 3);
        let mut setup = Setup::new(3, 4, seed);
        setup.api_delay = Duration::from_millis(500);
        let mut run = Run::with(seed, setup);
        let judged = run.begin().and_then(|()| {
            run.disturb(Fault::Kill(dead));
            run.pass(Duration::from_secs(4))?;
            run.disturb(Fault::Restart(starting, Duration::from_secs(4)));
            run.pass(Duration::from_secs(10))
        });
        judged.unwrap_or_else(|failure| panic!("{failure}"));
    }
}
