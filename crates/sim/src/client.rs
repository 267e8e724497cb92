//! A station on the LAN that asks for the services' addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metallb_sansio::Instant;
use metallb_speaker_core::l2::MacAddr;
use metallb_speaker_core::l2::wire::arp::{self, Operation};
use metallb_speaker_core::l2::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Frame};
use metallb_speaker_core::l2::wire::ndp::{self, Message};

use crate::lan::Island;
use crate::{Facts, ServiceNumber};

/// What a client knows of one address.
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    /// Who answered the last request.
    pub answered_by: BTreeSet<MacAddr>,
    /// Those of them that answered themselves: others were named by somebody who stood in for them.
    pub in_own_name: BTreeSet<MacAddr>,
    /// When the last answer came.
    pub answered_at: Option<Instant>,
    /// The neighbour cache: the last one heard, by an answer or an announcement, and since when it has been that one.
    pub cached: Option<(MacAddr, Instant)>,
}

/// What a frame says about an address.
struct Heard {
    address: IpAddr,
    mac: MacAddr,
    /// It answers this client.
    to_me: bool,
    /// Whoever has the address cached under another hardware address takes this one.
    overrides: bool,
}

/// A client: asks for every address by ARP or neighbour solicitation and notes who answers. Its own frames are never
/// lost, so that what it misses is the speakers' fault.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) mac: MacAddr,
    ip: Ipv4Addr,
    link_local: Ipv6Addr,
    neighbours: Vec<Neighbour>,
}

impl Client {
    pub(crate) fn new(island: Island, services: usize) -> Self {
        let number = island as u8;
        Self {
            mac: MacAddr([2, 0xc1, 0, 0, 0, number]),
            ip: Ipv4Addr::new(10, 200, 255, number),
            link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xc1, u16::from(number)),
            neighbours: vec![Neighbour::default(); services],
        }
    }

    pub(crate) fn neighbour(&self, service: ServiceNumber) -> &Neighbour {
        &self.neighbours[service]
    }

    /// Asks for the address of a service; answers to earlier requests no longer count.
    pub(crate) fn ask(&mut self, service: ServiceNumber) -> Vec<u8> {
        self.neighbours[service].answered_by.clear();
        self.neighbours[service].in_own_name.clear();
        match Facts::address(service) {
            IpAddr::V4(target_ip) => {
                let request = arp::Repr {
                    operation: Operation::Request,
                    sender_mac: self.mac,
                    sender_ip: self.ip,
                    target_mac: MacAddr::ZERO,
                    target_ip,
                };
                request.emit(MacAddr::BROADCAST)
            }
            IpAddr::V6(target) => {
                let group = ndp::solicited_node(target);
                let solicitation = ndp::Repr {
                    source: self.link_local,
                    destination: group,
                    message: Message::Solicitation {
                        target,
                        source_mac: Some(self.mac),
                    },
                };
                solicitation.emit(ndp::multicast_mac(group), self.mac)
            }
        }
    }

    /// Hears a frame: an answer to this client, or an announcement.
    ///
    /// # Panics
    /// When a speaker sends nonsense.
    pub(crate) fn hear(&mut self, now: Instant, bytes: &[u8]) {
        let frame = Frame::new_checked(bytes).expect("a speaker sends whole frames");
        let heard = match frame.ethertype() {
            ETHERTYPE_ARP => Some(self.hear_arp(frame)),
            ETHERTYPE_IPV6 => self.hear_ndp(frame),
            _ => None,
        };
        let Some(heard) = heard else { return };
        let Some(service) = Facts::service_of(heard.address).filter(|n| *n < self.neighbours.len()) else {
            return;
        };
        let neighbour = &mut self.neighbours[service];
        if heard.to_me {
            neighbour.answered_by.insert(heard.mac);
            if frame.source() == heard.mac {
                neighbour.in_own_name.insert(heard.mac);
            }
            neighbour.answered_at = Some(now);
        }
        if neighbour
            .cached
            .is_none_or(|(mac, _)| heard.overrides && mac != heard.mac)
        {
            neighbour.cached = Some((heard.mac, now));
        }
    }

    fn hear_arp(&self, frame: Frame<'_>) -> Heard {
        let packet = arp::Repr::parse(frame.payload()).expect("a speaker sends whole ARP packets");
        // An answer may be in the name of another node; an announcement never is.
        let to_me = packet.operation == Operation::Reply && frame.destination() == self.mac;
        assert!(
            to_me || frame.source() == packet.sender_mac,
            "both headers of an announcement name the same station"
        );
        assert!(
            !to_me || packet.target_ip == self.ip,
            "the answer is to the one who asked"
        );
        Heard {
            address: packet.sender_ip.into(),
            mac: packet.sender_mac,
            to_me,
            overrides: true,
        }
    }

    fn hear_ndp(&self, frame: Frame<'_>) -> Option<Heard> {
        let packet =
            ndp::Repr::parse(frame.payload()).expect("a speaker sends whole neighbour discovery packets");
        let Message::Advertisement {
            target,
            target_mac,
            solicited,
            overrides,
        } = packet.message
        else {
            return None;
        };
        let to_me = solicited && frame.destination() == self.mac;
        assert!(
            !to_me || packet.destination == self.link_local,
            "the answer is to the one who asked"
        );
        let mac = target_mac.expect("an advertisement says where");
        assert!(
            solicited || frame.source() == mac,
            "an announcement names its own station"
        );
        Some(Heard {
            address: target.into(),
            mac,
            to_me,
            overrides,
        })
    }
}
