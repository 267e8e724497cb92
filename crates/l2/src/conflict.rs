//! The part of the announcer that finds out whether somebody outside the cluster has an address of ours.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metallb_sansio::{Instant, SeededRng};

use crate::announcer::{Announcer, ConflictPolicy, Due, ForeignClaim, Output, Probing, Role};
use crate::doubt::DOUBT;
use crate::link::{InterfaceIndex, Link};
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::MacAddr;
use crate::wire::ndp::{self, Message};

/// Probes of an address first owned.
const PROBES: u32 = 3;
/// Time between two of them, and after the last.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long an address first owned is probed by default. RFC 5227 takes 4 to 7 s, which nobody wants to wait for a service.
pub const PROBE_FOR: Duration = Duration::from_millis(300);
/// The times of RFC 5227 1.1: `PROBE_WAIT`, `PROBE_MIN`, `PROBE_MAX` less that, and `ANNOUNCE_WAIT`.
const FULL_WAIT: Duration = Duration::from_secs(1);
const FULL_MIN: Duration = Duration::from_secs(1);
const FULL_SPREAD: Duration = Duration::from_secs(1);
const FULL_ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// How often an address that somebody else has is asked for again when that one is left alone.
pub const BLOCKED_FOR: Duration = Duration::from_secs(10);
/// How often an address is defended at most: `DEFEND_INTERVAL` of RFC 5227 1.1. Two who defend more often would never end.
pub const DEFEND_EVERY: Duration = Duration::from_secs(10);
/// Rounds of announcements that also ask whether somebody else has the address.
pub(crate) const ASKING_ROUNDS: usize = 2;

impl Announcer {
    /// Sets the first probe.
    pub(crate) fn begin_probing(&mut self, now: Instant, address: IpAddr, term: u64) {
        if self.probing == Probing::Full {
            let at = now + self.chance(address, 0).up_to(FULL_WAIT);
            let round = 0;
            self.due.set(at, Due::Probe { address, term, round });
        } else {
            self.probe(now, address, term, 0);
        }
    }

    /// How long after the probe of this round the next is sent, or the probing ends.
    fn probe_pause(&self, address: IpAddr, round: u32) -> Duration {
        match self.probing {
            Probing::Full if round + 1 < PROBES => {
                FULL_MIN + self.chance(address, round + 1).up_to(FULL_SPREAD)
            }
            Probing::Full => FULL_ANNOUNCE_WAIT,
            Probing::Fast | Probing::None => PROBE_EVERY,
        }
    }

