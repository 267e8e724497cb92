//! What the kernel makes of frames, interfaces and groups, with the announcer on real sockets.
//!
//! Needs root, iproute2 and arping, so it is ignored by default: `cargo test -p metallb-net -- --ignored`.

mod lan;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use metallb_l2::MacAddr;
use metallb_l2::wire::arp::{Operation, Repr};
use metallb_l2::wire::ethernet::Frame;
use metallb_l2::wire::ndp::{self, Message};
use metallb_net::{PacketSocket, Protocol};

use lan::{OUR_MAC, PATIENCE, STATION_MAC, Station, hears, on_a_lan, printed, run, solicitation};

const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Asked for after frames that get no answer: when it is answered, they were seen.
const SENTINEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const ASKER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xbb, 1);

fn question(target_ip: Ipv4Addr) -> Repr {
    Repr {
        operation: Operation::Request,
        sender_mac: STATION_MAC,
        sender_ip: Ipv4Addr::new(192, 0, 2, 2),
        target_mac: MacAddr::ZERO,
        target_ip,
    }
}

/// What a frame says of one of our addresses: which, and where it is. Questions say nothing.
fn says(frame: &[u8]) -> Option<(IpAddr, MacAddr)> {
    let frame = Frame::new_checked(frame).ok()?;
    if let Ok(packet) = Repr::parse(frame.payload()) {
        let answer = packet.operation == Operation::Reply || packet.sender_ip == packet.target_ip;
        return answer.then_some((packet.sender_ip.into(), packet.sender_mac));
    }
    match ndp::Repr::parse(frame.payload()).ok()?.message {
        Message::Advertisement {
            target, target_mac, ..
        } => Some((target.into(), target_mac?)),
        Message::Solicitation { .. } => None,
    }
}

/// The address for which a frame of ours answers. A unicast solicitation may be answered without the hardware address (RFC 4861
/// 4.4).
fn answer(frame: &[u8]) -> Option<IpAddr> {
    let frame = Frame::new_checked(frame).ok()?;
    if frame.source() != OUR_MAC {
        return None;
    }
    if let Ok(packet) = Repr::parse(frame.payload()) {
        return (packet.operation == Operation::Reply).then_some(packet.sender_ip.into());
    }
    match ndp::Repr::parse(frame.payload()).ok()?.message {
        Message::Advertisement { target, .. } => Some(target.into()),
        Message::Solicitation { .. } => None,
    }
}

/// Whether the station has heard, since it last looked, that the address is there.
fn told(station: &Station, address: IpAddr, mac: MacAddr) -> bool {
    station
        .heard()
        .iter()
        .any(|frame| says(frame) == Some((address, mac)))
}

#[test]
#[ignore = "needs root and iproute2"]
fn frames_are_answered_or_not_as_the_kernel_hands_them_over() {
    on_a_lan(async |_, mut host, mut station| {
        host.until("our link with both families", |host| {
            host.link("lan0").is_some_and(|link| link.link_local.is_some())
        })
        .await;
        for address in [V4.into(), SENTINEL.into(), V6.into()] {
            host.own(address);
        }
        host.until("the end of announcing", |host| {
            use metallb_sansio::Machine as _;
            host.announcer.poll_timeout().is_none()
        })
        .await;
        station.heard();

        let group = ndp::solicited_node(V6);
        let to_group = ndp::multicast_mac(group);
        let tagged = |mut frame: Vec<u8>, vlan: u8| {
            frame.splice(12..12, [0x81, 0x00, 0x00, vlan]);
            frame
        };
        let far = {
            let mut frame = solicitation(ASKER, group, V6, to_group);
            frame[14 + 7] = 64;
            frame
        };
        let cases: Vec<(&str, Vec<u8>, Option<IpAddr>)> = vec![
            (
                "ARP to all",
                question(V4).emit(MacAddr::BROADCAST),
                Some(V4.into()),
            ),
            ("ARP to us", question(V4).emit(OUR_MAC), Some(V4.into())),
            (
                "ARP to another station",
                question(V4).emit(MacAddr([2, 0, 0, 0, 0xcc, 1])),
                None,
            ),
            (
                "ARP in a VLAN that we have not",
                tagged(question(V4).emit(MacAddr::BROADCAST), 5),
                None,
            ),
            (
                "ARP with a priority tag only",
                tagged(question(V4).emit(MacAddr::BROADCAST), 0),
                Some(V4.into()),
            ),
            (
                "ARP cut short",
                question(V4).emit(MacAddr::BROADCAST)[..40].to_vec(),
                None,
            ),
            (
                "resolution",
                solicitation(ASKER, group, V6, to_group),
                Some(V6.into()),
            ),
            (
                "reachability",
                solicitation(ASKER, V6, V6, OUR_MAC),
                Some(V6.into()),
            ),
            (
                "detection",
                solicitation(Ipv6Addr::UNSPECIFIED, group, V6, to_group),
                Some(V6.into()),
            ),
            (
                "resolution in a VLAN",
                tagged(solicitation(ASKER, group, V6, to_group), 5),
                None,
            ),
            ("from beyond a router", far, None),
        ];
        for (what, frame, expected) in cases {
            station.send(&frame);
            station.send(&question(SENTINEL).emit(MacAddr::BROADCAST));
            let mut answers = Vec::new();
            let mut seen = 0;
            host.until(what, |_| {
                for frame in station.heard() {
                    match says(&frame) {
                        Some((address, _)) if address == IpAddr::V4(SENTINEL) => seen += 1,
                        Some((address, mac)) => {
                            assert_eq!(mac, OUR_MAC, "{what}");
                            answers.push(address);
                        }
                        None => {}
                    }
                }
                // The two protocols have a socket each: what came first need not be answered first.
                seen == 1 && (expected.is_none() || !answers.is_empty())
            })
            .await;
            assert_eq!(answers, Vec::from_iter(expected), "{what}");
        }
    });
}

