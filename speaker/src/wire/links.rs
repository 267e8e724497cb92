//! The packet sockets: one for each protocol on each usable interface.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::task::Poll;

use metallb_l2::{InterfaceIndex, Link, MacAddr};
use metallb_net::{Exclusions, Interface, InterfaceEvent, PacketSocket, Protocol};
use metallb_speaker_core::Input;
use serde::Serialize;

/// Errors of one socket taken in one turn.
const ERRORS: usize = 4;

struct OpenLink {
    link: Link,
    /// IPv4 addresses of the interface itself.
    ipv4: Vec<Ipv4Addr>,
    arp: PacketSocket,
    ndp: Option<PacketSocket>,
}

/// An interface as `/state` shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LinkReport {
    name: String,
    mac: Option<String>,
    /// Absent when it is announced on.
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<String>,
}

/// All interfaces of the node, with sockets on those that are announced on.
pub(super) struct Links {
    exclusions: Exclusions,
    known: BTreeMap<InterfaceIndex, Interface>,
    open: BTreeMap<InterfaceIndex, OpenLink>,
    failed: BTreeMap<InterfaceIndex, String>,
    buffer: Box<[u8; PacketSocket::BUFFER]>,
    /// Who was heard last. The others are listened to first, so that a flood on one interface does not silence them.
    heard: InterfaceIndex,
}

impl Links {
    pub(super) fn new(exclusions: Exclusions) -> Self {
        Self {
            exclusions,
            known: BTreeMap::new(),
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            buffer: Box::new([0; PacketSocket::BUFFER]),
            heard: InterfaceIndex::default(),
        }
    }

    /// Waits for a frame on any interface. Safe to cancel.
    pub(super) async fn receive(&mut self) -> (InterfaceIndex, &[u8]) {
        let (open, buffer, heard) = (&self.open, &mut self.buffer[..], self.heard);
        let after = (Bound::Excluded(heard), Bound::Unbounded);
        let (index, length) = poll_fn(|cx| {
            for (index, link) in open.range(after).chain(open.range(..=heard)) {
                for socket in std::iter::once(&link.arp).chain(&link.ndp) {
                    // An interface that went down gives one error and then nothing; netlink tells the rest.
                    // A socket that fails for ever is left until the loop's next turn, which a timer brings.
                    for _ in 0..ERRORS {
                        let Poll::Ready(received) = socket.poll_receive(cx, buffer) else {
                            break;
                        };
                        match received {
                            Ok(length) => return Poll::Ready((*index, length)),
                            Err(error) => tracing::debug!(interface = &*link.link.name, %error, "receiving"),
                        }
                    }
                }
            }
            Poll::Pending
        })
        .await;
        self.heard = index;
        (index, &self.buffer[..length])
    }

    /// Takes up to `limit` further frames that wait on an interface.
    pub(super) fn drain(&mut self, index: InterfaceIndex, limit: usize, mut take: impl FnMut(&[u8])) {
        let Some(link) = self.open.get(&index) else { return };
        for socket in std::iter::once(&link.arp).chain(&link.ndp) {
            for _ in 0..limit {
                let Ok(length) = socket.try_receive(&mut self.buffer[..]) else {
                    break;
                };
                take(&self.buffer[..length]);
            }
        }
    }

    /// Sends a frame; losses are counted by the socket or logged, announcements repeat themselves.
    pub(super) fn send(&mut self, index: InterfaceIndex, frame: &[u8]) {
        let Some(link) = self.open.get_mut(&index) else {
            return;
        };
        let ipv6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
        let socket = if ipv6 {
            link.ndp.as_mut()
        } else {
            Some(&mut link.arp)
        };
        if let Some(socket) = socket
            && let Err(error) = socket.send(frame)
        {
            tracing::debug!(interface = &*link.link.name, %error, "sending");
        }
    }

    /// Takes what netlink says.
    pub(super) fn apply(&mut self, events: Vec<InterfaceEvent>) -> Vec<Input> {
        let mut inputs = Vec::new();
        for event in events {
            match event {
                InterfaceEvent::Changed(interface) => {
                    let index = interface.index;
                    self.known.insert(index, interface);
                    inputs.extend(self.settle(index));
                }
                InterfaceEvent::Removed(index) => {
                    self.known.remove(&index);
                    inputs.extend(self.settle(index));
                }
            }
        }
        inputs
    }

