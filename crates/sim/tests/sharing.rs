//! Services that share addresses: each address has one owner, whatever else its services have.

use std::collections::BTreeSet;
use std::time::Duration;

use metallb_sim::{Cluster, Fault, NodeNumber, Run, Setup, Sharing};
use metallb_speaker_core::Options;

const NODES: usize = 4;

fn setup(seed: u64, sharing: Sharing, services: usize) -> Setup {
    Setup {
        sharing,
        ..Setup::new(NODES, services, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// What disturbs what services have in common, one after the other, judged by address all the while.
fn disturbed(seed: u64, setup: Setup) {
    let mut run = Run::with(seed, setup);
    let pause = run.bounds().converged * 2 + Duration::from_secs(1);
    let all = || (0..NODES).collect::<BTreeSet<NodeNumber>>();
    let check = |result: Result<(), _>| result.unwrap_or_else(|failure| panic!("{failure}"));
    check(run.begin());
    for fault in [
        // The common candidates of a `Local` service and others get fewer, and then there are none in common.
        Fault::Place(1, [0].into()),
        Fault::Place(5, [1, 2].into()),
        Fault::Exclude(0, true),
        Fault::Place(1, [3].into()),
        Fault::Exclude(0, false),
        Fault::Place(1, BTreeSet::new()),
        Fault::Place(1, all()),
        // What connects others comes and goes.
        Fault::Offer(2, false),
        Fault::Offer(0, false),
        Fault::Offer(2, true),
        Fault::Offer(4, false),
        Fault::Offer(4, true),
        Fault::Offer(0, true),
        Fault::Place(5, all()),
        // Who may announce all of them is cut off: others that may announce some follow.
        Fault::Place(1, [3].into()),
        Fault::Isolate(3),
        Fault::Heal,
        Fault::Place(1, all()),
    ] {
        run.disturb(fault);
        check(run.pass(pause));
    }
    for node in 0..NODES {
        run.disturb(Fault::Isolate(node));
        check(run.pass(pause));
        run.disturb(Fault::Heal);
        check(run.pass(pause));
        run.disturb(Fault::Restart(node, Duration::from_secs(2)));
        check(run.pass(pause));
        // Created while its owner is away.
        run.disturb(Fault::Offer(2, false));
        check(run.pass(pause));
        run.disturb(Fault::Restart(node, Duration::from_secs(10)));
        check(run.pass(Duration::from_secs(3)));
        run.disturb(Fault::Offer(2, true));
        check(run.pass(pause + Duration::from_secs(10)));
    }
}

#[test]
fn each_address_has_one_owner() {
    for seed in 0..6 {
        for sharing in [Sharing::Pairs, Sharing::Chain] {
            disturbed(seed, setup(seed, sharing, 6));
        }
    }
}

#[test]
fn each_address_has_one_owner_where_nobody_preempts() {
    for seed in 0..6 {
        for sharing in [Sharing::Pairs, Sharing::Chain] {
            let mut setup = setup(seed, sharing, 6);
            setup.options = Options {
                non_preempt: true,
                ..Options::default()
            };
            disturbed(seed, setup);
        }
    }
}

/// Leases are of addresses: who has that of one has those of all that are connected with it.
#[test]
fn each_address_has_one_owner_or_none_in_strict_mode() {
    let (mut answered, mut asked) = (0, 0);
    for seed in 0..6 {
        let sharing = [Sharing::Pairs, Sharing::Chain][seed as usize % 2];
        let mut setup = setup(seed, sharing, 6);
        setup.options.strict = true;
        let mut cluster = Cluster::new(setup);
        (0..NODES).for_each(|node| cluster.start(node));
        cluster.run(Duration::from_secs(8));
        for fault in [
            Fault::RepairAll,
            Fault::Place(1, [0].into()),
            Fault::Place(5, [1].into()),
            Fault::Offer(2, false),
            Fault::Offer(2, true),
            Fault::CutApi(seed as usize % NODES),
            Fault::Place(1, [2, 3].into()),
            Fault::Split([0, 1].into()),
            Fault::RepairAll,
            Fault::Exclude(2, true),
        ] {
            assert_eq!(fault.apply(&mut cluster), None);
            for turn in 0..600 {
                cluster.ask();
                cluster.run(Duration::from_millis(20));
                for address in 0..6 {
                    let owners = (0..2).flat_map(|island| &cluster.neighbour(island, address).in_own_name);
                    let owners: BTreeSet<_> = owners.filter_map(|mac| cluster.node_of(*mac)).collect();
                    assert!(
                        owners.len() <= 1,
                        "seed {seed}, {fault:?}: {owners:?} answer for {address}"
                    );
                    // Twelve seconds after most of these, all is well again.
                    if turn == 599 && cluster.facts().eligible(address, 3) {
                        asked += 1;
                        answered += owners.len();
                    }
                }
            }
        }
    }
    println!("{answered} of {asked} addresses had an owner at the end of a turn");
    assert!(answered * 10 > asked * 7);
}
