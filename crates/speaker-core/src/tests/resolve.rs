//! A cable that is plugged in again: kernels here and there learn each other's hardware addresses.

use std::net::{IpAddr, Ipv4Addr};

use metallb_l2::wire::arp::{self, Operation};
use metallb_l2::wire::ethernet::Frame;
use metallb_l2::wire::ndp::{self, Message};
use metallb_l2::{Link, MacAddr};
use metallb_sansio::{Instant, Machine as _};

use super::engine::{drain, engine};
use crate::talk::{Facts, LinkFacts};
use crate::{Engine, Input, Output};

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
const OURS_TOO: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);
const THEIRS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// How the node is asked.
const OF_NODE: (MacAddr, IpAddr, IpAddr) = (mac(7), IpAddr::V4(THEIRS), IpAddr::V4(OURS));

const fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, last])
}

fn link() -> Link {
    Link {
        name: "eth0".into(),
        mac: mac(3),
        arp: true,
        link_local: Some("fe80::3".parse().expect("IPv6")),
    }
}

/// An engine whose peer n2 has told its link, by that name, and was heard, and whose cable goes out at 1 s and in again at 2 s.
fn replugged(name: &str) -> Engine {
    let mut engine = engine("n1");
    let facts = Facts {
        number: 1,
        links: vec![LinkFacts {
            name: name.into(),
            mac: mac(7),
            arp: true,
            link_local: Some("fe80::7".parse().expect("IPv6")),
            addresses: vec![THEIRS],
        }],
        ..Facts::default()
    };
    assert!(engine.neighbours.learn_of(&"n2".into(), facts));
    engine.handle_frame(Instant::ZERO, 1, &reply(THEIRS, mac(7), MacAddr::BROADCAST));
    engine.handle(Instant::from_millis(1_000), Input::LinkDown(1));
    drain(&mut engine);
    let now = Instant::from_millis(2_000);
    engine.handle(now, Input::Addresses(1, vec![OURS_TOO, OURS]));
    engine.handle(now, Input::LinkUp(1, link()));
    engine
}

/// Who is asked, for what and from which address, until a time.
fn asked(engine: &mut Engine, until: u64) -> Vec<(MacAddr, IpAddr, IpAddr)> {
    drain(engine);
    while let Some(at) = engine
        .poll_timeout()
        .filter(|at| *at <= Instant::from_millis(until))
    {
        engine.handle_timeout(at);
    }
    let frames = core::iter::from_fn(|| engine.poll_output()).filter_map(|output| match output {
        Output::Frame { frame, .. } => Some(frame),
        _ => None,
    });
    let asked = frames.filter_map(|frame| {
        let frame = Frame::new_checked(&frame).expect("a frame");
        assert_eq!(frame.source(), link().mac);
        if let Ok(packet) = arp::Repr::parse(frame.payload()) {
            assert_eq!(packet.operation, Operation::Request);
            let (target, sender) = (packet.target_ip.into(), packet.sender_ip.into());
            return Some((frame.destination(), target, sender));
        }
        let packet = ndp::Repr::parse(frame.payload()).expect("a question");
        let Message::Solicitation { target, source_mac } = packet.message else {
            panic!("an answer")
        };
        assert_eq!(source_mac, Some(link().mac));
        // Others ask whether a node is up, which is no business of kernels.
        (packet.destination == ndp::solicited_node(target)).then(|| {
            let (target, sender) = (target.into(), packet.source.into());
            (frame.destination(), target, sender)
        })
    });
    asked.collect()
}

/// An answer to us, or to all.
fn reply(of: Ipv4Addr, from: MacAddr, to: MacAddr) -> Vec<u8> {
    let reply = arp::Repr {
        operation: Operation::Reply,
        sender_mac: from,
        sender_ip: of,
        target_mac: to,
        target_ip: OURS,
    };
    reply.emit(to)
}

