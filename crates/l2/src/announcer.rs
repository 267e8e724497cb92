//! The machine that answers for owned addresses and announces them when they are taken over.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metallb_sansio::{Instant, Machine, Timers};

use crate::link::{InterfaceIndex, Interfaces, Link};
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Frame, MacAddr};
use crate::wire::ndp::{self, Message};

/// When a taken-over address is announced, in milliseconds after the take-over: a burst that survives a lost frame and a
/// neighbour that ignores changes for its first second (Linux `locktime`), then `MetalLB`'s cadence of 1.1 s until 5 s.
pub const ANNOUNCE_AT_MS: [u64; 8] = [0, 50, 150, 400, 1_100, 2_200, 3_300, 4_400];

/// What the announcer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A frame arrived on an interface.
    Frame {
        /// Where it arrived.
        interface: InterfaceIndex,
        /// The whole Ethernet frame.
        bytes: Vec<u8>,
    },
    /// This node owns `address` and may announce it on `interfaces`. Told again for an address already owned, it
    /// announces only on interfaces that became allowed.
    Own {
        /// The address.
        address: IpAddr,
        /// Where it may be announced.
        interfaces: Interfaces,
    },
    /// This node no longer owns the address.
    Disown(IpAddr),
    /// Somebody else may have announced this address while we owned it: announce it again, if it is ours.
    Reannounce(IpAddr),
    /// An interface became usable or changed.
    LinkUp(InterfaceIndex, Link),
    /// An interface is no longer usable.
    LinkDown(InterfaceIndex),
}

/// What the announcer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame.
    Send {
        /// Where.
        interface: InterfaceIndex,
        /// The whole Ethernet frame.
        frame: Vec<u8>,
    },
    /// Somebody else said that an address of ours is theirs.
    ForeignClaim(ForeignClaim),
}

/// Another station's claim of an address that this node owns. While an address moves between our own nodes such claims
/// are normal; whoever knows the nodes' hardware addresses tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignClaim {
    /// The address claimed.
    pub address: IpAddr,
    /// By whom.
    pub mac: MacAddr,
    /// Where it was heard.
    pub interface: InterfaceIndex,
}

/// What was done for one address since the machine was made, as `MetalLB` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests (ARP) and solicitations (NDP) for it that were ours to answer.
    pub requests_received: u64,
    /// Answers given.
    pub responses_sent: u64,
    /// Unsolicited frames: two a round and interface for IPv4, one for IPv6.
    pub gratuitous_sent: u64,
}

struct Owned {
    interfaces: Interfaces,
    /// Which ownership it is; announcements of an earlier one are stale.
    term: u64,
}

/// One announcing sequence under way.
#[derive(Clone, Debug)]
struct Announcement {
    address: IpAddr,
    term: u64,
    /// Only there; on all allowed interfaces when `None`.
    interface: Option<InterfaceIndex>,
    started: Instant,
    round: usize,
}

/// Answers and announces the addresses that this node owns.
///
/// * ARP requests are answered when they were sent to all or to the receiving interface, with that interface's hardware
///   address (RFC 826); probes too, which defends the address (RFC 5227 2.4). An announcement by somebody else is not a
///   question and gets no answer.
/// * Neighbour solicitations are answered to whoever asked, those of duplicate address detection to all nodes
///   (RFC 4861 7.2.4, RFC 4862 5.4.3).
/// * An address newly owned, or an interface newly usable, is announced at the times of [`ANNOUNCE_AT_MS`]; being told
///   again what is already so announces nothing.
#[derive(Default)]
pub struct Announcer {
    links: BTreeMap<InterfaceIndex, Link>,
    owned: BTreeMap<IpAddr, Owned>,
    counters: BTreeMap<IpAddr, Counters>,
    announcements: Timers<Announcement>,
    outputs: VecDeque<Output>,
    terms: u64,
}

impl Announcer {
    /// One without links and addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// The addresses owned, in order.
    pub fn owned(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.owned.keys().copied()
    }

    /// The usable links.
    pub fn links(&self) -> &BTreeMap<InterfaceIndex, Link> {
        &self.links
    }

