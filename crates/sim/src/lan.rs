//! Who hears whom: cables, partitions, loss, latency.

use std::collections::{BTreeMap, BTreeSet};

use metallb_sansio::{Duration, SeededRng};

use crate::NodeNumber;

/// A part of the LAN that hears only itself.
pub type Island = usize;

/// Islands with a client on them. Higher ones are for single nodes that nobody hears.
pub(crate) const CLIENT_ISLANDS: usize = 2;

/// The wires between the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Lan {
    plugged: Vec<bool>,
    islands: Vec<Island>,
    /// Pairs, lower number first, that do not hear each other although others hear both.
    deaf: BTreeSet<(NodeNumber, NodeNumber)>,
    /// Percentage of all frames and datagrams between nodes that is lost.
    pub(crate) loss: u8,
}

impl Lan {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            plugged: vec![true; nodes],
            islands: vec![0; nodes],
            deaf: BTreeSet::new(),
            loss: 0,
        }
    }

    pub(crate) fn plug(&mut self, node: NodeNumber, plugged: bool) -> bool {
        std::mem::replace(&mut self.plugged[node], plugged) != plugged
    }

    pub(crate) fn is_plugged(&self, node: NodeNumber) -> bool {
        self.plugged[node]
    }

    pub(crate) fn drift(&mut self, node: NodeNumber, island: Island) {
        self.islands[node] = island;
    }

    /// An island of the node's own.
    pub(crate) const fn exile(node: NodeNumber) -> Island {
        CLIENT_ISLANDS + node
    }

    pub(crate) fn island(&self, node: NodeNumber) -> Option<Island> {
        self.plugged[node].then_some(self.islands[node])
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

    /// Whether a frame of one reaches the other, if it is not lost.
    pub(crate) fn hears(&self, a: NodeNumber, b: NodeNumber) -> bool {
        a == b
            || (self.island(a).is_some()
                && self.island(a) == self.island(b)
                && !self.deaf.contains(&(a.min(b), a.max(b))))
    }

    /// The given nodes, in connected components.
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
        let mut lan = Lan::new(6);
        lan.drift(3, 1);
        lan.drift(4, Lan::exile(4));
        lan.plug(5, false);
        lan.deafen(0, 1);
        assert!(!lan.hears(1, 0) && lan.hears(0, 2) && !lan.hears(0, 3) && !lan.hears(5, 0));
        let mut components = lan.components(0..6);
        components.sort();
        let expected = [vec![0, 1, 2], vec![3], vec![4], vec![5]].map(BTreeSet::from_iter);
        assert_eq!(components, expected, "0 and 1 are connected through 2");
        assert!(lan.components([0, 1]).len() == 2, "without 2 they are not");
    }
}
