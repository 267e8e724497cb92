//! What the kernel of a node is asked, and what counts as its answer.
//!
//! IPv4: an ARP probe (RFC 5227 1.1, sender address zero), sent to the node's hardware address: the kernel answers whatever
//! process hangs, and nobody learns anything wrong. IPv6: a unicast solicitation (RFC 4861 7.2.2).
//!
//! A link is asked for what its kernel answers there: for its own link-local and IPv4 addresses in any case, and for the node's
//! address where it happens to. For an IPv6 address of another link no kernel answers, for an IPv4 address Linux does
//! unless the sysctl `arp_ignore` is set, as kube-proxy's strict ARP sets it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metallb_l2::wire::arp::{self, Operation};
use metallb_l2::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Frame};
use metallb_l2::wire::ndp::{self, Message};
use metallb_l2::{InterfaceIndex, Link, MacAddr};

use crate::talk::LinkFacts;

/// One frame that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Where it is asked.
    pub(crate) interface: InterfaceIndex,
    /// Under which hardware address.
    pub(crate) mac: MacAddr,
    /// For an address of that very link, so that its kernel answers wherever nobody forbids it.
    pub(crate) own: bool,
    pub(crate) frame: Vec<u8>,
}

/// On which of our links a link is asked that may be on the LAN of several, as the node was not heard there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Where it was heard, or else on ours of its name; wherever it may be, if it can't be asked there.
    Likely,
    /// Wherever it may be.
    Anywhere,
}

/// The frames that ask a node, whose links are `theirs` and that is believed to have `ip`, over our links.
///
/// On each of our links it is asked under the hardware address heard there, or under each that it has and that `reach` lets be
/// asked there. Each address is asked for once, also where several links have one hardware address, as VLANs do.
pub(crate) fn questions(
    ip: Option<IpAddr>,
    theirs: &[LinkFacts],
    heard_on: &BTreeMap<InterfaceIndex, MacAddr>,
    ours: &BTreeMap<InterfaceIndex, Link>,
    reach: impl Fn(MacAddr) -> Option<Reach>,
) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut done = BTreeSet::new();
    for their in theirs.iter().filter(|their| done.insert(their.mac)) {
        let Some(reach) = reach(their.mac) else {
            continue;
        };
        let mac = their.mac;
        let same = || theirs.iter().filter(|link| link.mac == mac);
        let targets = targets(ip, same());
        let open = |index: &InterfaceIndex| heard_on.get(index).is_none_or(|heard| *heard == mac);
        let is_heard = heard_on
            .iter()
            .any(|(on, heard)| *heard == mac && ours.contains_key(on));
        let likely = |index: &InterfaceIndex, link: &Link| {
            heard_on.contains_key(index) || (!is_heard && same().any(|their| their.name == link.name))
        };
        let open: Vec<_> = ours.iter().filter(|(index, _)| open(index)).collect();
        let over = |only: &dyn Fn(&InterfaceIndex, &Link) -> bool| -> Vec<Question> {
            let links = open.iter().filter(|(index, link)| only(index, link));
            links
                .flat_map(|(index, link)| {
                    targets
                        .iter()
                        .filter_map(|target| question(**index, link, mac, *target))
                })
                .collect()
        };
        let mut asked = match reach {
            Reach::Likely => over(&likely),
            Reach::Anywhere => Vec::new(),
        };
        if asked.is_empty() {
            asked = over(&|_, _| true);
        }
        questions.append(&mut asked);
    }
    questions
}

/// What the links of one hardware address are asked for, and whether that is an address of their own.
fn targets<'a>(ip: Option<IpAddr>, links: impl Iterator<Item = &'a LinkFacts>) -> Vec<(bool, IpAddr)> {
    let mut targets: Vec<(bool, IpAddr)> = Vec::new();
    let own = links.flat_map(LinkFacts::own).map(|own| (true, own));
    for (own, target) in own.chain(ip.map(|ip| (false, ip))) {
        if targets.iter().all(|(_, known)| *known != target) {
            targets.push((own, target));
        }
    }
    targets
}

/// The question for a target, if our link carries it.
fn question(
    interface: InterfaceIndex,
    link: &Link,
    mac: MacAddr,
    (own, target): (bool, IpAddr),
) -> Option<Question> {
    let frame = match target {
        IpAddr::V4(ip) => link
            .arp
            .then(|| request(link.mac, Ipv4Addr::UNSPECIFIED, ip, mac)),
        IpAddr::V6(ip) => link
            .link_local
            .map(|source| solicitation(link.mac, source, ip, ip, mac)),
    };
    frame.map(|frame| Question {
        interface,
        mac,
        own,
        frame,
    })
}

/// An ARP request; a probe (RFC 5227 1.1) without a sender.
pub(crate) fn request(ours: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr, to: MacAddr) -> Vec<u8> {
    let request = arp::Repr {
        operation: Operation::Request,
        sender_mac: ours,
        sender_ip,
        target_mac: MacAddr::ZERO,
        target_ip,
    };
    request.emit(to)
}

