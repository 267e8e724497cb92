//! One replica: the machines and what the binary does around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use metallb_alloc::{Input, Output, Policy, Service, ServiceId, StatusWrite, World};
use metallb_lease::{LeaseMachine, Output as LeaseOutput, Timing};
use metallb_model::Config;
use metallb_sansio::{Instant, Machine as _};

use crate::api::Change;

/// Writes under way at once, as in the binary.
const CONCURRENT: usize = 16;
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What a replica asks of its surroundings.
pub(crate) enum Wish {
    Lease(LeaseOutput),
    /// Allowed by the fence a moment ago; to be sent now.
    Write(StatusWrite),
    /// Not allowed, or failed: ask again.
    Retry(ServiceId, Duration),
}

pub(crate) struct Replica {
    pub(crate) identity: String,
    pub(crate) world: World,
    pub(crate) lease: LeaseMachine,
    /// Number of this process; what belongs to an earlier one is void.
    pub(crate) life: u64,
    pub(crate) alive: bool,
    pub(crate) synced: bool,
    pub(crate) stopping: bool,
    /// It stands still; what happens to it waits.
    pub(crate) paused: bool,
    /// It has no connection to the API server.
    pub(crate) cut: bool,
    /// Total time for which its clock stood still as well.
    pub(crate) clock_lag: Duration,
    /// Next entry of the API server's log to see.
    pub(crate) cursor: usize,
    /// Number of the request about the Lease that is under way.
    pub(crate) lease_request: Option<u64>,
    /// Writes under way, with their number and since when.
    pub(crate) under_way: BTreeMap<ServiceId, (u64, Instant)>,
    waiting: VecDeque<ServiceId>,
    failures: BTreeMap<ServiceId, u32>,
    pub(crate) backing_off: BTreeSet<ServiceId>,
    /// When it is woken next.
    pub(crate) alarm: Option<Instant>,
    /// Stand still for this long between the next look at the fence and the sending.
    pub(crate) stall: Option<Duration>,
}

impl Replica {
    pub(crate) fn new(identity: String, now: Instant) -> Self {
        Self {
            world: World::new(Policy::default()),
            lease: LeaseMachine::new(identity.clone(), Timing::default(), now),
            identity,
            life: 0,
            alive: true,
            synced: false,
            stopping: false,
            paused: false,
            cut: false,
            clock_lag: Duration::ZERO,
            cursor: 0,
            lease_request: None,
            under_way: BTreeMap::new(),
            waiting: VecDeque::new(),
            failures: BTreeMap::new(),
            backing_off: BTreeSet::new(),
            alarm: None,
            stall: None,
        }
    }

    /// A new process in its place.
    pub(crate) fn restart(&mut self, identity: String, now: Instant) {
        let life = self.life + 1;
        let cut = self.cut;
        *self = Self::new(identity, now);
        self.life = life;
        self.cut = cut;
    }

    /// Its own clock.
    pub(crate) fn clock(&self, now: Instant) -> Instant {
        Instant::ZERO + (now - Instant::ZERO).saturating_sub(self.clock_lag)
    }

    /// When it wants to be woken, in true time.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.lease.poll_timeout().map(|due| due + self.clock_lag)
    }

    /// Whether its writes are allowed, by its own clock.
    pub(crate) fn fence_is_open(&self, now: Instant) -> bool {
        self.lease
            .leading_until()
            .is_some_and(|until| self.clock(now) < until)
    }

    /// Whether it runs, leads, and hears and reaches the API server.
    pub(crate) fn is_in_charge(&self, now: Instant) -> bool {
        self.alive && !self.paused && !self.cut && self.synced && self.fence_is_open(now)
    }

    pub(crate) fn list<'a>(
        &mut self,
        services: impl Iterator<Item = &'a Service>,
        cursor: usize,
        config: &Arc<Config>,
    ) {
        self.world.handle(Input::ListStarted);
        for service in services {
            self.world.handle(Input::Listed(Box::new(service.clone())));
        }
        self.world.handle(Input::ListDone);
        self.cursor = cursor;
        if !self.synced {
            self.synced = true;
            self.world.handle(Input::Config(config.clone()));
            self.world.handle(Input::Synced);
        }
    }

    pub(crate) fn watch(&mut self, log: &[Change], up_to: usize) {
        for change in log.get(self.cursor..up_to).unwrap_or_default() {
            self.world.handle(match change {
                Change::Put(service) => Input::Applied(service.clone()),
                Change::Gone(service, uid) => Input::Gone {
                    service: service.clone(),
                    uid: uid.clone(),
                },
            });
        }
        self.cursor = self.cursor.max(up_to);
    }

    fn ask(&mut self, id: ServiceId) {
        if !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
    }

    pub(crate) fn retry(&mut self, id: ServiceId) {
        self.backing_off.remove(&id);
        self.ask(id);
    }

    /// The write with this number ended; false when it is void.
    pub(crate) fn ended(&mut self, id: &ServiceId, number: u64) -> bool {
        let current = self.under_way.get(id).is_some_and(|(known, _)| *known == number);
        if current {
            self.under_way.remove(id);
        }
        current
    }

    pub(crate) fn succeeded(&mut self, service: Box<Service>) {
        let id = service.request.id.clone();
        self.failures.remove(&id);
        self.world.handle(Input::Read(service));
        self.ask(id);
    }

    pub(crate) fn failed(&mut self, id: &ServiceId) -> Wish {
        let failures = self.failures.entry(id.clone()).or_default();
        let pause = PAUSE_FIRST
            .saturating_mul(1 << (*failures).min(10))
            .min(PAUSE_MAX);
        *failures += 1;
        self.backing_off.insert(id.clone());
        Wish::Retry(id.clone(), pause)
    }

    /// Decides what is due and starts writes.
    pub(crate) fn act(&mut self, now: Instant, numbers: &mut u64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let clock = self.clock(now);
        self.lease.handle_timeout(clock);
        while let Some(output) = self.lease.poll_output() {
            match output {
                LeaseOutput::Leading => self.world.handle(Input::Leading(true)),
                LeaseOutput::Lost => {
                    self.world.handle(Input::Leading(false));
                    self.waiting.clear();
                    self.failures.clear();
                }
                request => wishes.push(Wish::Lease(request)),
            }
        }
        // It stood still for longer than the lease: the election has its say first.
        if self.lease.leading_until().is_some() && !self.fence_is_open(now) {
            return wishes;
        }
        for output in self.world.drain() {
            if let Output::Write(id) = output {
                self.ask(id);
            }
        }
        while self.under_way.len() < CONCURRENT {
            let free = |id: &ServiceId| !self.under_way.contains_key(id);
            let Some(index) = self.waiting.iter().position(free) else {
                break;
            };
            let Some(id) = self.waiting.remove(index) else {
                break;
            };
            let Some(write) = self.world.status_write(&id) else {
                continue;
            };
            if self.fence_is_open(now) {
                *numbers += 1;
                self.under_way.insert(id, (*numbers, now));
                wishes.push(Wish::Write(write));
            } else {
                wishes.push(self.failed(&id));
            }
        }
        wishes
    }
}
