//! Standing in for others, strangers with addresses of ours, and groups.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use super::announcer::{ADDRESS, CLIENT_MAC, OTHER, announcer, drain, frames, link, mac, own, request};
use crate::announcer::{BLOCKED_FOR, PROBE_FOR};
use crate::wire::arp::Repr;
use crate::wire::ethernet::Frame;
use crate::wire::ndp;
use crate::{Announcer, ConflictPolicy, Entry, ForeignClaim, Input, Interfaces, MacAddr, Output};

fn probe_from(mac: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    let probe = Repr {
        sender_mac: mac,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        ..request(target)
    };
    probe.emit(MacAddr::BROADCAST)
}

#[test]
fn a_stand_in_answers_with_the_owners_mac_in_frames_of_its_own() {
    let mut a = announcer();
    let owner = mac(0x77);
    let macs = |macs: &[(u32, MacAddr)]| Arc::new(macs.iter().copied().collect::<BTreeMap<_, _>>());
    let stand_in = |macs| Input::StandIn {
        address: OTHER.into(),
        macs,
    };
    a.handle(Instant::ZERO, stand_in(macs(&[(1, owner)])));
    assert_eq!(
        (drain(&mut a), a.poll_timeout()),
        (vec![], None),
        "nothing is announced"
    );
    a.handle_frame(2, &request(OTHER).emit(MacAddr::BROADCAST));
    assert_eq!(drain(&mut a), vec![], "where the owner was not seen");
    a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
    let outputs = drain(&mut a);
    let [Output::Send { interface: 1, frame }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let frame = Frame::new_checked(frame).expect("frame");
    assert_eq!((frame.source(), frame.destination()), (mac(1), CLIENT_MAC));
    assert_eq!(Repr::parse(frame.payload()).expect("packet").sender_mac, owner);
    assert_eq!(a.owned().collect::<Vec<_>>(), [IpAddr::V4(ADDRESS)]);
    assert_eq!(a.stood_in().collect::<Vec<_>>(), [IpAddr::V4(OTHER)]);

    own(&mut a, Instant::from_millis(5), OTHER, Interfaces::All);
    assert_eq!(
        frames(&drain(&mut a)).len(),
        4,
        "whoever becomes the owner announces"
    );
    a.handle(Instant::from_millis(6), stand_in(macs(&[(2, owner)])));
    a.handle_timeout(Instant::from_millis(5_000));
    assert_eq!(
        drain(&mut a),
        vec![],
        "and no longer does when it is not any more"
    );
}

#[test]
fn an_address_first_owned_is_probed_and_then_announced() {
    let mut a = announcer();
    let start = Instant::from_millis(1_000);
    let first = Input::Own {
        address: OTHER.into(),
        interfaces: Interfaces::All,
        entry: Entry::Probe,
    };
    a.handle(start, first);
    let mut probes = Vec::new();
    loop {
        let outputs = drain(&mut a);
        probes.extend(
            outputs
                .iter()
                .filter(|o| matches!(o, Output::Send { .. }))
                .cloned(),
        );
        let Some(at) = a.poll_timeout().filter(|at| *at < start + PROBE_FOR) else {
            break;
        };
        a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
        a.handle_timeout(at);
    }
    let expected = [1, 2, 1, 2, 1, 2].map(|interface| Output::Send {
        interface,
        frame: probe_from(mac(interface as u8), OTHER),
    });
    assert_eq!(
        probes, expected,
        "three on each interface and no answer meanwhile"
    );
    a.handle_timeout(start + PROBE_FOR);
    let outputs = drain(&mut a);
    let free = Output::Probed {
        address: OTHER.into(),
        taken_by: None,
    };
    assert_eq!(outputs[0], free);
    assert_eq!(frames(&outputs[1..]).len(), 4);
}

#[test]
fn a_taken_address_is_announced_left_alone_or_defended_by_policy() {
    let foreign = Repr::reply_to(&request(OTHER), CLIENT_MAC).emit(mac(1));
    let start = Instant::from_millis(1_000);
    for policy in [
        ConflictPolicy::Warn,
        ConflictPolicy::Block,
        ConflictPolicy::Defend,
    ] {
        let mut a = Announcer::with_policy(policy);
        a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
        let first = Input::Own {
            address: OTHER.into(),
            interfaces: Interfaces::All,
            entry: Entry::Probe,
        };
        a.handle(start, first);
        drain(&mut a);
        a.handle_frame(1, &foreign);
        let outputs = drain(&mut a);
        let taken = Output::Probed {
            address: OTHER.into(),
            taken_by: Some(CLIENT_MAC),
        };
        assert!(outputs.contains(&taken), "{policy:?}");
        let announced = outputs.iter().any(|output| matches!(output, Output::Send { .. }));
        assert_eq!(announced, policy != ConflictPolicy::Block, "{policy:?}");
        let answers = |a: &mut Announcer| {
            a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
            drain(a).len()
        };
        assert_eq!(answers(&mut a), usize::from(policy != ConflictPolicy::Block));
        assert_eq!(
            a.conflicts(start).collect::<Vec<_>>(),
            [(IpAddr::V4(OTHER), CLIENT_MAC)]
        );
        if policy == ConflictPolicy::Block {
            // The other goes; the next probing finds the address free.
            let later = start + BLOCKED_FOR;
            a.handle_timeout(later);
            for round in 1..=3 {
                a.handle_timeout(later + Duration::from_millis(100 * round));
            }
            assert!(frames_sent(&mut a) && answers(&mut a) == 1);
        } else {
            // It claims the address again, twice: reported at most once a second, and answered when it is defended.
            let now = start + Duration::from_secs(20);
            // What is left of the announcing, and a question whether the conflict lasts.
            a.handle_timeout(now);
            drain(&mut a);
            a.handle_frame(1, &foreign);
            a.handle_frame(1, &foreign);
            let outputs = drain(&mut a);
            let reports = outputs.iter().filter(|o| matches!(o, Output::ForeignClaim(_)));
            assert_eq!(reports.count(), 1, "{policy:?}");
            let sent = outputs
                .iter()
                .filter(|o| matches!(o, Output::Send { .. }))
                .count();
            // One announcement is a request and a reply, and there is one in ten seconds.
            let defends = policy == ConflictPolicy::Defend;
            assert_eq!(sent, if defends { 2 } else { 0 });
            for (seconds, sent) in [(5, 0), (10, 2)] {
                a.handle_timeout(now + Duration::from_secs(seconds));
                a.handle_frame(1, &foreign);
                let frames = drain(&mut a)
                    .iter()
                    .filter(|output| matches!(output, Output::Send { .. }))
                    .count();
                assert_eq!(frames, if defends { sent } else { 0 }, "after {seconds} s");
            }
        }
    }
}

fn frames_sent(a: &mut Announcer) -> bool {
    drain(a)
        .iter()
        .any(|output| matches!(output, Output::Send { .. }))
}

#[test]
fn nodes_of_the_cluster_are_never_foreign() {
    let mut a = announcer();
    let friend = mac(0x55);
    a.handle(Instant::ZERO, Input::Friends(Arc::new([friend].into())));
    a.handle_frame(
        1,
        &Repr::announcement_reply(ADDRESS, friend).emit(MacAddr::BROADCAST),
    );
    let claim = ForeignClaim {
        address: ADDRESS.into(),
        mac: friend,
        interface: 1,
    };
    assert_eq!(drain(&mut a), vec![Output::FriendlyClaim(claim)]);
    a.handle_frame(
        1,
        &Repr::announcement_request(ADDRESS, friend).emit(MacAddr::BROADCAST),
    );
    assert_eq!(
        drain(&mut a),
        vec![Output::FriendlyClaim(claim)],
        "its announcement needs no answer"
    );
    a.handle_frame(1, &probe_from(friend, ADDRESS));
    assert_eq!(
        drain(&mut a),
        vec![],
        "its probe while it takes over needs no defence"
    );
    a.handle_frame(1, &probe_from(CLIENT_MAC, ADDRESS));
    assert_eq!(frames(&drain(&mut a)).len(), 1, "that of a stranger does");
}

#[test]
fn groups_are_joined_once_and_anew_when_a_link_returns() {
    let target = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, last, 0, 0x10);
    let group = ndp::solicited_node(target(1));
    let mut a = Announcer::new();
    a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
    let own6 = |last| Input::Own {
        address: target(last).into(),
        interfaces: Interfaces::All,
        entry: Entry::Announce,
    };
    let changes = |a: &mut Announcer| -> Vec<Output> {
        let all = drain(a).into_iter();
        all.filter(|o| matches!(o, Output::Join(..) | Output::Part(..)))
            .collect()
    };
    a.handle(Instant::ZERO, own6(1));
    assert_eq!(changes(&mut a), [Output::Join(1, group)]);
    a.handle(Instant::ZERO, own6(2));
    assert_eq!(changes(&mut a), [], "both addresses have the same group");
    a.handle(Instant::ZERO, Input::Disown(target(1).into()));
    assert_eq!(changes(&mut a), []);
    a.handle(Instant::ZERO, Input::LinkDown(1));
    assert_eq!(changes(&mut a), []);
    a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
    assert_eq!(changes(&mut a), [Output::Join(1, group)]);
    a.handle(Instant::ZERO, Input::Disown(target(2).into()));
    assert_eq!(changes(&mut a), [Output::Part(1, group)]);
}

