//! Who holds which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, Labels, Pool};

use crate::decision::{Conflict, Refusal};
use crate::request::{Request, ServiceId, Sharing};
use crate::space::{Counters, Space};

/// What one service holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// One address, or one per family.
    pub ips: Vec<IpAddr>,
    /// The pool that has them all.
    pub pool: String,
    /// The terms under which it holds them.
    pub sharing: Sharing,
}

/// The allocation table: pools, free addresses and holders.
///
/// Invariants: every held address is in exactly one pool; its holders may all share it with each other; free runs and
/// counters follow from the holders.
#[derive(Debug, Default)]
pub struct Allocator {
    pub(crate) config: Arc<Config>,
    namespaces: BTreeMap<String, Labels>,
    pub(crate) reserved: BTreeSet<IpAddr>,
    pub(crate) spaces: BTreeMap<String, Space>,
    holders: BTreeMap<IpAddr, Vec<ServiceId>>,
    held: BTreeMap<ServiceId, Held>,
    /// Sharing key to the addresses that are held under it.
    shared: BTreeMap<Box<str>, BTreeSet<IpAddr>>,
}

impl Allocator {
    /// Configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the service holds.
    pub fn held(&self, service: &ServiceId) -> Option<&Held> {
        self.held.get(service)
    }

    /// Services that hold the address, in the order in which they got it.
    pub fn holders(&self, ip: IpAddr) -> &[ServiceId] {
        self.holders.get(&ip).map_or(&[], Vec::as_slice)
    }

