//! Who may own a service's addresses, and who does.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, L2Advertisement};

use crate::facts::{EXCLUDE_LABEL, Endpoints, NodeFacts, NodeName, Nodes, Rules, ServiceFacts};
use crate::rank::{Rank, Subject};
use crate::reason::{Exclusion, Refusal, Standing};

/// A node that may own a service's addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// It comes after all candidates with a smaller number: of the services that share addresses, those may announce more. 0
    /// for a service that shares none.
    pub behind: u32,
    /// Sum of the preference weights of all advertisements that select the node.
    pub score: u64,
    /// It comes after all candidates that are not shunned; see [`Rules::shun`].
    pub shunned: bool,
    /// Interfaces on which it may announce; `None` means all.
    pub interfaces: Option<BTreeSet<Arc<str>>>,
    /// It would be excluded for this, which is ignored because nobody would be left.
    pub despite: Option<Exclusion>,
}

impl Candidate {
    fn rank(&self, name: &str, subject: &mut Subject) -> Rank {
        subject
            .rank(name, self.score)
            .shunned(self.shunned)
            .behind(self.behind)
    }

    /// Whether the other one comes at the same place among the same others.
    const fn ranks_as(&self, other: &Self) -> bool {
        self.behind == other.behind && self.score == other.score && self.shunned == other.shunned
    }
}

/// Which nodes may own a service's addresses. Many services share one value, so it does not name the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Eligibility {
    /// Nodes that may.
    pub candidates: BTreeMap<NodeName, Candidate>,
    /// Every other node, and why not.
    pub excluded: BTreeMap<NodeName, Exclusion>,
    /// Speakers of Go `MetalLB` announce it: the candidates are the nodes where they run, and of these Go's own
    /// membership, which is not ours, chooses. Speakers of this kind announce nothing, also on a candidate.
    ///
    /// So it is as long as a ready one is eligible: Go speakers do not see ours, and would announce beside them. The
    /// first by rank of the candidates is the owner as far as all Go speakers are alive.
    pub go: bool,
}

impl Eligibility {
    /// Who may own the addresses of `service`.
    ///
    /// # Errors
    /// Why nobody announces the service.
    pub fn of(
        service: &ServiceFacts,
        endpoints: &Endpoints,
        nodes: &Nodes,
        config: &Config,
        rules: Rules,
    ) -> Result<Self, Refusal> {
        let first = service.addresses.first().ok_or(Refusal::NoAddress)?;
        let pool = config.pool_of_all(&service.addresses).ok_or_else(|| {
            let outside = service
                .addresses
                .iter()
                .find(|address| config.pool_of(**address).is_none());
            Refusal::NotInPool(*outside.unwrap_or(first))
        })?;
        let advertisements = config.l2_for(&metallb_model::ServiceFacts {
            namespace: &service.namespace,
            name: &service.name,
            labels: &service.labels,
            pool: &pool.name,
        });
        if advertisements.is_empty() {
            return Err(Refusal::NoAdvertisement {
                pool: pool.name.clone(),
            });
        }
        if service.shared
            && let Some(selective) = advertisements.iter().find(|a| !a.service_selectors.is_empty())
        {
            return Err(Refusal::SharedWithServiceSelectors {
                advertisement: selective.name.clone(),
            });
        }
        if !endpoints.any {
            return Err(Refusal::NoEndpoints);
        }
        let mut eligibility = Self::default();
        let mut cut_off = BTreeMap::new();
        for (name, node) in nodes {
            let name = Arc::clone(name);
            match examine(service, endpoints, &name, node, &advertisements, rules) {
                Ok(candidate) if node.network_unavailable => {
                    cut_off.insert(name, candidate);
                }
                Ok(candidate) => {
                    eligibility.candidates.insert(name, candidate);
                }
                Err(exclusion) => {
                    eligibility.excluded.insert(name, exclusion);
                }
            }
        }
        // A condition that nobody ever clears on any node must not withdraw everything.
        let nobody_else = eligibility.candidates.is_empty();
        for (name, candidate) in cut_off {
            if nobody_else {
                let despite = Some(Exclusion::NetworkUnavailable);
                let candidate = Candidate { despite, ..candidate };
                eligibility.candidates.insert(name, candidate);
            } else {
                eligibility.excluded.insert(name, Exclusion::NetworkUnavailable);
            }
        }
        // Go speakers do not ignore what ours do.
        let go = |name: &NodeName| nodes.get(name).is_some_and(|node| node.foreign_speaker);
        let announces = |(name, candidate): (&NodeName, &Candidate)| candidate.despite.is_none() && go(name);
        eligibility.go = eligibility.candidates.iter().any(announces);
        if eligibility.go {
            let ours = core::mem::take(&mut eligibility.candidates);
            for (name, candidate) in ours {
                if go(&name) {
                    eligibility.candidates.insert(name, candidate);
                } else {
                    eligibility.excluded.insert(name, Exclusion::GoSpeakersFirst);
                }
            }
        }
        Ok(eligibility)
    }

