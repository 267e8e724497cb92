//! Who hears whom: cables, partitions, loss, latency.

use std::collections::{BTreeMap, BTreeSet};

use metallb_sansio::{Duration, SeededRng};

use crate::NodeNumber;
use crate::host::{INTERFACE, SECOND_INTERFACE};

/// A part of the LAN that hears only itself, or the second LAN.
pub type Island = usize;

/// Islands of the first LAN with a client on them.
pub(crate) const CLIENT_ISLANDS: usize = 2;
/// The second LAN, to which every node has a cable of its own, and which never falls apart.
pub(crate) const SECOND_LAN: Island = CLIENT_ISLANDS;
/// Clients: one on each of these islands. Higher ones are for single nodes that nobody hears.
pub(crate) const CLIENTS: usize = CLIENT_ISLANDS + 1;

/// The wires between the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Lan {
    plugged: Vec<bool>,
    second: Option<Vec<bool>>,
    islands: Vec<Island>,
    /// The whole node is suspended: no carrier changes, but nothing is heard or said.
    asleep: Vec<bool>,
    /// Pairs, lower number first, that do not hear each other although others hear both.
    deaf: BTreeSet<(NodeNumber, NodeNumber)>,
    /// Percentage of all frames and datagrams between nodes that is lost.
    pub(crate) loss: u8,
}

impl Lan {
    pub(crate) fn new(nodes: usize, second: bool) -> Self {
        Self {
            plugged: vec![true; nodes],
            second: second.then(|| vec![true; nodes]),
            islands: vec![0; nodes],
            asleep: vec![false; nodes],
            deaf: BTreeSet::new(),
            loss: 0,
        }
    }

    /// Plugs or unplugs a cable; whether that changes anything.
    pub(crate) fn plug(&mut self, node: NodeNumber, interface: u32, plugged: bool) -> bool {
        let plugs = match interface {
            INTERFACE => &mut self.plugged,
            _ => match &mut self.second {
                Some(second) => second,
                None => return false,
            },
        };
        std::mem::replace(&mut plugs[node], plugged) != plugged
    }

    pub(crate) fn is_plugged(&self, node: NodeNumber, interface: u32) -> bool {
        match interface {
            INTERFACE => self.plugged[node],
            _ => self.second.as_ref().is_some_and(|second| second[node]),
        }
    }

    pub(crate) fn has_second(&self) -> bool {
        self.second.is_some()
    }

    pub(crate) fn sleep(&mut self, node: NodeNumber, asleep: bool) {
        self.asleep[node] = asleep;
    }

    pub(crate) fn is_asleep(&self, node: NodeNumber) -> bool {
        self.asleep[node]
    }

    pub(crate) fn drift(&mut self, node: NodeNumber, island: Island) {
        self.islands[node] = island;
    }

    /// An island of the node's own.
    pub(crate) const fn exile(node: NodeNumber) -> Island {
        CLIENTS + node
    }

    /// Where the node is on the first LAN.
    pub(crate) fn island(&self, node: NodeNumber) -> Option<Island> {
        self.reaches(node, INTERFACE)
    }

    /// Where an interface of the node leads to.
    pub(crate) fn reaches(&self, node: NodeNumber, interface: u32) -> Option<Island> {
        let there = self.is_plugged(node, interface) && !self.asleep[node];
        there.then(|| {
            if interface == INTERFACE {
                self.islands[node]
            } else {
                SECOND_LAN
            }
        })
    }

    /// The interface by which nodes are on that island.
    pub(crate) const fn interface_to(island: Island) -> u32 {
        if island == SECOND_LAN {
            SECOND_INTERFACE
        } else {
            INTERFACE
        }
    }

    /// Whether the node has an interface on the island.
    pub(crate) fn is_on(&self, node: NodeNumber, island: Island) -> bool {
        self.reaches(node, Self::interface_to(island)) == Some(island)
    }

    pub(crate) fn deafen(&mut self, a: NodeNumber, b: NodeNumber) {
        self.deaf.insert((a.min(b), a.max(b)));
    }

    pub(crate) fn has_deaf_pairs(&self) -> bool {
        !self.deaf.is_empty()
    }

    pub(crate) fn clear_deafness(&mut self) {
        self.deaf.clear();
    }

    /// Whether a frame of one reaches the other on the first LAN, if it is not lost.
    pub(crate) fn hears(&self, a: NodeNumber, b: NodeNumber) -> bool {
        a == b
            || (self.island(a).is_some()
                && self.island(a) == self.island(b)
                && (self.deaf.is_empty() || !self.deaf.contains(&(a.min(b), a.max(b)))))
    }

    /// The given nodes, in connected components of the first LAN, where membership is.
    pub(crate) fn components(
        &self,
        nodes: impl IntoIterator<Item = NodeNumber>,
    ) -> Vec<BTreeSet<NodeNumber>> {
        let mut by_island: BTreeMap<Option<Island>, Vec<NodeNumber>> = BTreeMap::new();
        let mut components = Vec::new();
        for node in nodes {
            match self.island(node) {
                None => components.push(BTreeSet::from([node])),
                island => by_island.entry(island).or_default().push(node),
            }
        }
        if self.deaf.is_empty() {
            components.extend(by_island.into_values().map(BTreeSet::from_iter));
            return components;
        }
        for mut rest in by_island.into_values() {
            while let Some(first) = rest.pop() {
                let mut component = BTreeSet::from([first]);
                let mut frontier = vec![first];
                while let Some(node) = frontier.pop() {
                    let (near, far) = rest.into_iter().partition(|other| self.hears(node, *other));
                    component.extend::<&Vec<NodeNumber>>(&near);
                    frontier.extend::<Vec<NodeNumber>>(near);
                    rest = far;
                }
                components.push(component);
            }
        }
        components
    }

    /// Whether this one is lost.
    pub(crate) fn loses(&self, rng: &mut SeededRng) -> bool {
        self.loss > 0 && rng.percent(self.loss)
    }

    /// How long this one takes: a switched LAN with some queueing, so that order is not kept.
    pub(crate) fn latency(rng: &mut SeededRng) -> Duration {
        Duration::from_micros(100) + rng.up_to(Duration::from_micros(900))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_follow_cables_islands_and_deaf_pairs() {
        let mut lan = Lan::new(7, true);
        lan.drift(3, 1);
        lan.drift(4, Lan::exile(4));
        lan.plug(5, INTERFACE, false);
        lan.sleep(6, true);
        lan.deafen(0, 1);
        assert!(!lan.hears(1, 0) && lan.hears(0, 2) && !lan.hears(0, 3) && !lan.hears(5, 0));
        assert!(lan.is_on(5, SECOND_LAN) && !lan.is_on(5, 0) && !lan.is_on(6, SECOND_LAN));
        let mut components = lan.components(0..7);
        components.sort();
        let expected = [vec![0, 1, 2], vec![3], vec![4], vec![5], vec![6]].map(BTreeSet::from_iter);
        assert_eq!(components, expected, "0 and 1 are connected through 2");
        assert!(lan.components([0, 1]).len() == 2, "without 2 they are not");
    }
}