    /// Chance that differs from node to node and address to address, and needs no seed: hardware addresses are unique.
    pub(crate) fn chance(&self, address: IpAddr, round: u32) -> SeededRng {
        let own = self.links.values().next().map_or([0; 6], |link| link.mac.0);
        let octets = match address {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut seed = u64::from(round);
        for byte in own.into_iter().chain(octets) {
            seed = SeededRng::new(seed ^ u64::from(byte)).next_u64();
        }
        SeededRng::new(seed)
    }

    /// Sends the probe of this round, or ends the probing.
    pub(crate) fn probe(&mut self, now: Instant, address: IpAddr, term: u64, round: u32) {
        let Some(held) = self.held.get_mut(&address).filter(|held| held.term == term) else {
            return;
        };
        if let Role::Blocked(interfaces) = &held.role {
            held.role = Role::Probing(interfaces.clone());
        }
        let Role::Probing(interfaces) = &held.role else {
            return;
        };
        if round >= PROBES {
            // Stations that are in doubt by now are known when that is over.
            if round == PROBES && self.doubts.are_about(address) {
                self.doubts.wait(address);
                let round = round + 1;
                self.due.set(now + DOUBT, Due::Probe { address, term, round });
            } else {
                self.end_probing(now, address);
            }
            return;
        }
        for (index, link) in &self.links {
            if link.carries(address) && interfaces.allows(&link.name) {
                self.outputs.push_back(Output::Send {
                    interface: *index,
                    frame: probe(address, link),
                });
            }
        }
        let next = Due::Probe {
            address,
            term,
            round: round + 1,
        };
        self.due.set(now + self.probe_pause(address, round), next);
    }

    /// Whether it is still being found out whether somebody outside the cluster has the address.
    pub(crate) fn is_probing(&self, address: IpAddr) -> bool {
        matches!(
            self.held.get(&address).map(|held| &held.role),
            Some(Role::Probing(_))
        )
    }

    /// Nobody has the address that was probed for.
    pub(crate) fn end_probing(&mut self, now: Instant, address: IpAddr) {
        if self.is_probing(address) {
            self.outputs.push_back(Output::Probed {
                address,
                taken_by: None,
            });
            self.begin(now, address, false);
        }
    }

    /// Somebody probes for an address: while we do too, whoever is not of the cluster wins (RFC 5227 2.1.1). When the address
    /// is ours, our answer is the defence.
    pub(crate) fn probed_by(&mut self, interface: InterfaceIndex, address: IpAddr, mac: MacAddr) {
        let own = self.links.values().any(|link| link.mac == mac);
        if own || self.friends.contains(&mac) || !self.holds_on(address, interface) {
            return;
        }
        if self.is_probing(address) {
            let claim = ForeignClaim {
                address,
                mac,
                interface,
            };
            self.foreign_claim(claim, true);
        }
    }

    /// A station that is not known to be of the cluster claims an address that is ours, or asks for it as we do.
    pub(crate) fn foreign_claim(&mut self, claim: ForeignClaim, asks: bool) {
        // For an owner that is away we answer, but its address is its own affair.
        let owned = self
            .held
            .get(&claim.address)
            .is_some_and(|held| held.role.interfaces().is_some());
        if owned && !self.doubts_still(claim, asks) {
            self.certain_claim(claim);
        }
    }

    /// A station outside the cluster claims an address that is ours.
    pub(crate) fn certain_claim(&mut self, claim: ForeignClaim) {
        let (now, address) = (self.now, claim.address);
        if self.note_claim(claim) {
            self.outputs.push_back(Output::ForeignClaim(claim));
        }
        let Some(held) = self.held.get_mut(&address) else {
            return;
        };
        let Some(interfaces) = held.role.interfaces().cloned() else {
            return;
        };
        let (probing, term) = (matches!(held.role, Role::Probing(_)), held.term);
        if probing {
            self.outputs.push_back(Output::Probed {
                address,
                taken_by: Some(claim.mac),
            });
        }
        match self.policy {
            ConflictPolicy::Block => {
                if !matches!(held.role, Role::Blocked(_)) {
                    if !probing {
                        self.turned.insert(address);
                    }
                    held.role = Role::Blocked(interfaces);
                    self.forget_due(address);
                    let again = Due::Probe {
                        address,
                        term,
                        round: 0,
                    };
                    self.due.set(now + BLOCKED_FOR, again);
                }
            }
            ConflictPolicy::Warn | ConflictPolicy::Defend if probing => self.begin(now, address, false),
            ConflictPolicy::Warn => {}
            ConflictPolicy::Defend => {
                let last = self.defended.get(&address);
                if last.is_none_or(|last| now - *last >= DEFEND_EVERY) {
                    self.defended.insert(address, now);
                    // One announcement (RFC 5227 2.4 c).
                    self.send_unsolicited(address, None);
                }
            }
        }
    }
}

/// The question whether anybody outside the cluster has `address`, asked by one who announces it. In IPv6 it is not
/// asked as a probe, whose answer would go to all and undo the announcement, but by the link itself.
pub fn question(address: IpAddr, link: &Link) -> Vec<u8> {
    match (address, link.link_local) {
        (IpAddr::V6(ip), Some(source)) => {
            let group = ndp::solicited_node(ip);
            let message = Message::Solicitation {
                target: ip,
                source_mac: Some(link.mac),
            };
            ndp::Repr {
                source,
                destination: group,
                message,
            }
            .emit(ndp::multicast_mac(group), link.mac)
        }
        _ => probe(address, link),
    }
}

/// The question whether anybody has `address`, asked by nobody: an ARP probe (RFC 5227 1.1), or the solicitation of
/// duplicate address detection (RFC 4862 5.4.2).
pub(crate) fn probe(address: IpAddr, link: &Link) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => arp::Repr {
            operation: Operation::Request,
            sender_mac: link.mac,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: MacAddr::ZERO,
            target_ip: ip,
        }
        .emit(MacAddr::BROADCAST),
        IpAddr::V6(ip) => {
            let group = ndp::solicited_node(ip);
            let message = Message::Solicitation {
                target: ip,
                source_mac: None,
            };
            ndp::Repr {
                source: Ipv6Addr::UNSPECIFIED,
                destination: group,
                message,
            }
            .emit(ndp::multicast_mac(group), link.mac)
        }
    }
}
