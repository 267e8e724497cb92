//! Who may own a service's addresses, and who does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, L2Advertisement};

use crate::facts::{EXCLUDE_LABEL, Endpoints, NodeFacts, NodeName, Nodes, Rules, ServiceFacts};
use crate::rank::Rank;
use crate::reason::{Exclusion, Refusal, Standing};

/// A node that may own a service's addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Sum of the preference weights of all advertisements that select the node.
    pub score: u64,
    /// It comes after all candidates that are not shunned; see [`Rules::shun`].
    pub shunned: bool,
    /// Interfaces on which it may announce; `None` means all.
    pub interfaces: Option<BTreeSet<Arc<str>>>,
}

impl Candidate {
    fn rank(&self, name: &str, address: IpAddr) -> Rank {
        Rank::new(name, self.score, address).shunned(self.shunned)
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
        for (name, node) in nodes {
            match examine(service, endpoints, name, node, &advertisements, rules) {
                Ok(candidate) => {
                    eligibility.candidates.insert(Arc::clone(name), candidate);
                }
                Err(exclusion) => {
                    eligibility.excluded.insert(Arc::clone(name), exclusion);
                }
            }
        }
        let go = |name: &NodeName| nodes.get(name).is_some_and(|node| node.foreign_speaker);
        eligibility.go = eligibility.candidates.keys().any(go);
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
        let mut ranked: Vec<(Rank, &NodeName)> = self
            .candidates
            .iter()
            .map(|(name, candidate)| (candidate.rank(name, address), name))
            .collect();
        ranked.sort_unstable();
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
                Standing::Owner
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

    /// All candidates in order of rank, best first. `address` is the first of the service.
    pub fn ranked(&self, address: IpAddr) -> Vec<NodeName> {
        let mut ranked: Vec<(Rank, &NodeName)> = self
            .candidates
            .iter()
            .map(|(name, candidate)| (candidate.rank(name, address), name))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, name)| Arc::clone(name)).collect()
    }

    /// The owner alone, as [`Eligibility::elect`] finds it, without the reasons: what the fast path needs.
    pub fn owner(&self, address: IpAddr, is_live: impl Fn(&str) -> bool) -> Option<&NodeName> {
        let best = |live_only: bool| {
            self.candidates
                .iter()
                .filter(|(name, _)| !live_only || is_live(name))
                .map(|(name, candidate)| (candidate.rank(name, address), name))
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

fn examine(
    service: &ServiceFacts,
    endpoints: &Endpoints,
    name: &NodeName,
    node: &NodeFacts,
    advertisements: &[&L2Advertisement],
    rules: Rules,
) -> Result<Candidate, Exclusion> {
    if node.network_unavailable {
        return Err(Exclusion::NetworkUnavailable);
    }
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
        score,
        shunned: rules.shun && node.shunned,
        interfaces,
    })
}
