//! Nodes with a second NIC: each link is judged by what its kernel answers there.
//!
//! Which that is depends on the node: its own address is not answered for on a second NIC when it is an IPv6 address, nor an
//! IPv4 address under `arp_ignore`.

use std::time::Duration;

use metallb_sim::{Cluster, Facts, Island, Kernels, NodeNumber, Notice, ServiceNumber, Setup, percentile};

/// The second LAN, and the NIC that leads to it.
const SECOND_LAN: Island = 2;
const SECOND_NIC: u32 = 2;
/// Services announced there: an IPv4 and an IPv6 address.
const IPV4: ServiceNumber = 3;
const IPV6: ServiceNumber = 11;
const TRIALS: u64 = 6;
const ASK_EVERY: Duration = Duration::from_millis(5);

/// All kinds of nodes on whose second NIC the kernel answers for something, and what is announced there.
fn kinds() -> Vec<(Kernels, ServiceNumber)> {
    let mut kinds = Vec::new();
    for ipv6_nodes in [false, true] {
        for arp_ignore in [false, true] {
            for (link_local, second_address) in [(true, false), (true, true), (false, true)] {
                let kernels = Kernels {
                    ipv6_nodes,
                    arp_ignore,
                    link_local,
                    second_address,
                };
                kinds.push((kernels, IPV4));
                if link_local {
                    kinds.push((kernels, IPV6));
                }
            }
        }
    }
    kinds
}

/// A second NIC on which the kernel answers for nothing.
const MUTE: Kernels = Kernels {
    ipv6_nodes: false,
    arp_ignore: true,
    link_local: false,
    second_address: false,
};

