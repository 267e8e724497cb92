//! The plan of a cluster: every name, address and path that follows from its name and its number of nodes. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Most nodes that fit between the first node address (.11) and the client (.100).
pub const MAX_NODES: u8 = 80;
/// IPv4 prefix length of the LAN.
pub const LAN_PREFIX_V4: u8 = 24;
/// IPv6 prefix length of the LAN.
pub const LAN_PREFIX_V6: u8 = 64;
/// Service ranges, IPv4 first: the cluster's primary family.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:10:96::/112";
/// First address of each service range: the `kubernetes` service.
pub const KUBERNETES_SERVICE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 96, 0, 1),
    Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1),
);
/// Address of the cluster DNS, where one runs: by custom the tenth of the service range.
pub const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The domain that it knows.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Ranges that the nodes' pod ranges are cut from.
pub const POD_CIDRS: &str = "10.244.0.0/16,fd00:10:244::/48";
/// TCP port of the API server.
pub const API_PORT: u16 = 6443;
/// TCP port of the image registry on the gateway.
pub const REGISTRY_PORT: u16 = 5000;

/// An address pair on a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// The MAC address that an interface with this address gets: locally administered and derived from the IPv4 address,
    /// so that a node that is switched off and on comes back with the same hardware address, as a machine does.
    pub fn mac(&self) -> String {
        let [a, b, c, d] = self.v4.octets();
        format!("02:4c:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

/// A LAN host's address by its last number: `192.168.124.N` and `fd00:124::N` (N written alike in both families).
pub fn lan_host(n: u8) -> Pair {
    // The digits are the same in both families, which makes captures easy to read: .11 is ::11.
    let v6 = u16::from_str_radix(&n.to_string(), 16).unwrap_or(u16::from(n));
    Pair {
        v4: Ipv4Addr::new(192, 168, 124, n),
        v6: Ipv6Addr::new(0xfd00, 0x124, 0, 0, 0, 0, 0, v6),
    }
}

/// The LAN gateway, which also runs the image registry.
pub fn gateway() -> Pair {
    lan_host(1)
}

/// The host with etcd, API server, controller manager and scheduler.
pub fn control() -> Pair {
    lan_host(2)
}

/// The client that scenarios use.
pub fn client() -> Pair {
    lan_host(100)
}

/// One node of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Kubernetes node name, `n1` upwards.
    pub name: String,
    /// Position, from 1.
    pub index: u8,
    /// Addresses on the LAN.
    pub lan: Pair,
}

impl NodePlan {
    /// The node with this position (from 1 to [`MAX_NODES`]).
    pub fn new(index: u8) -> Self {
        Self {
            name: format!("n{index}"),
            index,
            lan: lan_host(10 + index),
        }
    }

    /// The node's pod ranges: IPv4 /24 and IPv6 /64.
    pub fn pod_cidrs(&self) -> [String; 2] {
        let i = self.index;
        [format!("10.244.{i}.0/24"), format!("fd00:10:244:{i:x}::/64")]
    }
}

/// What a cluster is made of; everything else follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the cluster.
    pub name: String,
    /// Number of nodes, from 1 to [`MAX_NODES`].
    pub nodes: u8,
}

impl Plan {
    /// Checks name and number of nodes.
    pub fn new(name: &str, nodes: u8) -> Result<Self> {
        check_name(name)?;
        if nodes == 0 || nodes > MAX_NODES {
            bail!("--nodes {nodes}: choose 1 to {MAX_NODES}");
        }
        Ok(Self {
            name: name.to_owned(),
            nodes,
        })
    }

    /// The nodes in order.
    pub fn node_plans(&self) -> impl Iterator<Item = NodePlan> + use<> {
        (1..=self.nodes).map(NodePlan::new)
    }

    /// The node with this name.
    pub fn node(&self, name: &str) -> Result<NodePlan> {
        self.node_plans().find(|n| n.name == name).ok_or_else(|| {
            anyhow::anyhow!(
                "cluster {} has no node {name}; its nodes are n1 to n{}",
                self.name,
                self.nodes
            )
        })
    }

    /// Name of the network namespace of one part (`lan`, `gw`, `control`, `client`, `n1` ...).
    pub fn netns(&self, part: &str) -> String {
        format!("mlb-{}-{part}", self.name)
    }

    /// The cluster's cgroup, relative to the root of each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("mlb-{}", self.name)
    }

    /// Small records: what was made, process ids, kubeconfig. Gone after a reboot, as all that it describes.
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from("/run/metallb-lab").join(&self.name)
    }

    /// Bulk data: etcd, node disks, registry, logs.
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from("/var/lib/metallb-lab").join(&self.name)
    }

    /// Logs of all components.
    pub fn log_dir(&self) -> PathBuf {
        self.data_dir().join("logs")
    }

    /// The TCP port on 127.0.0.1 that is tried first for the API proxy: 16443 for the default cluster, another by name.
    pub fn preferred_port(&self) -> u16 {
        if self.name == "lab" {
            16443
        } else {
            16500 + (crate::cache::fnv64(&[self.name.as_bytes()]) % 400) as u16
        }
    }
}

/// A name becomes part of namespace, cgroup and directory names, so it is kept short and plain.
fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 20
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.as_bytes()[0].is_ascii_lowercase();
    if !good {
        bail!("--name {name:?}: use 1 to 20 of a-z, 0-9 and '-', beginning with a letter");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_read_alike_in_both_families_and_never_collide() {
        assert_eq!(lan_host(11).v6.to_string(), "fd00:124::11");
        assert_eq!(client().v6.to_string(), "fd00:124::100");
        let plan = Plan::new("lab", MAX_NODES).unwrap();
        let mut all: BTreeSet<_> = plan.node_plans().map(|n| n.lan.v6).collect();
        all.extend([gateway().v6, control().v6, client().v6]);
        assert_eq!(all.len(), usize::from(MAX_NODES) + 3);
        assert!(
            plan.node_plans().all(|n| n.lan.v4.octets()[3] < 100),
            ".100 is the client, .200 and up are for pools"
        );
    }

    #[test]
    fn node_facts() {
        let n = NodePlan::new(12);
        assert_eq!(n.name, "n12");
        assert_eq!(n.lan.v4.to_string(), "192.168.124.22");
        assert_eq!(
            n.pod_cidrs(),
            ["10.244.12.0/24".to_owned(), "fd00:10:244:c::/64".to_owned()]
        );
        assert_eq!(n.lan.mac(), "02:4c:c0:a8:7c:16");
    }

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        for bad in ["", "A", "../x", "1a", "a/b", "-a", "a_b", "abcdefghijklmnopqrstu"] {
            assert!(Plan::new(bad, 3).is_err(), "{bad}");
        }
        assert!(Plan::new("lab-2", 3).is_ok());
        assert!(Plan::new("lab", 0).is_err());
        assert!(Plan::new("lab", MAX_NODES + 1).is_err());
    }

    #[test]
    fn clusters_side_by_side_share_nothing_on_the_host() {
        let (a, b) = (Plan::new("lab", 3).unwrap(), Plan::new("lab-2", 3).unwrap());
        assert_ne!(a.netns("n1"), b.netns("n1"));
        assert_ne!(a.cgroup(), b.cgroup());
        assert_ne!(a.run_dir(), b.run_dir());
        assert_ne!(a.data_dir(), b.data_dir());
        assert_ne!(a.preferred_port(), b.preferred_port());
    }
}
