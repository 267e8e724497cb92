//! Who holds which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, Family, IpRange, Labels, Pool};

use crate::decision::{Conflict, Refusal};
use crate::history::History;
use crate::policy::Reuse;
use crate::request::{Request, ServiceId, Sharing};
use crate::space::{Counters, Space};

/// What one service holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// One address, or one per family.
    pub ips: Box<[IpAddr]>,
    /// The pool that has them all.
    pub pool: Arc<str>,
    /// The terms under which others may join; `None`: nobody may.
    pub sharing: Option<Arc<Sharing>>,
}

impl Held {
    /// Whether the service would hold its addresses under the same terms with these.
    pub(crate) fn has_terms(&self, sharing: &Sharing) -> bool {
        match &self.sharing {
            Some(own) => **own == *sharing,
            None => sharing.key.is_empty(),
        }
    }
}

/// Services on one address; mostly one.
#[derive(Debug)]
enum Holders {
    One(ServiceId),
    Several(Vec<ServiceId>),
}

impl Holders {
    fn as_slice(&self) -> &[ServiceId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        }
    }

    fn push(&mut self, id: ServiceId) {
        match self {
            Self::One(first) => *self = Self::Several(vec![first.clone(), id]),
            Self::Several(ids) => ids.push(id),
        }
    }
}

/// The allocation table: pools, free addresses and holders.
///
/// Invariants: every held address is in exactly one pool; its holders may all share it with each other; free runs and
/// counters follow from the holders.
#[derive(Debug, Default)]
pub struct Allocator {
    pub(crate) config: Arc<Config>,
    reuse: Reuse,
    namespaces: BTreeMap<String, Labels>,
    reserved: BTreeSet<IpAddr>,
    spaces: BTreeMap<Arc<str>, Space>,
    /// Pools that are open to services that do not name one: those with a `serviceAllocation` by priority, and the rest.
    pub(crate) pinned: Vec<Arc<str>>,
    pub(crate) open: Vec<Arc<str>>,
    selects_services: bool,
    holders: BTreeMap<IpAddr, Holders>,
    held: BTreeMap<ServiceId, Held>,
    /// Sharing key to the addresses that are held under it.
    shared: BTreeMap<Box<str>, BTreeSet<IpAddr>>,
    history: History,
    /// Pools whose counters or doubtful addresses may have changed since last asked.
    touched: BTreeSet<Arc<str>>,
}

