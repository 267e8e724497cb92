//! All services, over time: what comes from the watches goes in, what has to be written comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, Labels};

use crate::Allocator;
use crate::decision::{Conflict, Decision, Note, Refusal, Verdict};
use crate::event::{Announcement, Event, EventReason};
use crate::request::ServiceId;
use crate::service::{ClassPolicy, Service};
use crate::space::Counters;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A list of all services begins; those that it does not show are gone when it ends.
    ListStarted,
    /// The list is complete.
    ListDone,
    /// A service as a list shows it.
    Listed(Box<Service>),
    /// A service as a watch, the reply to a write or a single read shows it. Older than what is known: ignored.
    Applied(Box<Service>),
    /// A service is gone.
    Deleted(ServiceId),
    /// The configuration in force changed.
    Config(Arc<Config>),
    /// Labels of a namespace; `None`: it is gone.
    Namespace(String, Option<Labels>),
    /// Addresses never to choose, such as those of the nodes.
    Reserved(BTreeSet<IpAddr>),
    /// Every initial list (services, configuration, namespaces) is complete.
    Synced,
    /// Whether this process leads. Only then anything is decided.
    Leading(bool),
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The status of the service is not what it should be: ask [`World::status_write`] when about to write.
    Write(ServiceId),
    /// Tell the owner of a service.
    Event(Event),
    /// The counters of a pool changed; `None`: the pool is gone.
    Counters(String, Option<Counters>),
    /// A decision other than "keep what it has", for the log.
    Decided(Decision),
}

/// The one write that brings a service's status to what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// The service.
    pub service: ServiceId,
    /// The version this was decided for: the write must fail when the service is at another one.
    pub resource_version: Box<str>,
    /// `status.loadBalancer.ingress`; empty clears it.
    pub ips: Vec<IpAddr>,
    /// Annotation `metallb.io/ip-allocated-from-pool`; `None` removes it.
    pub pool: Option<String>,
    /// The annotation with the old prefix is there and has to go.
    pub remove_deprecated_record: bool,
}

#[derive(Debug)]
struct Entry {
    service: Service,
    /// Number of the last list that showed it.
    listed: u64,
    /// Addresses that were taken from it; while its status still names them they are no claim.
    given_up: Vec<IpAddr>,
    /// Somebody else wrote other addresses into its status since it was last looked at.
    claim: Option<Vec<IpAddr>>,
    /// What its owner was last told is wrong; told once.
    problem: Option<String>,
}

/// All services and the allocation table. See [`Input`] and [`Output`].
#[derive(Debug, Default)]
pub struct World {
    classes: ClassPolicy,
    allocator: Allocator,
    services: BTreeMap<ServiceId, Entry>,
    list: u64,
    synced: bool,
    leading: bool,
    /// Services to look at.
    dirty: BTreeSet<ServiceId>,
    /// Services that would take an address if one were freed.
    waiting: BTreeSet<ServiceId>,
    /// An address was freed or the pools changed: those waiting are looked at again.
    wake: bool,
    reported: BTreeMap<String, Counters>,
    outputs: Vec<Output>,
}

impl World {
    /// A world without services and configuration, not leading.
    pub fn new(classes: ClassPolicy) -> Self {
        Self {
            classes,
            ..Self::default()
        }
    }

