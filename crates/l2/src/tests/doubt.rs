//! Claims by stations of which nobody knows yet whether they are of the cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use super::announcer::{ADDRESS, OTHER, announcer, drain, link, mac, own, request};
use crate::wire::arp::Repr;
use crate::{Announcer, ConflictPolicy, Entry, ForeignClaim, Input, Interfaces, MacAddr, Output};

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const START: Instant = Instant::from_millis(10_000);

/// A station's answer to a question of ours.
fn reply(address: Ipv4Addr, mac: MacAddr) -> Vec<u8> {
    Repr::announcement_reply(address, mac).emit(super::announcer::mac(1))
}

/// A station's own question whether anybody has the address.
fn probe(address: Ipv4Addr, mac: MacAddr) -> Vec<u8> {
    let probe = Repr {
        sender_mac: mac,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        ..request(address)
    };
    probe.emit(MacAddr::BROADCAST)
}

fn claim(address: Ipv4Addr, mac: MacAddr) -> ForeignClaim {
    ForeignClaim {
        address: address.into(),
        mac,
        interface: 1,
    }
}

/// Hears a frame at that time while not all nodes are known.
fn hear(a: &mut Announcer, now: Instant, frame: &[u8]) {
    a.set_now(now);
    a.set_doubtful(true);
    a.handle_frame(1, frame);
}

/// Lets every timer up to `end` expire on time; what came of it and when.
fn run_until(a: &mut Announcer, end: Instant) -> Vec<(u64, Output)> {
    let mut all = Vec::new();
    while let Some(at) = a.poll_timeout().filter(|at| *at <= end) {
        a.handle_timeout(at);
        all.extend(drain(a).into_iter().map(|output| (at.as_millis(), output)));
    }
    all
}

fn befriend(a: &mut Announcer, now: Instant, mac: MacAddr) {
    a.handle(now, Input::Friends(Arc::new([mac].into())));
}