#[test]
#[ignore = "needs root, iproute2 and arping"]
fn a_real_client_learns_from_the_announcement_and_gets_answers() {
    on_a_lan(async |namespaces, mut host, _| {
        let station = &namespaces.station;
        run(&format!(
            "ip netns exec {station} sysctl -qw net.ipv4.conf.lan0.arp_accept=1"
        ));
        host.until("our link", |host| host.link("lan0").is_some()).await;
        host.own(V4.into());
        let learnt = format!("ip -n {station} neigh show {V4}");
        host.until("the client has learnt", |_| {
            printed(&learnt).contains(&OUR_MAC.to_string())
        })
        .await;
        let arping = format!("ip netns exec {station} arping -q -c 3 -w 10 -I lan0 {V4}");
        let mut arping = Command::new("sh").args(["-c", &arping]).spawn().expect("arping");
        let mut ended = None;
        host.until("arping ends", |_| {
            ended = arping.try_wait().expect("arping");
            ended.is_some()
        })
        .await;
        assert!(ended.is_some_and(|status| status.success()));
        assert!(host.announcer.counters()[&IpAddr::V4(V4)].responses_sent >= 3);
    });
}

#[test]
#[ignore = "needs root, iproute2 and arping"]
fn hosts_find_that_our_addresses_are_taken() {
    on_a_lan(async |namespaces, mut host, _| {
        host.until("our link with both families", |host| {
            host.link("lan0").is_some_and(|link| link.link_local.is_some())
        })
        .await;
        host.own(V4.into());
        host.own(V6.into());
        let arping = format!(
            "ip netns exec {} arping -D -q -c 5 -w 10 -I lan0 {V4}",
            namespaces.station
        );
        let mut arping = Command::new("sh")
            .args(["-c", &arping])
            .stdout(Stdio::null())
            .spawn()
            .expect("arping");
        let mut ended = None;
        host.until("arping -D ends", |_| {
            ended = arping.try_wait().expect("arping");
            ended.is_some()
        })
        .await;
        assert_eq!(ended.and_then(|status| status.code()), Some(1), "a duplicate");

        run(&format!(
            "ip -n {} -6 addr add {V6}/64 dev lan0",
            namespaces.station
        ));
        let show = format!("ip -n {} -6 addr show dev lan0 to {V6}", namespaces.station);
        host.until("the kernel gives the address up", |_| {
            printed(&show).contains("dadfailed")
        })
        .await;
    });
}

