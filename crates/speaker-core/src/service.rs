//! One service, as the engine keeps it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::{Ability, Candidate, Eligibility, Group, Need, NodeName};
use metallb_l2::Interfaces;
use metallb_sansio::Instant;

use crate::Plan;

/// What one who knows better said of a service.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    /// Who said it first, and may take it back.
    pub(crate) from: NodeName,
    pub(crate) version: u64,
    pub(crate) digest: u64,
    pub(crate) owner: Option<NodeName>,
    pub(crate) addresses: Arc<[IpAddr]>,
    pub(crate) interfaces: Interfaces,
    /// It is said again as long as it is true. It was not, and the others are asked whether it is still so: whoever said it may have died.
    pub(crate) asked: bool,
}

/// Who has a service for good, where nobody preempts. Of two claims the one of the later term counts, of two of one term that
/// of a live node, then that of the better by rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) owner: NodeName,
    pub(crate) term: u64,
}

/// The others are being asked who has a service.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// Until then their answers are waited for.
    pub(crate) until: Instant,
    pub(crate) answered: BTreeSet<NodeName>,
}

/// In what capacity this node answers for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Not at all.
    #[default]
    Nothing,
    /// It owns it.
    Owner,
    /// The speaker of the owner is away.
    StandIn(NodeName),
    /// No longer, but whoever follows has not been heard yet.
    Yielding {
        /// Who is to answer.
        to: NodeName,
        /// It was heard: answers go on for a moment only, for questions that were under way.
        heard: bool,
        /// Answers go on in the name of this node.
        stood_in_for: Option<NodeName>,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    pub(crate) plan: Option<Plan>,
    pub(crate) version: u64,
    /// Digest of the plan.
    pub(crate) digest: u64,
    /// The plan's candidates, best first.
    pub(crate) ranked: Vec<NodeName>,
    pub(crate) adopted: Option<Adopted>,
    pub(crate) claim: Option<Claim>,
    pub(crate) asking: Option<Asking>,
    /// Whoever claims it is back, and has until then to say whether it still does.
    pub(crate) awaits: Option<Instant>,
    pub(crate) owner: Option<NodeName>,
    pub(crate) acting: Option<NodeName>,
    pub(crate) usability_ignored: bool,
    /// What whoever answers can announce.
    pub(crate) ability: Ability,
    pub(crate) holding: Holding,
    /// Another node could take it over, as far as is known.
    pub(crate) movable: bool,
    /// Whose failure this node waits for.
    pub(crate) deputy_of: Option<NodeName>,
    /// Who was told that it owns the service, and in which version.
    pub(crate) informed: Option<(NodeName, u64)>,
}

impl Service {
    /// The fresher of what this node works out and what it was told.
    pub(crate) fn version(&self) -> u64 {
        self.adoption().map_or(self.version, |adopted| adopted.version)
    }

    /// Digest of what its owner was worked out from.
    pub(crate) fn digest(&self) -> u64 {
        self.adoption().map_or(self.digest, |adopted| adopted.digest)
    }

    /// What was told, when it is fresher than what this node works out.
    pub(crate) fn adoption(&self) -> Option<&Adopted> {
        self.adopted
            .as_ref()
            .filter(|adopted| self.plan.is_none() || adopted.version > self.version)
    }

    /// Speakers of Go `MetalLB` announce it.
    pub(crate) fn is_go(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.eligibility.go)
    }

    /// Its addresses.
    pub(crate) fn addresses(&self) -> Arc<[IpAddr]> {
        let told = || {
            self.adopted
                .as_ref()
                .map(|adopted| Arc::clone(&adopted.addresses))
        };
        let planned = self.plan.as_ref().map(|plan| Arc::clone(&plan.addresses));
        planned.or_else(told).unwrap_or_else(|| Arc::from([]))
    }

    /// Where a node may announce it.
    pub(crate) fn allowed(&self, node: &str) -> Interfaces {
        if let Some(candidate) = self
            .plan
            .as_ref()
            .and_then(|plan| plan.eligibility.candidates.get(node))
        {
            return allowed(candidate);
        }
        let told = self
            .adoption()
            .filter(|adopted| adopted.owner.as_deref() == Some(node));
        told.map_or(Interfaces::All, |adopted| adopted.interfaces.clone())
    }

    /// How many classes of candidates come before that of the node, as far as it is one.
    pub(crate) fn behind(&self, node: &str) -> u32 {
        let candidates = self.plan.as_ref().map(|plan| &plan.eligibility.candidates);
        let candidate = candidates.and_then(|candidates| candidates.get(node));
        candidate.map_or(u32::MAX, |candidate| candidate.behind)
    }

    /// Whether the node may own it.
    pub(crate) fn concerns(&self, node: &str) -> bool {
        let candidate = self
            .plan
            .as_ref()
            .is_some_and(|plan| plan.eligibility.candidates.contains_key(node));
        let told = self.adopted.as_ref().and_then(|adopted| adopted.owner.as_deref());
        candidate || told == Some(node)
    }
}

