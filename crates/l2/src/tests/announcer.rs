use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use crate::announcer::ANNOUNCE_AT_MS;
use crate::wire::arp::{Operation, Repr};
use crate::wire::ethernet::Frame;
use crate::wire::ndp;
use crate::{Announcer, Counters, Entry, ForeignClaim, Input, Interfaces, Link, MacAddr, Output};

pub(super) const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

pub(super) fn link(last: u8) -> Link {
    Link {
        name: format!("eth{last}").into(),
        mac: mac(last),
        arp: true,
        link_local: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into())),
    }
}

/// An announcer with links 1 and 2 (`eth1`, `eth2`) that owns `ADDRESS`, its announcing over.
pub(super) fn announcer() -> Announcer {
    let mut a = Announcer::new();
    a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
    a.handle(Instant::ZERO, Input::LinkUp(2, link(2)));
    own(&mut a, Instant::ZERO, ADDRESS, Interfaces::All);
    drain(&mut a);
    run_out(&mut a);
    a
}

pub(super) fn own(a: &mut Announcer, now: Instant, address: Ipv4Addr, interfaces: Interfaces) {
    a.handle(
        now,
        Input::Own {
            address: address.into(),
            interfaces,
            entry: Entry::Announce,
        },
    );
}

pub(super) fn drain(a: &mut Announcer) -> Vec<Output> {
    std::iter::from_fn(|| a.poll_output()).collect()
}

/// Lets every timer expire on time; the instants at which something was sent, in milliseconds.
pub(super) fn run_out(a: &mut Announcer) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(at) = a.poll_timeout() {
        a.handle_timeout(at);
        if !drain(a).is_empty() {
            times.push(at.as_millis());
        }
    }
    times
}

pub(super) fn request(target: Ipv4Addr) -> Repr {
    Repr {
        operation: Operation::Request,
        sender_mac: CLIENT_MAC,
        sender_ip: CLIENT,
        target_mac: MacAddr::ZERO,
        target_ip: target,
    }
}

/// The ARP frames among them; not the questions whether somebody else has an address.
pub(super) fn frames(outputs: &[Output]) -> Vec<(u32, MacAddr, Repr)> {
    let all = outputs.iter().map(|output| {
        let Output::Send { interface, frame } = output else {
            panic!("not a frame: {output:?}")
        };
        let frame = Frame::new_checked(frame).expect("frame");
        let packet = Repr::parse(frame.payload()).expect("packet");
        (*interface, frame.destination(), packet)
    });
    all.filter(|(.., packet)| !packet.sender_ip.is_unspecified())
        .collect()
}

#[test]
fn answers_with_the_mac_of_the_receiving_interface() {
    let mut a = announcer();
    for (interface, own_mac) in [(1, mac(1)), (2, mac(2))] {
        for destination in [MacAddr::BROADCAST, own_mac] {
            a.handle_frame(interface, &request(ADDRESS).emit(destination));
            let expected = Repr {
                operation: Operation::Reply,
                sender_mac: own_mac,
                sender_ip: ADDRESS,
                target_mac: CLIENT_MAC,
                target_ip: CLIENT,
            };
            assert_eq!(frames(&drain(&mut a)), vec![(interface, CLIENT_MAC, expected)]);
        }
    }
}

#[test]
fn a_probe_is_answered_and_so_the_address_defended() {
    let mut a = announcer();
    let probe = Repr {
        sender_ip: Ipv4Addr::UNSPECIFIED,
        ..request(ADDRESS)
    };
    a.handle_frame(1, &probe.emit(MacAddr::BROADCAST));
    assert_eq!(frames(&drain(&mut a)).len(), 1);
}

