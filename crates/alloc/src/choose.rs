//! New addresses for a service: where they are looked for, in which order.
//!
//! The addresses it asks for; else the pool it asks for; else the pools that are reserved for services like it, by
//! priority; else the pools that are open to all. Within a pool, range by range, the lowest address that is free or
//! may be shared.

use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Family, Pool};

use crate::Allocator;
use crate::decision::Refusal;
use crate::request::{FamilyPolicy, Request};
use crate::space::Space;

/// Addresses and their pool.
pub(crate) type Choice = (Vec<IpAddr>, Arc<str>);

impl Allocator {
    /// New addresses for a service that holds none. `wanted` are the addresses it asks for.
    pub(crate) fn choose(&self, request: &Request, wanted: &[IpAddr]) -> Result<Choice, Vec<Refusal>> {
        if !wanted.is_empty() {
            return self
                .choose_wanted(request, wanted)
                .map_err(|refusal| vec![refusal]);
        }
        if let Some(name) = &request.wanted_pool {
            let (Some(pool), Some(space)) = (self.config.pool(name), self.space(name)) else {
                return Err(vec![Refusal::UnknownPool(name.clone())]);
            };
            if !self.admits(pool, request) {
                return Err(vec![Refusal::NotAdmitted(name.clone())]);
            }
            return self
                .best_of(request, [space].into_iter())
                .ok_or_else(|| self.shortages(request, pool));
        }
        let pinned = self.pinned.iter().filter_map(|name| {
            let admits = self.admits(self.config.pool(name)?, request);
            admits.then(|| self.space(name)).flatten()
        });
        let open = self.open.iter().filter_map(|name| self.space(name));
        self.best_of(request, pinned)
            .or_else(|| self.best_of(request, open))
            .ok_or_else(|| self.refusals(request))
    }

    fn choose_wanted(&self, request: &Request, wanted: &[IpAddr]) -> Result<Choice, Refusal> {
        let families = request.families();
        if !same_families(wanted, families) {
            return Err(Refusal::OtherFamily {
                ips: wanted.to_vec(),
                families: families.to_vec(),
            });
        }
        let pool = self.check(request, wanted)?;
        match &request.wanted_pool {
            Some(asked) if *asked != pool.name => Err(Refusal::OtherPool {
                ips: wanted.to_vec(),
                pool: pool.name.clone(),
                wanted: asked.clone(),
            }),
            _ => Ok((wanted.to_vec(), self.name_of(pool))),
        }
    }

    /// The first pool that has all the families. With `PreferDualStack`, failing that, the first that has the preferred
    /// family, else the first that has the other one.
    fn best_of<'a>(&self, request: &Request, spaces: impl Iterator<Item = &'a Space>) -> Option<Choice> {
        let families = request.families();
        let (mut first_choice, mut second_choice) = (None, None);
        for space in spaces {
            let ips: Vec<IpAddr> = families
                .iter()
                .filter_map(|family| self.first_in(request, space, *family))
                .collect();
            if ips.len() == families.len() {
                return Some((ips, space.name.clone()));
            }
            if request.policy == FamilyPolicy::PreferDualStack
                && let [ip] = ips[..]
            {
                let choice = if Family::of(ip) == request.preferred_family() {
                    &mut first_choice
                } else {
                    &mut second_choice
                };
                choice.get_or_insert_with(|| (vec![ip], space.name.clone()));
            }
        }
        first_choice.or(second_choice)
    }

    /// The address of the family that the pool would give.
    fn first_in(&self, request: &Request, space: &Space, family: Family) -> Option<IpAddr> {
        space.first(family, |range| self.first_shared(request, range))
    }

    /// The address of the family that the pool would give, in addition to one that the service holds.
    pub(crate) fn another_in(&self, request: &Request, pool: &str, family: Family) -> Option<IpAddr> {
        self.first_in(request, self.space(pool)?, family)
    }

    /// Why none of the pools gave anything.
    fn refusals(&self, request: &Request) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for pool in self.config.pools() {
            if !pool.auto_assign {
                refusals.push(Refusal::NotAutomatic(pool.name.clone()));
            } else if self.admits(pool, request) {
                refusals.extend(self.shortages(request, pool));
            } else {
                refusals.push(Refusal::NotAdmitted(pool.name.clone()));
            }
        }
        if refusals.is_empty() {
            refusals.push(Refusal::NoPools);
        }
        refusals
    }

    /// What the pool lacks, of the families that the service has.
    fn shortages(&self, request: &Request, pool: &Pool) -> Vec<Refusal> {
        let Some(space) = self.space(&pool.name) else {
            return vec![Refusal::UnknownPool(pool.name.clone())];
        };
        let lacking = request
            .families()
            .iter()
            .filter(|family| self.first_in(request, space, **family).is_none());
        lacking
            .map(|family| {
                let (pool, family) = (pool.name.clone(), *family);
                if space.has_family(family) {
                    let withheld = self.withheld(&pool, family);
                    Refusal::Full {
                        pool,
                        family,
                        withheld,
                    }
                } else {
                    Refusal::LacksFamily { pool, family }
                }
            })
            .collect()
    }
}

/// Whether the addresses are exactly one of each family.
pub(crate) fn same_families(ips: &[IpAddr], families: &[Family]) -> bool {
    ips.len() == families.len()
        && families
            .iter()
            .all(|family| ips.iter().any(|ip| Family::of(*ip) == *family))
}
