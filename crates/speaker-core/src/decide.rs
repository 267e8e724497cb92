//! The part of the engine that decides who owns a service and acts on it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::{Ability, NodeName, Presence, Roles};
use metallb_l2::{Entry, InterfaceIndex, Interfaces, MacAddr};
use metallb_sansio::{Instant, Machine as _};

use crate::handover::YIELD_IN_SILENCE;
use crate::service::{Holding, Service, allowed_of};
use crate::{Cause, Change, Directive, Engine, Output, ServiceKey};

/// How long a service that is no longer announced is remembered, so that who has not heard of it yet is told.
pub(crate) const TOMBSTONE: Duration = Duration::from_secs(3_600);
/// Addresses that were announced at some time are remembered up to this number.
const ANNOUNCED_MAX: usize = 65_536;

/// What one service wants of an address.
#[derive(Clone, Debug)]
pub(crate) enum Hold {
    Own(Interfaces),
    StandIn(BTreeMap<InterfaceIndex, MacAddr>),
}

impl Engine {
    /// How a node stands, as this one sees it.
    pub(crate) fn presence(&self, node: &str) -> Presence {
        if node == &**self.node() {
            Presence::Live
        } else if self.member.is_live(node) {
            if self.suspects.contains(node) {
                Presence::Suspect
            } else {
                Presence::Live
            }
        } else if self.away.contains_key(node) {
            Presence::Away
        } else {
            Presence::Gone
        }
    }

    /// How much of what the service needs, and those that share addresses with it, the node has interfaces for, as far as is known.
    pub(crate) fn ability(&self, service: &Service, node: &str) -> Ability {
        let own = node == &**self.node();
        if own && !self.has_tenure() {
            return Ability::Nothing;
        }
        let live = own || self.member.is_live(node);
        let able = |address: &IpAddr, allowed: &Interfaces| {
            if own {
                self.announcer.can_announce(*address, allowed)
            } else {
                self.neighbours.usable(node, &[*address], allowed, live)
            }
        };
        let group = service.plan.as_ref().and_then(|plan| plan.group.as_ref());
        if let Some(group) = group {
            // There may be as many addresses as services that share one.
            let needs = group.needs.iter().flat_map(|need| {
                let allowed = allowed_of(need, node);
                let families = need.families();
                families.map(move |(address, count)| (able(&address, &allowed), count))
            });
            return Ability::of_kinds(needs);
        }
        let (addresses, allowed) = (service.addresses(), service.allowed(node));
        Ability::of(addresses.iter().map(|address| able(address, &allowed)))
    }

