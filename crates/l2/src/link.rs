//! Links: the network interfaces on which addresses can be announced.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::wire::MacAddr;

/// The kernel's number of an interface, 1 and up.
pub type InterfaceIndex = u32;

/// One interface as the announcer sees it. Interfaces that must not be used (down, no carrier, slave of a bond or
/// bridge, excluded by name, no ARP) are not told to it at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name, as in `L2Advertisement.spec.interfaces`.
    pub name: Arc<str>,
    /// Hardware address that answers carry.
    pub mac: MacAddr,
    /// Whether ARP is spoken here.
    pub arp: bool,
    /// The link-local address, from which neighbour advertisements are sent; none means no NDP here.
    pub link_local: Option<Ipv6Addr>,
}

impl Link {
    /// Whether addresses of `address`'s family can be announced here.
    pub fn carries(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.arp,
            IpAddr::V6(_) => self.link_local.is_some(),
        }
    }
}

/// On which interfaces an address may be announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// On every usable one.
    #[default]
    All,
    /// On those of exactly these names.
    Named(Arc<BTreeSet<Arc<str>>>),
}

impl Interfaces {
    /// Whether the interface called `name` is allowed.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    /// What either allows: two advertisements of one address add up.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Named(a), Self::Named(b)) => Self::Named(Arc::new(a.union(b).cloned().collect())),
            _ => Self::All,
        }
    }
}

impl<S: Into<Arc<str>>> FromIterator<S> for Interfaces {
    /// Exactly these names; none at all allows nothing.
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self::Named(Arc::new(names.into_iter().map(Into::into).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_of_restrictions() {
        let a: Interfaces = ["eth0"].into_iter().collect();
        let b: Interfaces = ["eth1"].into_iter().collect();
        let both = a.union(&b);
        assert!(both.allows("eth0") && both.allows("eth1") && !both.allows("eth2"));
        assert_eq!(a.union(&Interfaces::All), Interfaces::All);
    }
}
