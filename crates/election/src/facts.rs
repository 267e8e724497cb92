//! What the API server knows, as far as it decides ownership.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::Labels;

/// Name of a node.
pub type NodeName = Arc<str>;

/// Nodes that carry this label, with any value, own no address (KEP-1143).
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What matters of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.labels`.
    pub labels: Labels,
    /// Condition `NetworkUnavailable` is `True`. Other conditions and cordon exclude nobody: whether a node is alive,
    /// membership knows better than the API server.
    pub network_unavailable: bool,
    /// It has the taint `node.kubernetes.io/out-of-service`: an administrator says that it is down for good.
    pub out_of_service: bool,
    /// It is cordoned, or its condition `Ready` is not `True`. Matters only when [`Rules::shun`] says so.
    pub shunned: bool,
    /// A ready speaker of Go `MetalLB` runs there. It does not see ours, so ours stay out of its way; see
    /// [`Eligibility::go`](crate::Eligibility::go).
    pub foreign_speaker: bool,
}

/// What can be chosen about who may own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The flag `--ignore-exclude-lb`: [`EXCLUDE_LABEL`] means nothing.
    pub ignore_exclude_label: bool,
    /// Nodes that are cordoned or not ready come last, after all others, whatever their preference. Not what `MetalLB` does.
    pub shun: bool,
}

/// All nodes of the cluster.
pub type Nodes = BTreeMap<NodeName, NodeFacts>;

/// Usable endpoints of a service: ready, or terminating and still serving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// There is at least one, perhaps on a node that is not told.
    pub any: bool,
    /// Nodes with at least one.
    pub nodes: BTreeSet<NodeName>,
}

/// What matters of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// Addresses in `status.loadBalancer.ingress`, in order, one or two.
    pub addresses: Vec<IpAddr>,
    /// `externalTrafficPolicy: Local`.
    pub local: bool,
    /// It asks to share its address (annotation `allow-shared-ip`).
    pub shared: bool,
}