    /// Takes one input in. Nothing is decided before [`World::drain`].
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::ListStarted => self.list += 1,
            Input::ListDone => {
                let list = self.list;
                let gone = self.services.iter().filter(|(_, entry)| entry.listed != list);
                let gone: Vec<ServiceId> = gone.map(|(id, _)| id.clone()).collect();
                for id in &gone {
                    self.forget(id);
                }
            }
            Input::Listed(service) => self.apply(*service, true),
            Input::Applied(service) => self.apply(*service, false),
            Input::Deleted(id) => self.forget(&id),
            Input::Config(config) => {
                if *config != *self.allocator.config() {
                    self.allocator.set_config(config);
                    self.reconsider_all();
                }
            }
            Input::Namespace(name, labels) => {
                if self.allocator.set_namespace(&name, labels) {
                    let of_namespace = self.services.keys().filter(|id| id.namespace() == name);
                    self.dirty.extend(of_namespace.cloned());
                    self.wake = true;
                }
            }
            Input::Reserved(addresses) => {
                self.allocator.set_reserved(addresses);
                self.wake = true;
            }
            Input::Synced => {
                if !self.synced {
                    self.synced = true;
                    self.take_over();
                }
            }
            Input::Leading(leading) => {
                if leading != self.leading {
                    self.leading = leading;
                    self.take_over();
                }
            }
        }
    }

    /// Decides whatever is due, and returns what has to be done, in order. Call it after each burst of inputs.
    pub fn drain(&mut self) -> Vec<Output> {
        if self.acting() {
            while self.wake || !self.dirty.is_empty() {
                let mut batch = std::mem::take(&mut self.dirty);
                if std::mem::take(&mut self.wake) {
                    batch.extend(self.waiting.iter().cloned());
                }
                for id in self.in_order(batch) {
                    self.look_at(&id);
                }
            }
            self.report_counters();
        }
        std::mem::take(&mut self.outputs)
    }

    /// The write that the service's status needs, against the newest version known; `None` when it is as it should be.
    pub fn status_write(&self, id: &ServiceId) -> Option<StatusWrite> {
        let Entry { service, .. } = self.services.get(id).filter(|_| self.acting())?;
        let held = self.allocator.held(id);
        if held.is_none() && self.is_foreign(service) {
            return None;
        }
        let ips = held.map_or(&[][..], |held| &held.ips);
        let pool = held.map(|held| &held.pool);
        let as_it_should_be = service.ingress == ips
            && !service.other_ingress
            && service.recorded_pool.as_ref() == pool
            && (pool.is_some() || !service.deprecated_record);
        (!as_it_should_be).then(|| StatusWrite {
            service: id.clone(),
            resource_version: service.resource_version.clone(),
            ips: ips.to_vec(),
            pool: pool.cloned(),
            remove_deprecated_record: service.deprecated_record,
        })
    }

    /// The allocation table.
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Number of services that this world knows.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether it knows no service.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    fn acting(&self) -> bool {
        self.synced && self.leading
    }

    fn is_ours(&self, service: &Service) -> bool {
        service.load_balancer && self.classes.admits(service.class.as_deref())
    }

    /// Whether another controller wrote the status: it does not bear our mark, and no pool has its addresses. Such a
    /// service is left alone (the Go version clears it).
    fn is_foreign(&self, service: &Service) -> bool {
        service.has_ingress()
            && !service.is_recorded()
            && !service
                .ingress
                .iter()
                .any(|ip| self.allocator.config().pool_of(*ip).is_some())
    }

    fn apply(&mut self, service: Service, listed: bool) {
        let id = service.request.id.clone();
        // A service that is not ours matters only as long as it bears our mark: it was a load balancer once.
        let left_over = !service.load_balancer && service.is_recorded();
        if !self.is_ours(&service) && !left_over {
            self.forget(&id);
            return;
        }
        if self
            .services
            .get(&id)
            .is_some_and(|known| known.service.uid != service.uid)
        {
            // Deleted and created again in between: nothing of the old one counts.
            self.forget(&id);
        }
        let list = self.list;
        let Some(entry) = self.services.get_mut(&id) else {
            self.announce_deprecated(&service);
            let entry = Entry {
                service,
                listed: list,
                given_up: Vec::new(),
                claim: None,
                problem: None,
            };
            self.services.insert(id.clone(), entry);
            self.dirty.insert(id);
            return;
        };
        entry.listed = list;
        if !listed && service.is_older_than(&entry.service) {
            return;
        }
        if entry.service.says_same(&service) {
            entry.service.resource_version = service.resource_version;
            return;
        }
        if service.ingress != entry.service.ingress {
            entry.given_up.clear();
            let held = self.allocator.held(&id).map(|held| &held.ips);
            entry.claim = held
                .filter(|held| !service.ingress.is_empty() && **held != service.ingress)
                .map(|_| service.ingress.clone());
        }
        let newly_deprecated = service.deprecated_annotations != entry.service.deprecated_annotations;
        entry.service = service.clone();
        if newly_deprecated {
            self.announce_deprecated(&service);
        }
        self.dirty.insert(id);
    }

    /// Said when it is seen to appear, not to everybody at every start.
    fn announce_deprecated(&mut self, service: &Service) {
        if self.acting() && !service.deprecated_annotations.is_empty() {
            let message = format!(
                "The annotation prefix is deprecated, use {}",
                service.deprecated_annotations
            );
            self.tell(service, EventReason::DeprecatedAnnotation, message);
        }
    }

    fn forget(&mut self, id: &ServiceId) {
        self.services.remove(id);
        self.dirty.remove(id);
        self.waiting.remove(id);
        if self.allocator.release(id).is_some() {
            self.wake = true;
        }
    }

    fn reconsider_all(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
        self.wake = true;
    }

    /// Starts or stops deciding. At the start, what the statuses say is written down before anything is decided, the
    /// oldest service first: of two that cannot share an address the older one keeps it.
    fn take_over(&mut self) {
        let held: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in &held {
            self.allocator.release(id);
        }
        self.waiting.clear();
        self.reported.clear();
        for entry in self.services.values_mut() {
            entry.given_up.clear();
            entry.claim = None;
            entry.problem = None;
        }
        if !self.acting() {
            return;
        }
        let mut entries: Vec<&Entry> = self.services.values().collect();
        entries.sort_by(|a, b| a.service.seniority().cmp(&b.service.seniority()));
        for Entry { service, .. } in entries {
            if self.is_ours(service)
                && !service.ingress.is_empty()
                && let Ok(pool) = self.allocator.check(&service.request, &service.ingress)
            {
                let request = &service.request;
                let (ips, sharing) = (service.ingress.clone(), request.sharing.clone());
                self.allocator.register(request.id.clone(), ips, pool, sharing);
            }
        }
        self.reconsider_all();
    }

    /// Services with an address first, then in order of age: who waits longest is served first.
    fn in_order(&self, batch: BTreeSet<ServiceId>) -> Vec<ServiceId> {
        let mut keyed: Vec<(bool, i64, ServiceId)> = Vec::with_capacity(batch.len());
        for id in batch {
            if let Some(entry) = self.services.get(&id) {
                let bare = self.allocator.held(&id).is_none() && entry.service.ingress.is_empty();
                keyed.push((bare, entry.service.created, id));
            }
        }
        keyed.sort();
        keyed.into_iter().map(|(_, _, id)| id).collect()
    }

    fn look_at(&mut self, id: &ServiceId) {
        let Some(entry) = self.services.get_mut(id) else {
            return;
        };
        let claim = entry.claim.take();
        if !entry.service.load_balancer {
            self.clean_up(id);
            return;
        }
        let service = entry.service.clone();
        let before = self.allocator.held(id).map(|held| held.ips.clone());
        // Other terms on an address may let somebody in who was refused.
        self.wake |= self
            .allocator
            .held(id)
            .is_some_and(|held| held.sharing != service.request.sharing);
        let from_status = (service.ingress != entry.given_up).then(|| service.ingress.clone());
        if before.is_none() && self.is_foreign(&service) {
            self.waiting.remove(id);
            return;
        }
        let current = match (claim, &before) {
            (Some(claim), _) if self.may_claim(&service, &claim) => claim,
            (_, Some(held)) => held.clone(),
            (_, None) => {
                let claim = from_status.unwrap_or_default();
                self.may_claim(&service, &claim);
                claim
            }
        };
        let decision = self.allocator.converge(&service.request, &current);
        self.settle(&service, &before.unwrap_or_default(), decision);
    }

    /// Whether the service may have the addresses that somebody wrote into its status. Younger services that hold them
    /// make room: a deposed leader may have given an address twice.
    fn may_claim(&mut self, service: &Service, ips: &[IpAddr]) -> bool {
        let own = service.seniority();
        let mut in_the_way = Vec::new();
        for refusal in self.allocator.conflicts(&service.request, ips) {
            let Refusal::InUse { by, why, .. } = refusal else {
                return false;
            };
            let younger = self
                .services
                .get(&by)
                .is_some_and(|other| own < other.service.seniority());
            // Ports and policies of two services change at any time; only a plain duplicate is somebody's mistake.
            if !younger || !matches!(why, Conflict::NotShared | Conflict::NoKey | Conflict::OtherKey) {
                return false;
            }
            in_the_way.push(by);
        }
        for id in in_the_way {
            self.allocator.release(&id);
            self.dirty.insert(id);
        }
        self.allocator.check(&service.request, ips).is_ok()
    }

    /// Carries a decision into outputs and queues.
    fn settle(&mut self, service: &Service, before: &[IpAddr], decision: Decision) {
        let id = &decision.service;
        let now: &[IpAddr] = match &decision.verdict {
            Verdict::Hold { ips, .. } => ips,
            Verdict::Pending(_) => &[],
        };
        if before.iter().any(|ip| !now.contains(ip)) {
            self.wake = true;
        }
        let wants_more = matches!(decision.verdict, Verdict::Pending(_))
            || matches!(decision.note, Some(Note::SecondFamilyMissing { .. }));
        if wants_more {
            self.waiting.insert(id.clone());
        } else {
            self.waiting.remove(id);
        }
        let announcement = Announcement::of(&decision);
        for (reason, message) in announcement.changes {
            self.tell(service, reason, message);
        }
        if let Some(entry) = self.services.get_mut(id) {
            if decision.cleared.is_some() {
                entry.given_up.clone_from(&entry.service.ingress);
            }
            let message = announcement.problem.as_ref().map(|(_, message)| message.clone());
            let known = entry.problem == message;
            entry.problem = message;
            if let Some((reason, message)) = announcement.problem.filter(|_| !known) {
                self.tell(service, reason, message);
            }
        }
        if self.status_write(id).is_some() {
            self.outputs.push(Output::Write(id.clone()));
        }
        let plain_keep = matches!(&decision.verdict, Verdict::Hold { added, .. } if added.is_empty())
            && decision.cleared.is_none();
        if !plain_keep {
            self.outputs.push(Output::Decided(decision));
        }
    }

    /// A service that is no load balancer any more: its addresses are free, its status loses our marks.
    fn clean_up(&mut self, id: &ServiceId) {
        if self.allocator.release(id).is_some() {
            self.wake = true;
        }
        self.waiting.remove(id);
        if self.status_write(id).is_some() {
            self.outputs.push(Output::Write(id.clone()));
        } else {
            self.services.remove(id);
        }
    }

    fn tell(&mut self, service: &Service, reason: EventReason, message: String) {
        let event = Event {
            service: service.request.id.clone(),
            uid: service.uid.clone(),
            reason,
            message,
        };
        self.outputs.push(Output::Event(event));
    }

    fn report_counters(&mut self) {
        let now: BTreeMap<String, Counters> = self
            .allocator
            .counters()
            .map(|(name, counters)| (name.to_owned(), counters))
            .collect();
        for name in self.reported.keys().filter(|name| !now.contains_key(*name)) {
            self.outputs.push(Output::Counters(name.clone(), None));
        }
        for (name, counters) in &now {
            if self.reported.get(name) != Some(counters) {
                self.outputs.push(Output::Counters(name.clone(), Some(*counters)));
            }
        }
        self.reported = now;
    }
}
