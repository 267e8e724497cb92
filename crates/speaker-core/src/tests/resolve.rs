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
const THEIRS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

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

/// An engine whose peer n2 has told its link, and whose cable goes out at 1 s and in again at 2 s.
fn replugged() -> Engine {
    let mut engine = engine("n1");
    let facts = Facts {
        number: 1,
        links: vec![LinkFacts {
            name: "eth0".into(),
            mac: mac(7),
            arp: true,
            link_local: Some("fe80::7".parse().expect("IPv6")),
            addresses: vec![THEIRS],
        }],
        ..Facts::default()
    };
    assert!(engine.neighbours.learn_of(&"n2".into(), facts));
    engine.handle(Instant::from_millis(1_000), Input::LinkDown(1));
    drain(&mut engine);
    let now = Instant::from_millis(2_000);
    engine.handle(now, Input::LinkUp(1, link()));
    engine.handle(now, Input::Addresses(1, vec![OURS, [198, 51, 100, 3].into()]));
    engine
}

/// Who is asked, for what and from which address, at a time that is due.
fn asked(engine: &mut Engine, at: u64) -> Vec<(MacAddr, IpAddr, IpAddr)> {
    drain(engine);
    engine.resolve_tick(Instant::from_millis(at));
    let frames = core::iter::from_fn(|| engine.poll_output()).filter_map(|output| match output {
        Output::Frame { frame, .. } => Some(frame),
        _ => None,
    });
    let asked = frames.map(|frame| {
        let frame = Frame::new_checked(&frame).expect("a frame");
        assert_eq!(frame.source(), link().mac);
        if let Ok(packet) = arp::Repr::parse(frame.payload()) {
            assert_eq!(packet.operation, Operation::Request);
            return (
                frame.destination(),
                packet.target_ip.into(),
                packet.sender_ip.into(),
            );
        }
        let packet = ndp::Repr::parse(frame.payload()).expect("a question");
        let Message::Solicitation { target, source_mac } = packet.message else {
            panic!("an answer")
        };
        assert_eq!(source_mac, Some(link().mac));
        assert_eq!(packet.destination, ndp::solicited_node(target));
        (frame.destination(), target.into(), packet.source.into())
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
    let mut engine = replugged();
    let question = (mac(7), IpAddr::V4(THEIRS), IpAddr::V4(OURS));
    let of_node = |asked: Vec<(MacAddr, IpAddr, IpAddr)>| asked.contains(&question);
    assert_eq!(
        engine.resolution.poll_timeout(),
        Some(Instant::from_millis(2_000))
    );
    assert!(of_node(asked(&mut engine, 2_000)));
    assert!(!of_node(asked(&mut engine, 2_049)));
    engine.handle_frame(
        Instant::from_millis(2_049),
        1,
        &reply(THEIRS, mac(7), MacAddr::BROADCAST),
    );
    assert!(
        of_node(asked(&mut engine, 2_050)),
        "what it tells all may be no answer"
    );
    engine.handle_frame(Instant::from_millis(2_060), 1, &reply(THEIRS, mac(7), mac(3)));
    for at in [2_150, 2_400, 3_000] {
        assert!(!of_node(asked(&mut engine, at)), "answered");
    }
}

#[test]
fn whom_the_kernel_waits_for_is_asked_for_four_times() {
    let mut engine = replugged();
    let router6: IpAddr = "2001:db8::1".parse().expect("IPv6");
    let waiting = vec![IpAddr::V4(ROUTER), router6, IpAddr::V4(THEIRS)];
    engine.handle(Instant::from_millis(2_000), Input::Unresolved(1, waiting));
    let group = ndp::multicast_mac(ndp::solicited_node("2001:db8::1".parse().expect("IPv6")));
    let link_local: IpAddr = "fe80::3".parse().expect("IPv6");
    for at in [2_000, 2_050, 2_150, 2_400] {
        let asked = asked(&mut engine, at);
        for expected in [
            (MacAddr::BROADCAST, ROUTER.into(), OURS.into()),
            (group, router6, link_local),
            (mac(7), THEIRS.into(), OURS.into()),
        ] {
            assert!(asked.contains(&expected), "{at} ms: {expected:?} in {asked:?}");
        }
        assert!(
            !asked.contains(&(MacAddr::BROADCAST, THEIRS.into(), OURS.into())),
            "a node need not be asked by all"
        );
    }
    assert_eq!(engine.resolution.poll_timeout(), None, "that is all");
}

#[test]
fn nobody_is_asked_over_a_cable_that_is_out_again() {
    let mut engine = replugged();
    let waiting = vec![IpAddr::V4(ROUTER)];
    engine.handle(Instant::from_millis(2_000), Input::Unresolved(1, waiting));
    assert!(!asked(&mut engine, 2_000).is_empty());
    engine.handle(Instant::from_millis(2_010), Input::LinkDown(1));
    assert_eq!(engine.resolution.poll_timeout(), None);
    assert!(asked(&mut engine, 2_050).is_empty());
}
