//! What the engine tells about itself: changes as they happen, and its whole state on request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::{NodeName, Standing};

use crate::ServiceKey;

/// Why an owner changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The service, its endpoints, the nodes or the configuration changed.
    Plan,
    /// Membership lost the node.
    NodeLost(NodeName),
    /// Membership found the node (again).
    NodeJoined(NodeName),
    /// The usable interfaces of the node changed.
    Interfaces(NodeName),
    /// The node said who has the service, where nobody preempts.
    Claim(NodeName),
}

/// The owner of a service changed, in the view of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The service.
    pub service: ServiceKey,
    /// Its addresses; those it had, when it is no longer announced.
    pub addresses: Arc<[IpAddr]>,
    /// Who owned it before; nobody when it was not announced.
    pub from: Option<NodeName>,
    /// Who owns it now.
    pub to: Option<NodeName>,
    /// Why.
    pub cause: Cause,
}

/// How a service stands in the view of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceReport {
    /// The service.
    pub service: ServiceKey,
    /// Its addresses.
    pub addresses: Arc<[IpAddr]>,
    /// Who owns it; nobody also when speakers of Go `MetalLB` do.
    pub owner: Option<NodeName>,
    /// Speakers of Go `MetalLB` announce it: `standings` tell which of them by rank.
    pub go: bool,
    /// This node owns it, but must not answer before its Leases say so; see [`Options::strict`](crate::Options::strict).
    pub waits_for_lease: bool,
    /// Who answers for it: the owner, or while the owner's speaker is away whoever stands in for it.
    pub acting: Option<NodeName>,
    /// How every node stands.
    pub standings: BTreeMap<NodeName, Standing>,
    /// No candidate is alive, so liveness was ignored.
    pub liveness_ignored: bool,
    /// No live candidate has the interfaces it needs, so that was ignored, and nobody can answer.
    pub usability_ignored: bool,
    /// When this node owns it: the interfaces on which it answers for the first address, by name. Empty although it
    /// owns it means that none of the allowed interfaces is usable, and nobody answers.
    pub interfaces: Vec<Arc<str>>,
    /// When this node owns it: whether an advertisement restricts the interfaces.
    pub restricted: bool,
}

/// How a node stands in membership, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The node.
    pub node: NodeName,
    /// Its state; `None` for ourselves.
    pub state: Option<metallb_member::PeerState>,
}