/// A neighbour solicitation, sent to an address or to its solicited-node group.
pub(crate) fn solicitation(
    ours: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    to: MacAddr,
) -> Vec<u8> {
    let solicitation = ndp::Repr {
        source,
        destination,
        message: Message::Solicitation {
            target,
            source_mac: Some(ours),
        },
    };
    solicitation.emit(to, ours)
}

/// Whether a frame of a node is an answer of its kernel to such a question: its speaker answers for services.
pub(crate) fn is_answer(ip: Option<IpAddr>, links: &[LinkFacts], frame: Frame<'_>) -> bool {
    let asked = |answered: IpAddr| {
        Some(answered) == ip || links.iter().any(|link| link.own().any(|own| own == answered))
    };
    match frame.ethertype() {
        ETHERTYPE_ARP => arp::Repr::parse(frame.payload()).is_ok_and(|packet| asked(packet.sender_ip.into())),
        ETHERTYPE_IPV6 => match ndp::Repr::parse(frame.payload()).map(|packet| packet.message) {
            Ok(Message::Advertisement { target, .. }) => asked(target.into()),
            _ => false,
        },
        _ => false,
    }
}

/// The frames that ask a node of which nothing but its address is known.
pub(crate) fn broadcast_questions(
    ip: IpAddr,
    ours: &BTreeMap<InterfaceIndex, Link>,
) -> Vec<(InterfaceIndex, Vec<u8>)> {
    let carrying = ours.iter().filter(|(_, link)| link.carries(ip));
    carrying
        .map(|(index, link)| (*index, metallb_l2::question(ip, link)))
        .collect()
}

