//! Which pools an advertisement object selects, and which advertisements are for a pool.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::issue::{Finding, Reason};
use crate::{Family, IpRange, ObjectRef, Pool, Selector};

/// Names of pools. Advertisements for all pools share one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolNames(pub(crate) Arc<BTreeSet<String>>);

impl Ord for PoolNames {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            Ordering::Equal
        } else {
            self.0.cmp(&other.0)
        }
    }
}

impl PartialOrd for PoolNames {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The pools that advertisement objects can select, and the names of those that they cannot.
pub(crate) struct Selectable<'a> {
    /// All of them.
    pub(crate) all: Arc<BTreeSet<String>>,
    pools: BTreeMap<&'a str, (&'a Pool, Narrowest)>,
    /// Pools that carry their protocol, with the object that defines them.
    others: BTreeMap<&'a str, &'a ObjectRef>,
    /// What limits an advertisement for all of them.
    narrowest: Narrowest,
}

/// What of a pool's addresses limits how short an aggregated prefix can be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Narrowest {
    /// By family (IPv4, IPv6): the longest prefix that an entry needs at least, and the entry. `None`: no such addresses.
    entries: [Option<(u8, IpRange)>; 2],
}

impl Narrowest {
    pub(crate) fn of(pool: &Pool) -> Self {
        let mut entries: [Option<(u8, IpRange)>; 2] = [None; 2];
        for range in &pool.ranges {
            // A range passes if one of its CIDRs does.
            let shortest = range.to_cidrs().iter().map(ipnet::IpNet::prefix_len).min();
            let slot = &mut entries[usize::from(range.family() == Family::V6)];
            raise(slot, shortest.map(|shortest| (shortest, *range)));
        }
        Self { entries }
    }

    /// What limits an advertisement for several pools.
    fn of_all(pools: impl Iterator<Item = Self>) -> Self {
        pools.fold(Self::default(), |mut all, pool| {
            for (slot, entry) in all.entries.iter_mut().zip(pool.entries) {
                raise(slot, entry);
            }
            all
        })
    }

    /// The first length (IPv4, IPv6) that is too short, what would do, and for which entry.
    pub(crate) fn too_short(&self, lengths: [u8; 2]) -> Option<(Family, u8, IpRange)> {
        [Family::V4, Family::V6]
            .into_iter()
            .zip(lengths)
            .zip(self.entries)
            .find_map(|((family, length), entry)| {
                entry
                    .filter(|(needed, _)| length < *needed)
                    .map(|(needed, range)| (family, needed, range))
            })
    }

    /// Whether there are addresses of the family.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.entries[usize::from(family == Family::V6)].is_some()
    }
}

/// Keeps the longer of two needed prefixes.
fn raise(slot: &mut Option<(u8, IpRange)>, entry: Option<(u8, IpRange)>) {
    if let Some((needed, _)) = entry
        && slot.is_none_or(|(longest, _)| needed > longest)
    {
        *slot = entry;
    }
}

impl<'a> Selectable<'a> {
    pub(crate) fn new(
        pools: impl Iterator<Item = &'a Pool>,
        others: impl Iterator<Item = (&'a str, &'a ObjectRef)>,
    ) -> Self {
        let pools: BTreeMap<_, _> = pools
            .map(|pool| (pool.name.as_str(), (pool, Narrowest::of(pool))))
            .collect();
        Self {
            all: Arc::new(pools.keys().map(|name| (*name).to_owned()).collect()),
            narrowest: Narrowest::of_all(pools.values().map(|(_, narrowest)| *narrowest)),
            pools,
            others: others.collect(),
        }
    }

    /// Pools by name and by label; with neither, all.
    pub(crate) fn select(&self, names: &BTreeSet<String>, selectors: &[Selector]) -> Arc<BTreeSet<String>> {
        if names.is_empty() && selectors.is_empty() {
            return Arc::clone(&self.all);
        }
        let named = names
            .iter()
            .filter(|name| self.pools.contains_key(name.as_str()))
            .cloned();
        let labelled = self
            .pools
            .iter()
            .filter(|(_, (pool, _))| selectors.iter().any(|selector| selector.matches(&pool.labels)));
        let labelled = labelled.map(|(name, _)| (*name).to_owned());
        let chosen = if selectors.is_empty() {
            named.collect()
        } else {
            named.chain(labelled).collect()
        };
        Arc::new(chosen)
    }

    pub(crate) fn narrowest(&self, pool: &str) -> Narrowest {
        self.pools
            .get(pool)
            .map(|(_, narrowest)| *narrowest)
            .unwrap_or_default()
    }

    /// Whether the lengths (IPv4, IPv6) fit every pool.
    pub(crate) fn all_fit(&self, lengths: [u8; 2]) -> bool {
        self.narrowest.too_short(lengths).is_none()
    }

    /// A hint about names that select nothing: the pool may be created later, as Go allows.
    pub(crate) fn unknown(&self, names: &BTreeSet<String>) -> Option<Finding> {
        let unknown = || {
            names
                .iter()
                .map(String::as_str)
                .filter(|name| !self.pools.contains_key(name))
        };
        let first = unknown().next()?;
        let message = if let Some((name, owner)) =
            unknown().find_map(|name| self.others.get(name).map(|owner| (name, owner)))
        {
            format!(
                "pool {name} comes from {owner} and announces itself by its protocol; advertisements are for IPAddressPools"
            )
        } else if unknown().nth(1).is_some() {
            format!(
                "no valid IPAddressPool is named {}",
                unknown().collect::<Vec<_>>().join(", ")
            )
        } else {
            format!("no valid IPAddressPool is named {first}")
        };
        Some(Finding::new("spec.ipAddressPools", Reason::UnknownPool, message))
    }
}

/// Finds the advertisements for a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Pools that `everywhere` is for.
    all: Arc<BTreeSet<String>>,
    everywhere: Vec<u32>,
    by_pool: BTreeMap<String, Vec<u32>>,
}

impl Reach {
    pub(crate) fn new<'a>(
        all: &Arc<BTreeSet<String>>,
        pools: impl Iterator<Item = &'a Arc<BTreeSet<String>>>,
    ) -> Self {
        let mut reach = Self {
            all: Arc::clone(all),
            ..Self::default()
        };
        for (index, pools) in (0..).zip(pools) {
            if Arc::ptr_eq(all, pools) {
                reach.everywhere.push(index);
            } else {
                for pool in pools.iter() {
                    reach.by_pool.entry(pool.clone()).or_default().push(index);
                }
            }
        }
        reach
    }

    /// Indexes of the advertisements for the pool, ascending.
    pub(crate) fn of(&self, pool: &str) -> Vec<usize> {
        let everywhere: &[u32] = if self.all.contains(pool) {
            &self.everywhere
        } else {
            &[]
        };
        let named = self.by_pool.get(pool).map_or(&[][..], Vec::as_slice);
        let mut indexes: Vec<usize> = everywhere
            .iter()
            .chain(named)
            .map(|index| *index as usize)
            .collect();
        indexes.sort_unstable();
        indexes
    }
}
