//! The rules of the wire, case by case: RFC 826, 5227, 4861, 4862.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metallb_sansio::{Instant, Machine};

use super::announcer::{ADDRESS, CLIENT, CLIENT_MAC, OTHER, announcer, drain, link, mac, request};
use crate::wire::arp::{Operation, Repr};
use crate::wire::ethernet::Frame;
use crate::wire::ndp::{self, Message};
use crate::{Announcer, Entry, Input, Interfaces, MacAddr, Output};

const TARGET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const ASKER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 1);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);

/// What came of one frame: the frames sent, and whether a claim was reported.
fn outcome(a: &mut Announcer, frame: &[u8]) -> (Vec<Vec<u8>>, bool) {
    a.handle_frame(1, frame);
    let (mut sent, mut claimed) = (Vec::new(), false);
    for output in drain(a) {
        match output {
            Output::Send { interface: 1, frame } => sent.push(frame),
            Output::ForeignClaim(_) => claimed = true,
            other => panic!("{other:?}"),
        }
    }
    (sent, claimed)
}

/// With this byte in place of what was there.
fn with(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(60, 0xee);
    frame
}

fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    frame
}

#[test]
fn arp() {
    let ask = |target| request(target);
    let probe = Repr {
        sender_ip: Ipv4Addr::UNSPECIFIED,
        ..ask(ADDRESS)
    };
    let from = |sender_mac| Repr {
        sender_mac,
        ..ask(ADDRESS)
    };
    let operation = |number| Repr {
        operation: Operation::Other(number),
        ..ask(ADDRESS)
    };
    let theirs = |packet: fn(Ipv4Addr, MacAddr) -> Repr| packet(ADDRESS, STRANGER);
    let asks_as_us = Repr {
        sender_ip: ADDRESS,
        ..ask(OTHER)
    };
    let all = MacAddr::BROADCAST;
    // Whether it is answered, and whether somebody's claim is reported.
    let cases: Vec<(&str, Vec<u8>, bool, bool)> = vec![
        ("a request to all", ask(ADDRESS).emit(all), true, false),
        ("a request to us", ask(ADDRESS).emit(mac(1)), true, false),
        (
            "with Ethernet padding",
            padded(ask(ADDRESS).emit(all)),
            true,
            false,
        ),
        ("to another station", ask(ADDRESS).emit(mac(7)), false, false),
        (
            "to a group",
            ask(ADDRESS).emit(MacAddr([1, 0, 0x5e, 0, 0, 1])),
            false,
            false,
        ),
        ("for another address", ask(OTHER).emit(all), false, false),
        ("a probe", probe.emit(all), true, false),
        (
            "an announcement, as request",
            theirs(Repr::announcement_request).emit(all),
            true,
            true,
        ),
        (
            "an announcement, as reply",
            theirs(Repr::announcement_reply).emit(all),
            false,
            true,
        ),
        (
            "a reply to one of us",
            theirs(Repr::announcement_reply).emit(mac(1)),
            false,
            true,
        ),
        (
            "a question asked with our address",
            asks_as_us.emit(all),
            false,
            true,
        ),
        ("our own frame", from(mac(1)).emit(all), false, false),
        (
            "the sender is a group",
            from(all).emit_from(CLIENT_MAC, all),
            false,
            false,
        ),
        (
            "the sender is nobody",
            from(MacAddr::ZERO).emit_from(CLIENT_MAC, all),
            false,
            false,
        ),
        ("RARP", operation(3).emit(all), false, false),
        (
            "hardware type 6",
            with(ask(ADDRESS).emit(all), 15, 6),
            false,
            false,
        ),
        (
            "protocol type IPv6",
            with(ask(ADDRESS).emit(all), 16, 0x86),
            false,
            false,
        ),
        (
            "hardware addresses of 8 bytes",
            with(ask(ADDRESS).emit(all), 18, 8),
            false,
            false,
        ),
        (
            "protocol addresses of 16 bytes",
            with(ask(ADDRESS).emit(all), 19, 16),
            false,
            false,
        ),
        (
            "another EtherType",
            with(ask(ADDRESS).emit(all), 13, 7),
            false,
            false,
        ),
        ("tagged for a VLAN", tagged(ask(ADDRESS).emit(all)), false, false),
    ];
    for (what, frame, answered, claimed) in cases {
        let mut a = announcer();
        let (sent, claim) = outcome(&mut a, &frame);
        assert_eq!((sent.len(), claim), (usize::from(answered), claimed), "{what}");
        for answer in sent {
            let frame = Frame::new_checked(&answer).expect("a frame");
            let to = if claimed { STRANGER } else { CLIENT_MAC };
            assert_eq!((frame.source(), frame.destination()), (mac(1), to), "{what}");
            let packet = Repr::parse(frame.payload()).expect("ARP");
            assert_eq!(packet.operation, Operation::Reply, "{what}");
            assert_eq!((packet.sender_mac, packet.sender_ip), (mac(1), ADDRESS), "{what}");
            let asked_by = match what {
                "a probe" => Ipv4Addr::UNSPECIFIED,
                "an announcement, as request" => ADDRESS,
                _ => CLIENT,
            };
            assert_eq!((packet.target_mac, packet.target_ip), (to, asked_by), "{what}");
        }
    }
    let good = ask(ADDRESS).emit(all);
    for length in 0..good.len() {
        assert_eq!(
            outcome(&mut announcer(), &good[..length]),
            (vec![], false),
            "cut at {length}"
        );
    }
}