/// The address that a frame says its sender has, and the hardware address.
pub(crate) fn sender(bytes: &[u8]) -> Option<(IpAddr, MacAddr)> {
    let frame = Frame::new_checked(bytes).ok()?;
    match frame.ethertype() {
        ETHERTYPE_ARP => {
            let packet = arp::Repr::parse(frame.payload()).ok()?;
            Some((packet.sender_ip.into(), packet.sender_mac))
        }
        ETHERTYPE_IPV6 => match ndp::Repr::parse(frame.payload()).ok()?.message {
            Message::Advertisement {
                target, target_mac, ..
            } => Some((target.into(), target_mac.unwrap_or(frame.source()))),
            Message::Solicitation { .. } => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn their(last: u8, link_local: Option<&str>, addresses: &[&str]) -> LinkFacts {
        LinkFacts {
            name: format!("eth{last}").into(),
            mac: mac(last),
            arp: true,
            link_local: link_local.map(|text| text.parse().expect("IPv6")),
            addresses: addresses.iter().map(|text| text.parse().expect("IPv4")).collect(),
        }
    }

    /// Which addresses a frame asks for.
    fn target(frame: &[u8]) -> IpAddr {
        let frame = Frame::new_checked(frame).expect("a frame");
        if let Ok(packet) = arp::Repr::parse(frame.payload()) {
            return packet.target_ip.into();
        }
        match ndp::Repr::parse(frame.payload()).expect("a question").message {
            Message::Solicitation { target, .. } => target.into(),
            Message::Advertisement { .. } => panic!("an answer"),
        }
    }

    #[test]
    fn each_link_is_asked_for_what_is_answered_there() {
        let six = "2001:db8::1";
        let theirs = [
            their(0, Some("fe80::10"), &["192.0.2.1"]),
            their(1, None, &["198.51.100.1"]),
            their(2, Some("fe80::12"), &[]),
        ];
        let link = |last: u8, link_local: Option<&str>| Link {
            name: format!("eth{last}").into(),
            mac: mac(100 + last),
            arp: true,
            link_local: link_local.map(|text| text.parse().expect("IPv6")),
        };
        let ours = BTreeMap::from([
            (1, link(0, Some("fe80::1"))),
            (2, link(1, Some("fe80::2"))),
            (3, link(2, None)),
        ]);
        let heard_on = BTreeMap::from([(1, mac(0)), (2, mac(1)), (3, mac(2))]);
        for (ip, expected) in [
            (
                "192.0.2.1",
                vec![
                    (1, 0, true, "fe80::10"),
                    (1, 0, true, "192.0.2.1"),
                    (2, 1, true, "198.51.100.1"),
                    (2, 1, false, "192.0.2.1"),
                    (3, 2, false, "192.0.2.1"),
                ],
            ),
            (
                six,
                vec![
                    (1, 0, true, "fe80::10"),
                    (1, 0, true, "192.0.2.1"),
                    (1, 0, false, six),
                    (2, 1, true, "198.51.100.1"),
                    (2, 1, false, six),
                ],
            ),
        ] {
            let asked = questions(ip.parse().ok(), &theirs, &heard_on, &ours, |_| {
                Some(Reach::Anywhere)
            });
            let asked = asked.iter().map(|question| {
                let destination = Frame::new_checked(&question.frame)
                    .expect("a frame")
                    .destination();
                assert_eq!(destination, question.mac);
                (
                    question.interface,
                    question.mac.0[5],
                    question.own,
                    target(&question.frame),
                )
            });
            let expected = expected
                .into_iter()
                .map(|(on, of, own, text)| (on, of, own, text.parse().expect("address")));
            assert_eq!(asked.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
        let nowhere = questions(None, &theirs, &BTreeMap::new(), &ours, |_| Some(Reach::Anywhere));
        assert_eq!(nowhere.len(), 4 + 4 + 2, "each under each that it has");
    }

    #[test]
    fn a_link_is_asked_where_it_is_likely_to_be_or_else_where_it_may_be() {
        let theirs = [0, 1, 9].map(|last| their(last, None, &["198.51.100.1"]));
        let link = |last: u8, arp| Link {
            name: format!("eth{last}").into(),
            mac: mac(100 + last),
            arp,
            link_local: None,
        };
        let ours = |arp| BTreeMap::from([(1, link(0, true)), (2, link(1, arp)), (3, link(2, true))]);
        let on = |of: u8, heard_on: &[(InterfaceIndex, u8)], arp| {
            let heard_on = heard_on.iter().map(|(on, of)| (*on, mac(*of))).collect();
            let reach = |their| (their == mac(of)).then_some(Reach::Likely);
            let asked = questions(None, &theirs, &heard_on, &ours(arp), reach);
            let on = asked.iter().map(|question| {
                assert_eq!(question.mac, mac(of));
                question.interface
            });
            on.collect::<Vec<_>>()
        };
        assert_eq!(on(1, &[], true), [2], "where ours of its name is");
        assert_eq!(on(1, &[(3, 1)], true), [3], "where it was heard");
        assert_eq!(on(1, &[(2, 0)], true), [1, 3], "and not where another one was");
        assert_eq!(on(9, &[], true), [1, 2, 3], "its name says nothing");
        assert_eq!(on(1, &[], false), [1, 3], "it can't be asked where its name says");
    }

    #[test]
    fn links_of_one_hardware_address_are_asked_once_for_each_address() {
        let vlan = |id: u8, address: &str| LinkFacts {
            name: format!("eth0.{id}").into(),
            ..their(7, Some("fe80::10"), &[address])
        };
        let theirs = [
            vlan(10, "192.0.2.1"),
            vlan(20, "198.51.100.1"),
            vlan(30, "203.0.113.1"),
        ];
        let link = |last: u8| Link {
            name: format!("eth0.{last}").into(),
            mac: mac(100),
            arp: true,
            link_local: Some("fe80::1".parse().expect("IPv6")),
        };
        let ours = BTreeMap::from([(1, link(10)), (2, link(20))]);
        let expected = ["fe80::10", "192.0.2.1", "198.51.100.1", "203.0.113.1"].map(|text| (true, text));
        for heard_on in [BTreeMap::new(), BTreeMap::from([(1, mac(7)), (2, mac(7))])] {
            let asked = questions("198.51.100.1".parse().ok(), &theirs, &heard_on, &ours, |_| {
                Some(Reach::Anywhere)
            });
            for interface in [1, 2] {
                let there = asked.iter().filter(|question| question.interface == interface);
                let there = there.map(|question| (question.own, target(&question.frame)));
                let expected = expected.map(|(own, text)| (own, text.parse().expect("address")));
                assert_eq!(there.collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn speakers_answers_are_no_kernels() {
        let links = [their(0, Some("fe80::10"), &["198.51.100.1"])];
        let reply = |sender: &str| {
            let reply = arp::Repr {
                operation: Operation::Reply,
                sender_mac: mac(0),
                sender_ip: sender.parse().expect("IPv4"),
                target_mac: mac(9),
                target_ip: Ipv4Addr::UNSPECIFIED,
            };
            reply.emit(mac(9))
        };
        let advertisement = |target: &str| {
            let target = target.parse().expect("IPv6");
            let advertisement = ndp::Repr {
                source: target,
                destination: "fe80::9".parse().expect("IPv6"),
                message: Message::Advertisement {
                    target,
                    target_mac: Some(mac(0)),
                    solicited: true,
                    overrides: true,
                },
            };
            advertisement.emit(mac(9), mac(0))
        };
        for (frame, expected) in [
            (reply("192.0.2.1"), true),
            (reply("198.51.100.1"), true),
            (reply("10.200.0.1"), false),
            (advertisement("fe80::10"), true),
            (advertisement("2001:db8:200::1"), false),
        ] {
            let frame = Frame::new_checked(&frame).expect("a frame");
            assert_eq!(is_answer("192.0.2.1".parse().ok(), &links, frame), expected);
        }
    }
}
