//! Who owns each address now: membership, plans and the announcer in one machine.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use metallb_election::{Candidate, NodeName};
use metallb_l2::{Announcer, ForeignClaim, InterfaceIndex, Interfaces, Link};
use metallb_member::{Member, Secret};
use metallb_sansio::{Instant, Machine};

use crate::{Cause, Change, Directive, MemberReport, Plan, ServiceKey, ServiceReport};

/// What an engine is made of.
pub type EngineConfig = metallb_member::Config;

/// What the engine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A membership datagram arrived.
    Datagram {
        /// The address it came from.
        from: SocketAddr,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// An Ethernet frame arrived on an interface.
    Frame(InterfaceIndex, Vec<u8>),
    /// An interface became usable or changed.
    LinkUp(InterfaceIndex, Link),
    /// An interface is no longer usable.
    LinkDown(InterfaceIndex),
    /// The speakers there should be, with the addresses of their membership.
    Peers(BTreeMap<NodeName, SocketAddr>),
    /// The shared secret of membership.
    Secret(Secret),
    /// A plan changed.
    Directive(Directive),
    /// This speaker stops.
    Leave,
}

/// What the engine wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a membership datagram.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Send an Ethernet frame.
    Frame {
        /// Where.
        interface: InterfaceIndex,
        /// The whole frame.
        frame: Vec<u8>,
    },
    /// The owner of a service changed.
    Change(Change),
    /// Membership lost or found a node.
    Liveness {
        /// The node.
        node: NodeName,
        /// Whether it counts as alive now.
        live: bool,
    },
    /// The others had declared us dead, and heard that we are not.
    Rejoined,
    /// Another station claims an address that this node owns.
    ForeignClaim(ForeignClaim),
}

struct Service {
    plan: Plan,
    owner: Option<NodeName>,
}

