//! Layer-2 advertisements: which pools are answered for, by which nodes, on which interfaces.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::issue::{Finding, Reason};
use crate::labels::SelectorSpec;
use crate::pool::unique;
use crate::select::{PoolNames, Selectable};
use crate::settle::{Contender, Origin};
use crate::{Labels, Selector};

/// `spec` of an `L2Advertisement`, v1beta1, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L2AdvertisementSpec {
    /// Pools by name.
    #[serde(rename = "ipAddressPools", skip_serializing_if = "Option::is_none")]
    pub ip_address_pools: Option<Vec<String>>,
    /// Pools by label, in addition to those by name. With neither, all pools.
    #[serde(rename = "ipAddressPoolSelectors", skip_serializing_if = "Option::is_none")]
    pub ip_address_pool_selectors: Option<Vec<SelectorSpec>>,
    /// Nodes that may answer; any selector; none means all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selectors: Option<Vec<SelectorSpec>>,
    /// Interfaces to answer on, exact names; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<String>>,
    /// Services by label; any selector; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selectors: Option<Vec<SelectorSpec>>,
    /// Nodes that should rather answer than others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_node_selectors: Option<Vec<PreferredNodeSpec>>,
}

/// One entry of `spec.preferredNodeSelectors` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferredNodeSpec {
    /// 1..=100.
    pub weight: i64,
    /// Nodes that get the weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<SelectorSpec>,
}

/// A soft preference for nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PreferredNode {
    /// 1..=100; the weights of all matching entries of all matching advertisements add up.
    pub weight: u32,
    /// Nodes that get the weight.
    pub preference: Selector,
}

/// A validated layer-2 advertisement, its pools resolved to names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Advertisement {
    /// `metadata.name`; of several advertisements that say the same, the first by name. `AddressPool/` or `ConfigMap/` and
    /// the name of the pool, where the pool itself carries the protocol.
    pub name: String,
    /// Names of the pools it is for.
    pub pools: Arc<BTreeSet<String>>,
    /// Nodes that may answer; empty means all.
    pub node_selectors: Vec<Selector>,
    /// Interfaces to answer on; empty means all.
    pub interfaces: BTreeSet<String>,
    /// Services it is for; empty means all. A service with a sharing key is not announced through an advertisement
    /// that has service selectors: the services that share the address might be announced differently.
    pub service_selectors: Vec<Selector>,
    /// Soft preferences; see [`L2Advertisement::preference`].
    pub preferred_nodes: Vec<PreferredNode>,
}

/// What decides which advertisements are for a service.
#[derive(Clone, Copy, Debug)]
pub struct ServiceFacts<'a> {
    /// Namespace of the service.
    pub namespace: &'a str,
    /// Name of the service.
    pub name: &'a str,
    /// `metadata.labels` of the service.
    pub labels: &'a Labels,
    /// Pool that holds its addresses; [`crate::Config::pool_of`] finds it.
    pub pool: &'a str,
}

impl L2Advertisement {
    /// Whether the advertisement is for the service.
    pub fn covers(&self, service: &ServiceFacts<'_>) -> bool {
        self.pools.contains(service.pool) && any_or_empty(&self.service_selectors, service.labels)
    }

    /// Whether a node with these labels may answer.
    pub fn selects_node(&self, node_labels: &Labels) -> bool {
        any_or_empty(&self.node_selectors, node_labels)
    }

    /// Sum of the weights that a node with these labels gets; 0 when the node may not answer.
    pub fn preference(&self, node_labels: &Labels) -> u64 {
        if !self.selects_node(node_labels) {
            return 0;
        }
        let matching = self
            .preferred_nodes
            .iter()
            .filter(|entry| entry.preference.matches(node_labels));
        matching.map(|entry| u64::from(entry.weight)).sum()
    }

    /// What must differ for another advertisement to add something for a service that both cover. `None` is equal to
    /// nothing: preferences add up.
    pub(crate) fn gist(&self) -> Option<Gist> {
        self.preferred_nodes.is_empty().then(|| {
            let set = |selectors: &[Selector]| selectors.iter().cloned().collect();
            Gist {
                pools: PoolNames(Arc::clone(&self.pools)),
                node_selectors: set(&self.node_selectors),
                interfaces: self.interfaces.clone(),
                service_selectors: set(&self.service_selectors),
            }
        })
    }