    /// Who owns the addresses, given who is alive. `address` is the first of the service.
    ///
    /// When no candidate is alive, liveness is ignored: an owner that may be dead is better than none for certain, and a
    /// candidate always holds itself for alive.
    pub fn elect(&self, address: IpAddr, is_live: impl Fn(&str) -> bool) -> Decision {
        let ranked = self.by_rank(address);
        let nobody_live = !ranked.iter().any(|(_, name)| is_live(name));
        let mut standings: BTreeMap<NodeName, Standing> = self
            .excluded
            .iter()
            .map(|(name, exclusion)| (Arc::clone(name), Standing::Excluded(*exclusion)))
            .collect();
        let mut owner = None;
        let mut place = 0;
        for (_, name) in ranked {
            let standing = if !nobody_live && !is_live(name) {
                Standing::NotAlive
            } else if owner.is_none() {
                owner = Some(Arc::clone(name));
                let despite = self.candidates.get(name).and_then(|candidate| candidate.despite);
                despite.map_or(Standing::Owner, Standing::OwnerDespite)
            } else {
                place += 1;
                Standing::Standby { place }
            };
            standings.insert(Arc::clone(name), standing);
        }
        Decision {
            owner,
            standings,
            liveness_ignored: nobody_live && !self.candidates.is_empty(),
        }
    }

    fn by_rank(&self, address: IpAddr) -> Vec<(Rank, &NodeName)> {
        let mut subject = Subject::new(address);
        let mut ranked: Vec<(Rank, &NodeName)> = self
            .candidates
            .iter()
            .map(|(name, candidate)| (candidate.rank(name, &mut subject), name))
            .collect();
        ranked.sort_unstable();
        ranked
    }

    /// All candidates in order of rank, best first. `address` is the first of the service.
    pub fn ranked(&self, address: IpAddr) -> Vec<NodeName> {
        let ranked = self.by_rank(address).into_iter();
        ranked.map(|(_, name)| Arc::clone(name)).collect()
    }

    /// Brings `ranked` up to date, which [`Eligibility::ranked`] made of `before` for the same address: the same result, at a
    /// cost that goes with what changed.
    pub fn rerank(&self, before: &Self, address: IpAddr, ranked: &mut Vec<NodeName>) {
        let (gone, come) = changed(&before.candidates, &self.candidates);
        // Each that comes is compared with as many as there are bits in their number.
        if come.len() * 16 > self.candidates.len() {
            *ranked = self.ranked(address);
            return;
        }
        if !gone.is_empty() {
            ranked.retain(|name| gone.binary_search(&name).is_err());
        }
        let mut subject = Subject::new(address);
        for (name, candidate) in come {
            let rank = candidate.rank(name, &mut subject);
            let place = ranked.partition_point(|other| {
                let known = self.candidates.get(other);
                known.is_some_and(|known| known.rank(other, &mut subject) < rank)
            });
            ranked.insert(place, Arc::clone(name));
        }
    }