    fn roles<'a>(&self, service: &'a Service) -> Roles<'a> {
        let presence = |node: &str| self.presence(node);
        if let Some(adopted) = service.adoption() {
            let Some(owner) = &adopted.owner else {
                return Roles::default();
            };
            if let Some(roles) = Roles::dictated(&service.ranked, owner, presence) {
                return roles;
            }
        }
        if service.is_go() || service.asking.is_some() {
            return Roles::default();
        }
        let (before, preemption) = self.keeper(service);
        let ability = |node: &str| self.ability(service, node);
        let behind = |node: &str| service.behind(node);
        Roles::of(&service.ranked, before, preemption, presence, ability, behind)
    }

    /// Who owns a service by what this node works out itself.
    pub(crate) fn own_opinion<'a>(&self, service: &'a Service) -> Option<&'a NodeName> {
        if service.is_go() {
            return None;
        }
        let presence = |node: &str| self.presence(node);
        let (before, preemption) = self.keeper(service);
        let ability = |node: &str| self.ability(service, node);
        let behind = |node: &str| service.behind(node);
        Roles::of(&service.ranked, before, preemption, presence, ability, behind).owner
    }

    pub(crate) fn directive(&mut self, now: Instant, directive: Directive) {
        let Directive {
            service: key,
            plan,
            version,
        } = directive;
        self.freshest = self.freshest.max(version);
        let Some(plan) = plan else {
            self.asking.remove(&key);
            self.tombstones.set(key.clone(), now + TOMBSTONE, version);
            // Whoever owned it may learn it from us first.
            let owner = self.owner(&key).filter(|owner| self.member.is_live(owner));
            if let Some(owner) = owner.filter(|owner| *owner != self.member.node()).cloned() {
                self.handovers.tell(now, &owner, &key);
            }
            if let Some(mut service) = self.services.remove(&key) {
                if let Some(plan) = &service.plan {
                    self.groups.leave(plan.first(), &key);
                    self.freshen(now, plan.first(), version);
                }
                self.release(now, &key, &mut service);
                self.set_deputy(&key, &mut service, None);
                self.set_movable(&mut service, false);
                self.report_change(&key, service.addresses(), service.owner, None, Cause::Plan);
            }
            return;
        };
        self.tombstones.remove(&key);
        let mut service = self.services.remove(&key).unwrap_or_default();
        let before = service.addresses();
        let own = service.allowed(self.member.node());
        let known = service.plan.is_some();
        // Addresses that the service no longer has are let go; for the others `decide` does what is needed.
        for address in before.iter().filter(|address| !plan.addresses.contains(address)) {
            self.let_go(now, &key, *address);
        }
        let first = plan.first();
        let mut left = None;
        match &service.plan {
            Some(before) if before.first() == first => {
                let (before, now) = (&before.eligibility, &plan.eligibility);
                now.rerank(before, first, &mut service.ranked);
            }
            before => {
                if let Some(before) = before {
                    self.groups.leave(before.first(), &key);
                    left = Some(before.first());
                }
                self.groups.enter(first, &key, &service);
                service.ranked = plan.eligibility.ranked(first);
            }
        }
        service.digest = self.digests.of(&plan);
        service.plan = Some(plan);
        service.version = version;
        if service.adoption().is_none() {
            service.adopted = None;
        }
        let changed = known && (before != service.addresses() || own != service.allowed(self.member.node()));
        let from = service.owner.clone();
        self.ask_who_has(now, &key, &mut service, known);
        self.services.insert(key.clone(), service);
        for first in left.into_iter().chain([first]) {
            self.freshen(now, first, version);
        }
        self.decide(now, &key, &Cause::Plan);
        let to = self.owner(&key).cloned();
        if changed && from == to {
            // Same owner, other addresses or interfaces: whoever writes the status wants to know.
            let addresses = self.services[&key].addresses();
            self.report_change(&key, addresses, from, to, Cause::Plan);
        }
    }

    /// Finds the owner of one service and acts on it.
    pub(crate) fn decide(&mut self, now: Instant, key: &ServiceKey, cause: &Cause) {
        // Taken out while it is worked on, which nobody else does meanwhile.
        let Some(mut service) = self.services.remove(key) else {
            return;
        };
        #[cfg(test)]
        {
            self.decisions += 1;
        }
        self.stop_asking(now, key, &mut service);
        let roles = self.roles(&service);
        let (to, acting) = (roles.owner.cloned(), roles.acting.cloned());
        let deputy = roles.deputy.cloned();
        (service.usability_ignored, service.ability) = (roles.usability_ignored, roles.ability);
        let from = core::mem::replace(&mut service.owner, to.clone());
        service.acting.clone_from(&acting);
        let me = Arc::clone(self.member.node());
        let is_me = |node: &Option<NodeName>| node.as_ref() == Some(&me);

        if is_me(&to) {
            let taken = !matches!(service.holding, Holding::Owner);
            service.holding = Holding::Owner;
            self.hold(now, key, &service);
            if let Some(before) = from
                .as_ref()
                .filter(|node| taken && **node != me && self.member.is_live(node))
            {
                self.handovers.tell(now, before, key);
            }
            self.follow_claim(now, key, &mut service, taken);
        } else if let Some(owner) = to
            .as_ref()
            .filter(|owner| is_me(&acting) && self.may_stand_in(&service, owner))
        {
            service.holding = Holding::StandIn(Arc::clone(owner));
            self.hold(now, key, &service);
        } else if let Some(successor) = acting
            .as_ref()
            .filter(|node| self.member.is_live(node) && self.may_overlap(&service, node))
        {
            self.yield_to(now, key, &mut service, successor);
        } else {
            self.release(now, key, &mut service);
        }

        let watched = to.clone().filter(|owner| is_me(&deputy) && *owner != me);
        if let Some(owner) = watched.as_ref().filter(|owner| self.member.is_live(owner)) {
            let informed = Some((Arc::clone(owner), service.version()));
            if service.informed != informed {
                service.informed = informed;
                self.handovers.tell(now, owner, key);
                // The former owner may not know yet; that the new one tells it means nothing when it only believes us.
                let former = from.as_ref().filter(|former| *former != owner && **former != me);
                if let Some(former) = former.filter(|former| self.member.is_live(former)) {
                    self.handovers.tell(now, former, key);
                }
            }
        }
        self.set_deputy(key, &mut service, watched);
        // Of one that this node only was told of it does not know the candidates.
        let movable = service.plan.is_none() || service.ranked.len() > 1;
        self.set_movable(&mut service, movable);
        let addresses = service.addresses();
        if to.is_some() && self.announced.len() < ANNOUNCED_MAX {
            self.announced.extend(addresses.iter().copied());
        }
        self.services.insert(key.clone(), service);
        if from != to {
            // Several nodes may be lost at once; what matters is the one that owned it.
            let cause = match &from {
                Some(node) if !self.member.is_live(node) && *node != me => Cause::NodeLost(Arc::clone(node)),
                _ => cause.clone(),
            };
            self.report_change(key, addresses, from, to, cause);
        }
    }

    /// Whoever answered goes on until the successor is heard.
    fn yield_to(&mut self, now: Instant, key: &ServiceKey, service: &mut Service, successor: &NodeName) {
        let stood_in_for = match &service.holding {
            Holding::Nothing => return,
            Holding::Owner => None,
            Holding::StandIn(owner) => Some(Arc::clone(owner)),
            Holding::Yielding { to, .. } if to == successor => return,
            Holding::Yielding { stood_in_for, .. } => stood_in_for.clone(),
        };
        service.holding = Holding::Yielding {
            to: Arc::clone(successor),
            heard: false,
            stood_in_for,
        };
        self.yielding.set(key.clone(), now + YIELD_IN_SILENCE, ());
        self.handovers.tell(now, successor, key);
    }

    /// Keeps whose deputy this node is.
    fn set_deputy(&mut self, key: &ServiceKey, service: &mut Service, owner: Option<NodeName>) {
        if service.deputy_of == owner {
            return;
        }
        self.watch_again = true;
        if let Some(before) = core::mem::replace(&mut service.deputy_of, owner.clone())
            && let Some(services) = self.deputies.get_mut(&before)
        {
            services.remove(key);
            if services.is_empty() {
                self.deputies.remove(&before);
            }
        }
        if let Some(owner) = owner {
            self.deputies.entry(owner).or_default().insert(key.clone());
        }
    }

    /// Keeps how many services another node could take over.
    pub(crate) fn set_movable(&mut self, service: &mut Service, movable: bool) {
        match (core::mem::replace(&mut service.movable, movable), movable) {
            (false, true) => self.movable += 1,
            (true, false) => self.movable -= 1,
            _ => return,
        }
        self.watch_again = true;
    }

    /// Answers for the addresses of a service, as owner or in the owner's name.
    pub(crate) fn hold(&mut self, now: Instant, key: &ServiceKey, service: &Service) {
        self.yielding.remove(key);
        let hold = match &service.holding {
            Holding::Owner => Hold::Own(service.allowed(self.member.node())),
            Holding::StandIn(owner) => Hold::StandIn(self.neighbours.macs_of(owner, &service.allowed(owner))),
            Holding::Nothing | Holding::Yielding { .. } => return,
        };
        for address in service.addresses().iter() {
            self.held
                .entry(*address)
                .or_default()
                .insert(key.clone(), hold.clone());
            self.update_address(now, *address);
        }
    }

    /// Answers no longer for a service.
    pub(crate) fn release(&mut self, now: Instant, key: &ServiceKey, service: &mut Service) {
        self.yielding.remove(key);
        if service.holding != Holding::Nothing {
            service.holding = Holding::Nothing;
            for address in service.addresses().iter() {
                self.let_go(now, key, *address);
            }
        }
    }

    pub(crate) fn let_go(&mut self, now: Instant, key: &ServiceKey, address: IpAddr) {
        if let Some(services) = self.held.get_mut(&address)
            && services.remove(key).is_some()
        {
            if services.is_empty() {
                self.held.remove(&address);
            }
            self.update_address(now, address);
        }
    }

    /// Whether this node may go on answering for a service until the successor is heard. In strict mode only whoever stands in
    /// for that very one: both answer with the same hardware address.
    fn may_overlap(&self, service: &Service, successor: &NodeName) -> bool {
        let same = match &service.holding {
            Holding::StandIn(owner) => owner == successor,
            Holding::Yielding { stood_in_for, .. } => stood_in_for.as_ref() == Some(successor),
            _ => false,
        };
        same || self.strict.is_none()
    }

    /// Tells the announcer what this node holds of an address, over all services that share it.
    pub(crate) fn update_address(&mut self, now: Instant, address: IpAddr) {
        let mut owned: Option<Interfaces> = None;
        let mut macs = BTreeMap::new();
        for hold in self.held.get(&address).into_iter().flat_map(BTreeMap::values) {
            match hold {
                Hold::Own(interfaces) => {
                    owned = Some(owned.map_or_else(|| interfaces.clone(), |all| all.union(interfaces)));
                }
                Hold::StandIn(more) => macs.extend(more),
            }
        }
        let wanted = owned.is_some();
        let owned = owned.filter(|_| self.is_granted(address));
        let stands_in = !wanted && self.held.contains_key(&address);
        let input = match owned {
            Some(interfaces) => metallb_l2::Input::Own {
                address,
                interfaces,
                entry: self.entry(now, address),
            },
            None if stands_in => metallb_l2::Input::StandIn {
                address,
                macs: Arc::new(macs),
            },
            None => metallb_l2::Input::Disown(address),
        };
        self.announcer.handle(now, input);
        self.want(address, wanted);
    }

    /// An address that nobody of ours has announced, as far as a speaker knows that has listened for a while, is probed first.
    fn entry(&self, now: Instant, address: IpAddr) -> Entry {
        let listened = self
            .listed_at
            .is_some_and(|at| now - at >= self.options.listen_before_probing);
        if listened && !self.announced.contains(&address) {
            Entry::Probe
        } else {
            Entry::Announce
        }
    }

    pub(crate) fn report_change(
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

    /// Decides again about every service.
    pub(crate) fn decide_all(&mut self, now: Instant, cause: &Cause) {
        let all: Vec<ServiceKey> = self.services.keys().cloned().collect();
        for key in all {
            self.decide(now, &key, cause);
        }
    }

    /// Services for which the node matters.
    pub(crate) fn concerned(&self, node: &str) -> Vec<ServiceKey> {
        let concerned = self.services.iter().filter(|(_, service)| service.concerns(node));
        concerned.map(|(key, _)| key.clone()).collect()
    }
}