#[test]
fn what_is_not_a_question_for_us_gets_no_answer() {
    let reply = Repr {
        operation: Operation::Reply,
        ..request(ADDRESS)
    };
    let announcement = Repr {
        sender_ip: OTHER,
        target_ip: OTHER,
        ..request(OTHER)
    };
    let cases: [(&str, u32, Vec<u8>); 6] = [
        ("another address", 1, request(OTHER).emit(MacAddr::BROADCAST)),
        ("another host's MAC", 1, request(ADDRESS).emit(mac(9))),
        ("a reply", 1, reply.emit(mac(1))),
        (
            "somebody's announcement",
            1,
            announcement.emit(MacAddr::BROADCAST),
        ),
        (
            "an unknown interface",
            7,
            request(ADDRESS).emit(MacAddr::BROADCAST),
        ),
        (
            "our own frame",
            1,
            Repr {
                sender_mac: mac(1),
                ..request(ADDRESS)
            }
            .emit(MacAddr::BROADCAST),
        ),
    ];
    for (what, interface, frame) in cases {
        let mut a = announcer();
        a.handle_frame(interface, &frame);
        assert_eq!(drain(&mut a), vec![], "{what}");
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut a = announcer();
    let mut rng = metallb_sansio::SeededRng::new(1);
    let good = request(ADDRESS).emit(MacAddr::BROADCAST);
    for _ in 0..20_000 {
        let bytes = rng.damaged(&good);
        a.handle_frame(1, &bytes);
        drain(&mut a);
    }
}

#[test]
fn a_take_over_is_announced_at_the_stated_times_in_both_forms() {
    let mut a = announcer();
    let start = Instant::from_millis(10_000);
    own(&mut a, start, OTHER, Interfaces::All);
    let first = frames(&drain(&mut a));
    let expected: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(|interface| {
            let mac = mac(interface as u8);
            [
                (
                    interface,
                    MacAddr::BROADCAST,
                    Repr::announcement_request(OTHER, mac),
                ),
                (
                    interface,
                    MacAddr::BROADCAST,
                    Repr::announcement_reply(OTHER, mac),
                ),
            ]
        })
        .collect();
    assert_eq!(first, expected);
    let later: Vec<u64> = run_out(&mut a).into_iter().map(|ms| ms - 10_000).collect();
    assert_eq!(later, ANNOUNCE_AT_MS[1..]);
    assert_eq!(a.counters()[&IpAddr::V4(OTHER)].gratuitous_sent, 8 * 2 * 2);
}

#[test]
fn a_resync_announces_nothing_and_a_new_interface_only_there() {
    let mut a = announcer();
    let now = Instant::from_millis(20_000);
    own(&mut a, now, ADDRESS, Interfaces::All);
    assert_eq!(drain(&mut a), vec![]);
    assert_eq!(a.poll_timeout(), None);

    own(&mut a, now, ADDRESS, ["eth1"].into_iter().collect());
    assert_eq!(drain(&mut a), vec![], "a restriction is no take-over");
    own(&mut a, now, ADDRESS, ["eth1", "eth2"].into_iter().collect());
    let sent = frames(&drain(&mut a));
    assert!(sent.len() == 2 && sent.iter().all(|(interface, ..)| *interface == 2));
}

#[test]
fn a_reannouncement_starts_over_and_concerns_only_what_is_owned() {
    let mut a = announcer();
    let start = Instant::from_millis(10_000);
    a.handle(start, Input::Reannounce(OTHER.into()));
    assert_eq!(drain(&mut a), vec![]);
    a.handle(start, Input::Reannounce(ADDRESS.into()));
    assert_eq!(frames(&drain(&mut a)).len(), 4);
    a.handle(
        start + Duration::from_millis(10),
        Input::Reannounce(ADDRESS.into()),
    );
    drain(&mut a);
    assert_eq!(
        run_out(&mut a).len(),
        ANNOUNCE_AT_MS.len() - 1,
        "one sequence, not two"
    );
}

#[test]
fn restricted_addresses_are_silent_elsewhere() {
    let mut a = announcer();
    own(&mut a, Instant::ZERO, OTHER, ["eth2"].into_iter().collect());
    assert!(
        frames(&drain(&mut a))
            .iter()
            .all(|(interface, ..)| *interface == 2)
    );
    a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
    assert_eq!(drain(&mut a), vec![]);
    assert!(!a.can_announce(OTHER.into(), &["eth9"].into_iter().collect()));
    assert!(a.can_announce(OTHER.into(), &["eth2"].into_iter().collect()));
}

#[test]
fn disowned_means_silent_at_once_and_owned_again_means_announced_again() {
    let mut a = announcer();
    let now = Instant::from_millis(10_000);
    own(&mut a, now, OTHER, Interfaces::All);
    drain(&mut a);
    a.handle(now, Input::Disown(OTHER.into()));
    a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
    a.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(drain(&mut a), vec![]);
    own(&mut a, now, OTHER, Interfaces::All);
    assert_eq!(frames(&drain(&mut a)).len(), 4);
}

#[test]
fn a_link_that_comes_back_or_changes_its_mac_is_announced_on() {
    let mut a = announcer();
    let now = Instant::from_millis(10_000);
    a.handle(now, Input::LinkUp(1, link(1)));
    assert_eq!(drain(&mut a), vec![], "nothing new");
    a.handle(now, Input::LinkDown(1));
    a.handle(now, Input::LinkUp(1, link(1)));
    assert!(
        frames(&drain(&mut a))
            .iter()
            .all(|(interface, ..)| *interface == 1)
    );
    a.handle(
        now,
        Input::LinkUp(
            1,
            Link {
                mac: mac(5),
                ..link(1)
            },
        ),
    );
    let sent = frames(&drain(&mut a));
    assert!(sent.len() == 2 && sent.iter().all(|(.., packet)| packet.sender_mac == mac(5)));
}

#[test]
fn rounds_missed_in_a_stall_are_sent_once() {
    let mut a = announcer();
    let start = Instant::from_millis(10_000);
    own(&mut a, start, OTHER, Interfaces::All);
    drain(&mut a);
    a.handle_timeout(start + Duration::from_millis(500));
    assert_eq!(frames(&drain(&mut a)).len(), 4);
    assert_eq!(a.poll_timeout(), Some(start + Duration::from_millis(1_100)));
}

#[test]
fn somebody_elses_claim_is_reported() {
    let mut a = announcer();
    a.handle_frame(
        1,
        &Repr::announcement_reply(ADDRESS, CLIENT_MAC).emit(MacAddr::BROADCAST),
    );
    let claim = ForeignClaim {
        address: ADDRESS.into(),
        mac: CLIENT_MAC,
        interface: 1,
    };
    assert_eq!(drain(&mut a), vec![Output::ForeignClaim(claim)]);
    a.handle_frame(
        1,
        &Repr::announcement_reply(ADDRESS, mac(2)).emit(MacAddr::BROADCAST),
    );
    assert_eq!(drain(&mut a), vec![], "our own other interface on the same wire");
}

#[test]
fn counts_as_metallb_does() {
    let mut a = Announcer::new();
    a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
    own(&mut a, Instant::ZERO, ADDRESS, Interfaces::All);
    a.handle_frame(1, &request(ADDRESS).emit(MacAddr::BROADCAST));
    a.handle_frame(1, &request(OTHER).emit(MacAddr::BROADCAST));
    let expected = Counters {
        requests_received: 1,
        responses_sent: 1,
        gratuitous_sent: 2,
    };
    assert_eq!(a.counters()[&IpAddr::V4(ADDRESS)], expected);
    assert_eq!(a.counters().len(), 1);
}

#[test]
fn neighbour_solicitations_are_answered_to_the_asker_and_probes_to_all() {
    let target = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
    let client = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 1);
    let group = ndp::solicited_node(target);
    let mut a = announcer();
    a.handle(
        Instant::ZERO,
        Input::Own {
            address: target.into(),
            interfaces: Interfaces::All,
            entry: Entry::Announce,
        },
    );
    let outputs = drain(&mut a);
    let joins = [1, 2].map(|interface| Output::Join(interface, group));
    assert!(joins.iter().all(|join| outputs.contains(join)));
    assert_eq!(
        outputs.len(),
        6,
        "a join, an unsolicited advertisement and a question an interface"
    );
    let cases = [
        (client, group, Some(CLIENT_MAC), client, CLIENT_MAC, true),
        (client, target, None, client, CLIENT_MAC, true),
        (
            Ipv6Addr::UNSPECIFIED,
            group,
            None,
            ndp::ALL_NODES,
            ndp::multicast_mac(ndp::ALL_NODES),
            false,
        ),
    ];
    for (source, destination, source_mac, to, to_mac, solicited) in cases {
        let message = ndp::Message::Solicitation { target, source_mac };
        let ethernet_to = if destination == target {
            mac(1)
        } else {
            ndp::multicast_mac(group)
        };
        a.handle_frame(
            1,
            &ndp::Repr {
                source,
                destination,
                message,
            }
            .emit(ethernet_to, CLIENT_MAC),
        );
        let outputs = drain(&mut a);
        let [Output::Send { interface: 1, frame }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        let frame = Frame::new_checked(frame).expect("frame");
        assert_eq!(frame.destination(), to_mac);
        let answer = ndp::Repr::parse(frame.payload()).expect("advertisement");
        assert_eq!(answer.destination, to);
        let expected = ndp::Message::Advertisement {
            target,
            target_mac: Some(mac(1)),
            solicited,
            overrides: true,
        };
        assert_eq!(answer.message, expected);
    }
}