/// Whoever asks with an address of ours as its own claims it, as in ARP.
#[test]
fn a_solicitation_from_an_address_of_ours_is_a_claim_of_it() {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
    let (sender, named, friend) = (mac(0x66), mac(0x67), mac(0x55));
    let asks = |source, target, source_mac, from: MacAddr| {
        let group = ndp::solicited_node(target);
        let message = ndp::Message::Solicitation { target, source_mac };
        ndp::Repr {
            source,
            destination: group,
            message,
        }
        .emit(ndp::multicast_mac(group), from)
    };
    let router: Ipv6Addr = "2001:db8::1".parse().expect("address");
    let claim = |mac| ForeignClaim {
        address: address.into(),
        mac,
        interface: 1,
    };
    let owner = || {
        let mut a = Announcer::new();
        a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
        a.handle(Instant::ZERO, Input::LinkUp(2, link(2)));
        a.handle(Instant::ZERO, Input::Friends(Arc::new([friend].into())));
        let own = Input::Own {
            address: address.into(),
            interfaces: Interfaces::All,
            entry: Entry::Announce,
        };
        a.handle(Instant::ZERO, own);
        drain(&mut a);
        a
    };
    let cases = [
        (
            asks(address, router, Some(named), sender),
            vec![Output::ForeignClaim(claim(named))],
        ),
        (
            asks(address, router, None, sender),
            vec![Output::ForeignClaim(claim(sender))],
        ),
        (
            asks(address, router, Some(friend), friend),
            vec![Output::FriendlyClaim(claim(friend))],
        ),
        (asks(address, router, Some(mac(2)), mac(2)), vec![]),
        (asks(address, router, Some(MacAddr::BROADCAST), sender), vec![]),
        (asks(router, router, Some(sender), sender), vec![]),
        (asks(Ipv6Addr::UNSPECIFIED, router, None, sender), vec![]),
    ];
    for (number, (frame, expected)) in cases.into_iter().enumerate() {
        let mut a = owner();
        a.handle_frame(1, &frame);
        assert_eq!(drain(&mut a), expected, "case {number}");
    }
}
