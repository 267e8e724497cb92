//! A station on the LAN that asks for the services' addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use metallb_sansio::Instant;
use metallb_speaker_core::l2::MacAddr;
use metallb_speaker_core::l2::wire::arp::{self, Operation};
use metallb_speaker_core::l2::wire::ethernet::{ETHERTYPE_ARP, Frame};

use crate::lan::Island;
use crate::{Facts, ServiceNumber};

/// What a client knows of one address.
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    /// Who answered the last request.
    pub answered_by: BTreeSet<MacAddr>,
    /// When the last answer came.
    pub answered_at: Option<Instant>,
    /// The neighbour cache: the last one heard, by an answer or an announcement, and since when it has been that one.
    pub cached: Option<(MacAddr, Instant)>,
}

/// A client: asks for every address by ARP and notes who answers. Its own frames are never lost, so that what it
/// misses is the speakers' fault.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) mac: MacAddr,
    ip: Ipv4Addr,
    neighbours: Vec<Neighbour>,
}

impl Client {
    pub(crate) fn new(island: Island, services: usize) -> Self {
        let number = island as u8;
        Self {
            mac: MacAddr([2, 0xc1, 0, 0, 0, number]),
            ip: Ipv4Addr::new(10, 200, 255, number),
            neighbours: vec![Neighbour::default(); services],
        }
    }

    pub(crate) fn neighbour(&self, service: ServiceNumber) -> &Neighbour {
        &self.neighbours[service]
    }

    /// Asks for the address of a service; answers to earlier requests no longer count.
    pub(crate) fn ask(&mut self, service: ServiceNumber) -> Option<Vec<u8>> {
        self.neighbours[service].answered_by.clear();
        let IpAddr::V4(target_ip) = Facts::address(service) else {
            return None;
        };
        let request = arp::Repr {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender_ip: self.ip,
            target_mac: MacAddr::ZERO,
            target_ip,
        };
        Some(request.emit(MacAddr::BROADCAST))
    }

    /// Hears a frame: an answer to this client, or an announcement.
    ///
    /// # Panics
    /// When a speaker sends nonsense.
    pub(crate) fn hear(&mut self, now: Instant, bytes: &[u8]) {
        let frame = Frame::new_checked(bytes).expect("a speaker sends whole frames");
        if frame.ethertype() != ETHERTYPE_ARP {
            return;
        }
        let packet = arp::Repr::parse(frame.payload()).expect("a speaker sends whole ARP packets");
        // An answer may be in the name of another node; an announcement never is.
        let to_me = packet.operation == Operation::Reply && frame.destination() == self.mac;
        assert!(
            to_me || frame.source() == packet.sender_mac,
            "both headers of an announcement name the same station"
        );
        let sender = IpAddr::V4(packet.sender_ip);
        let Some(service) = (0..self.neighbours.len()).find(|n| Facts::address(*n) == sender) else {
            return;
        };
        let neighbour = &mut self.neighbours[service];
        if to_me {
            assert_eq!(packet.target_ip, self.ip, "the answer is to the one who asked");
            neighbour.answered_by.insert(packet.sender_mac);
            neighbour.answered_at = Some(now);
        }
        if neighbour.cached.is_none_or(|(mac, _)| mac != packet.sender_mac) {
            neighbour.cached = Some((packet.sender_mac, now));
        }
    }
}
