//! BGP advertisements: which pools are advertised as which prefixes, with what, to which peers, by which nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::profile::bounded;
use super::{Community, CommunityError};
use crate::issue::{Finding, Reason};
use crate::pool::unique;
use crate::select::{Narrowest, Selectable};
use crate::settle::{Contender, Origin};
use crate::{Family, Labels, Pool, PoolBgpSpec, Selector, SelectorSpec, ServiceFacts};

/// `spec` of a `BGPAdvertisement` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpAdvertisementSpec {
    /// IPv4 prefix length to advertise, 1 to 32. Default 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_length: Option<i64>,
    /// IPv6 prefix length to advertise, at most 128. Default 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_length_v6: Option<i64>,
    /// `LOCAL_PREF` towards iBGP peers, 32 bits. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<i64>,
    /// `A:B`, `large:A:B:C` or an alias of a `Community`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communities: Option<Vec<String>>,
    /// Pools by name.
    #[serde(rename = "ipAddressPools", skip_serializing_if = "Option::is_none")]
    pub ip_address_pools: Option<Vec<String>>,
    /// Pools by label, in addition to those by name. With neither, all pools.
    #[serde(rename = "ipAddressPoolSelectors", skip_serializing_if = "Option::is_none")]
    pub ip_address_pool_selectors: Option<Vec<SelectorSpec>>,
    /// Nodes that advertise; any selector; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selectors: Option<Vec<SelectorSpec>>,
    /// Services by label; any selector; none means all. Only with the default aggregation lengths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selectors: Option<Vec<SelectorSpec>>,
    /// Peers by name; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<String>>,
}

/// A validated BGP advertisement, its pools and communities resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpAdvertisement {
    /// `metadata.name`; `AddressPool/` or `ConfigMap/`, the name of the pool and `#` with a number, where the pool itself
    /// carries the protocol.
    pub name: String,
    /// Names of the pools it is for.
    pub pools: Arc<BTreeSet<String>>,
    /// IPv4 prefix length to advertise, 1 to 32.
    pub aggregation_length: u8,
    /// IPv6 prefix length to advertise, 0 to 128.
    pub aggregation_length_v6: u8,
    /// `LOCAL_PREF` towards iBGP peers; 0 means unset.
    pub local_pref: u32,
    /// Communities to attach.
    pub communities: BTreeSet<Community>,
    /// Nodes that advertise; empty means all.
    pub node_selectors: Vec<Selector>,
    /// Services it is for; empty means all.
    pub service_selectors: Vec<Selector>,
    /// Peers to advertise to, by name; empty means all.
    pub peers: BTreeSet<String>,
}

impl BgpAdvertisement {
    /// Whether the advertisement is for the service.
    pub fn covers(&self, service: &ServiceFacts<'_>) -> bool {
        self.pools.contains(service.pool) && any_or_empty(&self.service_selectors, service.labels)
    }

    /// Whether a node with these labels advertises.
    pub fn selects_node(&self, node_labels: &Labels) -> bool {
        any_or_empty(&self.node_selectors, node_labels)
    }

    /// Whether it is for the peer with this name.
    pub fn selects_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.contains(name)
    }
}

fn any_or_empty(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels))
}

/// Whether two lists of node selectors can select the same node, as far as they themselves tell.
pub(crate) fn may_share_node(a: &[Selector], b: &[Selector]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|selector| b.contains(selector))
}

/// An advertisement whose pools and communities are not resolved yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParsedBgp {
    /// Path of what it is, such as `spec` or `spec.bgpAdvertisements[0]`.
    field: String,
    pool_names: BTreeSet<String>,
    pool_selectors: Vec<Selector>,
    communities: Vec<String>,
    rest: BgpAdvertisement,
}

