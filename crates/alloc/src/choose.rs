//! New addresses for a service: where they are looked for, in which order.
//!
//! The addresses it asks for; else the pool it asks for; else the pools that are reserved for services like it, by
//! priority; else the pools that are open to all. Within a pool, range by range, the lowest address that is free or
//! may be shared.

use std::net::IpAddr;

use metallb_model::{Family, Pool};

use crate::Allocator;
use crate::decision::Refusal;
use crate::request::{FamilyPolicy, Request};

/// Addresses and their pool.
pub(crate) type Choice = (Vec<IpAddr>, String);

impl Allocator {
    /// New addresses for a service that holds none. `wanted` are the addresses it asks for.
    pub(crate) fn choose(&self, request: &Request, wanted: &[IpAddr]) -> Result<Choice, Vec<Refusal>> {
        if !wanted.is_empty() {
            return self
                .choose_wanted(request, wanted)
                .map_err(|refusal| vec![refusal]);
        }
        let mut refusals = Vec::new();
        if let Some(name) = &request.wanted_pool {
            let Some(pool) = self.config.pool(name) else {
                return Err(vec![Refusal::UnknownPool(name.clone())]);
            };
            if !self.admits(pool, request) {
                return Err(vec![Refusal::NotAdmitted(name.clone())]);
            }
            return self.best_of(request, &[pool], &mut refusals).ok_or(refusals);
        }
        let (mut reserved, mut open) = (Vec::new(), Vec::new());
        for pool in self.config.pools() {
            if !pool.auto_assign {
                refusals.push(Refusal::NotAutomatic(pool.name.clone()));
            } else if !self.admits(pool, request) {
                refusals.push(Refusal::NotAdmitted(pool.name.clone()));
            } else if let Some(allocation) = &pool.allocation {
                reserved.push((allocation.rank(), pool));
            } else {
                open.push(pool);
            }
        }
        // Stable, so that pools of the same priority stay in the order of their names.
        reserved.sort_by_key(|(rank, _)| *rank);
        let reserved: Vec<&Pool> = reserved.into_iter().map(|(_, pool)| pool).collect();
        let choice = self
            .best_of(request, &reserved, &mut refusals)
            .or_else(|| self.best_of(request, &open, &mut refusals));
        choice.ok_or_else(|| {
            if refusals.is_empty() {
                vec![Refusal::NoPools]
            } else {
                refusals
            }
        })
    }

    fn choose_wanted(&self, request: &Request, wanted: &[IpAddr]) -> Result<Choice, Refusal> {
        let families = request.families();
        if !same_families(wanted, &families) {
            return Err(Refusal::OtherFamily {
                ips: wanted.to_vec(),
                families,
            });
        }
        let pool = self.check(request, wanted)?;
        match &request.wanted_pool {
            Some(asked) if *asked != pool => Err(Refusal::OtherPool {
                ips: wanted.to_vec(),
                pool,
                wanted: asked.clone(),
            }),
            _ => Ok((wanted.to_vec(), pool)),
        }
    }

    /// The first pool that has all the families. With `PreferDualStack`, failing that, the first that has the preferred
    /// family, else the first that has the other one.
    fn best_of(&self, request: &Request, pools: &[&Pool], refusals: &mut Vec<Refusal>) -> Option<Choice> {
        let families = request.families();
        let preferred = if request.prefers_v6 {
            Family::V6
        } else {
            Family::V4
        };
        let (mut first_choice, mut second_choice) = (None, None);
        for pool in pools {
            let mut ips = Vec::new();
            for family in &families {
                match self.first_in(request, pool, *family) {
                    Ok(ip) => ips.push(ip),
                    Err(refusal) => refusals.push(refusal),
                }
            }
            if ips.len() == families.len() {
                return Some((ips, pool.name.clone()));
            }
            if request.policy == FamilyPolicy::PreferDualStack
                && let [ip] = ips[..]
            {
                let choice = if Family::of(ip) == preferred {
                    &mut first_choice
                } else {
                    &mut second_choice
                };
                choice.get_or_insert_with(|| (vec![ip], pool.name.clone()));
            }
        }
        first_choice.or(second_choice)
    }

    /// The address of the family that the pool would give.
    pub(crate) fn first_in(&self, request: &Request, pool: &Pool, family: Family) -> Result<IpAddr, Refusal> {
        let name = || pool.name.clone();
        let space = self
            .spaces
            .get(&pool.name)
            .filter(|space| space.has_family(family));
        let space = space.ok_or_else(|| Refusal::LacksFamily { pool: name(), family })?;
        let shared = |range: &_| self.first_shared(request, range);
        let chosen = space.first(family, shared, |ip| self.reserved.contains(&ip));
        chosen.ok_or_else(|| Refusal::Full { pool: name(), family })
    }
}

/// Whether the addresses are exactly one of each family.
pub(crate) fn same_families(ips: &[IpAddr], families: &[Family]) -> bool {
    ips.len() == families.len()
        && families
            .iter()
            .all(|family| ips.iter().any(|ip| Family::of(*ip) == *family))
}
