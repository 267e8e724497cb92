//! The one validated configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::select::Reach;
use crate::{
    BfdProfile, BgpAdvertisement, BgpPeer, Community, Issue, L2Advertisement, Pool, ServiceFacts, Sources,
    assemble,
};

/// What is in force. Immutable: a change of any source makes a new one; equal configurations compare equal, whatever
/// happened to the objects in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(crate) pools: BTreeMap<String, Pool>,
    pub(crate) l2_advertisements: Vec<L2Advertisement>,
    pub(crate) l2_reach: Reach,
    pub(crate) bgp_advertisements: Vec<BgpAdvertisement>,
    pub(crate) bgp_reach: Reach,
    pub(crate) bgp_peers: BTreeMap<String, BgpPeer>,
    pub(crate) bfd_profiles: BTreeMap<String, BfdProfile>,
    pub(crate) communities: BTreeMap<String, Community>,
    /// Start of each range of each pool, with its end and the pool's name. No two overlap.
    pub(crate) ranges: BTreeMap<IpAddr, (IpAddr, Arc<str>)>,
}

impl Config {
    /// Builds the configuration from all that is stored, object by object.
    ///
    /// A bad object never takes a good one down: its last valid spec stays in force or, if it has none, it is left
    /// out. The issues say so, sorted by object. Of the `ConfigMap` the same holds entry by entry.
    pub fn from_sources(sources: &Sources, own_namespace: &str) -> (Self, Vec<Issue>) {
        assemble::assemble(sources, own_namespace)
    }

    pub(crate) fn with_pools(pools: Vec<Pool>) -> Self {
        let mut ranges = BTreeMap::new();
        for pool in &pools {
            let name: Arc<str> = Arc::from(pool.name.as_str());
            for range in &pool.ranges {
                ranges.insert(range.start(), (range.end(), Arc::clone(&name)));
            }
        }
        let pools = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        Self {
            pools,
            ranges,
            ..Self::default()
        }
    }

    /// Pools by name, ascending.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// Pool with this name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// Pool that holds the address. O(log ranges).
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        let (_, (end, name)) = self.ranges.range(..=ip).next_back()?;
        // All IPv4 sorts before all IPv6, so an end of the other family is below `ip` and fails here.
        (ip <= *end).then(|| self.pools.get(&**name)).flatten()
    }

    /// The pool that holds all the addresses, as a service's addresses must; `None` for no address at all.
    pub fn pool_of_all(&self, ips: &[IpAddr]) -> Option<&Pool> {
        let pool = self.pool_of(*ips.first()?)?;
        let same = |ip: &IpAddr| self.pool_of(*ip).is_some_and(|other| std::ptr::eq(pool, other));
        ips.iter().all(same).then_some(pool)
    }

    /// All layer-2 advertisements: objects by name, then those of pools that carry protocol layer2.
    pub fn l2_advertisements(&self) -> &[L2Advertisement] {
        &self.l2_advertisements
    }

    /// Layer-2 advertisements for a service, in the order of [`Config::l2_advertisements`]. Empty: the service is not
    /// announced on layer 2.
    pub fn l2_for(&self, service: &ServiceFacts<'_>) -> Vec<&L2Advertisement> {
        let indexes = self.l2_reach.of(service.pool).into_iter();
        let advertisements = indexes.filter_map(|index| self.l2_advertisements.get(index));
        advertisements
            .filter(|advertisement| advertisement.covers(service))
            .collect()
    }

    /// All BGP advertisements: objects by name, then those of pools that carry protocol bgp.
    pub fn bgp_advertisements(&self) -> &[BgpAdvertisement] {
        &self.bgp_advertisements
    }

    /// BGP advertisements for a service, in the order of [`Config::bgp_advertisements`]. Empty: the service is not
    /// advertised by BGP.
    pub fn bgp_for(&self, service: &ServiceFacts<'_>) -> Vec<&BgpAdvertisement> {
        let indexes = self.bgp_reach.of(service.pool).into_iter();
        let advertisements = indexes.filter_map(|index| self.bgp_advertisements.get(index));
        advertisements
            .filter(|advertisement| advertisement.covers(service))
            .collect()
    }

    /// BGP peers by name, ascending.
    pub fn bgp_peers(&self) -> impl Iterator<Item = &BgpPeer> {
        self.bgp_peers.values()
    }

    /// BGP peer with this name.
    pub fn bgp_peer(&self, name: &str) -> Option<&BgpPeer> {
        self.bgp_peers.get(name)
    }

    /// BFD profiles by name, ascending.
    pub fn bfd_profiles(&self) -> impl Iterator<Item = &BfdProfile> {
        self.bfd_profiles.values()
    }

    /// BFD profile with this name.
    pub fn bfd_profile(&self, name: &str) -> Option<&BfdProfile> {
        self.bfd_profiles.get(name)
    }

    /// Community aliases by name. Advertisements have them resolved.
    pub fn communities(&self) -> &BTreeMap<String, Community> {
        &self.communities
    }

    /// Whether nothing is configured: components idle.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}