fn settled(kernels: Kernels, service: ServiceNumber, seed: u64, loss: u8) -> (Cluster, NodeNumber) {
    let setup = Setup {
        second_lan: true,
        kernels,
        loss,
        ..Setup::new(3, service + 1, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    let mut cluster = Cluster::new(setup);
    (0..3).for_each(|node| cluster.start(node));
    cluster.ask();
    cluster.run(Duration::from_secs(4) + Duration::from_micros(seed * 7_919));
    let (mac, _) = cluster.neighbour(SECOND_LAN, service).cached.expect("an owner");
    let owner = cluster.node_of(mac).expect("a node");
    cluster.take_notices();
    (cluster, owner)
}

/// The nodes that a client last had answers from, as far as they are there and forward what it sends.
fn answering(
    cluster: &Cluster,
    island: Island,
    service: ServiceNumber,
) -> impl Iterator<Item = NodeNumber> + '_ {
    let by = cluster.neighbour(island, service).answered_by.iter();
    by.filter_map(|mac| cluster.node_of(*mac))
        .filter(move |node| cluster.forwards(*node, island))
}

/// What a client on the second LAN sees: the longest time without an answer that leads to a node that is there, and when it
/// first knew another node. And how often the owner changed in the view of others: that it owns its own, a speaker that starts finds
/// out.
fn look(
    cluster: &mut Cluster,
    service: ServiceNumber,
    owner: NodeNumber,
    watched: Duration,
) -> (Duration, Option<Duration>, usize) {
    let started = cluster.now();
    let (mut answered, mut longest, mut moved) = (started, Duration::ZERO, None);
    while cluster.now() - started < watched {
        cluster.ask();
        cluster.run(ASK_EVERY);
        if answering(cluster, SECOND_LAN, service).next().is_some() {
            answered = cluster.now();
        }
        let neighbour = cluster.neighbour(SECOND_LAN, service);
        longest = longest.max(cluster.now() - answered);
        if let Some((mac, since)) = neighbour.cached
            && cluster.node_of(mac) != Some(owner)
        {
            moved.get_or_insert(since - started);
        }
    }
    let key = Facts::key(service);
    let notices = cluster.take_notices();
    let changes = notices.iter().filter(|(_, node, notice)| {
        *node != owner && matches!(notice, Notice::Change(change) if change.service == key)
    });
    (longest, moved, changes.count())
}

/// The longest and the 99th percentile.
fn within(what: &str, mut times: Vec<Duration>, bound: Duration) {
    times.sort_unstable();
    let [p99, max] = [99, 100].map(|percent| percentile(&times, percent));
    println!("{what}: p99 {} ms, max {} ms", p99.as_millis(), max.as_millis());
    assert!(max <= bound, "{what}: {max:?}");
}

#[test]
fn a_restart_is_not_a_move_on_the_second_nic_either() {
    for (kernels, service) in kinds() {
        for stop in [true, false] {
            for loss in [0, 5] {
                let trial = |seed| {
                    let (mut cluster, owner) = settled(kernels, service, seed, loss);
                    if stop {
                        cluster.stop(owner);
                    } else {
                        cluster.kill(owner);
                    }
                    let away = look(&mut cluster, service, owner, Duration::from_secs(4));
                    cluster.start(owner);
                    let back = look(&mut cluster, service, owner, Duration::from_secs(2));
                    for (_, moved, changes) in [away, back] {
                        assert_eq!(
                            (moved, changes),
                            (None, 0),
                            "{kernels:?}, s{service}, seed {seed}"
                        );
                    }
                    away.0.max(back.0)
                };
                let bound = Duration::from_millis(if stop && loss == 0 { 0 } else { 1_000 });
                let what = format!("{kernels:?}, s{service}, stopped: {stop}, {loss} % loss: no answer");
                within(&what, (0..TRIALS).map(trial).collect(), bound);
            }
        }
    }
}

/// Where no kernel says anything on the second NIC, the node is judged by the first.
#[test]
fn a_link_that_never_answers_is_no_evidence() {
    for seed in 0..TRIALS * 4 {
        let (mut cluster, owner) = settled(MUTE, IPV4, seed, 0);
        cluster.stop(owner);
        let away = look(&mut cluster, IPV4, owner, Duration::from_secs(4));
        cluster.start(owner);
        let back = look(&mut cluster, IPV4, owner, Duration::from_secs(2));
        assert_eq!([away, back], [(Duration::ZERO, None, 0); 2], "seed {seed}");
    }
}

/// A node without a second NIC asks the owner too, and gets no answer from its second one.
#[test]
fn who_is_not_on_the_second_lan_says_nothing_of_it() {
    for kernels in [Kernels::default(), MUTE] {
        for seed in 0..TRIALS * 4 {
            let (mut cluster, first) = settled(kernels, IPV4, seed, 0);
            let without = (first + 1) % 3;
            cluster.plug(without, SECOND_NIC, false);
            let (_, moved, _) = look(&mut cluster, IPV4, first, Duration::from_secs(2));
            assert_eq!(moved, None, "{kernels:?}, seed {seed}");
            // It starts again, so that all that it knows of the owner it is told.
            for restarted in [without, first] {
                cluster.stop(restarted);
                let away = look(&mut cluster, IPV4, first, Duration::from_secs(3));
                cluster.start(restarted);
                let back = look(&mut cluster, IPV4, first, Duration::from_secs(2));
                for (longest, moved, _) in [away, back] {
                    assert_eq!(
                        (longest, moved),
                        (Duration::ZERO, None),
                        "{kernels:?}, seed {seed}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_cable_of_the_second_nic_is_cut() {
    let mut kinds = kinds();
    kinds.push((MUTE, IPV4));
    for (kernels, service) in kinds {
        let trial = |seed| {
            let (mut cluster, owner) = settled(kernels, service, seed, 0);
            cluster.plug(owner, SECOND_NIC, false);
            let (_, moved, _) = look(&mut cluster, service, owner, Duration::from_secs(2));
            moved.unwrap_or_else(|| panic!("{kernels:?}, s{service}, seed {seed}: no move"))
        };
        let what = format!("{kernels:?}, s{service}, second cable cut: moved after");
        within(
            &what,
            (0..TRIALS).map(trial).collect(),
            Duration::from_millis(600),
        );
    }
}

/// It is cut while the speaker is away, so that nobody tells.
#[test]
fn the_cable_of_the_second_nic_is_cut_during_a_restart() {
    for (kernels, service) in kinds() {
        let trial = |seed| {
            let (mut cluster, owner) = settled(kernels, service, seed, 0);
            cluster.stop(owner);
            cluster.run(Duration::from_millis(800 + seed * 13));
            cluster.plug(owner, SECOND_NIC, false);
            let (_, moved, _) = look(&mut cluster, service, owner, Duration::from_secs(2));
            moved.unwrap_or_else(|| panic!("{kernels:?}, s{service}, seed {seed}: no move"))
        };
        let what = format!("{kernels:?}, s{service}, second cable cut during a restart: moved after");
        within(
            &what,
            (0..TRIALS).map(trial).collect(),
            Duration::from_millis(600),
        );
    }
}

/// The speaker dies together with the cable.
#[test]
fn the_cable_of_the_second_nic_is_cut_and_the_speaker_dies() {
    for (kernels, service) in kinds() {
        let trial = |seed| {
            let (mut cluster, owner) = settled(kernels, service, seed, 0);
            cluster.kill(owner);
            cluster.plug(owner, SECOND_NIC, false);
            let (_, moved, _) = look(&mut cluster, service, owner, Duration::from_secs(2));
            moved.unwrap_or_else(|| panic!("{kernels:?}, s{service}, seed {seed}: no move"))
        };
        let what = format!("{kernels:?}, s{service}, second cable cut and speaker killed: moved after");
        within(
            &what,
            (0..TRIALS).map(trial).collect(),
            Duration::from_millis(700),
        );
    }
}

/// Another one starts while the owner is cut off from the first LAN: it hears from its peers that the owner is there, but nobody
/// told it of the owner's links, and the owner is heard on the second LAN.
#[test]
fn who_has_just_started_finds_out_too_where_the_owner_is_no_longer() {
    const FIRST_LAN: Island = 0;
    const ELSEWHERE: Island = 1;
    let service = 0;
    let trial = |seed: u64| {
        let setup = Setup {
            second_lan: true,
            loss: 20,
            api_delay: Duration::from_millis(800),
            ..Setup::new(3, IPV4 + 1, seed)
        };
        let mut cluster = Cluster::new(setup);
        (0..3).for_each(|node| cluster.start(node));
        cluster.ask();
        cluster.run(Duration::from_secs(4));
        let (mac, _) = cluster.neighbour(FIRST_LAN, service).cached.expect("an owner");
        let owner = cluster.node_of(mac).expect("a node");
        let starter = (0..3).filter(|node| *node != owner).nth(seed as usize % 2);
        let starter = starter.expect("three nodes");
        cluster.kill(starter);
        cluster.run(Duration::from_secs(2));
        cluster.start(starter);
        cluster.run(Duration::from_millis(500));
        cluster.drift(owner, ELSEWHERE);
        let (cut, mut answered) = (cluster.now(), None);
        while answered.is_none() && cluster.now() - cut < Duration::from_secs(5) {
            cluster.ask();
            cluster.run(ASK_EVERY);
            answered = answering(&cluster, FIRST_LAN, service)
                .any(|node| node != owner)
                .then(|| cluster.now() - cut);
        }
        answered.unwrap_or_else(|| panic!("seed {seed}: nobody answers\n{}", cluster.take_story()))
    };
    let what = "owner cut off from one of two LANs while another one starts: answered after";
    within(what, (0..300).map(trial).collect(), Duration::from_secs(2));
}

#[test]
fn a_node_with_two_nics_that_dies_is_replaced_within_a_second() {
    let mut kinds = kinds();
    kinds.push((MUTE, IPV4));
    for (kernels, service) in kinds {
        let trial = |seed| {
            let (mut cluster, owner) = settled(kernels, service, seed, 0);
            cluster.power_off(owner);
            let (_, moved, _) = look(&mut cluster, service, owner, Duration::from_secs(2));
            moved.unwrap_or_else(|| panic!("{kernels:?}, s{service}, seed {seed}: no move"))
        };
        let what = format!("{kernels:?}, s{service}, switched off: moved after");
        within(
            &what,
            (0..TRIALS).map(trial).collect(),
            Duration::from_millis(600),
        );
    }
}