impl ParsedBgp {
    /// Validates what one object alone can tell.
    pub(crate) fn parse(name: &str, spec: &BgpAdvertisementSpec) -> Result<Self, Finding> {
        let list = |names: &Option<Vec<String>>, field| unique(names.as_ref(), field);
        let pool_names = list(&spec.ip_address_pools, "spec.ipAddressPools")?;
        let _: BTreeSet<String> = list(&spec.communities, "spec.communities")?;
        let peers = list(&spec.peers, "spec.peers")?;
        let selectors = |list: &Option<Vec<SelectorSpec>>, field| Selector::list(list.as_ref(), field);
        let pool_selectors = selectors(&spec.ip_address_pool_selectors, "spec.ipAddressPoolSelectors")?;
        let node_selectors = selectors(&spec.node_selectors, "spec.nodeSelectors")?;
        let service_selectors = selectors(&spec.service_selectors, "spec.serviceSelectors")?;
        let attributes = PoolBgpSpec {
            aggregation_length: spec.aggregation_length,
            aggregation_length_v6: spec.aggregation_length_v6,
            local_pref: spec.local_pref,
            communities: spec.communities.clone(),
        };
        let mut parsed = Self::attributes(name, "", &attributes)?;
        if !service_selectors.is_empty() {
            for (aggregated, field) in [
                (parsed.rest.aggregation_length != 32, "aggregationLength"),
                (parsed.rest.aggregation_length_v6 != 128, "aggregationLengthV6"),
            ] {
                if aggregated {
                    let message = "excludes serviceSelectors: an aggregated prefix is for other services too; remove one";
                    let field = format!("spec.{field}");
                    return Err(Finding::new(field, Reason::ConflictingFields, message));
                }
            }
        }
        parsed.pool_names = pool_names;
        parsed.pool_selectors = pool_selectors;
        parsed.rest.node_selectors = node_selectors;
        parsed.rest.service_selectors = service_selectors;
        parsed.rest.peers = peers;
        Ok(parsed)
    }

    /// The advertisements of a pool that carries protocol bgp: one with default values, if it lists none.
    pub(crate) fn of_pool(pool: &Pool, origin: &str, specs: &[PoolBgpSpec]) -> Result<Vec<Self>, Finding> {
        let default = [PoolBgpSpec::default()];
        let specs = if specs.is_empty() { &default[..] } else { specs };
        let narrowest = Narrowest::of(pool);
        let pools = Arc::new(BTreeSet::from([pool.name.clone()]));
        let parse = |(index, spec)| {
            let name = format!("{origin}/{}#{}", pool.name, index + 1);
            let mut parsed = Self::attributes(&name, &format!("bgpAdvertisements[{index}]."), spec)?;
            if let Some(finding) = parsed.too_short(&pool.name, &narrowest) {
                return Err(finding);
            }
            parsed.rest.pools = Arc::clone(&pools);
            Ok(parsed)
        };
        specs.iter().enumerate().map(parse).collect()
    }

    fn attributes(name: &str, prefix: &str, spec: &PoolBgpSpec) -> Result<Self, Finding> {
        let field = |name: &str| format!("{prefix}{name}");
        let length = |value, name: &str, min, max| bounded::<u8>(value, &field(name), min, max);
        Ok(Self {
            field: format!("spec.{prefix}").trim_end_matches('.').to_owned(),
            pool_names: BTreeSet::new(),
            pool_selectors: Vec::new(),
            communities: spec.communities.clone().unwrap_or_default(),
            rest: BgpAdvertisement {
                name: name.to_owned(),
                pools: Arc::default(),
                aggregation_length: length(spec.aggregation_length, "aggregationLength", 1, 32)?
                    .unwrap_or(32),
                aggregation_length_v6: length(spec.aggregation_length_v6, "aggregationLengthV6", 0, 128)?
                    .unwrap_or(128),
                local_pref: bounded(spec.local_pref, &field("localPref"), 0, i64::from(u32::MAX))?
                    .unwrap_or(0),
                communities: BTreeSet::new(),
                node_selectors: Vec::new(),
                service_selectors: Vec::new(),
                peers: BTreeSet::new(),
            },
        })
    }

    /// Peers that it names.
    pub(crate) fn peers(&self) -> &BTreeSet<String> {
        &self.rest.peers
    }

