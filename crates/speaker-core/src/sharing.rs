//! Which services share addresses: those that are connected by them are planned together, and have one owner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::{Eligibility, Group, Share};
use metallb_sansio::Instant;

use crate::engine::Engine;
use crate::service::Service;
use crate::{Cause, Plan, ServiceKey};

/// The services that have each address, of those that anybody may announce.
#[derive(Default)]
pub(crate) struct Sharing {
    services: BTreeMap<IpAddr, Vec<ServiceKey>>,
    /// Services that are to be planned again, and how fresh the news is that made it so.
    stirred: BTreeMap<ServiceKey, u64>,
}

impl Sharing {
    /// A service has these addresses.
    pub(crate) fn enter(&mut self, key: &ServiceKey, addresses: &[IpAddr], version: u64) {
        for address in addresses {
            let sharing = self
                .services
                .entry(*address)
                .or_insert_with(|| Vec::with_capacity(1));
            if let Err(place) = sharing.binary_search(key) {
                sharing.insert(place, key.clone());
            }
        }
        stir(&mut self.stirred, key, version);
    }

    /// A service no longer has these addresses: those that it shared them with are planned again.
    pub(crate) fn leave(&mut self, key: &ServiceKey, addresses: &[IpAddr], version: u64) {
        self.stirred.remove(key);
        for address in addresses {
            let Some(sharing) = self.services.get_mut(address) else {
                continue;
            };
            if let Ok(place) = sharing.binary_search(key) {
                sharing.remove(place);
            }
            // Through one of them the rest of what is still connected is found.
            for other in sharing.iter() {
                stir(&mut self.stirred, other, version);
            }
            if sharing.is_empty() {
                self.services.remove(address);
            }
        }
    }

    /// The groups that are to be planned again, and for each how fresh the news is that made it so.
    pub(crate) fn take_groups<'a>(
        &mut self,
        addresses: impl Fn(&ServiceKey) -> &'a [IpAddr],
    ) -> Vec<(Vec<ServiceKey>, u64)> {
        let mut groups = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some((key, mut version)) = self.stirred.pop_first() {
            let mut members = vec![key];
            let mut next = 0;
            while let Some(key) = members.get(next).cloned() {
                next += 1;
                for address in addresses(&key) {
                    let sharing = self.services.get(address).map_or(&[][..], Vec::as_slice);
                    if sharing.len() < 2 || !seen.insert(*address) {
                        continue;
                    }
                    members.extend(sharing.iter().filter(|other| **other != key).cloned());
                }
            }
            members.sort_unstable();
            members.dedup();
            for member in &members {
                version = version.max(self.stirred.remove(member).unwrap_or_default());
            }
            groups.push((members, version));
        }
        groups
    }
}

fn stir(stirred: &mut BTreeMap<ServiceKey, u64>, key: &ServiceKey, version: u64) {
    if let Some(known) = stirred.get_mut(key) {
        *known = version.max(*known);
    } else {
        stirred.insert(key.clone(), version);
    }
}

/// The plans of the services of one group, in order, from what each would be planned as alone. `unify` gives one allocation
/// to what is equal; so does `known`, the group as it was, or else each plan would be compared with what it was through and through.
pub(crate) fn plans(
    alone: &[(Arc<[IpAddr]>, Arc<Eligibility>)],
    known: Option<Arc<Group>>,
    mut unify: impl FnMut(Eligibility) -> Arc<Eligibility>,
) -> Vec<Plan> {
    // Most that share addresses are equal in all; equal eligibilities are one allocation.
    let mut shares: Vec<Share> = Vec::new();
    let mut indices: BTreeMap<(&[IpAddr], *const Eligibility), usize> = BTreeMap::new();
    let of: Vec<usize> = alone
        .iter()
        .map(|(addresses, eligibility)| {
            let index = *indices
                .entry((addresses, Arc::as_ptr(eligibility)))
                .or_insert(shares.len());
            if let Some(share) = shares.get_mut(index) {
                share.services += 1;
            } else {
                shares.push(Share {
                    addresses: Arc::clone(addresses),
                    eligibility: Arc::clone(eligibility),
                    services: 1,
                });
            }
            index
        })
        .collect();
    let merged = if shares.len() < 2 {
        None
    } else {
        Group::of(&shares)
    };
    let Some((group, merged)) = merged else {
        let plan =
            |(addresses, eligibility): &(_, _)| Plan::new(Arc::clone(addresses), Arc::clone(eligibility));
        return alone.iter().map(plan).collect();
    };
    let group = known
        .filter(|known| **known == group)
        .unwrap_or_else(|| Arc::new(group));
    let merged: Vec<Arc<Eligibility>> = merged.into_iter().map(&mut unify).collect();
    let plans = alone.iter().zip(of).map(|((addresses, _), index)| Plan {
        addresses: Arc::clone(addresses),
        eligibility: Arc::clone(&merged[index]),
        group: Some(Arc::clone(&group)),
    });
    plans.collect()
}

