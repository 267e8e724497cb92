//! From what a service has to what it should have.

use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::Family;

use crate::Allocator;
use crate::decision::{ClearReason, Cleared, Decision, Note, Pending, Verdict};
use crate::request::{FamilyPolicy, Request};

/// Addresses that may stay, their pool, and those that must go.
type Allowed = (Vec<IpAddr>, Arc<str>, Option<Cleared>);

/// What stays of the present addresses.
struct Kept {
    ips: Vec<IpAddr>,
    pool: Arc<str>,
    added: Vec<IpAddr>,
    note: Option<Note>,
    dropped: Option<Cleared>,
}

impl Allocator {
    /// Decides what a service holds from now on, and writes it down. `current` is what it has: what it holds here, or
    /// what its status says. An address is kept whenever that is possible.
    pub fn converge(&mut self, request: &Request, current: &[IpAddr]) -> Decision {
        // Its own holding must not stand in its way.
        self.release(&request.id);
        let decision = self.decide(request, current);
        if let Verdict::Hold { ips, pool, .. } = &decision.verdict {
            let ips = ips.as_slice().into();
            self.register(request.id.clone(), ips, pool, request.terms());
        }
        decision
    }

    fn decide(&self, request: &Request, current: &[IpAddr]) -> Decision {
        let service = request.id.clone();
        let cluster_ip_problem = match request.cluster_ips.len() {
            0 => Some(Pending::NoClusterIp),
            1 if request.policy == FamilyPolicy::RequireDualStack => Some(Pending::NotEnoughClusterIps),
            _ => None,
        };
        if let Some(problem) = cluster_ip_problem {
            let cleared = (!current.is_empty()).then(|| Cleared {
                ips: current.to_vec(),
                why: ClearReason::ClusterIpMissing,
            });
            return Decision {
                service,
                verdict: Verdict::Pending(problem),
                cleared,
                note: None,
            };
        }
        let cleared = match self.keep(request, current) {
            Ok(kept) => {
                return Decision {
                    service,
                    verdict: Verdict::Hold {
                        ips: kept.ips,
                        pool: kept.pool,
                        added: kept.added,
                    },
                    cleared: kept.dropped,
                    note: kept.note,
                };
            }
            Err(why) => why.map(|why| Cleared {
                ips: current.to_vec(),
                why,
            }),
        };
        let verdict = match &request.wanted_ips {
            Err(error) => Verdict::Pending(Pending::Unreadable(error.clone())),
            Ok(wanted) => match self.choose(request, wanted) {
                Ok((ips, pool)) => Verdict::Hold {
                    added: ips.clone(),
                    ips,
                    pool,
                },
                Err(refusals) => Verdict::Pending(Pending::Refused(refusals)),
            },
        };
        Decision {
            service,
            verdict,
            cleared,
            note: None,
        }
    }

    /// What stays, or why nothing does; without a reason there was nothing.
    fn keep(&self, request: &Request, current: &[IpAddr]) -> Result<Kept, Option<ClearReason>> {
        if current.is_empty() {
            return Err(None);
        }
        let (ips, pool, dropped) = self.still_allowed(request, current)?;
        if let Some(wanted) = &request.wanted_pool
            && **wanted != *pool
        {
            return Err(Some(ClearReason::OtherPoolWanted(wanted.clone())));
        }
        let mut kept = Kept {
            ips,
            pool,
            added: Vec::new(),
            note: None,
            dropped: None,
        };
        let wanted = match &request.wanted_ips {
            Ok(wanted) => wanted.as_slice(),
            Err(error) => {
                kept.note = Some(Note::Unreadable(error.clone()));
                kept.dropped = dropped;
                return Ok(kept);
            }
        };
        if !wanted.is_empty() && !same_set(wanted, &kept.ips) {
            return Err(Some(ClearReason::OtherIpsWanted(wanted.to_vec())));
        }
        let lacks = |family: &&Family| !kept.ips.iter().any(|ip| Family::of(*ip) == **family);
        if let Some(family) = request.families().iter().find(lacks).copied() {
            let more = if wanted.is_empty() {
                self.another_in(request, &kept.pool, family)
            } else {
                None
            };
            match more {
                Some(ip) => {
                    kept.ips.push(ip);
                    kept.added.push(ip);
                }
                None if request.policy != FamilyPolicy::PreferDualStack => {
                    return Err(Some(ClearReason::SecondFamilyMissing));
                }
                None if !wanted.is_empty() => kept.note = Some(Note::OneAddressWanted),
                None => {
                    let pool = kept.pool.clone();
                    kept.note = Some(Note::SecondFamilyMissing { family, pool });
                }
            }
        }
        kept.dropped = dropped;
        Ok(kept)
    }

    /// The addresses that the service may have of these, and their pool.
    pub(crate) fn allowed_of(
        &self,
        request: &Request,
        ips: &[IpAddr],
    ) -> Result<(Vec<IpAddr>, Arc<str>), Option<ClearReason>> {
        let (ips, pool, _) = self.still_allowed(request, ips)?;
        Ok((ips, pool))
    }

    /// The present addresses that the service may keep, their pool, and those that it must give back. Of two the one
    /// that is allowed stays: a change of one family's range is no reason to renumber the other family.
    fn still_allowed(&self, request: &Request, current: &[IpAddr]) -> Result<Allowed, Option<ClearReason>> {
        let families = request.families();
        let mut fitting: Vec<IpAddr> = Vec::with_capacity(2);
        let mut dropped = None;
        let mut drop = |ip: IpAddr, why: ClearReason| {
            dropped
                .get_or_insert_with(|| Cleared { ips: Vec::new(), why })
                .ips
                .push(ip);
        };
        for ip in current {
            if !families.contains(&Family::of(*ip)) {
                drop(*ip, ClearReason::FamilyChanged);
            } else if fitting.iter().any(|known| Family::of(*known) == Family::of(*ip)) {
                drop(*ip, ClearReason::SeveralOfFamily);
            } else {
                fitting.push(*ip);
            }
        }
        if fitting.is_empty() {
            return Err(Some(ClearReason::FamilyChanged));
        }
        let refusal = match self.check(request, &fitting) {
            Ok(pool) => return Ok((fitting, self.name_of(pool), dropped)),
            Err(refusal) => refusal,
        };
        if fitting.len() > 1 {
            // The preferred family first, if both could stay alone.
            fitting.sort_by_key(|ip| Family::of(*ip) != request.preferred_family());
            for index in 0..fitting.len() {
                if let Ok(pool) = self.check(request, &fitting[index..=index]) {
                    let pool = self.name_of(pool);
                    let ip = fitting.remove(index);
                    for other in fitting {
                        drop(other, ClearReason::Refused(refusal.clone()));
                    }
                    return Ok((vec![ip], pool, dropped));
                }
            }
        }
        Err(Some(ClearReason::Refused(refusal)))
    }
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|ip| b.contains(ip))
}