    /// Pools that it names.
    pub(crate) fn pool_names(&self) -> &BTreeSet<String> {
        &self.pool_names
    }

    /// Finds pools and communities. `strict`: every selected pool must fit the aggregation lengths; else those that do
    /// not fit are left out.
    pub(crate) fn resolve(
        &self,
        pools: &Selectable<'_>,
        aliases: &BTreeMap<String, Community>,
        strict: bool,
    ) -> Result<BgpAdvertisement, Finding> {
        let mut selected = pools.select(&self.pool_names, &self.pool_selectors);
        if !pools.all_fit([self.rest.aggregation_length, self.rest.aggregation_length_v6]) {
            let unfit: BTreeMap<&String, Finding> = selected
                .iter()
                .filter_map(|pool| Some((pool, self.too_short(pool, &pools.narrowest(pool))?)))
                .collect();
            if strict && let Some(finding) = unfit.values().next() {
                return Err(finding.clone());
            }
            if !unfit.is_empty() {
                selected = Arc::new(
                    selected
                        .iter()
                        .filter(|pool| !unfit.contains_key(pool))
                        .cloned()
                        .collect(),
                );
            }
        }
        self.with(selected, aliases)
    }

    /// The same for an advertisement of [`ParsedBgp::of_pool`], which has its pool.
    pub(crate) fn resolve_of_pool(
        &self,
        aliases: &BTreeMap<String, Community>,
    ) -> Result<BgpAdvertisement, Finding> {
        self.with(Arc::clone(&self.rest.pools), aliases)
    }

    fn with(
        &self,
        pools: Arc<BTreeSet<String>>,
        aliases: &BTreeMap<String, Community>,
    ) -> Result<BgpAdvertisement, Finding> {
        let mut resolved = self.rest.clone();
        resolved.pools = pools;
        for (index, text) in self.communities.iter().enumerate() {
            let community = match aliases.get(text) {
                Some(community) => *community,
                None => text.parse().map_err(|error| {
                    let field = format!("{}.communities[{index}]", self.field);
                    match error {
                        CommunityError::Value(_) => Finding::new(field, Reason::InvalidCommunity, error),
                        CommunityError::Form(_) => {
                            let message =
                                format!("{error}; a Community object that defines it is waited for");
                            Finding::new(field, Reason::WaitingForCommunity, message)
                        }
                    }
                })?,
            };
            resolved.communities.insert(community);
        }
        Ok(resolved)
    }

    fn too_short(&self, pool: &str, narrowest: &Narrowest) -> Option<Finding> {
        let lengths = [self.rest.aggregation_length, self.rest.aggregation_length_v6];
        let (family, needed, range) = narrowest.too_short(lengths)?;
        let (field, length) = match family {
            Family::V4 => ("aggregationLength", lengths[0]),
            Family::V6 => ("aggregationLengthV6", lengths[1]),
        };
        let message = format!(
            "/{length} is wider than {range} of pool {pool} and would advertise addresses that are not in the pool; use \
             {needed} or more"
        );
        let field = format!("{}.{field}", self.field);
        Some(Finding::new(field, Reason::InvalidAggregation, message))
    }
}

/// A resolved advertisement with what is needed to compare it with others.
#[derive(Clone)]
pub(crate) struct Advertised<'a> {
    pub(crate) parsed: ParsedBgp,
    pub(crate) resolved: BgpAdvertisement,
    pub(crate) pools: &'a Selectable<'a>,
}

impl PartialEq for Advertised<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.resolved == other.resolved
    }
}

impl Advertised<'_> {
    /// A pool of whose prefixes both say another `LOCAL_PREF` to the same peer from the same node.
    ///
    /// Advertisements with service selectors may be for different services: whether they meet is seen at run time.
    fn contradicts(&self, other: &Self) -> Option<String> {
        let (a, b) = (&self.resolved, &other.resolved);
        let peers = a.peers.is_empty() || b.peers.is_empty() || !a.peers.is_disjoint(&b.peers);
        if a.local_pref == b.local_pref || !peers || !may_share_node(&a.node_selectors, &b.node_selectors) {
            return None;
        }
        let same_prefixes = |pool: &&String| {
            let narrowest = self.pools.narrowest(pool);
            let v4 = narrowest.has(Family::V4) && a.aggregation_length == b.aggregation_length;
            let v6 = narrowest.has(Family::V6) && a.aggregation_length_v6 == b.aggregation_length_v6;
            v4 || v6
        };
        a.pools.intersection(&b.pools).find(same_prefixes).cloned()
    }
}