impl Allocator {
    /// An allocator without pools.
    pub fn new(reuse: Reuse) -> Self {
        Self {
            reuse,
            ..Self::default()
        }
    }

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
        self.holders.get(&ip).map_or(&[], Holders::as_slice)
    }

    /// Counters of a pool; `None`: there is no such pool.
    pub fn counters(&self, pool: &str) -> Option<Counters> {
        self.spaces.get(pool).map(|space| space.counters)
    }

    /// Addresses of the pool that services hold although they are [reserved](Allocator::set_reserved).
    pub fn doubtful(&self, pool: &str) -> impl Iterator<Item = IpAddr> {
        self.spaces
            .get(pool)
            .into_iter()
            .flat_map(|space| space.doubtful.iter().copied())
    }

    /// The one copy of a pool's name.
    pub(crate) fn name_of(&self, pool: &Pool) -> Arc<str> {
        self.space(&pool.name)
            .map_or_else(|| pool.name.as_str().into(), |space| space.name.clone())
    }

    pub(crate) fn space(&self, pool: &str) -> Option<&Space> {
        self.spaces.get(pool)
    }

    /// Pools, also gone ones, that [`Allocator::counters`] and [`Allocator::doubtful`] may say something new about.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.touched)
    }

    /// Marks every pool as touched.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.spaces.keys().cloned());
    }

    /// Whether any pool asks for the labels of services.
    pub(crate) fn selects_services(&self) -> bool {
        self.selects_services
    }

    /// Replaces the configuration. Services whose addresses are in no pool any more lose them and are returned; an
    /// address that moved to another pool stays.
    pub fn set_config(&mut self, config: Arc<Config>) -> Vec<ServiceId> {
        self.touch_all();
        self.spaces = config
            .pools()
            .map(Space::new)
            .map(|space| (space.name.clone(), space))
            .collect();
        self.order_pools(&config);
        self.config = config;
        self.touch_all();
        self.holders.clear();
        self.shared.clear();
        let mut lost = Vec::new();
        let mut freed: Vec<IpAddr> = Vec::new();
        for (service, held) in std::mem::take(&mut self.held) {
            let ips = self.remaining(&held.ips).to_vec();
            freed.extend(held.ips.iter().filter(|ip| !ips.contains(ip)));
            match self.pool_of(&ips).map(|pool| pool.name.clone()) {
                Ok(pool) => self.register(service, ips.into(), &pool, held.sharing),
                Err(_) => lost.push(service),
            }
        }
        freed.retain(|ip| !self.holders.contains_key(ip));
        if self.reuse == Reuse::LeastRecentlyReleased {
            for ip in freed {
                self.history.released(ip);
            }
        }
        for (place, ip) in self.history.iter() {
            if let Some(space) = space_of(&self.config, &mut self.spaces, ip) {
                space.rest(ip, place);
            }
        }
        for ip in std::mem::take(&mut self.reserved) {
            self.withhold(ip);
        }
        lost
    }

    /// What a service keeps of its addresses in these pools: all if one pool has them, else one.
    fn remaining<'a>(&self, ips: &'a [IpAddr]) -> &'a [IpAddr] {
        if self.pool_of(ips).is_ok() {
            return ips;
        }
        let each = ips.chunks(1);
        each.into_iter()
            .find(|ip| self.pool_of(ip).is_ok())
            .unwrap_or_default()
    }

    fn order_pools(&mut self, config: &Config) {
        let name = |pool: &Pool| {
            self.spaces
                .get(pool.name.as_str())
                .map(|space| space.name.clone())
        };
        let automatic = || config.pools().filter(|pool| pool.auto_assign);
        let mut pinned: Vec<_> = automatic()
            .filter_map(|pool| Some((pool.allocation.as_ref()?.rank(), name(pool)?)))
            .collect();
        // Stable, so that pools of the same priority stay in the order of their names.
        pinned.sort_by_key(|(rank, _)| *rank);
        self.pinned = pinned.into_iter().map(|(_, name)| name).collect();
        self.open = automatic()
            .filter(|pool| pool.allocation.is_none())
            .filter_map(name)
            .collect();
        self.selects_services = config
            .pools()
            .filter_map(|pool| pool.allocation.as_ref())
            .any(|allocation| !allocation.service_selectors.is_empty());
    }

    /// Labels of a namespace; `None` when it is gone. True when that can change which pools are open to its services.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()).as_ref() != Some(&labels),
            None => self.namespaces.remove(name).is_some(),
        }
    }

    /// Addresses never to choose, such as those of the nodes. One that is held, or asked for by name, stays.
    pub fn set_reserved(&mut self, reserved: &BTreeSet<IpAddr>) {
        for ip in self.reserved.difference(reserved) {
            if let Some(space) = space_of(&self.config, &mut self.spaces, *ip) {
                space.release_withheld(*ip);
                self.touched.insert(space.name.clone());
            }
        }
        let added: Vec<IpAddr> = reserved.difference(&self.reserved).copied().collect();
        self.reserved.retain(|ip| reserved.contains(ip));
        for ip in added {
            self.withhold(ip);
        }
    }

    fn withhold(&mut self, ip: IpAddr) {
        self.reserved.insert(ip);
        let place = self.history.taken(ip);
        if let Some(space) = space_of(&self.config, &mut self.spaces, ip) {
            space.withhold(ip, place);
            self.touched.insert(space.name.clone());
        }
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

    /// The pool of the addresses, if the service may use it, whoever holds them.
    pub(crate) fn admitting_pool(&self, request: &Request, ips: &[IpAddr]) -> Result<&Pool, Refusal> {
        let pool = self.pool_of(ips)?;
        if self.admits(pool, request) {
            Ok(pool)
        } else {
            Err(Refusal::NotAdmitted(pool.name.clone()))
        }
    }

    /// Whether the service may hold exactly these addresses, given who holds what; returns their pool.
    pub(crate) fn check(&self, request: &Request, ips: &[IpAddr]) -> Result<&Pool, Refusal> {
        let pool = self.admitting_pool(request, ips)?;
        for ip in ips {
            self.may_join(request, *ip)?;
        }
        Ok(pool)
    }

    /// Whether everyone else on the address shares it with the service.
    pub(crate) fn may_join(&self, request: &Request, ip: IpAddr) -> Result<(), Refusal> {
        match self.conflicts(request, &[ip]).next() {
            Some((by, why)) => Err(Refusal::InUse {
                ip,
                by: by.clone(),
                why,
            }),
            None => Ok(()),
        }
    }

    /// Everybody on the addresses who does not share them with the service, and why.
    pub(crate) fn conflicts<'a>(
        &'a self,
        request: &'a Request,
        ips: &'a [IpAddr],
    ) -> impl Iterator<Item = (&'a ServiceId, Conflict)> {
        ips.iter()
            .flat_map(|ip| self.holders(*ip))
            .filter(|holder| **holder != request.id)
            .filter_map(|holder| {
                let sharing = self.held.get(holder)?.sharing.as_deref();
                Some((holder, conflict(sharing, &request.sharing).err()?))
            })
    }

    /// Lowest held address in `range` that the service may join.
    pub(crate) fn first_shared(&self, request: &Request, range: &IpRange) -> Option<IpAddr> {
        let held = self.shared.get(&request.sharing.key)?;
        held.range(range.start()..=range.end())
            .find(|ip| self.may_join(request, **ip).is_ok())
            .copied()
    }

    /// Writes down that the service has these addresses, or the one of them that it may have. Nothing when it may have
    /// none.
    pub(crate) fn adopt(&mut self, request: &Request, ips: &[IpAddr]) {
        if let Ok((ips, pool)) = self.allowed_of(request, ips) {
            self.register(request.id.clone(), ips.into(), &pool, request.terms());
        }
    }

    /// Writes a holding down. The caller has checked it and has released what the service held before.
    pub(crate) fn register(
        &mut self,
        service: ServiceId,
        ips: Box<[IpAddr]>,
        pool: &str,
        sharing: Option<Arc<Sharing>>,
    ) {
        let Some(space) = self.spaces.get_mut(pool) else {
            return;
        };
        self.touched.insert(space.name.clone());
        space.counters.services += 1;
        for ip in &ips {
            if let Some(holders) = self.holders.get_mut(ip) {
                holders.push(service.clone());
            } else {
                space.take(*ip, self.history.taken(*ip));
                self.holders.insert(*ip, Holders::One(service.clone()));
            }
            if let Some(sharing) = &sharing {
                self.shared.entry(sharing.key.clone()).or_default().insert(*ip);
            }
        }
        let pool = space.name.clone();
        self.held.insert(service, Held { ips, pool, sharing });
    }

    /// Frees what the service holds.
    pub fn release(&mut self, service: &ServiceId) -> Option<Held> {
        let held = self.held.remove(service)?;
        self.touched.insert(held.pool.clone());
        if let Some(space) = self.spaces.get_mut(&held.pool) {
            space.counters.services -= 1;
        }
        for ip in &held.ips {
            self.leave(*ip, service, &held.pool);
            if let Some(sharing) = &held.sharing {
                self.unshare(*ip, &sharing.key);
            }
        }
        Some(held)
    }

    /// Frees those of these addresses that the service holds; others stay its own.
    pub(crate) fn give_up(&mut self, service: &ServiceId, ips: &[IpAddr]) {
        if let Some(Held {
            ips: held,
            pool,
            sharing,
        }) = self.release(service)
        {
            let rest: Box<[IpAddr]> = held.into_iter().filter(|ip| !ips.contains(ip)).collect();
            if !rest.is_empty() {
                self.register(service.clone(), rest, &pool, sharing);
            }
        }
    }

    fn leave(&mut self, ip: IpAddr, service: &ServiceId, pool: &str) {
        if let Some(Holders::Several(ids)) = self.holders.get_mut(&ip) {
            ids.retain(|id| id != service);
            if !ids.is_empty() {
                return;
            }
        }
        self.holders.remove(&ip);
        let Some(space) = self.spaces.get_mut(pool) else {
            return;
        };
        if self.reuse == Reuse::LowestFree || self.reserved.contains(&ip) {
            space.give(ip, None);
            return;
        }
        let (place, forgotten) = self.history.released(ip);
        space.give(ip, Some(place));
        if let Some((place, ip)) = forgotten
            && let Some(space) = space_of(&self.config, &mut self.spaces, ip)
        {
            space.forget(ip, place);
        }
    }

    /// Drops the address from the index of a sharing key that nobody on it uses any more.
    fn unshare(&mut self, ip: IpAddr, key: &str) {
        let uses_key = |holder: &ServiceId| {
            let sharing = self.held.get(holder).and_then(|held| held.sharing.as_ref());
            sharing.is_some_and(|sharing| &*sharing.key == key)
        };
        if self.holders(ip).iter().any(uses_key) {
            return;
        }
        if let Some(ips) = self.shared.get_mut(key) {
            ips.remove(&ip);
            if ips.is_empty() {
                self.shared.remove(key);
            }
        }
    }

    /// Free addresses of the family that the pool gives only to those who ask for them.
    pub(crate) fn withheld(&self, pool: &str, family: Family) -> usize {
        self.space(pool).map_or(0, |space| space.withheld(family))
    }
}

/// Space of the pool that has the address.
fn space_of<'a>(
    config: &Config,
    spaces: &'a mut BTreeMap<Arc<str>, Space>,
    ip: IpAddr,
) -> Option<&'a mut Space> {
    spaces.get_mut(config.pool_of(ip)?.name.as_str())
}

/// Whether a service may join another on its address.
fn conflict(holder: Option<&Sharing>, joining: &Sharing) -> Result<(), Conflict> {
    let Some(holder) = holder else {
        return Err(Conflict::NotShared);
    };
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