/// An announcer with one link that begins at `START` to probe for `OTHER`.
fn probing(policy: ConflictPolicy) -> Announcer {
    let mut a = Announcer::with_policy(policy);
    a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
    let first = Input::Own {
        address: OTHER.into(),
        interfaces: Interfaces::All,
        entry: Entry::Probe,
    };
    a.handle(START, first);
    drain(&mut a);
    a
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn answers(a: &mut Announcer) -> bool {
    a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
    !drain(a).is_empty()
}

/// The only claim there is, and the nodes are asked meanwhile.
#[test]
fn a_single_doubted_claim_is_told_when_the_doubt_is_over() {
    let mut a = announcer();
    hear(&mut a, START, &reply(ADDRESS, STRANGER));
    assert_eq!(drain(&mut a), [Output::DoubtfulClaim(claim(ADDRESS, STRANGER))]);
    let outputs = run_until(&mut a, START + ms(2_000));
    let asked: Vec<u64> = outputs
        .iter()
        .filter(|(_, output)| matches!(output, Output::DoubtfulClaim(_)))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(asked, [10_250, 10_500, 10_750]);
    let told: Vec<_> = outputs
        .into_iter()
        .filter(|(_, output)| !matches!(output, Output::DoubtfulClaim(_)))
        .collect();
    assert_eq!(told, [(11_000, Output::ForeignClaim(claim(ADDRESS, STRANGER)))]);
    assert_eq!(
        a.conflicts(START + ms(2_000)).collect::<Vec<_>>(),
        [(IpAddr::V4(ADDRESS), STRANGER)]
    );
    hear(&mut a, START + ms(3_000), &reply(ADDRESS, STRANGER));
    assert_eq!(
        drain(&mut a),
        [Output::ForeignClaim(claim(ADDRESS, STRANGER))],
        "the station is known by now"
    );
}

#[test]
fn who_turns_out_to_be_a_node_made_no_conflict() {
    let mut a = announcer();
    hear(&mut a, START, &reply(ADDRESS, STRANGER));
    drain(&mut a);
    run_until(&mut a, START + ms(600));
    befriend(&mut a, START + ms(600), STRANGER);
    assert_eq!(drain(&mut a), [Output::FriendlyClaim(claim(ADDRESS, STRANGER))]);
    assert_eq!(run_until(&mut a, START + ms(5_000)), []);
    assert_eq!(a.conflicts(START + ms(5_000)).count(), 0);
    assert_eq!(a.poll_timeout(), None);
}

/// A station that was called a stranger is none when it turns out to be a node later, and what was left to it is asked for anew.
#[test]
fn a_conflict_with_a_node_is_over_when_that_is_known() {
    for policy in [ConflictPolicy::Warn, ConflictPolicy::Block] {
        let mut a = probing(policy);
        hear(&mut a, START, &reply(OTHER, STRANGER));
        run_until(&mut a, START + ms(2_000));
        assert_eq!(a.conflicts(START + ms(2_000)).count(), 1);
        assert_eq!(answers(&mut a), policy == ConflictPolicy::Warn);
        befriend(&mut a, START + ms(2_000), STRANGER);
        assert_eq!(a.conflicts(START + ms(2_000)).count(), 0);
        run_until(&mut a, START + ms(2_300));
        assert!(answers(&mut a), "{policy:?}");
    }
}

#[test]
fn a_doubt_ends_with_the_ownership() {
    let mut a = announcer();
    hear(&mut a, START, &reply(ADDRESS, STRANGER));
    a.handle(START + ms(1), Input::Disown(ADDRESS.into()));
    own(&mut a, START + ms(2), ADDRESS, Interfaces::All);
    drain(&mut a);
    let outputs = run_until(&mut a, START + ms(2_000));
    assert!(
        outputs
            .iter()
            .all(|(_, output)| matches!(output, Output::Send { .. })),
        "{outputs:?}"
    );
}

/// The answer to our probes comes once: the probing ends when it is known whose it is.
#[test]
fn probing_waits_for_the_doubt() {
    for policy in [
        ConflictPolicy::Warn,
        ConflictPolicy::Block,
        ConflictPolicy::Defend,
    ] {
        for question in [false, true] {
            let mut a = probing(policy);
            let frame = if question {
                probe(OTHER, STRANGER)
            } else {
                reply(OTHER, STRANGER)
            };
            hear(&mut a, START + ms(250), &frame);
            let outputs = run_until(&mut a, START + ms(1_249));
            let ended = outputs
                .iter()
                .any(|(_, output)| matches!(output, Output::Probed { .. }));
            assert!(!ended && !answers(&mut a), "{policy:?}: {outputs:?}");
            let outputs = run_until(&mut a, START + ms(1_250));
            let taken = Output::Probed {
                address: OTHER.into(),
                taken_by: Some(STRANGER),
            };
            assert!(outputs.contains(&(11_250, taken)), "{policy:?}: {outputs:?}");
            let told = Output::ForeignClaim(claim(OTHER, STRANGER));
            assert!(outputs.contains(&(11_250, told)), "{policy:?}: {outputs:?}");
            assert_eq!(answers(&mut a), policy != ConflictPolicy::Block, "{policy:?}");
            let ended = |(_, output): &(u64, Output)| matches!(output, Output::Probed { .. });
            let later = run_until(&mut a, START + ms(5_000));
            assert!(!later.iter().any(ended), "once: {later:?}");
        }
    }
}

#[test]
fn probing_goes_on_when_the_doubt_is_dispelled() {
    let free = Output::Probed {
        address: OTHER.into(),
        taken_by: None,
    };
    for (known, ended) in [(200, 300), (700, 700)] {
        let mut a = probing(ConflictPolicy::Block);
        hear(&mut a, START + ms(50), &reply(OTHER, STRANGER));
        let mut outputs = run_until(&mut a, START + ms(known));
        befriend(&mut a, START + ms(known), STRANGER);
        outputs.extend(drain(&mut a).into_iter().map(|o| (10_000 + known, o)));
        outputs.extend(run_until(&mut a, START + ms(6_000)));
        let probed: Vec<_> = outputs
            .iter()
            .filter(|(_, output)| matches!(output, Output::Probed { .. }))
            .cloned()
            .collect();
        assert_eq!(probed, [(10_000 + ended, free.clone())]);
        assert!(answers(&mut a));
    }
}

/// A mere question means something only as long as we are asking ourselves (RFC 5227 2.1.1).
#[test]
fn a_doubted_question_is_no_claim_of_an_announced_address() {
    let mut a = probing(ConflictPolicy::Block);
    hear(&mut a, START + ms(50), &reply(OTHER, mac(0x55)));
    run_until(&mut a, START + ms(400));
    hear(&mut a, START + ms(400), &probe(OTHER, STRANGER));
    befriend(&mut a, START + ms(500), mac(0x55));
    let outputs = run_until(&mut a, START + ms(9_000));
    let told = outputs
        .iter()
        .any(|(_, output)| matches!(output, Output::ForeignClaim(_)));
    assert!(!told && answers(&mut a), "{outputs:?}");
}

/// A station that takes another hardware address for each frame.
fn made_up(number: u64) -> MacAddr {
    let [.., a, b, c] = number.to_be_bytes();
    MacAddr([2, 1, 1, a, b, c])
}

#[test]
fn made_up_stations_do_not_delay_the_probing() {
    for question in [false, true] {
        let mut a = probing(ConflictPolicy::Warn);
        let mut ended = None;
        for number in 0..3_000 {
            let now = START + ms(number);
            let frame = if question {
                probe(OTHER, made_up(number))
            } else {
                reply(OTHER, made_up(number))
            };
            hear(&mut a, now, &frame);
            a.handle_timeout(now);
            let outputs = drain(&mut a);
            let probed = outputs.iter().any(|o| matches!(o, Output::Probed { .. }));
            if probed {
                assert_eq!(ended.replace(number), None, "once");
            }
        }
        assert!(ended.is_some_and(|at| at <= 1_300), "{ended:?}");
    }
}

/// Friends one after the other, each unknown at first, do not delay it for ever either.
#[test]
fn unknown_nodes_do_not_delay_the_probing_for_ever() {
    let mut a = probing(ConflictPolicy::Block);
    let mut ended = None;
    let mut friends = std::collections::BTreeSet::new();
    for step in 0..30 {
        let now = START + ms(100 * step);
        hear(&mut a, now, &reply(OTHER, made_up(step)));
        if let Some(known) = step.checked_sub(5) {
            friends.insert(made_up(known));
            a.handle(now, Input::Friends(Arc::new(friends.clone())));
        }
        a.handle_timeout(now);
        let outputs = drain(&mut a);
        if outputs.iter().any(|o| matches!(o, Output::Probed { .. })) {
            ended.get_or_insert(100 * step);
        }
    }
    assert!(ended.is_some_and(|at| at <= 1_300), "{ended:?}");
}

#[test]
fn made_up_stations_blind_nobody_and_memory_is_bounded() {
    for doubtful in [false, true] {
        let mut a = announcer();
        own(&mut a, START, OTHER, Interfaces::All);
        drain(&mut a);
        let mut told = Vec::new();
        for number in 0..10_000_u64 {
            let now = START + Duration::from_micros(100 * number);
            a.set_now(now);
            a.set_doubtful(doubtful);
            a.handle_frame(1, &reply(ADDRESS, made_up(number)));
            if number == 9_000 {
                a.handle_frame(1, &reply(OTHER, STRANGER));
            }
            a.handle_timeout(now);
            told.extend(drain(&mut a));
        }
        told.extend(run_until(&mut a, START + ms(5_000)).into_iter().map(|(_, o)| o));
        let stranger = Output::ForeignClaim(claim(OTHER, STRANGER));
        assert_eq!(
            told.iter().filter(|output| **output == stranger).count(),
            1,
            "doubtful: {doubtful}"
        );
        let all = a.conflicts(START + ms(5_000)).count();
        assert!(all > 1 && all <= 1_025, "{all}");
    }
}
