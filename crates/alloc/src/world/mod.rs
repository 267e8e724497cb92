//! All services, over time: what comes from the watches goes in, what has to be written comes out.

mod intake;
mod look;
mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, Labels};

use crate::Allocator;
use crate::decision::Decision;
use crate::event::Event;
use crate::known::Known;
use crate::policy::{ClassPolicy, Policy};
use crate::request::ServiceId;
use crate::service::Service;
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
    /// A service as a watch shows it. Older than what is known, or of an object that is known to be deleted: ignored.
    Applied(Box<Service>),
    /// A service as the reply to a write, or a read after a refused one, shows it: ahead of the watch. Addresses that
    /// somebody else wrote are not overruled before the watch has shown them too, with everything that led to them.
    Read(Box<Service>),
    /// This object is gone. A service of the same name that is another object stays: news about the two can cross.
    Gone {
        /// The service.
        service: ServiceId,
        /// Its `metadata.uid`.
        uid: Box<str>,
    },
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
    /// Look again at every service that waits. Whatever can help one wakes it by itself; this is for the case that this
    /// sentence is wrong, and costs little once in a few minutes.
    Retry,
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
    /// What is doubtful about what a pool has given, as sentences, instead of what was said before; empty: nothing any
    /// more. A pool that is gone has no warnings, without being told.
    PoolWarnings(String, Vec<String>),
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

/// How a service was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Listed,
    Watched,
    Read,
}

#[derive(Debug)]
struct Entry {
    known: Arc<Known>,
    /// Number of the last list that showed it.
    listed: u64,
    /// Its owner was told about deprecated annotations.
    told_deprecated: bool,
    /// What most services never have.
    odd: Option<Box<Odd>>,
}

#[derive(Debug, Default)]
struct Odd {
    /// Addresses that were taken from it; while its status still names them they are no claim.
    given_up: Vec<IpAddr>,
    /// Somebody else wrote other addresses into its status since it was last looked at.
    claim: Option<Vec<IpAddr>>,
    /// That is known from a reply only: see [`Input::Read`].
    unconfirmed: bool,
    /// What its owner was last told is wrong; told once.
    problem: Option<String>,
}

impl Entry {
    fn new(known: Known, listed: u64) -> Self {
        Self {
            known: Arc::new(known),
            listed,
            told_deprecated: false,
            odd: None,
        }
    }

    fn odd(&mut self) -> &mut Odd {
        self.odd.get_or_insert_default()
    }

    fn is_unconfirmed(&self) -> bool {
        self.odd.as_ref().is_some_and(|odd| odd.unconfirmed)
    }

    fn given_up(&self) -> &[IpAddr] {
        self.odd.as_ref().map_or(&[], |odd| &odd.given_up)
    }

    /// Forgets addresses that were taken or claimed.
    fn forget_moves(&mut self) {
        if let Some(odd) = &mut self.odd {
            odd.given_up = Vec::new();
            odd.claim = None;
            odd.unconfirmed = false;
            if odd.problem.is_none() {
                self.odd = None;
            }
        }
    }

    /// Notes what is wrong; true when that is news.
    fn note_problem(&mut self, problem: Option<&str>) -> bool {
        let known = self.odd.as_ref().and_then(|odd| odd.problem.as_deref());
        if known == problem {
            return false;
        }
        self.odd().problem = problem.map(str::to_owned);
        problem.is_some()
    }
}

/// Services that are known to be deleted, by UID. The answer to a write can arrive after the news of the deletion, and
/// must not bring the service back to life.
#[derive(Debug, Default)]
struct Graves {
    uids: BTreeSet<Box<str>>,
    order: VecDeque<Box<str>>,
}

impl Graves {
    /// Far more than can be deleted while one answer is under way.
    const REMEMBERED: usize = 4_096;

