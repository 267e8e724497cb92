//! What is known of the other nodes on the wire: their links, by their own word, and where they were heard.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::wire::ethernet::Frame;
use metallb_l2::{InterfaceIndex, Interfaces, Link, MacAddr};
use metallb_sansio::Instant;

use crate::talk::{Facts, LinkFacts};

/// How often facts are said again to those who have not confirmed them.
const REPEAT: Duration = Duration::from_millis(60);
/// To how many at once.
const AT_ONCE: usize = 32;

/// Hardware addresses of one node, present and former, that are remembered.
const MACS_MAX: usize = 256;

#[derive(Default)]
struct Neighbour {
    /// Number of its facts that we have; 0 when none.
    number: u64,
    partial: bool,
    unable: bool,
    links: Vec<LinkFacts>,
    /// Which facts of ours it has, by its own word.
    has: u64,
    /// The hardware address under which it was heard, by interface of ours.
    heard_on: BTreeMap<InterfaceIndex, MacAddr>,
    /// Hardware addresses under which it does not answer although it is up, since when, and whether it was heard under them
    /// before. Of interest only while its speaker is silent.
    dead: BTreeMap<MacAddr, (Instant, bool)>,
}

/// Facts of all nodes, exchanged with every peer until it confirms.
pub(crate) struct Neighbours {
    number: u64,
    links: Vec<LinkFacts>,
    /// We must not answer for any address.
    unable: bool,
    others: BTreeMap<NodeName, Neighbour>,
    /// On which interfaces of ours the kernels of nodes answered that have not told their links yet.
    answered: BTreeMap<NodeName, BTreeSet<InterfaceIndex>>,
    by_mac: BTreeMap<MacAddr, NodeName>,
    /// When unconfirmed facts are said again.
    pub(crate) repeat_at: Option<Instant>,
}

impl Neighbours {
    /// `generation` is that of this speaker's life, so that facts of a later life have greater numbers.
    pub(crate) const fn new(generation: u64) -> Self {
        Self {
            number: (generation << 16) | 1,
            links: Vec::new(),
            unable: false,
            others: BTreeMap::new(),
            answered: BTreeMap::new(),
            by_mac: BTreeMap::new(),
            repeat_at: None,
        }
    }

    /// Our links changed.
    pub(crate) fn own_links(&mut self, now: Instant, links: &BTreeMap<InterfaceIndex, Link>) {
        let links: Vec<LinkFacts> = links
            .values()
            .map(|link| LinkFacts {
                name: Arc::clone(&link.name),
                mac: link.mac,
                arp: link.arp,
                link_local: link.link_local,
            })
            .collect();
        if links != self.links {
            self.links = links;
            self.number += 1;
            self.repeat_at = Some(now);
        }
    }

    /// Whether we must not answer for any address.
    pub(crate) fn own_ability(&mut self, now: Instant, unable: bool) {
        if core::mem::replace(&mut self.unable, unable) != unable {
            self.number += 1;
            self.repeat_at = Some(now);
        }
    }

    /// An interface of ours went: nobody is heard on it any more.
    pub(crate) fn link_down(&mut self, index: InterfaceIndex) {
        for neighbour in self.others.values_mut() {
            neighbour.heard_on.remove(&index);
        }
    }

    /// Our facts for a peer.
    pub(crate) fn facts_for(&self, peer: &str) -> Facts {
        let other = self.others.get(peer);
        Facts {
            number: self.number,
            have: other.map_or(0, |other| other.number),
            asks: other.is_none_or(|other| other.has != self.number),
            partial: false,
            unable: self.unable,
            links: self.links.clone(),
        }
    }

    /// Those of `live` to whom our facts are to be said now, and sets the time of the next.
    pub(crate) fn due(&mut self, now: Instant, live: &[NodeName]) -> Vec<NodeName> {
        let lacking = live.iter().filter(|peer| {
            self.others
                .get(&***peer)
                .is_none_or(|other| other.has != self.number)
        });
        let due: Vec<NodeName> = lacking.take(AT_ONCE).cloned().collect();
        self.repeat_at = (!due.is_empty()).then_some(now + REPEAT);
        due
    }

    /// A peer is there (again).
    pub(crate) fn joined(&mut self, now: Instant) {
        let at = now + Duration::from_millis(1);
        self.repeat_at = Some(self.repeat_at.map_or(at, |set| set.min(at)));
    }

    /// Takes a peer's facts; whether they changed something, and whether it wants an answer.
    pub(crate) fn learn(&mut self, peer: &NodeName, facts: Facts) -> (bool, bool) {
        let other = self.others.entry(Arc::clone(peer)).or_default();
        other.has = facts.have;
        if facts.number <= other.number {
            return (false, facts.asks);
        }
        (self.learn_of(peer, facts), true)
    }

    /// Takes the facts of a node, from itself or from somebody else; whether they changed something.
    pub(crate) fn learn_of(&mut self, peer: &NodeName, facts: Facts) -> bool {
        let other = self.others.entry(Arc::clone(peer)).or_default();
        if facts.number <= other.number {
            return false;
        }
        other.number = facts.number;
        self.answered.remove(peer);
        let changed =
            (other.unable, other.partial) != (facts.unable, facts.partial) || other.links != facts.links;
        (other.unable, other.partial) = (facts.unable, facts.partial);
        other.links = facts.links;
        if changed {
            let macs: BTreeSet<MacAddr> = other.links.iter().map(|link| link.mac).collect();
            other.heard_on.retain(|_, mac| macs.contains(mac));
            // A link that goes may return, and be heard before we are told.
            if self.by_mac.values().filter(|name| *name == peer).count() > MACS_MAX {
                self.by_mac.retain(|_, name| name != peer);
            }
            for mac in macs {
                self.by_mac.insert(mac, Arc::clone(peer));
            }
        }
        changed
    }