/// Makes numbers that are the same for equal plans, on every node and in every life.
#[derive(Default)]
pub(crate) struct Digests {
    /// Most plans share what the last one had.
    last: Option<(Arc<Eligibility>, u64)>,
    /// All plans of a group share it, and what it has may be as much as there are of them.
    group: Option<(Arc<Group>, u64)>,
    /// How many groups were gone through.
    #[cfg(test)]
    pub(crate) groups: usize,
}

impl Digests {
    pub(crate) fn of(&mut self, plan: &Plan) -> u64 {
        let shared = match &self.last {
            Some((known, digest)) if Arc::ptr_eq(known, &plan.eligibility) => *digest,
            _ => {
                let digest = digest(&plan.eligibility);
                self.last = Some((Arc::clone(&plan.eligibility), digest));
                digest
            }
        };
        let mut hash = Fnv::default();
        hash.eat(&shared.to_be_bytes());
        for address in plan.addresses.iter() {
            match address {
                IpAddr::V4(ip) => hash.eat(&ip.octets()),
                IpAddr::V6(ip) => hash.eat(&ip.octets()),
            }
        }
        if let Some(group) = &plan.group {
            let known = self.group.as_ref().filter(|(known, _)| Arc::ptr_eq(known, group));
            let digest = if let Some((_, digest)) = known {
                *digest
            } else {
                #[cfg(test)]
                {
                    self.groups += 1;
                }
                group_digest(group)
            };
            self.group = Some((Arc::clone(group), digest));
            hash.eat(&digest.to_be_bytes());
        }
        hash.0
    }
}

fn group_digest(group: &Group) -> u64 {
    let mut hash = Fnv::default();
    hash.eat(b"group");
    for need in &group.needs {
        for address in &need.addresses {
            hash.eat(address.to_string().as_bytes());
        }
        for (node, names) in &need.interfaces {
            hash.eat(node.as_bytes());
            for name in names {
                hash.eat(name.as_bytes());
            }
            hash.eat(b"some");
        }
    }
    hash.0
}

/// FNV-1a of 64 bits, with an end after each thing.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn digest(eligibility: &Eligibility) -> u64 {
    let mut hash = Fnv::default();
    hash.eat(&[u8::from(eligibility.go)]);
    for (node, candidate) in &eligibility.candidates {
        hash.eat(node.as_bytes());
        hash.eat(&candidate.score.to_be_bytes());
        hash.eat(&[u8::from(candidate.shunned)]);
        for name in candidate.interfaces.iter().flatten() {
            hash.eat(name.as_bytes());
        }
        hash.eat(if candidate.interfaces.is_some() {
            b"some"
        } else {
            b"all"
        });
        if candidate.behind > 0 {
            hash.eat(b"behind");
            hash.eat(&candidate.behind.to_be_bytes());
        }
    }
    hash.0
}

/// The interfaces on which a node may announce addresses that services share.
pub(crate) fn allowed_of(need: &Need, node: &str) -> Interfaces {
    let names = need.interfaces.get(node);
    names.map_or(Interfaces::All, |names| names.iter().cloned().collect())
}

/// The interfaces that a plan allows a node, for the announcer.
pub(crate) fn allowed(candidate: &Candidate) -> Interfaces {
    candidate
        .interfaces
        .as_ref()
        .map_or(Interfaces::All, |names| names.iter().cloned().collect())
}