    /// Whether there is a link on which an address of this family could be announced under this restriction.
    pub fn can_announce(&self, address: IpAddr, interfaces: &Interfaces) -> bool {
        self.links
            .values()
            .any(|link| link.carries(address) && interfaces.allows(&link.name))
    }

    /// What was counted for each address that was ever owned.
    pub fn counters(&self) -> &BTreeMap<IpAddr, Counters> {
        &self.counters
    }

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
        self.note_claim(interface, packet.sender_ip.into(), packet.sender_mac);
        let asked = frame.destination() == MacAddr::BROADCAST || frame.destination() == own_mac;
        let announcement = packet.sender_ip == packet.target_ip;
        if packet.operation != Operation::Request
            || !asked
            || announcement
            || !self.owns_on(packet.target_ip.into(), interface)
        {
            return;
        }
        let counters = self.counters.entry(packet.target_ip.into()).or_default();
        counters.requests_received += 1;
        counters.responses_sent += 1;
        let reply = arp::Repr::reply_to(&packet, own_mac).emit(packet.sender_mac);
        self.outputs.push_back(Output::Send {
            interface,
            frame: reply,
        });
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
                self.note_claim(interface, target.into(), target_mac.unwrap_or(frame.source()));
                return;
            }
            Message::Solicitation { target, source_mac } => (target, source_mac),
        };
        let asked = frame.destination() == own_mac
            || frame.destination() == ndp::multicast_mac(ndp::solicited_node(target));
        if !asked || !self.owns_on(target.into(), interface) {
            return;
        }
        let counters = self.counters.entry(target.into()).or_default();
        counters.requests_received += 1;
        counters.responses_sent += 1;
        let probe = packet.source.is_unspecified();
        let (destination, mac) = if probe {
            (ndp::ALL_NODES, ndp::multicast_mac(ndp::ALL_NODES))
        } else {
            (packet.source, source_mac.unwrap_or(frame.source()))
        };
        let frame = advertisement(link_local, destination, target, own_mac, !probe).emit(mac, own_mac);
        self.outputs.push_back(Output::Send { interface, frame });
    }

    /// Reports that `mac` claims `address`, if that is an address of ours on that link.
    fn note_claim(&mut self, interface: InterfaceIndex, address: IpAddr, mac: MacAddr) {
        let own = self.links.values().any(|link| link.mac == mac);
        if !own && mac.is_unicast() && self.owns_on(address, interface) {
            self.outputs.push_back(Output::ForeignClaim(ForeignClaim {
                address,
                mac,
                interface,
            }));
        }
    }

    fn owns_on(&self, address: IpAddr, interface: InterfaceIndex) -> bool {
        let (Some(owned), Some(link)) = (self.owned.get(&address), self.links.get(&interface)) else {
            return false;
        };
        owned.interfaces.allows(&link.name)
    }

    fn own(&mut self, now: Instant, address: IpAddr, interfaces: Interfaces) {
        if let Some(owned) = self.owned.get_mut(&address) {
            let before = core::mem::replace(&mut owned.interfaces, interfaces);
            let term = owned.term;
            let added: Vec<InterfaceIndex> = self
                .links
                .iter()
                .filter(|(_, link)| owned.interfaces.allows(&link.name) && !before.allows(&link.name))
                .map(|(index, _)| *index)
                .collect();
            for index in added {
                self.announce(
                    Announcement {
                        address,
                        term,
                        interface: Some(index),
                        started: now,
                        round: 0,
                    },
                    now,
                );
            }
            return;
        }
        self.terms += 1;
        let term = self.terms;
        self.owned.insert(address, Owned { interfaces, term });
        self.counters.entry(address).or_default();
        self.announce(
            Announcement {
                address,
                term,
                interface: None,
                started: now,
                round: 0,
            },
            now,
        );
    }

    fn reannounce(&mut self, now: Instant, address: IpAddr) {
        let Some(owned) = self.owned.get_mut(&address) else {
            return;
        };
        self.terms += 1;
        owned.term = self.terms;
        let term = self.terms;
        self.announcements
            .retain(|announcement| announcement.address != address);
        self.announce(
            Announcement {
                address,
                term,
                interface: None,
                started: now,
                round: 0,
            },
            now,
        );
    }

    fn disown(&mut self, address: IpAddr) {
        if self.owned.remove(&address).is_some() {
            self.announcements
                .retain(|announcement| announcement.address != address);
        }
    }

    fn link_up(&mut self, now: Instant, index: InterfaceIndex, link: &Link) {
        let before = self.links.insert(index, link.clone());
        if before.as_ref() == Some(link) {
            return;
        }
        let fresh: Vec<Announcement> = self
            .owned
            .iter()
            .filter(|(address, owned)| {
                let was = before.as_ref().is_some_and(|b| {
                    b.mac == link.mac && b.carries(**address) && owned.interfaces.allows(&b.name)
                });
                !was && link.carries(**address) && owned.interfaces.allows(&link.name)
            })
            .map(|(address, owned)| Announcement {
                address: *address,
                term: owned.term,
                interface: Some(index),
                started: now,
                round: 0,
            })
            .collect();
        for announcement in fresh {
            self.announce(announcement, now);
        }
    }

    /// Sends the rounds that are due and sets the timer of the next. After a stall the rounds missed are sent as one.
    fn announce(&mut self, mut announcement: Announcement, now: Instant) {
        let Some(owned) = self.owned.get(&announcement.address) else {
            return;
        };
        if owned.term != announcement.term {
            return;
        }
        let due = |round: usize| {
            ANNOUNCE_AT_MS
                .get(round)
                .map(|ms| announcement.started + Duration::from_millis(*ms))
        };
        let mut frames = Vec::new();
        for (index, link) in &self.links {
            if announcement.interface.is_none_or(|only| only == *index)
                && link.carries(announcement.address)
                && owned.interfaces.allows(&link.name)
            {
                gratuitous(announcement.address, link, |frame| frames.push((*index, frame)));
            }
        }
        let counters = self.counters.entry(announcement.address).or_default();
        counters.gratuitous_sent += frames.len() as u64;
        self.outputs.extend(
            frames
                .into_iter()
                .map(|(interface, frame)| Output::Send { interface, frame }),
        );

        while due(announcement.round).is_some_and(|at| at <= now) {
            announcement.round += 1;
        }
        if let Some(at) = due(announcement.round) {
            self.announcements.set(at, announcement);
        }
    }
}

