//! From what a service has to what it should have.

use std::net::IpAddr;

use metallb_model::Family;

use crate::Allocator;
use crate::decision::{ClearReason, Cleared, Decision, Note, Pending, Verdict};
use crate::request::{FamilyPolicy, Request};

/// What remains of the present addresses.
enum Kept {
    /// These stay.
    Some {
        ips: Vec<IpAddr>,
        pool: String,
        added: Vec<IpAddr>,
        note: Option<Note>,
        dropped: Option<Cleared>,
    },
    /// Nothing stays, for this reason; without one there was nothing.
    None(Option<Cleared>),
}

impl Allocator {
    /// Decides what a service holds from now on, and writes it down. `current` is what it has: what it holds here, or
    /// what its status says. An address is kept whenever that is possible.
    pub fn converge(&mut self, request: &Request, current: &[IpAddr]) -> Decision {
        // Its own holding must not stand in its way.
        self.release(&request.id);
        let decision = self.decide(request, current);
        if let Verdict::Hold { ips, pool, .. } = &decision.verdict {
            self.register(
                request.id.clone(),
                ips.clone(),
                pool.clone(),
                request.sharing.clone(),
            );
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
            Kept::Some {
                ips,
                pool,
                added,
                note,
                dropped,
            } => {
                let verdict = Verdict::Hold { ips, pool, added };
                return Decision {
                    service,
                    verdict,
                    cleared: dropped,
                    note,
                };
            }
            Kept::None(cleared) => cleared,
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

    fn keep(&self, request: &Request, current: &[IpAddr]) -> Kept {
        if current.is_empty() {
            return Kept::None(None);
        }
        let clear = |why| {
            Kept::None(Some(Cleared {
                ips: current.to_vec(),
                why,
            }))
        };
        let families = request.families();
        // One address per family of the service; a service that is no longer dual stack keeps the one that fits.
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in current {
            let family = Family::of(*ip);
            if families.contains(&family) && !ips.iter().any(|ip| Family::of(*ip) == family) {
                ips.push(*ip);
            }
        }
        if ips.is_empty() {
            return clear(ClearReason::FamilyChanged);
        }
        let pool = match self.check(request, &ips) {
            Ok(pool) => pool,
            Err(refusal) => return clear(ClearReason::Refused(refusal)),
        };
        if let Some(wanted) = &request.wanted_pool
            && *wanted != pool
        {
            return clear(ClearReason::OtherPoolWanted(wanted.clone()));
        }
        let wanted = match &request.wanted_ips {
            Ok(wanted) => wanted,
            Err(error) => {
                let note = Some(Note::Unreadable(error.clone()));
                return Kept::Some {
                    ips,
                    pool,
                    added: Vec::new(),
                    note,
                    dropped: None,
                };
            }
        };
        if !wanted.is_empty() && !same_set(wanted, &ips) {
            return clear(ClearReason::OtherIpsWanted(wanted.clone()));
        }
        let dropped: Vec<IpAddr> = current.iter().filter(|ip| !ips.contains(ip)).copied().collect();
        let dropped = (!dropped.is_empty()).then_some(Cleared {
            ips: dropped,
            why: ClearReason::FamilyChanged,
        });
        let missing = families
            .iter()
            .find(|family| !ips.iter().any(|ip| Family::of(*ip) == **family));
        let (mut added, mut note) = (Vec::new(), None);
        if let Some(family) = missing.copied() {
            let more = self
                .config
                .pool(&pool)
                .and_then(|pool| self.first_in(request, pool, family).ok());
            match more {
                Some(ip) => {
                    ips.push(ip);
                    added.push(ip);
                }
                None if request.policy == FamilyPolicy::PreferDualStack => {
                    note = Some(Note::SecondFamilyMissing {
                        family,
                        pool: pool.clone(),
                    });
                }
                None => return clear(ClearReason::SecondFamilyMissing),
            }
        }
        Kept::Some {
            ips,
            pool,
            added,
            note,
            dropped,
        }
    }
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|ip| b.contains(ip))
}