    /// Every pool with its counters, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, Counters)> {
        self.spaces
            .iter()
            .map(|(name, space)| (name.as_str(), space.counters))
    }

    /// Replaces the configuration. Services whose addresses are in no pool any more lose them and are returned; an
    /// address that moved to another pool stays.
    pub fn set_config(&mut self, config: Arc<Config>) -> Vec<ServiceId> {
        self.spaces = config
            .pools()
            .map(|pool| (pool.name.clone(), Space::new(pool)))
            .collect();
        self.config = config;
        self.holders.clear();
        self.shared.clear();
        let mut lost = Vec::new();
        for (service, held) in std::mem::take(&mut self.held) {
            match self.pool_of(&held.ips) {
                Ok(pool) => {
                    let pool = pool.name.clone();
                    self.register(service, held.ips, pool, held.sharing);
                }
                Err(_) => lost.push(service),
            }
        }
        lost
    }

    /// Labels of a namespace; `None` when it is gone. True when that can change which pools are open to its services.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()).as_ref() != Some(&labels),
            None => self.namespaces.remove(name).is_some(),
        }
    }

    /// Addresses never to choose, such as those of the nodes. One that is held, or asked for by name, stays.
    pub fn set_reserved(&mut self, reserved: BTreeSet<IpAddr>) {
        self.reserved = reserved;
    }

    /// The one pool of the addresses.
    pub(crate) fn pool_of(&self, ips: &[IpAddr]) -> Result<&Pool, Refusal> {
        let mut found: Option<&Pool> = None;
        for ip in ips {
            let pool = self.config.pool_of(*ip).ok_or(Refusal::OutsidePools(*ip))?;
            if pool.avoids(*ip) {
                return Err(Refusal::Avoided {
                    ip: *ip,
                    pool: pool.name.clone(),
                });
            }
            if found.is_some_and(|found| found.name != pool.name) {
                return Err(Refusal::TwoPools(ips.to_vec()));
            }
            found = Some(pool);
        }
        found.ok_or(Refusal::NoPools)
    }

    /// Whether the pool's `serviceAllocation` admits the service.
    pub(crate) fn admits(&self, pool: &Pool, request: &Request) -> bool {
        let none = Labels::new();
        pool.allocation.as_ref().is_none_or(|allocation| {
            let namespace = request.id.namespace();
            let namespace_labels = self.namespaces.get(namespace).unwrap_or(&none);
            allocation.admits(namespace, namespace_labels, &request.labels)
        })
    }

    /// Whether the service may hold exactly these addresses, given who holds what; returns their pool.
    pub(crate) fn check(&self, request: &Request, ips: &[IpAddr]) -> Result<String, Refusal> {
        let pool = self.pool_of(ips)?;
        if !self.admits(pool, request) {
            return Err(Refusal::NotAdmitted(pool.name.clone()));
        }
        for ip in ips {
            self.may_join(request, *ip)?;
        }
        Ok(pool.name.clone())
    }

    /// Whether everyone else on the address shares it with the service.
    pub(crate) fn may_join(&self, request: &Request, ip: IpAddr) -> Result<(), Refusal> {
        for other in self.holders(ip).iter().filter(|other| **other != request.id) {
            let Some(held) = self.held.get(other) else {
                continue;
            };
            conflict(&held.sharing, &request.sharing).map_err(|why| Refusal::InUse {
                ip,
                by: other.clone(),
                why,
            })?;
        }
        Ok(())
    }

    /// Everybody on the addresses who does not share them with the service.
    pub(crate) fn conflicts(&self, request: &Request, ips: &[IpAddr]) -> Vec<Refusal> {
        let on = ips
            .iter()
            .flat_map(|ip| self.holders(*ip).iter().map(move |holder| (*ip, holder)));
        let others = on.filter(|(_, holder)| **holder != request.id);
        others
            .filter_map(|(ip, by)| {
                let held = self.held.get(by)?;
                let why = conflict(&held.sharing, &request.sharing).err()?;
                Some(Refusal::InUse {
                    ip,
                    by: by.clone(),
                    why,
                })
            })
            .collect()
    }

    /// Lowest held address in `range` that the service may join.
    pub(crate) fn first_shared(&self, request: &Request, range: &metallb_model::IpRange) -> Option<IpAddr> {
        let held = self.shared.get(&request.sharing.key)?;
        held.range(range.start()..=range.end())
            .find(|ip| self.may_join(request, **ip).is_ok())
            .copied()
    }

    /// Writes a holding down. The caller has checked it and has released what the service held before.
    pub(crate) fn register(&mut self, service: ServiceId, ips: Vec<IpAddr>, pool: String, sharing: Sharing) {
        if let Some(space) = self.spaces.get_mut(&pool) {
            space.counters.services += 1;
        }
        for ip in &ips {
            let holders = self.holders.entry(*ip).or_default();
            if holders.is_empty()
                && let Some(space) = self.spaces.get_mut(&pool)
            {
                space.take(*ip);
            }
            holders.push(service.clone());
            if !sharing.key.is_empty() {
                self.shared.entry(sharing.key.clone()).or_default().insert(*ip);
            }
        }
        self.held.insert(service, Held { ips, pool, sharing });
    }

    /// Frees what the service holds.
    pub fn release(&mut self, service: &ServiceId) -> Option<Held> {
        let held = self.held.remove(service)?;
        if let Some(space) = self.spaces.get_mut(&held.pool) {
            space.counters.services -= 1;
        }
        for ip in &held.ips {
            let Some(holders) = self.holders.get_mut(ip) else {
                continue;
            };
            holders.retain(|holder| holder != service);
            if holders.is_empty() {
                self.holders.remove(ip);
                if let Some(space) = self.spaces.get_mut(&held.pool) {
                    space.give(*ip);
                }
            }
            self.unshare(*ip, &held.sharing.key);
        }
        Some(held)
    }

    /// Drops the address from the index of a sharing key that nobody on it uses any more.
    fn unshare(&mut self, ip: IpAddr, key: &str) {
        let still = self.holders(ip).iter().any(|holder| {
            self.held
                .get(holder)
                .is_some_and(|held| &*held.sharing.key == key)
        });
        if still {
            return;
        }
        if let Some(ips) = self.shared.get_mut(key) {
            ips.remove(&ip);
            if ips.is_empty() {
                self.shared.remove(key);
            }
        }
    }
}

/// Whether a service may join another on its address.
fn conflict(holder: &Sharing, joining: &Sharing) -> Result<(), Conflict> {
    if holder.key.is_empty() {
        return Err(Conflict::NotShared);
    }
    if joining.key.is_empty() {
        return Err(Conflict::NoKey);
    }
    if holder.key != joining.key {
        return Err(Conflict::OtherKey);
    }
    if holder.backend != joining.backend {
        return Err(Conflict::OtherBackend);
    }
    match joining.ports.iter().find(|port| holder.ports.contains(port)) {
        Some(port) => Err(Conflict::SamePort(*port)),
        None => Ok(()),
    }
}
