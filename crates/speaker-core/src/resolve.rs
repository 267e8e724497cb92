//! Address resolution for the sake of the kernels, when an interface becomes usable.
//!
//! When a cable goes out, Linux forgets the neighbours behind it. What is sent there all the same, membership for one, makes it
//! ask for them in vain, and it repeats that after a second only (RFC 4861's `RetransTimer`; `retrans_time_ms`, of ARP too).
//! So long after the cable's return nothing passes between this node and the one that has a service's endpoints, or the
//! router, although clients have followed our announcement at once. The kernels of other nodes wait for this one alike.
//!
//! A kernel learns from any answer that reaches it, whoever asked, and from who asks it. So we ask, together with the
//! announcements: for those that our kernel waits for, and the other nodes, from the address of this one.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr};

use metallb_l2::wire::arp::{self, Operation};
use metallb_l2::wire::ethernet::Frame;
use metallb_l2::wire::ndp::{self, Message};
use metallb_l2::{InterfaceIndex, Interfaces, Link, MacAddr};
use metallb_sansio::{Deadlines, Instant};

use crate::ask::sender;
use crate::{Engine, Output};

/// When it is asked again after it was asked: at 50, 150 and 400 ms, as announcements are made.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
];

/// A station that is asked for.
struct Asked {
    /// Where it is asked: under its own hardware address if that is known, or all are.
    of: Option<MacAddr>,
    times: usize,
}

/// Who is asked for where.
#[derive(Default)]
pub(crate) struct Resolution {
    asked: Deadlines<(InterfaceIndex, IpAddr), Asked>,
}

impl Resolution {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.asked.next()
    }

    fn ask(&mut self, now: Instant, interface: InterfaceIndex, target: IpAddr, of: Option<MacAddr>) {
        let asked = Asked { of, times: 0 };
        self.asked.set((interface, target), now, asked);
    }

    /// The interface is no longer usable.
    pub(crate) fn link_down(&mut self, interface: InterfaceIndex) {
        self.asked.retain(|(on, _), _| *on != interface);
    }

    /// A frame was heard. If it is an answer, to us alone, both sides know each other.
    pub(crate) fn hear(&mut self, interface: InterfaceIndex, bytes: &[u8]) {
        if !self.asked.is_empty()
            && Frame::new_checked(bytes).is_ok_and(|frame| frame.destination().is_unicast())
            && let Some((target, _)) = sender(bytes)
        {
            self.asked.remove(&(interface, target));
        }
    }
}

impl Engine {
    /// An interface became usable: its kernel and those of the other nodes are to know each other.
    pub(crate) fn resolve_nodes(&mut self, now: Instant, interface: InterfaceIndex) {
        self.resolution.link_down(interface);
        for (node, _) in self.member.peers() {
            let macs = self.neighbours.macs_of(node, &Interfaces::All);
            let Some(mac) = macs.get(&interface) else {
                continue;
            };
            let links = self.neighbours.links_of(node).iter();
            let own = links
                .filter(|link| link.mac == *mac)
                .flat_map(|link| link.addresses.iter().map(|ip| IpAddr::V4(*ip)));
            let node_address = self.member.address(node).map(|address| address.ip());
            for target in own.chain(node_address) {
                self.resolution.ask(now, interface, target, Some(*mac));
            }
        }
    }

    /// The kernel waits for these on the interface.
    pub(crate) fn resolve_waiting(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        waiting: impl IntoIterator<Item = IpAddr>,
    ) {
        for target in waiting {
            if !self.resolution.asked.contains(&(interface, target)) {
                self.resolution.ask(now, interface, target, None);
            }
        }
    }

    /// Asks for those whose time it is.
    pub(crate) fn resolve_tick(&mut self, now: Instant) {
        while let Some(((interface, target), mut asked)) = self.resolution.asked.pop_due(now) {
            let Some(link) = self.announcer.links().get(&interface) else {
                continue;
            };
            let own = self.neighbours.own_ipv4(interface);
            if let Some(frame) = question(target, asked.of, link, own) {
                self.outputs.push_back(Output::Frame { interface, frame });
            }
            if let Some(pause) = AGAIN.get(asked.times) {
                asked.times += 1;
                let key = (interface, target);
                self.resolution.asked.set(key, now + *pause, asked);
            }
        }
    }
}

/// What a kernel would send that has to find out the hardware address of `target` (RFC 826, RFC 4861 7.2.2), but to `of` alone
/// if that is given. An IPv6 target is asked by its solicited-node group in any case: to a unicast solicitation a node need not
/// tell its hardware address. Nothing if our link does not carry its family.
fn question(target: IpAddr, of: Option<MacAddr>, link: &Link, own: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    match target {
        IpAddr::V4(target_ip) => link.arp.then(|| {
            let request = arp::Repr {
                operation: Operation::Request,
                sender_mac: link.mac,
                sender_ip: own.unwrap_or(Ipv4Addr::UNSPECIFIED),
                target_mac: MacAddr::ZERO,
                target_ip,
            };
            request.emit(of.unwrap_or(MacAddr::BROADCAST))
        }),
        IpAddr::V6(target) => link.link_local.map(|source| {
            let group = ndp::solicited_node(target);
            let message = Message::Solicitation {
                target,
                source_mac: Some(link.mac),
            };
            let solicitation = ndp::Repr {
                source,
                destination: group,
                message,
            };
            solicitation.emit(of.unwrap_or_else(|| ndp::multicast_mac(group)), link.mac)
        }),
    }
}
