//! What the engine tells about itself: changes as they happen, and its whole state on request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use metallb_election::{NodeName, Standing};
use metallb_l2::{Interfaces, Owned};

use crate::service::Service;
use crate::{Engine, ServiceKey};

/// Why an owner changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The service, its endpoints, the nodes or the configuration changed.
    Plan,
    /// Membership lost the node.
    NodeLost(NodeName),
    /// Membership found the node (again).
    NodeJoined(NodeName),
    /// The usable interfaces of the node changed.
    Interfaces(NodeName),
    /// The node said who has the service, where nobody preempts.
    Claim(NodeName),
}

/// The owner of a service changed, in the view of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The service.
    pub service: ServiceKey,
    /// Its addresses; those it had, when it is no longer announced.
    pub addresses: Arc<[IpAddr]>,
    /// Who owned it before; nobody when it was not announced.
    pub from: Option<NodeName>,
    /// Who owns it now.
    pub to: Option<NodeName>,
    /// Why.
    pub cause: Cause,
}

/// Why this node does not answer for an address of a service that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Its Lease does not say so yet, or any more; see [`Options::strict`](crate::Options::strict).
    Lease,
    /// No interface that the advertisements allow is usable for an address of its family.
    NoInterface,
    /// Whether a station outside the cluster has it is being found out.
    Probing,
    /// A station outside the cluster has it, and is left alone.
    Conflict,
}

impl Unanswered {
    /// The word for logs and machine readers.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Lease => "waitsForLease",
            Self::NoInterface => "noUsableInterface",
            Self::Probing => "probing",
            Self::Conflict => "addressConflict",
        }
    }
}

/// How a service stands in the view of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceReport {
    /// The service.
    pub service: ServiceKey,
    /// Its addresses.
    pub addresses: Arc<[IpAddr]>,
    /// Who owns it; nobody also when speakers of Go `MetalLB` do.
    pub owner: Option<NodeName>,
    /// Speakers of Go `MetalLB` announce it: `standings` tell which of them by rank.
    pub go: bool,
    /// When this node owns it: the addresses that it answers for.
    pub answered: Vec<IpAddr>,
    /// When this node owns it: the other addresses, and why it does not answer for them.
    pub unanswered: Vec<(IpAddr, Unanswered)>,
    /// This node owns it, but must not answer for all of it before its Leases say so; see
    /// [`Options::strict`](crate::Options::strict).
    pub waits_for_lease: bool,
    /// Who answers for it: the owner, or while the owner's speaker is away whoever stands in for it.
    pub acting: Option<NodeName>,
    /// How every node stands.
    pub standings: BTreeMap<NodeName, Standing>,
    /// No candidate is alive, so liveness was ignored.
    pub liveness_ignored: bool,
    /// No live candidate has the interfaces it needs, so that was ignored, and nobody can answer.
    pub usability_ignored: bool,
    /// When this node owns it: the interfaces that are usable for one of its addresses at least, by name.
    pub interfaces: Vec<Arc<str>>,
    /// When this node owns it: the only interfaces that its advertisements allow; `None` when they allow all.
    pub restriction: Option<Arc<BTreeSet<Arc<str>>>>,
}

/// How a node stands in membership, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The node.
    pub node: NodeName,
    /// Its state; `None` for ourselves.
    pub state: Option<metallb_member::PeerState>,
}

impl Engine {
    /// How every peer stands.
    pub fn members(&self) -> Vec<MemberReport> {
        let own = MemberReport {
            node: Arc::clone(self.node()),
            state: None,
        };
        let peers = self.member.peers();
        let peers = peers.map(|(node, state)| MemberReport {
            node: Arc::clone(node),
            state: Some(state),
        });
        core::iter::once(own).chain(peers).collect()
    }

    /// How every service stands.
    pub fn services(&self) -> impl Iterator<Item = ServiceReport> + '_ {
        self.services
            .iter()
            .map(|(key, service)| self.report(key, service))
    }

    /// How the services from `from` on stand, for reading in pages.
    pub fn services_from(&self, from: Bound<&ServiceKey>) -> impl Iterator<Item = ServiceReport> + '_ {
        let range = (from, Bound::Unbounded);
        self.services
            .range::<ServiceKey, _>(range)
            .map(|(key, service)| self.report(key, service))
    }

    /// How one service stands; `None` when it has no plan.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceReport> {
        self.services.get(key).map(|service| self.report(key, service))
    }

    fn report(&self, key: &ServiceKey, service: &Service) -> ServiceReport {
        let addresses = service.addresses();
        let own = service.owner.as_ref().is_some_and(|owner| owner == self.node());
        let mut standings = BTreeMap::new();
        let mut liveness_ignored = false;
        if let Some(plan) = &service.plan {
            let unusable =
                |node: &str| self.member.is_live(node) && self.ability(service, node) < service.ability;
            let counts = |node: &str| {
                service.owner.as_deref() == Some(node) || (self.member.is_live(node) && !unusable(node))
            };
            // Who is alive among Go speakers, only they know.
            let go = plan.eligibility.go;
            let decision = plan.eligibility.elect(plan.first(), |node| go || counts(node));
            liveness_ignored = decision.liveness_ignored;
            standings = decision.standings;
            for (node, standing) in &mut standings {
                if *standing == Standing::NotAlive && unusable(node) {
                    *standing = Standing::NoInterface;
                }
            }
        }
        let allowed = own.then(|| service.allowed(self.node()));
        let (answered, unanswered) = match &allowed {
            Some(allowed) => self.answers(service, allowed),
            None => Default::default(),
        };
        let names = self.announcer.links().values().filter(|link| {
            addresses.iter().any(|address| link.carries(*address))
                && allowed.as_ref().is_some_and(|i| i.allows(&link.name))
        });
        ServiceReport {
            service: key.clone(),
            owner: service.owner.clone(),
            go: service.is_go(),
            waits_for_lease: unanswered.iter().any(|(_, why)| *why == Unanswered::Lease),
            answered,
            unanswered,
            acting: service.acting.clone(),
            standings,
            liveness_ignored,
            usability_ignored: service.usability_ignored,
            interfaces: names.map(|link| Arc::clone(&link.name)).collect(),
            restriction: allowed.and_then(|allowed| match allowed {
                metallb_l2::Interfaces::All => None,
                metallb_l2::Interfaces::Named(names) => Some(names),
            }),
            addresses,
        }
    }

    /// The addresses of our services for which answers have begun or ended since this was last asked, by what probes or other
    /// stations said. What follows from links, Leases and plans is not among them.
    pub fn take_turned(&mut self) -> BTreeSet<IpAddr> {
        self.announcer.take_turned()
    }

    /// Of a service that this node owns: the addresses that it answers for, and why not for the others.
    pub(crate) fn answers(
        &self,
        service: &Service,
        allowed: &Interfaces,
    ) -> (Vec<IpAddr>, Vec<(IpAddr, Unanswered)>) {
        let (mut answered, mut unanswered) = (Vec::new(), Vec::new());
        for address in service.addresses().iter() {
            let why = if !self.is_granted(*address) {
                Unanswered::Lease
            } else if !self.announcer.can_announce(*address, allowed) {
                Unanswered::NoInterface
            } else {
                match self.announcer.owned_as(*address) {
                    Some(Owned::Answered) => {
                        answered.push(*address);
                        continue;
                    }
                    Some(Owned::Blocked) => Unanswered::Conflict,
                    Some(Owned::Probing) | None => Unanswered::Probing,
                }
            };
            unanswered.push((*address, why));
        }
        (answered, unanswered)
    }
}