fn announcer_v6() -> Announcer {
    let mut a = announcer();
    let own = Input::Own {
        address: TARGET.into(),
        interfaces: Interfaces::All,
        entry: Entry::Announce,
    };
    a.handle(Instant::ZERO, own);
    drain(&mut a);
    a
}

fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, source_mac: Option<MacAddr>) -> ndp::Repr {
    let message = Message::Solicitation {
        target: TARGET,
        source_mac,
    };
    ndp::Repr {
        source,
        destination,
        message,
    }
}

/// To the group that goes with an IPv6 group, or to the first interface of ours.
fn send(repr: ndp::Repr) -> Vec<u8> {
    let to = if repr.destination.is_multicast() {
        ndp::multicast_mac(repr.destination)
    } else {
        mac(1)
    };
    repr.emit(to, CLIENT_MAC)
}

/// The same with this byte in the message, and the checksum that fits.
fn patched(repr: ndp::Repr, at: usize, byte: u8) -> Vec<u8> {
    let mut frame = send(repr);
    let message = 14 + 40;
    let before = u32::from(u16::from_be_bytes([
        frame[message + (at & !1)],
        frame[message + (at | 1)],
    ]));
    frame[message + at] = byte;
    let after = u32::from(u16::from_be_bytes([
        frame[message + (at & !1)],
        frame[message + (at | 1)],
    ]));
    // RFC 1624: the new sum from the old one and the word that changed.
    let old = u32::from(u16::from_be_bytes([frame[message + 2], frame[message + 3]]));
    let mut sum = (!old & 0xffff) + (!before & 0xffff) + after;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[message + 2..message + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

#[test]
fn neighbour_discovery() {
    /// To whom the answer goes, and whether it says that it was solicited.
    #[derive(Debug, PartialEq)]
    enum Answer {
        None,
        Asker,
        All,
    }
    let group = ndp::solicited_node(TARGET);
    let nobody = Ipv6Addr::UNSPECIFIED;
    let resolving = solicitation(ASKER, group, Some(CLIENT_MAC));
    let detection = solicitation(nobody, group, None);
    let says = |source, destination, solicited| ndp::Repr {
        source,
        destination,
        message: Message::Advertisement {
            target: TARGET,
            target_mac: Some(STRANGER),
            solicited,
            overrides: false,
        },
    };
    let other_group: Ipv6Addr = "ff02::1:ff00:99".parse().expect("group");
    let global: Ipv6Addr = "2001:db8::77".parse().expect("address");
    let cases: Vec<(&str, Vec<u8>, Answer, bool)> = vec![
        ("address resolution", send(resolving), Answer::Asker, false),
        (
            "from a global address",
            send(solicitation(global, group, Some(CLIENT_MAC))),
            Answer::Asker,
            false,
        ),
        (
            "without its link-layer address",
            send(solicitation(ASKER, group, None)),
            Answer::Asker,
            false,
        ),
        (
            "reachability, to us alone",
            send(solicitation(ASKER, TARGET, None)),
            Answer::Asker,
            false,
        ),
        (
            "the same with its link-layer address",
            send(solicitation(ASKER, TARGET, Some(CLIENT_MAC))),
            Answer::Asker,
            false,
        ),
        ("duplicate address detection", send(detection), Answer::All, false),
        (
            "the same to us alone",
            send(solicitation(nobody, TARGET, None)),
            Answer::None,
            false,
        ),
        (
            "the same with a link-layer address",
            send(solicitation(nobody, group, Some(CLIENT_MAC))),
            Answer::None,
            false,
        ),
        (
            "to another station",
            resolving.emit(mac(7), CLIENT_MAC),
            Answer::None,
            false,
        ),
        (
            "to all nodes",
            send(solicitation(ASKER, ndp::ALL_NODES, Some(CLIENT_MAC))),
            Answer::None,
            false,
        ),
        (
            "to another group",
            send(solicitation(ASKER, other_group, Some(CLIENT_MAC))),
            Answer::None,
            false,
        ),
        (
            "from a group",
            send(solicitation(group, group, Some(CLIENT_MAC))),
            Answer::None,
            false,
        ),
        (
            "its link-layer address is a group",
            send(solicitation(ASKER, group, Some(MacAddr::BROADCAST))),
            Answer::None,
            false,
        ),
        (
            "hop limit 254",
            with(send(resolving), 14 + 7, 254),
            Answer::None,
            false,
        ),
        (
            "the checksum is wrong",
            with(send(resolving), 14 + 42, 0x55),
            Answer::None,
            false,
        ),
        ("code 1", patched(resolving, 1, 1), Answer::None, false),
        (
            "the target is a group",
            patched(resolving, 8, 0xff),
            Answer::None,
            false,
        ),
        (
            "another target",
            patched(resolving, 23, 0x99),
            Answer::None,
            false,
        ),
        (
            "an option of length 0",
            patched(resolving, 25, 0),
            Answer::None,
            false,
        ),
        (
            "an option longer than the packet",
            patched(resolving, 25, 2),
            Answer::None,
            false,
        ),
        (
            "an unknown option",
            patched(resolving, 24, 14),
            Answer::Asker,
            false,
        ),
        ("a redirect", patched(resolving, 0, 137), Answer::None, false),
        (
            "another next header",
            with(send(resolving), 14 + 6, 17),
            Answer::None,
            false,
        ),
        (
            "IP version 4",
            with(send(resolving), 14, 0x45),
            Answer::None,
            false,
        ),
        (
            "a longer payload than there is",
            with(send(resolving), 14 + 5, 40),
            Answer::None,
            false,
        ),
        (
            "a shorter payload than a message",
            with(send(resolving), 14 + 5, 16),
            Answer::None,
            false,
        ),
        ("tagged for a VLAN", tagged(send(resolving)), Answer::None, false),
        (
            "somebody else's advertisement to all",
            send(says(ASKER, ndp::ALL_NODES, false)),
            Answer::None,
            true,
        ),
        (
            "somebody else's answer",
            send(says(ASKER, TARGET, true)),
            Answer::None,
            true,
        ),
        (
            "an answer to all that says solicited",
            send(says(ASKER, ndp::ALL_NODES, true)),
            Answer::None,
            false,
        ),
    ];
    for (what, frame, expected, claimed) in cases {
        let mut a = announcer_v6();
        let (sent, claim) = outcome(&mut a, &frame);
        assert_eq!(claim, claimed, "{what}");
        let answer = match &sent[..] {
            [] => Answer::None,
            [answer] => {
                let answer = Frame::new_checked(answer).expect("a frame");
                assert_eq!(answer.source(), mac(1), "{what}");
                // Version 6, nothing else in the first word, hop limit 255, the router flag not set.
                let payload = answer.payload();
                assert_eq!((&payload[..4], payload[7]), (&[0x60, 0, 0, 0][..], 255), "{what}");
                assert_eq!(payload[44] & 0x80, 0, "{what}");
                let packet = ndp::Repr::parse(payload).expect("an advertisement");
                assert!(packet.source.is_unicast_link_local(), "{what}");
                let solicited = !packet.destination.is_multicast();
                let expected = Message::Advertisement {
                    target: TARGET,
                    target_mac: Some(mac(1)),
                    solicited,
                    overrides: true,
                };
                assert_eq!(packet.message, expected, "{what}");
                if solicited {
                    assert_eq!(answer.destination(), CLIENT_MAC, "{what}");
                    Answer::Asker
                } else {
                    assert_eq!(packet.destination, ndp::ALL_NODES, "{what}");
                    assert_eq!(answer.destination(), ndp::multicast_mac(ndp::ALL_NODES), "{what}");
                    Answer::All
                }
            }
            more => panic!("{what}: {} frames", more.len()),
        };
        assert_eq!(answer, expected, "{what}");
    }
    let good = send(resolving);
    for length in 0..good.len() {
        let mut a = announcer_v6();
        assert_eq!(
            outcome(&mut a, &good[..length]),
            (vec![], false),
            "cut at {length}"
        );
    }
}

/// Nothing is sent for what is not well formed, and nothing panics.
#[test]
fn any_bytes_of_neighbour_discovery_are_survived() {
    let mut a = announcer_v6();
    let mut rng = metallb_sansio::SeededRng::new(7);
    let good = send(solicitation(ASKER, ndp::solicited_node(TARGET), Some(CLIENT_MAC)));
    for _ in 0..50_000 {
        let bytes = rng.damaged(&good);
        a.handle_frame(1, &bytes);
        drain(&mut a);
    }
}

#[test]
fn what_is_asked_on_a_link_without_the_family_gets_no_answer() {
    let mut a = Announcer::new();
    let bare = crate::Link {
        arp: false,
        link_local: None,
        ..link(1)
    };
    a.handle(Instant::ZERO, Input::LinkUp(1, bare));
    for address in [IpAddr::V4(ADDRESS), TARGET.into()] {
        let own = Input::Own {
            address,
            interfaces: Interfaces::All,
            entry: Entry::Announce,
        };
        a.handle(Instant::ZERO, own);
    }
    drain(&mut a);
    let v6 = send(solicitation(ASKER, ndp::solicited_node(TARGET), Some(CLIENT_MAC)));
    for frame in [request(ADDRESS).emit(MacAddr::BROADCAST), v6] {
        assert_eq!(outcome(&mut a, &frame), (vec![], false));
    }
}