/// The services that have one owner, by the address that decides their rank.
#[derive(Default)]
pub(crate) struct Groups {
    groups: BTreeMap<IpAddr, Members>,
}

#[derive(Default)]
struct Members {
    /// In order.
    services: Vec<ServiceKey>,
    /// Those of them of which there is a claim.
    claimed: BTreeSet<ServiceKey>,
    /// No plan of theirs is older.
    version: u64,
}

impl Groups {
    pub(crate) fn enter(&mut self, first: IpAddr, key: &ServiceKey, service: &Service) {
        let group = self.groups.entry(first).or_insert_with(|| Members {
            services: Vec::with_capacity(1),
            claimed: BTreeSet::new(),
            version: 0,
        });
        if service.claim.is_some() {
            group.claimed.insert(key.clone());
        }
        if let Err(place) = group.services.binary_search(key) {
            group.services.insert(place, key.clone());
        }
    }

    pub(crate) fn leave(&mut self, first: IpAddr, key: &ServiceKey) {
        let Some(group) = self.groups.get_mut(&first) else {
            return;
        };
        if let Ok(place) = group.services.binary_search(key) {
            group.services.remove(place);
        }
        group.claimed.remove(key);
        if group.services.is_empty() {
            self.groups.remove(&first);
        }
    }

    /// There is a claim of the service. It never ends while there is the service.
    pub(crate) fn claimed(&mut self, service: &Service, key: &ServiceKey) {
        let plan = service.plan.as_ref();
        let group = plan.and_then(|plan| self.groups.get_mut(&plan.first()));
        if let Some(group) = group.filter(|group| !group.claimed.contains(key)) {
            group.claimed.insert(key.clone());
        }
    }

    /// The first claimed one of the group of this one.
    fn first_claimed(&self, service: &Service) -> Option<&ServiceKey> {
        let plan = service.plan.as_ref();
        let group = plan.and_then(|plan| self.groups.get(&plan.first()))?;
        group.claimed.first()
    }

    /// All services of the group of this one, itself among them.
    pub(crate) fn of(&self, service: &Service) -> &[ServiceKey] {
        let plan = service.plan.as_ref();
        let group = plan.and_then(|plan| self.groups.get(&plan.first()));
        group.map_or(&[], |group| &group.services)
    }
}

impl Engine {
    /// Something of this age was told about one of a group: what is known of the others is no older, also where it stayed as it
    /// was. Otherwise a peer that is behind could have an older view of one of them believed beside a fresher one of another.
    pub(crate) fn freshen(&mut self, now: Instant, first: IpAddr, version: u64) {
        let Some(group) = self.groups.groups.get_mut(&first) else {
            return;
        };
        if group.version >= version {
            return;
        }
        group.version = version;
        let mut unbelieved = Vec::new();
        for key in &group.services {
            let Some(service) = self.services.get_mut(key).filter(|s| s.version < version) else {
                continue;
            };
            service.version = version;
            if service.adopted.is_some() && service.adoption().is_none() {
                service.adopted = None;
                unbelieved.push(key.clone());
            }
        }
        for key in unbelieved {
            self.decide(now, &key, &Cause::Plan);
        }
    }

    /// Of the services of a group the first that is claimed; this one when none is. It may be taken out while it is worked on.
    pub(crate) fn claimed_of<'a>(&'a self, service: &'a Service) -> &'a Service {
        let first = self.groups.first_claimed(service);
        first.and_then(|key| self.services.get(key)).unwrap_or(service)
    }

    /// What the first service of a group says of which there is anything to say: where that depends on what was before, all go
    /// by the same. `service` itself may be taken out while it is worked on.
    pub(crate) fn of_group<'a, T>(
        &'a self,
        service: &'a Service,
        says: impl Fn(&'a Service) -> Option<T>,
    ) -> Option<T> {
        let group = self.groups.of(service);
        if group.len() < 2 {
            return says(service);
        }
        group
            .iter()
            .find_map(|key| says(self.services.get(key).unwrap_or(service)))
    }
}
