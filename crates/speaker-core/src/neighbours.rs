//! What is known of the other nodes on the wire: their links, by their own word, and where they were heard.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
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
/// IPv4 addresses of a link that are told: one is enough to ask for, and another in case that one goes meanwhile.
const ADDRESSES_TOLD: usize = 2;

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
    /// The same for interfaces that were usable once.
    heard_before: BTreeMap<InterfaceIndex, MacAddr>,
    /// Hardware addresses under which it does not answer although it is up, since when, and whether it was heard under them
    /// before. Of interest only while its speaker is silent.
    dead: BTreeMap<MacAddr, (Instant, bool)>,
}

/// Facts of all nodes, exchanged with every peer until it confirms.
pub(crate) struct Neighbours {
    number: u64,
    links: Vec<LinkFacts>,
    /// Where they are, and the IPv4 addresses of our interfaces.
    indices: BTreeMap<InterfaceIndex, Arc<str>>,
    addresses: BTreeMap<InterfaceIndex, Vec<Ipv4Addr>>,
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
            indices: BTreeMap::new(),
            addresses: BTreeMap::new(),
            unable: false,
            others: BTreeMap::new(),
            answered: BTreeMap::new(),
            by_mac: BTreeMap::new(),
            repeat_at: None,
        }
    }

    /// Our links changed.
    pub(crate) fn own_links(&mut self, now: Instant, links: &BTreeMap<InterfaceIndex, Link>) {
        let names = links.iter().map(|(index, link)| (*index, Arc::clone(&link.name)));
        self.indices = names.collect();
        let links: Vec<LinkFacts> = links
            .iter()
            .map(|(index, link)| LinkFacts {
                name: Arc::clone(&link.name),
                mac: link.mac,
                arp: link.arp,
                link_local: link.link_local,
                addresses: self
                    .own_ipv4(*index)
                    .iter()
                    .take(ADDRESSES_TOLD)
                    .copied()
                    .collect(),
            })
            .collect();
        if links != self.links {
            self.links = links;
            self.number += 1;
            self.repeat_at = Some(now);
        }
    }

    /// The IPv4 addresses that an interface of ours has itself; what becomes of them, [`Neighbours::own_links`] tells.
    pub(crate) fn own_addresses(&mut self, index: InterfaceIndex, addresses: Vec<Ipv4Addr>) {
        self.addresses.insert(index, addresses);
    }

    /// The IPv4 addresses that an interface of ours has itself.
    pub(crate) fn own_ipv4(&self, index: InterfaceIndex) -> &[Ipv4Addr] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
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
        self.addresses.remove(&index);
        for neighbour in self.others.values_mut() {
            if let Some(mac) = neighbour.heard_on.remove(&index) {
                neighbour.heard_before.insert(index, mac);
            }
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

    /// The hardware address under which a node is to be asked on each interface of ours where it was heard.
    pub(crate) fn heard_on(&self, node: &str) -> BTreeMap<InterfaceIndex, MacAddr> {
        let Some(other) = self.others.get(node) else {
            return BTreeMap::new();
        };
        let heard = other.heard_on.iter();
        heard
            .filter(|(_, mac)| !other.dead.contains_key(mac))
            .map(|(interface, mac)| (*interface, *mac))
            .collect()
    }

    /// The hardware address of a node on the LAN of an interface that became usable: under which it was heard there before, or
    /// else that of its link of the same name.
    pub(crate) fn mac_on(&self, node: &str, interface: InterfaceIndex) -> Option<MacAddr> {
        let other = self.others.get(node)?;
        let heard = other
            .heard_on
            .get(&interface)
            .or_else(|| other.heard_before.get(&interface));
        let is_theirs = |mac: &&MacAddr| other.links.iter().any(|link| link.mac == **mac);
        heard.filter(is_theirs).copied().or_else(|| {
            let name = self.indices.get(&interface)?;
            let mut links = other.links.iter();
            links.find(|link| link.name == *name).map(|link| link.mac)
        })
    }

    /// The hardware address of a node on the LAN of each interface of ours, for links of that node that `allowed` allows. Of a
    /// link that was never heard, as its kernel answers nobody, its name must tell where it is.
    pub(crate) fn macs_of(&self, node: &str, allowed: &Interfaces) -> BTreeMap<InterfaceIndex, MacAddr> {
        let Some(other) = self.others.get(node) else {
            return BTreeMap::new();
        };
        let there = |link: &&LinkFacts| !other.dead.contains_key(&link.mac) && allowed.allows(&link.name);
        let links = || other.links.iter().filter(there);
        let mut macs = BTreeMap::new();
        for (index, name) in &self.indices {
            let mac = match other.heard_on.get(index) {
                Some(heard) => links().find(|link| link.mac == *heard),
                None => links().find(|link| {
                    link.name == *name && !other.heard_on.values().any(|heard| *heard == link.mac)
                }),
            };
            macs.extend(mac.map(|link| (*index, link.mac)));
        }
        macs
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

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, last: u8) -> Link {
        Link {
            name: name.into(),
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            arp: true,
            link_local: None,
        }
    }

    fn facts(names: [(&str, u8); 2]) -> Facts {
        let links = names.map(|(name, last)| {
            let Link { name, mac, arp, .. } = link(name, last);
            LinkFacts {
                name,
                mac,
                arp,
                link_local: None,
                addresses: Vec::new(),
            }
        });
        Facts {
            number: 1,
            links: links.into(),
            ..Facts::default()
        }
    }

    #[test]
    fn a_link_that_was_never_heard_is_where_ours_of_its_name_is() {
        let peer: NodeName = "n2".into();
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let mut neighbours = Neighbours::new(1);
        let ours = BTreeMap::from([(1, link("eth0", 1)), (2, link("eth1", 2)), (3, link("eth2", 3))]);
        neighbours.own_links(Instant::ZERO, &ours);
        neighbours.learn(&peer, facts([("eth0", 11), ("eth1", 12)]));
        let all = |neighbours: &Neighbours| {
            let macs = neighbours.macs_of("n2", &Interfaces::All);
            macs.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(all(&neighbours), [(1, mac(11)), (2, mac(12))]);
        assert!(neighbours.heard_on("n2").is_empty(), "it is asked everywhere");
        let only = neighbours.macs_of("n2", &["eth1"].into_iter().collect());
        assert_eq!(only, [(2, mac(12))].into());

        // Its cables are the other way round.
        let frame = |last| metallb_l2::question([192, 0, 2, 1].into(), &link("any", last));
        assert_eq!(neighbours.heard(2, &frame(11)), Some(Arc::clone(&peer)));
        assert_eq!(all(&neighbours), [(2, mac(11))]);
        neighbours.heard(1, &frame(12));
        assert_eq!(all(&neighbours), [(1, mac(12)), (2, mac(11))]);
        assert!(neighbours.link_gone(Instant::ZERO, "n2", mac(12), true));
        assert_eq!(all(&neighbours), [(2, mac(11))]);
    }
}
