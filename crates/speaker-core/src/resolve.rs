//! Address resolution for the sake of the kernels, when an interface becomes usable.
//!
//! When a cable goes out, Linux forgets the neighbours behind it. What is sent there all the same, membership for one, makes it
//! ask for them in vain, and it repeats that after a second only (RFC 4861's `RetransTimer`; `retrans_time_ms`, of ARP too).
//! So long after the cable's return nothing passes between this node and the one that has a service's endpoints, or the
//! router, although clients have followed our announcement at once. The kernels of other nodes wait for this one alike.
//!
//! A kernel learns from any answer that reaches it, whoever asked, and from who asks it. So we ask, behind the announcements: for
//! those that our kernel waits for, and the other nodes, by ARP from an address of this one. By IPv6 we ask from the link-local
//! address, the only one we know of our link: what waits for another one of ours learns nothing.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr};

use metallb_l2::wire::ethernet::Frame;
use metallb_l2::wire::ndp;
use metallb_l2::{InterfaceIndex, Link, MacAddr};
use metallb_sansio::{Deadlines, Instant};

use crate::ask::{request, sender, solicitation};
use crate::{Engine, Output};

/// When it is asked again after it was asked: at 50, 150 and 400 ms, as announcements are made.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
];
/// Questions of one turn, and the pause to the next, so that answers do not push clients' questions out of the socket.
const AT_ONCE: usize = 32;
const PAUSE: Duration = Duration::from_millis(5);
/// How many nodes, and how many stations that the kernel waits for, are asked for on an interface: each remembers who asks, and
/// Linux remembers 1,024 unless it is told to do otherwise.
const NODES: usize = 256;
const WAITING: usize = 128;

/// A station that is asked for.
#[derive(Clone, Copy)]
struct Asked {
    /// The hardware address that is asked; everybody is, if it is not known.
    to: Option<MacAddr>,
    /// The kernel waits for it: if that hardware address does not answer, everybody is asked.
    waited_for: bool,
    times: usize,
}

/// Who is asked for where.
#[derive(Default)]
pub(crate) struct Resolution {
    asked: Deadlines<(InterfaceIndex, IpAddr), Asked>,
    /// No earlier than that.
    pause_until: Instant,
}

impl Resolution {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.asked.next()?.max(self.pause_until))
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
    /// An interface became usable, or (not `fresh`) is so for IPv6 as well: its kernel and those of the other nodes are to know
    /// each other.
    pub(crate) fn resolve_nodes(&mut self, now: Instant, interface: InterfaceIndex, fresh: bool) {
        if fresh {
            self.resolution.link_down(interface);
        }
        let there = self.member.peers().filter_map(|(node, _)| {
            let mac = self.neighbours.mac_on(node, interface)?;
            Some((node, mac))
        });
        for (node, mac) in there.take(NODES) {
            let asked = Asked {
                to: Some(mac),
                waited_for: false,
                times: 0,
            };
            let node_address = self.member.address(node).map(|address| address.ip());
            let ipv4 = self.nearest_ipv4(node, mac, interface, node_address);
            let ipv4 = ipv4.filter(|_| fresh).map(IpAddr::V4);
            for target in ipv4.into_iter().chain(node_address.filter(IpAddr::is_ipv6)) {
                self.resolution.asked.set((interface, target), now, asked);
            }
        }
    }

    /// The IPv4 address by which a node is most likely known on the LAN of an interface: its node address if that is there, or
    /// else what is nearest to ours.
    fn nearest_ipv4(
        &self,
        node: &str,
        mac: MacAddr,
        interface: InterfaceIndex,
        node_address: Option<IpAddr>,
    ) -> Option<Ipv4Addr> {
        let links = self.neighbours.links_of(node).iter();
        let there = links.filter(|link| link.mac == mac);
        let there: Vec<Ipv4Addr> = there.flat_map(|link| link.addresses.iter().copied()).collect();
        let node_address = node_address.and_then(|address| match address {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let near = |target: &Ipv4Addr| {
            let own = nearest(*target, self.neighbours.own_ipv4(interface));
            own.map(|own| common_prefix(own, *target))
        };
        node_address
            .filter(|address| there.contains(address))
            .or_else(|| there.iter().copied().max_by_key(near))
            .or(node_address)
    }

    /// The kernel waits for these on the interface.
    pub(crate) fn resolve_waiting(&mut self, now: Instant, interface: InterfaceIndex, waiting: Vec<IpAddr>) {
        let mut others = 0;
        for target in waiting {
            if let Some(asked) = self.resolution.asked.get_mut(&(interface, target)) {
                asked.waited_for = true;
            } else if others < WAITING {
                others += 1;
                let asked = Asked {
                    to: None,
                    waited_for: true,
                    times: 0,
                };
                self.resolution.asked.set((interface, target), now, asked);
            }
        }
    }

    /// Asks for those whose time it is, as many as are asked at once.
    pub(crate) fn resolve_tick(&mut self, now: Instant) {
        if self.resolution.pause_until > now {
            return;
        }
        for _ in 0..AT_ONCE {
            let Some(((interface, target), mut asked)) = self.resolution.asked.pop_due(now) else {
                return;
            };
            let Some(link) = self.announcer.links().get(&interface) else {
                continue;
            };
            let to = asked.to.filter(|_| asked.times == 0 || !asked.waited_for);
            let own = self.neighbours.own_ipv4(interface);
            if let Some(frame) = question(target, to, link, own) {
                self.outputs.push_back(Output::Frame { interface, frame });
            }
            if let Some(pause) = AGAIN.get(asked.times) {
                asked.times += 1;
                let key = (interface, target);
                self.resolution.asked.set(key, now + *pause, asked);
            }
        }
        self.resolution.pause_until = now + PAUSE;
    }
}

/// How many leading bits they have in common.
fn common_prefix(one: Ipv4Addr, other: Ipv4Addr) -> u32 {
    (one.to_bits() ^ other.to_bits()).leading_zeros()
}

/// The address of ours that is most likely in the subnet of the target, as the kernel would choose it.
fn nearest(target: Ipv4Addr, own: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    own.iter().copied().max_by_key(|own| common_prefix(*own, target))
}

/// What a kernel would send that has to find out the hardware address of `target` (RFC 826, RFC 4861 7.2.2), but to `to` alone
/// if that is given. An IPv6 target is asked by its solicited-node group in any case: to a unicast solicitation a node need not
/// tell its hardware address. Nothing if our link does not carry its family.
fn question(target: IpAddr, to: Option<MacAddr>, link: &Link, own: &[Ipv4Addr]) -> Option<Vec<u8>> {
    match target {
        IpAddr::V4(target) => link.arp.then(|| {
            let sender = nearest(target, own).unwrap_or(Ipv4Addr::UNSPECIFIED);
            request(link.mac, sender, target, to.unwrap_or(MacAddr::BROADCAST))
        }),
        IpAddr::V6(target) => link.link_local.map(|source| {
            let group = ndp::solicited_node(target);
            let to = to.unwrap_or_else(|| ndp::multicast_mac(group));
            solicitation(link.mac, source, group, target, to)
        }),
    }
}