    fn dig(&mut self, uid: &str) {
        if uid.is_empty() || !self.uids.insert(uid.into()) {
            return;
        }
        self.order.push_back(uid.into());
        if self.order.len() > Self::REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    fn holds(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

/// Times that [`World::drain`] looks whether its own decisions call for others.
const ROUNDS: usize = 1_000;

/// All services and the allocation table. See [`Input`] and [`Output`].
#[derive(Debug, Default)]
pub struct World {
    classes: ClassPolicy,
    allocator: Allocator,
    services: BTreeMap<ServiceId, Entry>,
    graves: Graves,
    list: u64,
    /// While a list is under way: the newest resource version that it showed.
    listing: Option<u64>,
    synced: bool,
    leading: bool,
    /// Services to look at.
    dirty: BTreeSet<ServiceId>,
    /// Services that would take an address if one were freed.
    waiting: BTreeSet<ServiceId>,
    /// An address was freed or the pools changed: those waiting are looked at again.
    wake: bool,
    reported: BTreeMap<Arc<str>, report::Reported>,
    outputs: Vec<Output>,
}

impl World {
    /// A world without services and configuration, not leading.
    pub fn new(policy: impl Into<Policy>) -> Self {
        let Policy { classes, reuse } = policy.into();
        Self {
            classes,
            allocator: Allocator::new(reuse),
            ..Self::default()
        }
    }

    /// Takes one input in. Nothing is decided before [`World::drain`].
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::ListStarted => {
                self.list += 1;
                self.listing = Some(0);
            }
            Input::ListDone => self.list_done(),
            Input::Listed(service) => self.apply(*service, Seen::Listed),
            Input::Applied(service) => self.apply(*service, Seen::Watched),
            Input::Read(service) => self.apply(*service, Seen::Read),
            Input::Gone { service, uid } => self.bury(&service, &uid),
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
                self.allocator.set_reserved(&addresses);
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
            Input::Retry => self.wake = true,
        }
    }

    /// Decides whatever is due, and returns what has to be done, in order. Call it after each burst of inputs.
    pub fn drain(&mut self) -> Vec<Output> {
        if self.acting() {
            let mut rounds = 0;
            while self.wake || !self.dirty.is_empty() {
                // Two or three are usual. A mistake must not keep the process from everything else: the rest is for the
                // next call.
                rounds += 1;
                debug_assert!(rounds < ROUNDS, "no rest for {:?}", self.dirty);
                if rounds >= ROUNDS {
                    break;
                }
                let mut batch = std::mem::take(&mut self.dirty);
                if std::mem::take(&mut self.wake) {
                    batch.extend(self.waiting.iter().cloned());
                }
                for id in self.in_order(batch) {
                    self.look_at(&id);
                }
            }
            self.report();
        }
        std::mem::take(&mut self.outputs)
    }

    /// The write that the service's status needs, against the newest version known; `None` when it is as it should be.
    pub fn status_write(&self, id: &ServiceId) -> Option<StatusWrite> {
        let entry = self.services.get(id).filter(|_| self.acting())?;
        if entry.is_unconfirmed() {
            return None;
        }
        let service = &entry.known.service;
        let held = self.allocator.held(id);
        if held.is_none() && self.is_foreign(service) {
            return None;
        }
        let ips = held.map_or(&[][..], |held| &held.ips);
        let pool = held.map(|held| &*held.pool);
        let as_it_should_be = service.ingress == ips
            && !service.other_ingress
            && service.recorded_pool.as_deref() == pool
            && (pool.is_some() || !service.deprecated_record);
        (!as_it_should_be).then(|| StatusWrite {
            service: id.clone(),
            resource_version: service.resource_version.clone(),
            ips: ips.to_vec(),
            pool: pool.map(str::to_owned),
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

    /// Whether this world decides: it leads and knows everything.
    fn acting(&self) -> bool {
        self.synced && self.leading
    }

    fn is_ours(&self, service: &Service) -> bool {
        service.load_balancer && self.classes.admits(service.class.as_deref())
    }

    /// Whether another controller wrote the status: it does not bear our mark, and no pool has its addresses. Such a
    /// service is left alone (the Go version clears it), unless it asks for us by our class or a pool of ours: then what is
    /// there was left by a controller that it had before.
    fn is_foreign(&self, service: &Service) -> bool {
        let in_a_pool = |ips: &[IpAddr]| {
            ips.iter()
                .any(|ip| self.allocator.config().pool_of(*ip).is_some())
        };
        let request = &service.request;
        let asks_for_us = self.is_ours(service)
            && (service.class.is_some()
                || request.wanted_pool.is_some()
                || request.wanted_ips.as_deref().is_ok_and(in_a_pool));
        service.has_ingress() && !service.is_recorded() && !asks_for_us && !in_a_pool(&service.ingress)
    }

    fn reconsider_all(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
        self.wake = true;
    }
}