#[test]
fn nodes_are_asked_with_the_announcements_until_they_answer_us() {
    let mut engine = replugged("eth0");
    let at = Instant::from_millis;
    assert!(asked(&mut engine, 2_000).contains(&OF_NODE));
    assert!(!asked(&mut engine, 2_049).contains(&OF_NODE));
    engine.handle_frame(at(2_049), 1, &reply(THEIRS, mac(7), MacAddr::BROADCAST));
    assert!(
        asked(&mut engine, 2_050).contains(&OF_NODE),
        "what it tells all may be no answer"
    );
    engine.handle_frame(at(2_060), 1, &reply(THEIRS, mac(7), mac(3)));
    assert!(!asked(&mut engine, 3_000).contains(&OF_NODE), "answered");
}

#[test]
fn a_node_whose_link_has_another_name_is_asked_where_it_was_heard() {
    assert!(asked(&mut replugged("enp3s0"), 2_000).contains(&OF_NODE));
}

#[test]
fn whom_the_kernel_waits_for_is_asked_for_four_times() {
    let mut engine = replugged("eth0");
    let other_router = Ipv4Addr::new(198, 51, 100, 254);
    let router6: IpAddr = "2001:db8::1".parse().expect("IPv6");
    let waiting = vec![ROUTER.into(), other_router.into(), router6, THEIRS.into()];
    engine.handle(Instant::from_millis(2_000), Input::Unresolved(1, waiting));
    let group = ndp::multicast_mac(ndp::solicited_node("2001:db8::1".parse().expect("IPv6")));
    let link_local: IpAddr = "fe80::3".parse().expect("IPv6");
    for (at, node) in [
        (2_000, mac(7)),
        // It may have another hardware address by now.
        (2_050, MacAddr::BROADCAST),
        (2_150, MacAddr::BROADCAST),
        (2_400, MacAddr::BROADCAST),
    ] {
        let asked = asked(&mut engine, at);
        for expected in [
            (MacAddr::BROADCAST, ROUTER.into(), OURS.into()),
            (MacAddr::BROADCAST, other_router.into(), OURS_TOO.into()),
            (group, router6, link_local),
            (node, THEIRS.into(), OURS.into()),
        ] {
            let times = asked.iter().filter(|question| **question == expected).count();
            assert_eq!(times, 1, "{at} ms: {expected:?} in {asked:?}");
        }
    }
    assert_eq!(engine.resolution.poll_timeout(), None, "that is all");
}

#[test]
fn many_are_asked_for_little_by_little_and_very_many_are_not() {
    let mut engine = replugged("eth0");
    let waiting = (0..1_000u32).map(|n| IpAddr::V4((u32::from_be_bytes([10, 0, 0, 0]) + n).into()));
    engine.handle(
        Instant::from_millis(2_000),
        Input::Unresolved(1, waiting.collect()),
    );
    let to_all = |asked: Vec<(MacAddr, IpAddr, IpAddr)>| {
        let broadcast = asked.iter().filter(|(to, ..)| *to == MacAddr::BROADCAST);
        broadcast.count()
    };
    assert_eq!(to_all(asked(&mut engine, 2_000)), 32);
    assert_eq!(to_all(asked(&mut engine, 2_004)), 0);
    assert_eq!(to_all(asked(&mut engine, 2_009)), 32);
    assert_eq!(to_all(asked(&mut engine, 2_049)), 128 - 64);
}

#[test]
fn a_link_that_gets_its_link_local_address_later_asks_no_ipv4_node_again() {
    let mut engine = replugged("eth0");
    asked(&mut engine, 2_010);
    engine.handle_frame(Instant::from_millis(2_010), 1, &reply(THEIRS, mac(7), mac(3)));
    let link = Link {
        link_local: Some("fe80::33".parse().expect("IPv6")),
        ..link()
    };
    engine.handle(Instant::from_millis(2_020), Input::LinkUp(1, link));
    assert!(!asked(&mut engine, 3_000).contains(&OF_NODE));
}

#[test]
fn nobody_is_asked_over_a_cable_that_is_out_again() {
    let mut engine = replugged("eth0");
    let waiting = vec![IpAddr::V4(ROUTER)];
    engine.handle(Instant::from_millis(2_000), Input::Unresolved(1, waiting));
    assert!(!asked(&mut engine, 2_000).is_empty());
    engine.handle(Instant::from_millis(2_010), Input::LinkDown(1));
    assert_eq!(engine.resolution.poll_timeout(), None);
    assert!(asked(&mut engine, 2_050).is_empty());
}
