//! Planned moves: whoever has an address answers until the successor is heard, however old anybody's view is.

use std::time::Duration;

use metallb_sim::{Cluster, Fault, Interruption, NodeNumber, Setup, settled, watch};

const TRIALS: u64 = 80;

/// A cluster whose API server tells news within `delay`.
fn cluster(seed: u64, nodes: usize, loss: u8, delay: u64) -> (Cluster, NodeNumber) {
    let setup = Setup {
        loss,
        api_delay: Duration::from_millis(delay),
        ..Setup::new(nodes, 1, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    settled(&setup)
}

fn apply(cluster: &mut Cluster, fault: &Fault) {
    assert!(fault.apply(cluster).is_none(), "nothing follows later");
}

fn look(cluster: &mut Cluster, owner: NodeNumber, seconds: u64) -> Interruption {
    watch(cluster, owner, Duration::from_secs(seconds), |_, _| {})
}

/// Nothing lost, one move, and never two answers for long.
fn judge(what: &str, seed: u64, seen: Interruption, longest_double: u64) {
    assert_eq!(seen.longest, Duration::ZERO, "{what}, seed {seed}: {seen:?}");
    let bound = Duration::from_millis(longest_double);
    let (Some((first, _)), Some((last, _))) = (seen.moved, seen.settled) else {
        panic!("{what}, seed {seed}: nothing moved")
    };
    assert!(last <= first + bound, "{what}, seed {seed}: {seen:?}");
    assert!(seen.double <= bound, "{what}, seed {seed}: {seen:?}");
}

#[test]
fn an_excluded_owner_hands_over_and_takes_back_without_a_loss() {
    for (nodes, loss, delay) in [(3, 0, 50), (3, 0, 800), (5, 0, 200), (3, 5, 800), (3, 20, 200)] {
        for seed in 0..TRIALS {
            let (mut cluster, owner) = cluster(seed, nodes, loss, delay);
            for fault in [
                Fault::Exclude(owner, true),
                Fault::Exclude(owner, false),
                Fault::Label(owner, false),
                Fault::Label(owner, true),
            ] {
                let (mac, _) = cluster.neighbour(0, 0).cached.expect("an owner");
                let holder = cluster.node_of(mac).expect("a node");
                apply(&mut cluster, &fault);
                let seen = look(&mut cluster, holder, 3);
                let what = format!("{nodes} nodes, {loss} % loss, {delay} ms, {fault:?}");
                judge(&what, seed, seen, 300);
            }
        }
    }
}

/// A drain, two seconds later the node is switched off.
#[test]
fn a_drained_node_may_be_switched_off() {
    for seed in 0..TRIALS {
        let (mut cluster, owner) = cluster(seed, 3, 0, 200);
        apply(&mut cluster, &Fault::Exclude(owner, true));
        judge("drain", seed, look(&mut cluster, owner, 2), 300);
        let (mac, _) = cluster.neighbour(0, 0).cached.expect("an owner");
        let holder = cluster.node_of(mac).expect("a node");
        apply(&mut cluster, &Fault::PowerOff(owner));
        let seen = look(&mut cluster, holder, 3);
        assert_eq!((seen.longest, seen.moved), (Duration::ZERO, None), "seed {seed}");
    }
}

/// One of the nodes has lost the API server and knows nothing of the move: it believes who does.
#[test]
fn the_fresher_view_wins() {
    for seed in 0..TRIALS {
        for cut in 0..3 {
            let (mut cluster, owner) = cluster(seed, 3, 0, 50);
            cluster.connect_api(cut, false);
            apply(&mut cluster, &Fault::Exclude(owner, true));
            let what = format!("n{cut} of 3 without API, n{owner} excluded");
            judge(&what, seed, look(&mut cluster, owner, 8), 300);
            // Whoever cannot be reached by the API goes on believing it, and learns it at last.
            cluster.connect_api(cut, true);
            let (mac, _) = cluster.neighbour(0, 0).cached.expect("an owner");
            let holder = cluster.node_of(mac).expect("a node");
            assert_ne!(holder, owner);
            let seen = look(&mut cluster, holder, 5);
            assert_eq!(
                (seen.longest, seen.moved),
                (Duration::ZERO, None),
                "{what}, seed {seed}"
            );
        }
    }
}