/// The fast half of a speaker.
///
/// It decides from what it has: plans as they were last told, and who is alive. Losing the API server therefore changes
/// nothing. When *all* peers fall silent at once, which from here looks the same whether they died or our own cable
/// was cut, this node takes what it may own: were the peers dead, nobody else would answer; were the cable cut, nobody
/// hears us. When the cable is back, membership heals within a fraction of a second, the lower ranks let go and the
/// owner announces again, because neighbours may have learnt otherwise in between.
pub struct Engine {
    member: Member,
    announcer: Announcer,
    services: BTreeMap<ServiceKey, Service>,
    /// For each address, the services that this node owns and that have it, with the interfaces allowed.
    held: BTreeMap<IpAddr, BTreeMap<ServiceKey, Interfaces>>,
    /// Nodes that were lost once: when one returns, it may have announced addresses of ours meanwhile.
    once_lost: BTreeSet<NodeName>,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// A speaker's fast half at the start of its life: no links, no peers, no plans.
    pub fn new(now: Instant, config: EngineConfig) -> Self {
        Self {
            member: Member::new(now, config),
            announcer: Announcer::new(),
            services: BTreeMap::new(),
            held: BTreeMap::new(),
            once_lost: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// This node.
    pub fn node(&self) -> &NodeName {
        self.member.node()
    }

    /// Membership, for reading.
    pub const fn member(&self) -> &Member {
        &self.member
    }

    /// The announcer, for reading.
    pub const fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    /// Whether membership sends in the clear; true once per change, for the log.
    pub fn take_clear_notice(&mut self) -> bool {
        self.member.take_clear_notice()
    }

    /// Takes a received frame by reference: the receive path without a copy.
    pub fn handle_frame(&mut self, interface: InterfaceIndex, bytes: &[u8]) {
        self.announcer.handle_frame(interface, bytes);
        self.drain_announcer();
    }

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

    /// Who owns the service, in the view of this node.
    pub fn owner(&self, key: &ServiceKey) -> Option<&NodeName> {
        self.services.get(key)?.owner.as_ref()
    }

    fn report(&self, key: &ServiceKey, service: &Service) -> ServiceReport {
        let plan = &service.plan;
        let decision = plan
            .eligibility
            .elect(plan.addresses[0], |node| self.member.is_live(node));
        let own = service.owner.as_ref().is_some_and(|owner| owner == self.node());
        let candidate = plan.eligibility.candidates.get(self.node()).filter(|_| own);
        let interfaces = candidate.map(allowed);
        let names = self.announcer.links().values().filter(|link| {
            link.carries(plan.addresses[0]) && interfaces.as_ref().is_some_and(|i| i.allows(&link.name))
        });
        ServiceReport {
            service: key.clone(),
            addresses: Arc::clone(&plan.addresses),
            owner: service.owner.clone(),
            standings: decision.standings,
            liveness_ignored: decision.liveness_ignored,
            interfaces: names.map(|link| Arc::clone(&link.name)).collect(),
            restricted: candidate.is_some_and(|candidate| candidate.interfaces.is_some()),
        }
    }

    fn directive(&mut self, now: Instant, directive: Directive) {
        let key = directive.service;
        let Some(plan) = directive.plan else {
            if let Some(service) = self.services.remove(&key) {
                self.hold(now, &key, &service.plan, None);
                self.report_change(&key, service.plan.addresses, service.owner, None, Cause::Plan);
            }
            return;
        };
        let service = self.services.remove(&key);
        let (before, from) = service.map_or((None, None), |service| (Some(service.plan), service.owner));
        // Addresses that the service no longer has are let go; for the others `decide` does what is needed.
        if let Some(before) = &before {
            let gone = before
                .addresses
                .iter()
                .filter(|address| !plan.addresses.contains(address));
            for address in gone {
                self.let_go(now, &key, *address);
            }
        }
        let own = |plan: &Plan| plan.eligibility.candidates.get(self.member.node()).map(allowed);
        let changed =
            before.is_some_and(|before| before.addresses != plan.addresses || own(&before) != own(&plan));
        self.services.insert(
            key.clone(),
            Service {
                plan,
                owner: from.clone(),
            },
        );
        self.decide(now, &key, &Cause::Plan);
        let to = self.owner(&key).cloned();
        if changed && from == to {
            // Same owner, other addresses or interfaces: whoever writes the status wants to know.
            let addresses = Arc::clone(&self.services[&key].plan.addresses);
            self.report_change(&key, addresses, from, to, Cause::Plan);
        }
    }

    /// Finds the owner of one service and acts on it.
    fn decide(&mut self, now: Instant, key: &ServiceKey, cause: &Cause) {
        let Some(service) = self.services.get_mut(key) else {
            return;
        };
        let plan = service.plan.clone();
        let to = plan
            .eligibility
            .owner(plan.addresses[0], |node| self.member.is_live(node))
            .cloned();
        let from = core::mem::replace(&mut service.owner, to.clone());
        self.hold(now, key, &plan, to.as_ref());
        if from != to {
            // Several nodes may be lost at once; what matters is the one that owned it.
            let cause = match &from {
                Some(node) if !self.member.is_live(node) => Cause::NodeLost(Arc::clone(node)),
                _ => cause.clone(),
            };
            self.report_change(key, plan.addresses, from, to, cause);
        }
    }

    /// Holds or lets go the addresses of a service, according to its owner.
    fn hold(&mut self, now: Instant, key: &ServiceKey, plan: &Plan, owner: Option<&NodeName>) {
        let own = owner.is_some_and(|owner| owner == self.member.node());
        let candidate = plan
            .eligibility
            .candidates
            .get(self.member.node())
            .filter(|_| own);
        for address in plan.addresses.iter() {
            if let Some(candidate) = candidate {
                self.held
                    .entry(*address)
                    .or_default()
                    .insert(key.clone(), allowed(candidate));
                self.update_address(now, *address);
            } else {
                self.let_go(now, key, *address);
            }
        }
    }

    fn let_go(&mut self, now: Instant, key: &ServiceKey, address: IpAddr) {
        if let Some(services) = self.held.get_mut(&address)
            && services.remove(key).is_some()
        {
            if services.is_empty() {
                self.held.remove(&address);
            }
            self.update_address(now, address);
        }
    }

    /// Tells the announcer what this node holds of an address, over all services that share it.
    fn update_address(&mut self, now: Instant, address: IpAddr) {
        let input = match self.held.get(&address) {
            None => metallb_l2::Input::Disown(address),
            Some(services) => {
                let mut allowed = services.values();
                let first = allowed.next().cloned().unwrap_or_default();
                let interfaces = allowed.fold(first, |all, more| all.union(more));
                metallb_l2::Input::Own { address, interfaces }
            }
        };
        self.announcer.handle(now, input);
    }

    fn report_change(
        &mut self,
        service: &ServiceKey,
        addresses: Arc<[IpAddr]>,
        from: Option<NodeName>,
        to: Option<NodeName>,
        cause: Cause,
    ) {
        let change = Change {
            service: service.clone(),
            addresses,
            from,
            to,
            cause,
        };
        self.outputs.push_back(Output::Change(change));
    }

    /// Services for which the node's liveness matters.
    fn concerned(&self, node: &NodeName) -> Vec<ServiceKey> {
        self.services
            .iter()
            .filter(|(_, service)| service.plan.eligibility.candidates.contains_key(node))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn liveness(&mut self, now: Instant, node: NodeName, live: bool) {
        let cause = if live {
            Cause::NodeJoined(Arc::clone(&node))
        } else {
            Cause::NodeLost(Arc::clone(&node))
        };
        let returned = if live {
            self.once_lost.remove(&node)
        } else {
            self.once_lost.insert(Arc::clone(&node));
            false
        };
        for key in self.concerned(&node) {
            let owned_before = self.owner(&key) == Some(self.member.node());
            self.decide(now, &key, &cause);
            if returned && owned_before && self.owner(&key) == Some(self.member.node()) {
                let addresses = Arc::clone(&self.services[&key].plan.addresses);
                for address in addresses.iter() {
                    self.announcer
                        .handle(now, metallb_l2::Input::Reannounce(*address));
                }
            }
        }
        self.outputs.push_back(Output::Liveness { node, live });
    }

    fn rejoined(&mut self, now: Instant) {
        for address in self.held.keys() {
            self.announcer
                .handle(now, metallb_l2::Input::Reannounce(*address));
        }
        self.outputs.push_back(Output::Rejoined);
    }

    fn drain_member(&mut self, now: Instant) {
        while let Some(output) = self.member.poll_output() {
            match output {
                metallb_member::Output::Send { to, datagram } => {
                    self.outputs.push_back(Output::Datagram { to, datagram });
                }
                metallb_member::Output::Joined(node) => self.liveness(now, node, true),
                metallb_member::Output::Lost(node) => self.liveness(now, node, false),
                metallb_member::Output::Rejoined => self.rejoined(now),
            }
        }
    }

    fn drain_announcer(&mut self) {
        while let Some(output) = self.announcer.poll_output() {
            self.outputs.push_back(match output {
                metallb_l2::Output::Send { interface, frame } => Output::Frame { interface, frame },
                metallb_l2::Output::ForeignClaim(claim) => Output::ForeignClaim(claim),
            });
        }
    }
}

impl Machine for Engine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Datagram { from, datagram } => {
                self.member
                    .handle(now, metallb_member::Input::Datagram { from, datagram });
            }
            Input::Frame(interface, bytes) => self.announcer.handle_frame(interface, &bytes),
            Input::LinkUp(index, link) => {
                // First membership: after a cut cable the peers may have taken over what we still hold.
                self.member.handle(now, metallb_member::Input::CallNow);
                self.announcer.handle(now, metallb_l2::Input::LinkUp(index, link));
            }
            Input::LinkDown(index) => self.announcer.handle(now, metallb_l2::Input::LinkDown(index)),
            Input::Peers(peers) => self.member.handle(now, metallb_member::Input::Peers(peers)),
            Input::Secret(secret) => self.member.handle(now, metallb_member::Input::Secret(secret)),
            Input::Directive(directive) => self.directive(now, directive),
            Input::Leave => self.member.handle(now, metallb_member::Input::Leave),
        }
        self.drain_member(now);
        self.drain_announcer();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.member
            .poll_timeout()
            .into_iter()
            .chain(self.announcer.poll_timeout())
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.announcer.handle_timeout(now);
        self.member.handle_timeout(now);
        self.drain_member(now);
        self.drain_announcer();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// The interfaces that a plan allows a node, for the announcer.
fn allowed(candidate: &Candidate) -> Interfaces {
    candidate
        .interfaces
        .as_ref()
        .map_or(Interfaces::All, |names| names.iter().cloned().collect())
}

/// How long a speaker that stops goes on answering after it has said goodbye: the successor's announcement needs a moment,
/// and an answer too many does no harm, as the node goes on forwarding.
pub const LINGER: Duration = Duration::from_millis(100);