    /// Takes other exclusions.
    pub(super) fn exclude(&mut self, exclusions: Exclusions) -> Vec<Input> {
        self.exclusions = exclusions;
        let all: Vec<InterfaceIndex> = self.known.keys().copied().collect();
        all.into_iter().flat_map(|index| self.settle(index)).collect()
    }

    /// Whether something could not be opened and is to be tried again.
    pub(super) fn failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Tries again to open what could not be opened.
    pub(super) fn retry(&mut self) -> Vec<Input> {
        let failed: Vec<InterfaceIndex> = self.failed.keys().copied().collect();
        failed.into_iter().flat_map(|index| self.settle(index)).collect()
    }

    /// Opens, changes or closes the sockets of one interface according to what is known of it.
    fn settle(&mut self, index: InterfaceIndex) -> Vec<Input> {
        let wanted = self.known.get(&index).and_then(|interface| {
            let mac = interface.usable(&self.exclusions).ok()?;
            let link = Link {
                name: interface.name.as_str().into(),
                mac: MacAddr(mac),
                arp: true,
                link_local: interface.link_local,
            };
            Some((link, interface.ipv4.clone()))
        });
        let Some((link, ipv4)) = wanted else {
            self.failed.remove(&index);
            let Some(closed) = self.open.remove(&index) else {
                return Vec::new();
            };
            tracing::info!(
                interface = &*closed.link.name,
                "no longer announcing on this interface"
            );
            return vec![Input::LinkDown(index)];
        };
        if let Some(open) = self.open.get_mut(&index).filter(|open| open.link == link) {
            if open.ipv4 == ipv4 {
                return Vec::new();
            }
            open.ipv4.clone_from(&ipv4);
            return vec![Input::Addresses(index, ipv4)];
        }
        match self.open_sockets(index, &link, &ipv4) {
            Ok(open) => {
                tracing::info!(interface = &*link.name, mac = %link.mac, "announcing on this interface");
                self.open.insert(index, open);
                self.failed.remove(&index);
                vec![Input::Addresses(index, ipv4), Input::LinkUp(index, link)]
            }
            Err(error) => {
                let why = error.to_string();
                if self.failed.get(&index) != Some(&why) {
                    let hint = if error.kind() == std::io::ErrorKind::PermissionDenied {
                        "; the capability NET_RAW is needed"
                    } else {
                        ""
                    };
                    tracing::warn!(
                        interface = &*link.name,
                        error = why,
                        "no packet socket{hint}; trying again"
                    );
                    self.failed.insert(index, why);
                }
                let closed = self.open.remove(&index);
                Vec::from_iter(closed.map(|_| Input::LinkDown(index)))
            }
        }
    }

    fn open_sockets(
        &mut self,
        index: InterfaceIndex,
        link: &Link,
        ipv4: &[Ipv4Addr],
    ) -> std::io::Result<OpenLink> {
        let (arp, ndp) = match self.open.remove(&index) {
            Some(open) => (Some(open.arp), open.ndp),
            None => (None, None),
        };
        let arp = match arp {
            Some(arp) => arp,
            None => PacketSocket::open(index, Protocol::Arp)?,
        };
        let ndp = match (link.link_local, ndp) {
            (None, _) => None,
            (Some(_), Some(ndp)) => Some(ndp),
            (Some(_), None) => Some(PacketSocket::open(index, Protocol::Ndp)?),
        };
        Ok(OpenLink {
            link: link.clone(),
            ipv4: ipv4.to_vec(),
            arp,
            ndp,
        })
    }

    /// Every interface, and why it is not used.
    pub(super) fn report(&self) -> Vec<LinkReport> {
        let known = self.known.values().map(|interface| {
            let unusable = interface
                .usable(&self.exclusions)
                .err()
                .map(|why| why.to_string());
            LinkReport {
                name: interface.name.clone(),
                mac: interface.mac.map(|mac| MacAddr(mac).to_string()),
                unusable: unusable.or_else(|| self.failed.get(&interface.index).cloned()),
            }
        });
        known.collect()
    }
}
