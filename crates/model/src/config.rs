//! The one validated configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::advertisement::ParsedL2;
use crate::issue::{Effect, Finding, Reason};
use crate::settle::{settle_one, settle_pools};
use crate::{Issue, L2Advertisement, L2AdvertisementSpec, ObjectRef, Pool, PoolSpec, ServiceFacts, Source};

/// Everything that configures `MetalLB`, as stored. Order does not matter. Fill it with `..Sources::default()`: more
/// kinds will be added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// `IPAddressPool` objects.
    pub pools: Vec<Source<PoolSpec>>,
    /// `L2Advertisement` objects.
    pub l2_advertisements: Vec<Source<L2AdvertisementSpec>>,
}

/// What is in force. Immutable: a change of any source makes a new one; equal configurations compare equal, whatever
/// happened to the objects in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pools: BTreeMap<String, Pool>,
    l2_advertisements: Vec<L2Advertisement>,
    /// Start of each range of each pool, with its end and the pool's name. No two overlap.
    ranges: BTreeMap<IpAddr, (IpAddr, String)>,
}

impl Config {
    /// Builds the configuration from all that is stored, object by object.
    ///
    /// A bad object never takes a good one down: its last valid spec stays in force or, if it has none, it is left
    /// out. The issues say so, sorted by object.
    pub fn from_sources(sources: &Sources, own_namespace: &str) -> (Self, Vec<Issue>) {
        let mut issues = Vec::new();
        let pools = of_namespace(&sources.pools, own_namespace, &mut issues);
        let (pools, pool_issues) = settle_pools(&pools);
        issues.extend(pool_issues);
        let mut advertisements = of_namespace(&sources.l2_advertisements, own_namespace, &mut issues);
        advertisements.sort_by(|a, b| a.object.cmp(&b.object));
        let mut l2_advertisements: Vec<L2Advertisement> = Vec::new();
        for source in advertisements {
            let (parsed, issue) = settle_one(source, |spec| ParsedL2::parse(&source.object.name, spec));
            issues.extend(issue);
            let Some(parsed) = parsed else { continue };
            let (resolved, hint) = parsed.resolve(pools.iter());
            issues.extend(hint.map(|finding| finding.into_issue(source.object.clone(), Effect::Warning)));
            if !l2_advertisements.iter().any(|known| known.says_same(&resolved)) {
                l2_advertisements.push(resolved);
            }
        }
        issues.sort();
        (Self::new(pools, l2_advertisements), issues)
    }

    fn new(pools: Vec<Pool>, l2_advertisements: Vec<L2Advertisement>) -> Self {
        let mut ranges = BTreeMap::new();
        for pool in &pools {
            for range in &pool.ranges {
                ranges.insert(range.start(), (range.end(), pool.name.clone()));
            }
        }
        let pools = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        Self {
            pools,
            l2_advertisements,
            ranges,
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
        (ip <= *end).then(|| self.pools.get(name)).flatten()
    }

    /// The pool that holds all the addresses, as a service's addresses must; `None` for no address at all.
    pub fn pool_of_all(&self, ips: &[IpAddr]) -> Option<&Pool> {
        let pool = self.pool_of(*ips.first()?)?;
        ips.iter().all(|ip| pool.contains(*ip)).then_some(pool)
    }

    /// All layer-2 advertisements, by name.
    pub fn l2_advertisements(&self) -> &[L2Advertisement] {
        &self.l2_advertisements
    }

    /// Layer-2 advertisements for a service, by name. Empty: the service is not announced on layer 2.
    pub fn l2_for(&self, service: &ServiceFacts<'_>) -> Vec<&L2Advertisement> {
        self.l2_advertisements
            .iter()
            .filter(|advertisement| advertisement.covers(service))
            .collect()
    }

    /// Whether nothing is configured: components idle.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}

/// Drops objects of other namespaces, each with an issue: they look configured to whoever made them.
fn of_namespace<'a, T>(
    sources: &'a [Source<T>],
    own_namespace: &str,
    issues: &mut Vec<Issue>,
) -> Vec<&'a Source<T>> {
    let (own, foreign): (Vec<_>, Vec<_>) = sources
        .iter()
        .partition(|source| source.object.namespace == own_namespace);
    issues.extend(
        foreign
            .into_iter()
            .map(|source| wrong_namespace(&source.object, own_namespace)),
    );
    own
}

fn wrong_namespace(object: &ObjectRef, own_namespace: &str) -> Issue {
    let message = format!("only objects in namespace {own_namespace} are used; create it there");
    Finding::new("metadata.namespace", Reason::WrongNamespace, message)
        .into_issue(object.clone(), Effect::LeftOut)
}