/// Advertisements in force, where a contradiction is looked for: by pool and `LOCAL_PREF`. Those that agree need no
/// comparison.
#[derive(Default)]
pub(crate) struct LocalPrefs<'a> {
    known: BTreeMap<usize, Advertised<'a>>,
    all: BTreeMap<u32, BTreeSet<usize>>,
    /// Those for all pools.
    everywhere: BTreeMap<u32, BTreeSet<usize>>,
    by_pool: BTreeMap<String, BTreeMap<u32, BTreeSet<usize>>>,
}

impl LocalPrefs<'_> {
    /// The indexes under which an advertisement is found.
    fn lists(&mut self, of: &Advertised<'_>, mut change: impl FnMut(&mut BTreeSet<usize>)) {
        let local_pref = of.resolved.local_pref;
        change(self.all.entry(local_pref).or_default());
        if of.is_everywhere() {
            change(self.everywhere.entry(local_pref).or_default());
        } else {
            for pool in of.resolved.pools.iter() {
                let of_pool = self.by_pool.entry(pool.clone()).or_default();
                change(of_pool.entry(local_pref).or_default());
            }
        }
    }
}

impl<'a> Advertised<'a> {
    fn is_everywhere(&self) -> bool {
        Arc::ptr_eq(&self.resolved.pools, &self.pools.all)
    }

    /// First of those that want another `LOCAL_PREF` and contradict.
    fn first_clash(
        &self,
        ledger: &LocalPrefs<'a>,
        by_local_pref: &BTreeMap<u32, BTreeSet<usize>>,
    ) -> Option<(usize, String)> {
        by_local_pref
            .iter()
            .filter(|(local_pref, _)| **local_pref != self.resolved.local_pref)
            .flat_map(|(_, others)| others)
            .find_map(|index| {
                self.contradicts(ledger.known.get(index)?)
                    .map(|pool| (*index, pool))
            })
    }
}

impl<'a> Contender for Advertised<'a> {
    type Ledger = LocalPrefs<'a>;
    type Clash = String;

    fn clash(&self, ledger: &LocalPrefs<'a>) -> Option<(usize, String)> {
        if !self.resolved.service_selectors.is_empty() {
            return None;
        }
        if self.is_everywhere() {
            return self.first_clash(ledger, &ledger.all);
        }
        let of_pools = self
            .resolved
            .pools
            .iter()
            .filter_map(|pool| ledger.by_pool.get(pool));
        self.first_clash(ledger, &ledger.everywhere).or_else(|| {
            of_pools
                .into_iter()
                .find_map(|others| self.first_clash(ledger, others))
        })
    }

    fn take(&self, ledger: &mut LocalPrefs<'a>, index: usize) {
        if self.resolved.service_selectors.is_empty() {
            ledger.lists(self, |list| {
                list.insert(index);
            });
            ledger.known.insert(index, self.clone());
        }
    }

    fn release(&self, ledger: &mut LocalPrefs<'a>, index: usize) {
        ledger.lists(self, |list| {
            list.remove(&index);
        });
        ledger.known.remove(&index);
    }

    fn same_claims(&self, other: &Self) -> bool {
        self == other
    }

    fn explain(&self, pool: &String, winner: &Self, winner_origin: &Origin) -> Finding {
        let message = format!(
            "is {}, but {} advertises the same prefixes of pool {pool} to the same peers with {}; make them equal, or the \
             pools, peers, nodes or lengths different",
            self.resolved.local_pref, winner_origin.object, winner.resolved.local_pref
        );
        Finding::new("spec.localPref", Reason::ConflictingLocalPref, message)
    }
}
