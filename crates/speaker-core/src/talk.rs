//! What speakers say to each other besides membership.

mod codec;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::MacAddr;

use crate::ServiceKey;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// What only the sender knows of itself.
    Facts(Facts),
    /// How the sender sees some services.
    Views(Vec<View>),
    /// The sender found this node unreachable on the LAN after its speaker had gone silent.
    NodeGone(NodeName),
    /// The node is up, but does not answer under this hardware address; `heard`: the sender heard it under that before.
    LinkGone {
        node: NodeName,
        mac: MacAddr,
        heard: bool,
    },
    /// A speaker that the addressee may never have heard is away.
    Away(Absence),
    /// "This node does not answer me: tell it how you see these services."
    Tell(NodeName, Vec<ServiceKey>),
}

/// A node is up, but its speaker is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    pub(crate) node: NodeName,
    /// How much longer that is borne, in whole milliseconds.
    pub(crate) left: Duration,
    /// What that node last said of itself; nothing if its number is 0.
    pub(crate) facts: Facts,
}

/// What only one node knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Which facts these are: greater with every change, also over lives.
    pub(crate) number: u64,
    /// Which facts of the addressee the sender has.
    pub(crate) have: u64,
    /// The sender does not know whether the addressee has these facts and wants to hear.
    pub(crate) asks: bool,
    /// There are more links than fit: what is not named may exist all the same.
    pub(crate) partial: bool,
    /// The sender must not answer for any address at present, whatever links it has.
    pub(crate) unable: bool,
    /// The usable links.
    pub(crate) links: Vec<LinkFacts>,
}

/// A usable link of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) name: Arc<str>,
    pub(crate) mac: MacAddr,
    pub(crate) arp: bool,
    pub(crate) link_local: Option<Ipv6Addr>,
    /// Some IPv4 addresses of its own. Speakers before this field tell none.
    pub(crate) addresses: Vec<Ipv4Addr>,
}

impl LinkFacts {
    /// The addresses of the link itself, for which its kernel answers there.
    pub(crate) fn own(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let ipv4 = self.addresses.iter().map(|ip| IpAddr::V4(*ip));
        self.link_local.map(IpAddr::V6).into_iter().chain(ipv4)
    }
}

/// How the sender sees one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) service: ServiceKey,
    /// Age of the view: the greater, the fresher. 0 is unknown.
    pub(crate) version: u64,
    /// Digest of what the view was worked out from, so that who sees the same is not told better: views that differ all
    /// the same differ about who is alive.
    pub(crate) digest: u64,
    /// Who owns it; nobody when it is not announced.
    pub(crate) owner: Option<NodeName>,
    /// Who has it for good, where nobody preempts, and in which term.
    pub(crate) claim: Option<(NodeName, u64)>,
    /// The sender answers for it at present.
    pub(crate) holds: bool,
    /// The sender sees it so by itself, and not because it was told.
    pub(crate) settled: bool,
    /// This is an answer and wants none.
    pub(crate) reply: bool,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where the owner may announce it; everywhere when absent.
    pub(crate) interfaces: Option<Vec<Arc<str>>>,
}