    /// The facts of a node, for somebody who can't hear them from it.
    pub(crate) fn facts_of(&self, node: &str) -> Facts {
        self.others.get(node).map_or_else(Facts::default, |other| Facts {
            number: other.number,
            partial: other.partial,
            unable: other.unable,
            links: other.links.clone(),
            ..Facts::default()
        })
    }

    /// Number of the facts of a node that are here; 0 when there are none.
    pub(crate) fn number_of(&self, node: &str) -> u64 {
        self.others.get(node).map_or(0, |other| other.number)
    }

    /// The kernel of a node answered from this hardware address; whether that is news.
    pub(crate) fn answered(&mut self, node: &NodeName, interface: InterfaceIndex, mac: MacAddr) -> bool {
        if !mac.is_unicast() || self.by_mac.get(&mac).is_some_and(|known| known != node) {
            return false;
        }
        self.by_mac.insert(mac, Arc::clone(node));
        self.answered
            .entry(Arc::clone(node))
            .or_default()
            .insert(interface)
    }

    /// Whether the hardware addresses of the node are known: it told them, or answered on all links of ours.
    pub(crate) fn knows(&self, node: &str, ours: impl IntoIterator<Item = InterfaceIndex>) -> bool {
        let told = self.others.get(node).is_some_and(|other| other.number != 0);
        let answered = self.answered.get(node);
        told || answered.is_some_and(|on| ours.into_iter().all(|index| on.contains(&index)))
    }

    /// Hardware addresses of all other nodes.
    pub(crate) fn macs(&self) -> BTreeSet<MacAddr> {
        self.by_mac.keys().copied().collect()
    }

    /// Whose hardware address it is.
    pub(crate) fn node_of(&self, mac: MacAddr) -> Option<&NodeName> {
        self.by_mac.get(&mac)
    }

    /// Notes on which interface a frame of another node was heard; that node when it was not known.
    pub(crate) fn heard(&mut self, interface: InterfaceIndex, bytes: &[u8]) -> Option<NodeName> {
        let source = Frame::new_checked(bytes).ok()?.source();
        let name = self.by_mac.get(&source)?;
        let neighbour = self.others.get_mut(name)?;
        (neighbour.heard_on.insert(interface, source) != Some(source)).then(|| Arc::clone(name))
    }

    /// The links of a node, by its own word.
    pub(crate) fn links_of(&self, node: &str) -> &[LinkFacts] {
        self.others.get(node).map_or(&[], |other| &other.links)
    }

    /// The hardware address of a node on the LAN of each interface of ours, for links of that node that `allowed` allows.
    pub(crate) fn macs_of(&self, node: &str, allowed: &Interfaces) -> BTreeMap<InterfaceIndex, MacAddr> {
        let Some(other) = self.others.get(node) else {
            return BTreeMap::new();
        };
        let allows = |mac: MacAddr| {
            other
                .links
                .iter()
                .any(|link| link.mac == mac && allowed.allows(&link.name))
        };
        let heard = other
            .heard_on
            .iter()
            .filter(|(_, mac)| allows(**mac) && !other.dead.contains_key(mac));
        heard.map(|(interface, mac)| (*interface, *mac)).collect()
    }

    /// Hardware addresses of a node, by its own word.
    pub(crate) fn link_macs(&self, node: &str) -> Vec<MacAddr> {
        self.links_of(node).iter().map(|link| link.mac).collect()
    }

    /// A node does not answer under one of its hardware addresses; whether that is news. `heard`: it was heard before.
    pub(crate) fn link_gone(&mut self, now: Instant, node: &str, mac: MacAddr, heard: bool) -> bool {
        let Some(other) = self.others.get_mut(node) else {
            return false;
        };
        let known = other.links.iter().any(|link| link.mac == mac);
        known && other.dead.insert(mac, (now, heard)).is_none()
    }

    /// Whether a node was heard under this hardware address.
    pub(crate) fn was_heard(&self, node: &str, mac: MacAddr) -> bool {
        self.others
            .get(node)
            .is_some_and(|other| other.heard_on.values().any(|heard| *heard == mac))
    }

    /// A node's speaker is there again, or only now no longer: what was said of its links before `since` does not count.
    pub(crate) fn forget_gone_links(&mut self, node: &str, since: Instant) {
        if let Some(other) = self.others.get_mut(node) {
            other.dead.retain(|_, (at, _)| *at > since);
        }
    }

    /// Whether another node can announce all of `addresses` on interfaces that `allowed` allows. Presumed of nodes that have
    /// not said what links they have. Of one whose speaker is silent (`live` is not set), those links that somebody else could
    /// stand in for must answer.
    pub(crate) fn usable(&self, node: &str, addresses: &[IpAddr], allowed: &Interfaces, live: bool) -> bool {
        let Some(other) = self.others.get(node).filter(|other| other.number != 0) else {
            return true;
        };
        if other.unable {
            return false;
        }
        let dead = |link: &LinkFacts| other.dead.get(&link.mac).filter(|_| !live);
        (other.partial && other.dead.is_empty())
            || addresses.iter().all(|address| {
                let mut fit = other.links.iter().filter(|link| {
                    let carries = match address {
                        IpAddr::V4(_) => link.arp,
                        IpAddr::V6(_) => link.link_local.is_some(),
                    };
                    carries && allowed.allows(&link.name)
                });
                let lost = fit
                    .clone()
                    .any(|link| dead(link).is_some_and(|(_, heard)| *heard));
                !lost && fit.any(|link| dead(link).is_none())
            })
    }
}
