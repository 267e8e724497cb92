//! The part of the announcer that speaks unasked: announcements of addresses that were taken over.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr};

use metallb_sansio::Instant;

use crate::announcer::{Announcer, Due, Output, Role};
use crate::answer::advertisement;
use crate::conflict::ASKING_ROUNDS;
use crate::link::{InterfaceIndex, Link};
use crate::wire::arp;
use crate::wire::ethernet::MacAddr;
use crate::wire::ndp;

/// When a taken-over address is announced, in milliseconds after the take-over: a burst that survives a lost frame and a
/// neighbour that ignores changes for its first second (Linux `locktime`), then `MetalLB`'s cadence of 1.1 s until 5 s.
pub const ANNOUNCE_AT_MS: [u64; 8] = [0, 50, 150, 400, 1_100, 2_200, 3_300, 4_400];

/// One announcing sequence under way.
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    address: IpAddr,
    term: u64,
    /// Only there; on all allowed interfaces when `None`.
    interface: Option<InterfaceIndex>,
    started: Instant,
    round: usize,
    /// The first rounds also ask whether somebody else has the address.
    pub(crate) asks: bool,
}

impl Announcer {
    /// Sends the rounds that are due and sets the timer of the next. After a stall the rounds missed are sent as one.
    pub(crate) fn announce(&mut self, mut announcement: Announcement, now: Instant) {
        let Some(held) = self.held.get(&announcement.address) else {
            return;
        };
        if !matches!(held.role, Role::Owner(_)) || held.term != announcement.term {
            return;
        }
        let due = |round: usize| {
            ANNOUNCE_AT_MS
                .get(round)
                .map(|ms| announcement.started + Duration::from_millis(*ms))
        };
        let asks = announcement.asks && announcement.round < ASKING_ROUNDS;
        self.send_unsolicited(announcement.address, announcement.interface);
        if asks {
            self.ask(announcement.address, announcement.interface);
        }

        while due(announcement.round).is_some_and(|at| at <= now) {
            announcement.round += 1;
        }
        if let Some(at) = due(announcement.round) {
            self.due.set(at, Due::Announce(announcement));
        }
    }

    /// One round of unsolicited frames for an owned address, on all links where it may be announced or on one of them.
    pub(crate) fn send_unsolicited(&mut self, address: IpAddr, only: Option<InterfaceIndex>) {
        let Some(Role::Owner(interfaces)) = self.held.get(&address).map(|held| &held.role) else {
            return;
        };
        let mut sent = 0;
        for (index, link) in &self.links {
            if only.is_none_or(|only| only == *index)
                && link.carries(address)
                && interfaces.allows(&link.name)
            {
                gratuitous(address, link, |frame| {
                    sent += 1;
                    self.outputs.push_back(Output::Send {
                        interface: *index,
                        frame,
                    });
                });
            }
        }
        self.counters.entry(address).or_default().gratuitous_sent += sent;
    }
}

impl Announcement {
    pub(crate) const fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) const fn new(
        address: IpAddr,
        term: u64,
        interface: Option<InterfaceIndex>,
        started: Instant,
    ) -> Self {
        Self {
            address,
            term,
            interface,
            started,
            round: 0,
            asks: false,
        }
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