#[test]
#[ignore = "needs root and iproute2"]
fn interfaces_may_come_go_and_change() {
    on_a_lan(async |namespaces, mut host, station| {
        let ours = &namespaces.ours;
        let group = ndp::solicited_node(V6);
        host.own(V4.into());
        host.own(V6.into());
        let both = |station: &Station, mac: MacAddr| {
            let heard: Vec<_> = station.heard().iter().filter_map(|frame| says(frame)).collect();
            [V4.into(), V6.into()].map(|address: IpAddr| heard.contains(&(address, mac)))
        };
        // Announcements may come in several rounds: what was heard adds up.
        let announced = async |host: &mut lan::Host, what: &str, mac: MacAddr| {
            let mut all = [false; 2];
            host.until(what, |_| {
                for (known, now) in all.iter_mut().zip(both(&station, mac)) {
                    *known |= now;
                }
                all == [true; 2]
            })
            .await;
        };
        announced(&mut host, "announced on the first link", OUR_MAC).await;
        assert!(hears("lan0", group));

        run(&format!("ip -n {ours} link set lan0 down"));
        host.until("the link is gone", |host| host.link("lan0").is_none())
            .await;
        assert!(host.groups.is_empty());
        station.heard();
        run(&format!("ip -n {ours} link set lan0 up"));
        announced(&mut host, "announced when it is back", OUR_MAC).await;
        assert!(hears("lan0", group), "the group is joined anew");

        let other = MacAddr([2, 0, 0, 0, 0xaa, 2]);
        run(&format!("ip -n {ours} link set lan0 address {other}"));
        announced(&mut host, "announced with the new address", other).await;

        // A bridge takes the place of its port, and gives it back.
        run(&format!(
            "ip -n {ours} link add br0 address {OUR_MAC} type bridge && ip -n {ours} link set br0 up && ip -n {ours} link set lan0 master br0"
        ));
        host.until("the port is not used", |host| host.link("lan0").is_none())
            .await;
        announced(&mut host, "announced on the bridge", OUR_MAC).await;
        assert!(hears("br0", group) && !host.groups.is_empty());
        run(&format!("ip -n {ours} link set lan0 nomaster"));
        announced(&mut host, "announced on the port again", other).await;
        assert!(host.link("lan0").is_some_and(|link| link.link_local.is_some()));
        run(&format!("ip -n {ours} link del br0"));
        host.until("the bridge is gone", |host| host.link("br0").is_none())
            .await;

        run(&format!("ip -n {} link set lan0 down", namespaces.station));
        host.until("no carrier", |host| host.link("lan0").is_none()).await;
    });
}

#[test]
#[ignore = "needs root and iproute2"]
fn hundreds_of_other_interfaces_change_nothing() {
    on_a_lan(async |namespaces, mut host, station| {
        host.own(V4.into());
        host.until("announced", |_| told(&station, V4.into(), OUR_MAC))
            .await;
        let churn = format!(
            "ip netns exec {} sh -c 'for n in $(seq 1 150); do echo link add cali$n type veth peer name lxc$n; done | ip -batch -; \
             for n in $(seq 1 150); do echo link set cali$n up; done | ip -batch -; \
             for n in $(seq 1 150); do echo link del cali$n; done | ip -batch -; ip link set lan0 mtu 1400'",
            namespaces.ours
        );
        let mut churn = Command::new("sh").args(["-c", &churn]).spawn().expect("sh");
        let mut ended = None;
        host.until("the other interfaces came and went", |host| {
            assert!(host.link("lan0").is_some());
            ended = churn.try_wait().expect("sh");
            ended.is_some()
        })
        .await;
        assert!(
            ended.is_some_and(|status| status.success()),
            "within {PATIENCE:?}"
        );
        assert!(host.link("lan0").is_some());
    });
}

/// VLANs and macvlan take the same way through the kernel: the frame becomes one of the child and is then handed to the sockets
/// of child and parent. VLAN devices were not seen on a kernel (the one these tests were written on has none), macvlan was.
#[test]
#[ignore = "needs root and iproute2"]
fn what_is_for_a_child_interface_the_parent_leaves_alone() {
    on_a_lan(async |namespaces, mut host, mut station| {
        let ours = &namespaces.ours;
        let child = MacAddr([2, 0, 0, 0, 0xaa, 7]);
        run(&format!(
            "ip -n {ours} link add child0 link lan0 address {child} type macvlan mode bridge && ip -n {ours} link set child0 up"
        ));
        host.until("both links", |host| {
            ["lan0", "child0"].iter().all(|name| host.link(name).is_some())
        })
        .await;
        let open = |name: &str| {
            let shown = printed(&format!("ip -n {ours} -o link show dev {name}"));
            let (index, _) = shown.split_once(':').expect("a number");
            let index = index.parse().expect("a number");
            [Protocol::Arp, Protocol::Ndp]
                .map(|protocol| PacketSocket::open(index, protocol).expect("packet socket"))
        };
        let sockets = [open("lan0"), open("child0")];
        // What is for the parent comes last, so that by then everything was seen.
        for to in [child, OUR_MAC] {
            station.send(&question(V4).emit(to));
            station.send(&solicitation(ASKER, V6, V6, to));
        }
        let mut heard = [[0; 2]; 2];
        let mut buffer = [0; PacketSocket::BUFFER];
        host.until("the questions", |_| {
            for (heard, sockets) in heard.iter_mut().zip(&sockets) {
                for socket in sockets {
                    while let Ok(length) = socket.try_receive(&mut buffer) {
                        let frame = Frame::new_checked(&buffer[..length]).expect("a frame");
                        heard[0] += usize::from(frame.destination() == OUR_MAC);
                        heard[1] += usize::from(frame.destination() == child);
                    }
                }
            }
            heard[0][0] == 2 && heard[1][1] == 2
        })
        .await;
        assert_eq!(
            heard,
            [[2, 0], [0, 2]],
            "to the parent and to the child, by socket"
        );
    });
}