    /// The owner alone, as [`Eligibility::elect`] finds it, without the reasons: what the fast path needs.
    pub fn owner(&self, address: IpAddr, is_live: impl Fn(&str) -> bool) -> Option<&NodeName> {
        let mut subject = Subject::new(address);
        let mut best = |live_only: bool| {
            self.candidates
                .iter()
                .filter(|(name, _)| !live_only || is_live(name))
                .map(|(name, candidate)| (candidate.rank(name, &mut subject), name))
                .min()
                .map(|(_, name)| name)
        };
        best(true).or_else(|| best(false))
    }
}

/// The outcome of an election, with the standing of every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who owns the addresses; nobody only when there is no candidate.
    pub owner: Option<NodeName>,
    /// How every node of the cluster stands.
    pub standings: BTreeMap<NodeName, Standing>,
    /// No candidate is alive, so all were ranked.
    pub liveness_ignored: bool,
}

type Candidates = BTreeMap<NodeName, Candidate>;

/// Who is no longer where it was, in order of name, and who is somewhere else or new.
fn changed<'a>(
    before: &'a Candidates,
    after: &'a Candidates,
) -> (Vec<&'a NodeName>, Vec<(&'a NodeName, &'a Candidate)>) {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some((old, _)), Some((new, _))) if Arc::ptr_eq(old, new) => Ordering::Equal,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return (gone, come),
        };
        let old = old.next_if(|_| order != Ordering::Greater);
        let new = new.next_if(|_| order != Ordering::Less);
        if let (Some((_, old)), Some((_, new))) = (old, new)
            && old.ranks_as(new)
        {
            continue;
        }
        gone.extend(old.map(|(name, _)| name));
        come.extend(new);
    }
}

fn examine(
    service: &ServiceFacts,
    endpoints: &Endpoints,
    name: &NodeName,
    node: &NodeFacts,
    advertisements: &[&L2Advertisement],
    rules: Rules,
) -> Result<Candidate, Exclusion> {
    if !rules.ignore_exclude_label && node.labels.contains_key(EXCLUDE_LABEL) {
        return Err(Exclusion::ExcludeLabel);
    }
    if node.out_of_service {
        return Err(Exclusion::OutOfService);
    }
    let selecting: Vec<_> = advertisements
        .iter()
        .filter(|a| a.selects_node(&node.labels))
        .collect();
    if selecting.is_empty() {
        return Err(Exclusion::NotSelected);
    }
    if service.local && !endpoints.nodes.contains(name) {
        return Err(Exclusion::NoLocalEndpoint);
    }
    let unrestricted = selecting.iter().any(|a| a.interfaces.is_empty());
    let interfaces = (!unrestricted).then(|| {
        selecting
            .iter()
            .flat_map(|a| &a.interfaces)
            .map(|name| Arc::from(name.as_str()))
            .collect()
    });
    let score = selecting.iter().map(|a| a.preference(&node.labels)).sum();
    Ok(Candidate {
        behind: 0,
        score,
        shunned: rules.shun && node.shunned,
        interfaces,
        despite: None,
    })
}

#[cfg(test)]
mod tests {
    use metallb_sansio::SeededRng;

    use super::*;

    /// Nodes come, go, and change what they are worth.
    #[test]
    fn what_is_brought_up_to_date_is_what_is_made_anew() {
        let address: IpAddr = "192.0.2.10".parse().expect("address");
        let mut rng = SeededRng::new(7);
        let mut now = Eligibility::default();
        let mut ranked = now.ranked(address);
        for step in 0..2_000 {
            let mut next = now.clone();
            // Mostly few changes, now and then many.
            for _ in 0..=rng.below(if step % 50 == 0 { 60 } else { 3 }) {
                let name = NodeName::from(format!("n{}", rng.below(80)));
                if rng.percent(30) {
                    next.candidates.remove(&name);
                } else {
                    let candidate = Candidate {
                        behind: rng.below(2) as u32,
                        score: rng.below(3),
                        shunned: rng.percent(10),
                        interfaces: None,
                        despite: None,
                    };
                    next.candidates.insert(name, candidate);
                }
            }
            next.rerank(&now, address, &mut ranked);
            assert_eq!(ranked, next.ranked(address), "step {step}");
            now = next;
        }
    }
}
