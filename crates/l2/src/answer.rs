//! The part of the announcer that hears frames and answers.

use std::net::{IpAddr, Ipv6Addr};

use crate::announcer::{Announcer, ForeignClaim, Output, Role};
use crate::link::InterfaceIndex;
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Frame, MacAddr};
use crate::wire::ndp::{self, Message};

impl Announcer {
    /// Takes a received frame by reference: the receive path without a copy.
    pub fn handle_frame(&mut self, interface: InterfaceIndex, bytes: &[u8]) {
        let Some(link) = self.links.get(&interface) else {
            return;
        };
        let Ok(frame) = Frame::new_checked(bytes) else {
            return;
        };
        if frame.source() == link.mac {
            return;
        }
        match frame.ethertype() {
            ETHERTYPE_ARP => self.handle_arp(interface, link.mac, frame),
            ETHERTYPE_IPV6 => self.handle_ndp(interface, link.mac, frame),
            _ => {}
        }
    }

    fn handle_arp(&mut self, interface: InterfaceIndex, own_mac: MacAddr, frame: Frame<'_>) {
        if !self.links[&interface].arp {
            return;
        }
        let Ok(packet) = arp::Repr::parse(frame.payload()) else {
            return;
        };
        self.claimed(interface, packet.sender_ip.into(), packet.sender_mac);
        if packet.operation != Operation::Request {
            return;
        }
        let target = packet.target_ip.into();
        if packet.sender_ip.is_unspecified() {
            self.probed_by(interface, target, packet.sender_mac);
        }
        let asked = frame.destination() == MacAddr::BROADCAST || frame.destination() == own_mac;
        // An answer to a group would tell all what one was told.
        let asked = asked && packet.sender_mac.is_unicast();
        // One of ours that takes the address over announces it, and asks whether anybody outside has it; what it is told by us
        // means nothing. A stranger who announces it learns from the answer that it is taken (RFC 5227 2.4).
        let announcement = packet.sender_ip == packet.target_ip;
        let ours =
            (announcement || packet.sender_ip.is_unspecified()) && self.friends.contains(&packet.sender_mac);
        let answered = asked && !ours;
        let Some(mac) = self.answer(target, interface).filter(|_| answered) else {
            return;
        };
        self.count_answer(target);
        let frame = arp::Repr::reply_to(&packet, mac).emit_from(own_mac, packet.sender_mac);
        self.outputs.push_back(Output::Send { interface, frame });
    }

    fn handle_ndp(&mut self, interface: InterfaceIndex, own_mac: MacAddr, frame: Frame<'_>) {
        let Some(link_local) = self.links[&interface].link_local else {
            return;
        };
        let Ok(packet) = ndp::Repr::parse(frame.payload()) else {
            return;
        };
        let (target, source_mac) = match packet.message {
            Message::Advertisement {
                target, target_mac, ..
            } => {
                self.claimed(interface, target.into(), target_mac.unwrap_or(frame.source()));
                return;
            }
            Message::Solicitation { target, source_mac } => (target, source_mac),
        };
        let probe = packet.source.is_unspecified();
        if probe {
            self.probed_by(interface, target.into(), frame.source());
        } else {
            // Whoever asks says who it is, as in ARP (RFC 4861 7.2.3).
            let mac = source_mac.unwrap_or(frame.source());
            self.claimed(interface, packet.source.into(), mac);
        }
        let asked = frame.destination() == own_mac
            || frame.destination() == ndp::multicast_mac(ndp::solicited_node(target));
        // An answer to a probe goes to all and would undo the announcement of one of ours that takes over.
        let ours = probe && self.friends.contains(&frame.source());
        let Some(mac) = self.answer(target.into(), interface).filter(|_| asked && !ours) else {
            return;
        };
        let (destination, to) = if probe {
            (ndp::ALL_NODES, ndp::multicast_mac(ndp::ALL_NODES))
        } else {
            (packet.source, source_mac.unwrap_or(frame.source()))
        };
        if !probe && !to.is_unicast() {
            return;
        }
        self.count_answer(target.into());
        let frame = advertisement(link_local, destination, target, mac, !probe).emit(to, own_mac);
        self.outputs.push_back(Output::Send { interface, frame });
    }

    /// The hardware address that an answer for `address` carries on that interface; none when there is no answer.
    fn answer(&self, address: IpAddr, interface: InterfaceIndex) -> Option<MacAddr> {
        let (held, link) = (self.held.get(&address)?, self.links.get(&interface)?);
        match &held.role {
            Role::Owner(interfaces) => interfaces.allows(&link.name).then_some(link.mac),
            Role::StandIn(macs) => macs.get(&interface).copied(),
            Role::Probing(_) | Role::Blocked(_) => None,
        }
    }

    fn count_answer(&mut self, address: IpAddr) {
        let counters = self.counters.entry(address).or_default();
        counters.requests_received += 1;
        counters.responses_sent += 1;
    }

    /// Whether the address is held, in whatever capacity, on that interface.
    pub(crate) fn holds_on(&self, address: IpAddr, interface: InterfaceIndex) -> bool {
        let (Some(held), Some(link)) = (self.held.get(&address), self.links.get(&interface)) else {
            return false;
        };
        match &held.role {
            Role::StandIn(macs) => macs.contains_key(&interface),
            role => role
                .interfaces()
                .is_some_and(|allowed| allowed.allows(&link.name)),
        }
    }

    /// Somebody says that `address` is at `mac`.
    fn claimed(&mut self, interface: InterfaceIndex, address: IpAddr, mac: MacAddr) {
        let own = self.links.values().any(|link| link.mac == mac);
        if own || !mac.is_unicast() || !self.holds_on(address, interface) {
            return;
        }
        let claim = ForeignClaim {
            address,
            mac,
            interface,
        };
        if self.friends.contains(&mac) {
            self.outputs.push_back(Output::FriendlyClaim(claim));
        } else {
            self.foreign_claim(claim, false);
        }
    }
}

/// A neighbour advertisement that replaces what neighbours have cached: the addresses are unicast addresses of one owner,
/// so the Override flag is set (RFC 4861 7.2.4).
pub(crate) const fn advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: MacAddr,
    solicited: bool,
) -> ndp::Repr {
    ndp::Repr {
        source,
        destination,
        message: Message::Advertisement {
            target,
            target_mac: Some(mac),
            solicited,
            overrides: true,
        },
    }
}