/// What the deputy of a node relies on (`metallb-speaker-core`, `ask.rs`), and the simulator's kernels imitate.
#[test]
#[ignore = "needs root and iproute2"]
fn a_kernel_answers_for_the_addresses_of_the_link_whatever_else_it_is_set_to() {
    const NODE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    const LINK_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    on_a_lan(async |namespaces, mut host, mut station| {
        let ours = &namespaces.ours;
        run(&format!(
            "set -e; ip -n {ours} link add other0 type veth peer name other1
             ip -n {ours} addr add {NODE_V4}/24 dev other0; ip -n {ours} addr add {NODE_V6}/64 dev other0
             ip -n {ours} link set other0 up; ip -n {ours} link set other1 up"
        ));
        let mut link_local = None;
        host.until("our link with both families", |host| {
            link_local = host.link("lan0").and_then(|link| link.link_local);
            link_local.is_some()
        })
        .await;
        let link_local = link_local.expect("told");
        let probe = |target_ip| Repr {
            sender_ip: Ipv4Addr::UNSPECIFIED,
            ..question(target_ip)
        };
        for arp_ignore in 0..=2 {
            run(&format!(
                "ip netns exec {ours} sysctl -qw net.ipv4.conf.all.arp_ignore={arp_ignore}"
            ));
            station.heard();
            station.send(&solicitation(ASKER, NODE_V6, NODE_V6, OUR_MAC));
            station.send(&solicitation(ASKER, link_local, link_local, OUR_MAC));
            station.send(&probe(NODE_V4).emit(OUR_MAC));
            station.send(&probe(LINK_V4).emit(OUR_MAC));
            let mut answered: BTreeSet<IpAddr> = BTreeSet::new();
            host.until("the answers", |_| {
                answered.extend(station.heard().iter().filter_map(|frame| answer(frame)));
                answered.contains(&LINK_V4.into()) && answered.contains(&link_local.into())
            })
            .await;
            let of_the_node =
                [NODE_V4.into(), NODE_V6.into()].map(|address: IpAddr| answered.contains(&address));
            assert_eq!(of_the_node, [arp_ignore == 0, false], "arp_ignore {arp_ignore}");
        }
    });
}

/// What a speaker relies on whose cable is plugged in again (`metallb-speaker-core`, `resolve.rs`).
#[test]
#[ignore = "needs root and iproute2"]
fn a_kernel_that_waits_for_a_station_learns_from_answers_to_us_and_from_who_asks() {
    const ANSWERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 61);
    const ASKS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 62);
    const LINK_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const OURS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    on_a_lan(async |namespaces, mut host, mut station| {
        run(&format!(
            "ip -n {} addr add {OURS_V6}/64 dev lan0 nodad",
            namespaces.ours
        ));
        host.until("our link with both families", |host| {
            host.link("lan0").is_some_and(|link| link.link_local.is_some())
        })
        .await;
        let index = host.index("lan0").expect("known");
        let all: [IpAddr; 3] = [ANSWERS.into(), ASKS.into(), V6.into()];
        for address in all {
            metallb_net::resolve(address).expect("there is a way");
        }
        let waits = || metallb_net::unresolved().expect("netlink");
        let waiting = waits();
        assert!(
            all.iter().all(|address| waiting.contains(&(index, *address))),
            "{waiting:?}"
        );

        // To a question that has no sender (RFC 5227), as we ask where we have no address.
        let answer = Repr {
            operation: Operation::Reply,
            sender_mac: STATION_MAC,
            sender_ip: ANSWERS,
            target_mac: OUR_MAC,
            target_ip: Ipv4Addr::UNSPECIFIED,
        };
        station.send(&answer.emit(OUR_MAC));
        station.send(
            &Repr {
                sender_ip: ASKS,
                ..question(LINK_V4)
            }
            .emit(OUR_MAC),
        );
        let advertisement = ndp::Repr {
            source: V6,
            destination: OURS_V6,
            message: Message::Advertisement {
                target: V6,
                target_mac: Some(STATION_MAC),
                solicited: true,
                overrides: true,
            },
        };
        station.send(&advertisement.emit(OUR_MAC, STATION_MAC));
        host.until("the kernel knows who spoke", |_| {
            let table = metallb_net::neighbours().expect("netlink");
            all.iter()
                .all(|address| table.contains(&(*address, STATION_MAC.0)))
        })
        .await;
        let waiting = waits();
        assert!(
            all.iter().all(|address| !waiting.contains(&(index, *address))),
            "{waiting:?}"
        );
    });
}