    /// An advertisement without any restriction, for a pool that carries protocol layer2.
    pub(crate) fn of_pool(origin: &str, pool: &str) -> Self {
        Self {
            name: format!("{origin}/{pool}"),
            pools: Arc::new(BTreeSet::from([pool.to_owned()])),
            node_selectors: Vec::new(),
            interfaces: BTreeSet::new(),
            service_selectors: Vec::new(),
            preferred_nodes: Vec::new(),
        }
    }
}

/// See [`L2Advertisement::gist`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gist {
    pools: PoolNames,
    node_selectors: BTreeSet<Selector>,
    interfaces: BTreeSet<String>,
    service_selectors: BTreeSet<Selector>,
}

fn any_or_empty(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels))
}

/// An advertisement whose pools are not resolved yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParsedL2 {
    pool_names: BTreeSet<String>,
    pool_selectors: Vec<Selector>,
    rest: L2Advertisement,
}

impl ParsedL2 {
    /// Validates what one object alone can tell.
    pub(crate) fn parse(name: &str, spec: &L2AdvertisementSpec) -> Result<Self, Finding> {
        let mut preferred_nodes = Vec::new();
        for (index, entry) in spec.preferred_node_selectors.iter().flatten().enumerate() {
            let field = format!("spec.preferredNodeSelectors[{index}]");
            let weight = u32::try_from(entry.weight)
                .ok()
                .filter(|w| (1..=100).contains(w))
                .ok_or_else(|| {
                    let message = format!("is {}; a weight is 1 to 100", entry.weight);
                    Finding::new(format!("{field}.weight"), Reason::OutOfRange, message)
                })?;
            let preference = entry.preference.as_ref().ok_or_else(|| {
                let message = "is missing; give the label selector of the preferred nodes";
                Finding::new(format!("{field}.preference"), Reason::InvalidSelector, message)
            })?;
            let preference = Selector::new(preference).map_err(|error| {
                Finding::new(format!("{field}.preference"), Reason::InvalidSelector, error)
            })?;
            preferred_nodes.push(PreferredNode { weight, preference });
        }
        let selectors = |list, field| Selector::list(list, field);
        Ok(Self {
            pool_names: unique(spec.ip_address_pools.as_ref(), "spec.ipAddressPools")?,
            pool_selectors: selectors(
                spec.ip_address_pool_selectors.as_ref(),
                "spec.ipAddressPoolSelectors",
            )?,
            rest: L2Advertisement {
                name: name.to_owned(),
                pools: Arc::default(),
                node_selectors: selectors(spec.node_selectors.as_ref(), "spec.nodeSelectors")?,
                // Go does not mind a repeated name here.
                interfaces: spec.interfaces.iter().flatten().cloned().collect(),
                service_selectors: selectors(spec.service_selectors.as_ref(), "spec.serviceSelectors")?,
                preferred_nodes,
            },
        })
    }

    /// Finds the pools. The finding is a hint.
    pub(crate) fn resolve(self, pools: &Selectable<'_>) -> (L2Advertisement, Option<Finding>) {
        let mut resolved = self.rest;
        resolved.pools = pools.select(&self.pool_names, &self.pool_selectors);
        (resolved, pools.unknown(&self.pool_names))
    }
}

/// Advertisements are not in conflict with one another: they add up.
impl Contender for ParsedL2 {
    type Ledger = ();
    type Clash = Infallible;

    fn clash(&self, (): &()) -> Option<(usize, Infallible)> {
        None
    }

    fn take(&self, (): &mut (), _index: usize) {}

    fn release(&self, (): &mut (), _index: usize) {}

    fn same_claims(&self, _other: &Self) -> bool {
        true
    }

    fn explain(&self, clash: &Infallible, _winner: &Self, _winner_origin: &Origin) -> Finding {
        match *clash {}
    }
}
