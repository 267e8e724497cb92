//! Without preemption: whoever has an address keeps it, whoever returns.

use std::time::Duration;

use metallb_sim::{Cluster, Fault, Interruption, NodeNumber, Run, Setup, settled, watch};
use metallb_speaker_core::Options;

const TRIALS: u64 = 60;

fn cluster(seed: u64, nodes: usize, loss: u8) -> (Cluster, NodeNumber) {
    let setup = Setup {
        loss,
        options: Options {
            non_preempt: true,
            ..Options::default()
        },
        ..Setup::new(nodes, 3, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    settled(&setup)
}

fn look(cluster: &mut Cluster, owner: NodeNumber, seconds: u64) -> Interruption {
    watch(cluster, owner, Duration::from_secs(seconds), |_, _| {})
}

/// The one that the client's neighbour cache names.
fn holder(cluster: &Cluster) -> NodeNumber {
    let (mac, _) = cluster.neighbour(0, 0).cached.expect("an owner");
    cluster.node_of(mac).expect("a node")
}

/// Nothing lost, nothing moved.
fn unmoved(what: &str, seed: u64, seen: Interruption) {
    assert_eq!(
        (seen.longest, seen.moved),
        (Duration::ZERO, None),
        "{what}, seed {seed}: {seen:?}"
    );
}

#[test]
fn a_node_that_returns_takes_nothing_back() {
    for nodes in [2, 3, 5] {
        for seed in 0..TRIALS {
            let (mut cluster, owner) = cluster(seed, nodes, 0);
            cluster.power_off(owner);
            let (after, successor) = look(&mut cluster, owner, 3).moved.expect("a take-over");
            assert!(
                after <= Duration::from_secs(1),
                "{nodes} nodes, seed {seed}: {after:?}"
            );
            assert_eq!(holder(&cluster), successor);
            cluster.start(owner);
            let seen = look(&mut cluster, successor, 5);
            unmoved(&format!("{nodes} nodes, n{owner} is back"), seed, seen);
        }
    }
}

/// It was alive all the time and believes that it still has it, and that it has what the others had.
#[test]
fn a_node_that_was_cut_off_takes_nothing_back_and_nothing_with_it() {
    for nodes in [3, 5] {
        for seed in 0..TRIALS {
            let (mut cluster, owner) = cluster(seed, nodes, 0);
            cluster.isolate(owner);
            let (_, successor) = look(&mut cluster, owner, 5).moved.expect("a take-over");
            let of_others = |cluster: &Cluster| {
                [1, 2].map(|service| cluster.neighbour(0, service).cached.map(|(mac, _)| mac))
            };
            let before = of_others(&cluster);
            cluster.take_notices();
            cluster.drift(owner, 0);
            let seen = look(&mut cluster, successor, 5);
            // Until the first word from it is heard, both answer.
            assert!(
                seen.double <= Duration::from_millis(300),
                "{nodes} nodes, seed {seed}: {seen:?}"
            );
            assert_eq!(holder(&cluster), successor, "{nodes} nodes, seed {seed}");
            assert_eq!(
                of_others(&cluster),
                before,
                "{nodes} nodes, seed {seed}, n{owner} was away\n{}",
                cluster.take_story()
            );
        }
    }
}

#[test]
fn a_restart_is_not_a_move() {
    for nodes in [2, 3, 5] {
        for after in [50, 1_000, 4_000] {
            for seed in 0..TRIALS / 3 {
                let (mut cluster, owner) = cluster(seed, nodes, 0);
                cluster.stop(owner);
                let mut started = false;
                let begun = cluster.now();
                let seen = watch(&mut cluster, owner, Duration::from_secs(8), |cluster, now| {
                    if !started && now - begun >= Duration::from_millis(600 + after) {
                        started = true;
                        cluster.start(owner);
                    }
                });
                let what = format!("{nodes} nodes, back after {after} ms");
                unmoved(&what, seed, seen);
            }
        }
    }
}

/// An owner that is excluded hands over. When it may again, it does not take back.
#[test]
fn an_excluded_owner_hands_over_for_good() {
    for (nodes, loss) in [(3, 0), (5, 5)] {
        for seed in 0..TRIALS {
            let (mut cluster, owner) = cluster(seed, nodes, loss);
            assert!(Fault::Exclude(owner, true).apply(&mut cluster).is_none());
            let seen = look(&mut cluster, owner, 3);
            assert_eq!(seen.longest, Duration::ZERO, "seed {seed}: {seen:?}");
            let (_, successor) = seen.moved.expect("a move");
            assert!(Fault::Exclude(owner, false).apply(&mut cluster).is_none());
            unmoved("may own again", seed, look(&mut cluster, successor, 4));
        }
    }
}

/// Nobody remembers anything.
#[test]
fn all_restarted_at_once_come_to_one_owner() {
    for nodes in [2, 3, 5] {
        for seed in 0..TRIALS {
            let (mut cluster, first) = cluster(seed, nodes, 0);
            (0..nodes).for_each(|node| cluster.kill(node));
            cluster.run(Duration::from_millis(200 + seed));
            (0..nodes).for_each(|node| cluster.start(node));
            cluster.run(Duration::from_secs(3));
            let seen = look(&mut cluster, first, 3);
            unmoved(&format!("{nodes} nodes"), seed, seen);
        }
    }
}

/// It works out the first successor itself, but that this one keeps what it has it must be told, by somebody it hears.
#[test]
fn who_does_not_hear_the_claimant_hears_of_its_claim() {
    for (seed, (a, b)) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        .into_iter()
        .enumerate()
    {
        let setup = Setup {
            options: Options {
                non_preempt: true,
                ..Options::default()
            },
            ..Setup::new(4, 1, seed as u64)
        };
        let mut run = Run::with(seed as u64, setup);
        let mut pass = |faults: &[Fault]| {
            for fault in faults {
                run.disturb(fault.clone());
            }
            let passed = run.pass(Duration::from_secs(5));
            passed.unwrap_or_else(|failure| panic!("n{a} does not hear n{b}: {failure}"));
            holder(run.cluster())
        };
        let owner = pass(&[0, 1, 2, 3].map(Fault::Start));
        pass(&[Fault::Deafen(a, b)]);
        let successor = pass(&[Fault::Exclude(owner, true)]);
        assert_eq!(pass(&[Fault::Exclude(owner, false)]), successor);
    }
}