impl Machine for Announcer {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Frame { interface, bytes } => self.handle_frame(interface, &bytes),
            Input::Own { address, interfaces } => self.own(now, address, interfaces),
            Input::Disown(address) => self.disown(address),
            Input::Reannounce(address) => self.reannounce(now, address),
            Input::LinkUp(index, link) => self.link_up(now, index, &link),
            Input::LinkDown(index) => {
                self.links.remove(&index);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.announcements.next()
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(announcement) = self.announcements.pop_due(now) {
            self.announce(announcement, now);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// The unsolicited frames of one round for one address on one link.
fn gratuitous(address: IpAddr, link: &Link, mut send: impl FnMut(Vec<u8>)) {
    match address {
        IpAddr::V4(ip) => gratuitous_arp(ip, link.mac, send),
        IpAddr::V6(ip) => {
            if let Some(link_local) = link.link_local {
                let group = ndp::multicast_mac(ndp::ALL_NODES);
                send(advertisement(link_local, ndp::ALL_NODES, ip, link.mac, false).emit(group, link.mac));
            }
        }
    }
}

fn gratuitous_arp(ip: Ipv4Addr, mac: MacAddr, mut send: impl FnMut(Vec<u8>)) {
    send(arp::Repr::announcement_request(ip, mac).emit(MacAddr::BROADCAST));
    send(arp::Repr::announcement_reply(ip, mac).emit(MacAddr::BROADCAST));
}

/// A neighbour advertisement that replaces what neighbours have cached: the addresses are unicast addresses of one owner,
/// so the Override flag is set (RFC 4861 7.2.4).
const fn advertisement(
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
