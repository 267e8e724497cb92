//! Virtual time, faults, users.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metallb_alloc::{Input, Output, Policy, ServiceId, StatusWrite, World};
use metallb_lease::{Input as LeaseInput, Output as LeaseOutput, Timing};
use metallb_model::Config;
use metallb_sansio::{Instant, Machine as _, SeededRng};

use crate::api::{Answer, Api};
use crate::judge::Judge;
use crate::replica::{Replica, Wish};
use crate::users::{ADDRESSES, configuration};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Disturbances and actions of users in one run.
const FAULTS: u64 = 12;
const ACTIONS: u64 = 90;
/// Disturbances begin within this time.
const ACTIVE: Duration = Duration::from_secs(150);

#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) steps: usize,
    pub(crate) writes: usize,
    pub(crate) refused: usize,
    pub(crate) take_overs: usize,
    /// Writes that arrived from a replica that did not lead any more.
    pub(crate) late_writes: usize,
    pub(crate) doubles: usize,
    pub(crate) longest_repair: Duration,
}

impl Statistics {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.writes += other.writes;
        self.refused += other.refused;
        self.take_overs += other.take_overs;
        self.late_writes += other.late_writes;
        self.doubles += other.doubles;
        self.longest_repair = self.longest_repair.max(other.longest_repair);
    }
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    at: Instant,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} fails at {}: {}", self.seed, self.at, self.what)
    }
}

/// Something that happens to one life of one replica.
enum Happening {
    Wake,
    Listed,
    Watched(usize),
    LeaseArrives(u64, LeaseOutput),
    LeaseAnswers(u64, LeaseInput),
    Sends(u64, StatusWrite),
    Answers(u64, ServiceId, Option<Answer>),
    Retries(ServiceId),
}

enum Event {
    /// At the replica; waits while it stands still.
    At(usize, u64, Happening),
    /// At the API server, from a replica.
    Arrives(usize, u64, u64, StatusWrite),
    Fault,
    Action,
    Starts(usize),
    Resumes(usize),
    Heals(usize),
    Recovers,
}

pub(crate) struct Sim {
    seed: u64,
    pub(crate) rng: SeededRng,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    numbers: u64,
    pub(crate) api: Api,
    config: Arc<Config>,
    replicas: Vec<Replica>,
    /// What waits for a replica that stands still.
    deferred: Vec<Vec<Event>>,
    pub(crate) judge: Judge,
    /// Longest time from a replica to the API server or back.
    latency: Duration,
    loss: u8,
    down: bool,
    pub(crate) made: i64,
    statistics: Statistics,
    verbose: bool,
    failure: Option<String>,
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let count = 2 + usize::try_from(rng.below(2)).expect("few");
        let replicas = (0..count).map(|index| Replica::new(format!("pod-{index}"), Instant::ZERO));
        let loss = [0, 0, 1, 5][usize::try_from(rng.below(4)).expect("few")];
        Self {
            seed,
            rng,
            now: Instant::ZERO,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbers: 0,
            api: Api::default(),
            config: configuration(),
            replicas: replicas.collect(),
            deferred: (0..count).map(|_| Vec::new()).collect(),
            judge: Judge::default(),
            latency: ms(10),
            loss,
            down: false,
            made: 0,
            statistics: Statistics::default(),
            verbose: false,
            failure: None,
        }
    }

    pub(crate) fn verbose(mut self) -> Self {
        self.verbose = true;
        self
    }

    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            println!("{} {}", self.now, text());
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.numbers += 1;
        self.queue.push(Reverse((self.now + delay, self.numbers)));
        self.events.insert(self.numbers, event);
    }

    fn at(&mut self, delay: Duration, replica: usize, happening: Happening) {
        let life = self.replicas[replica].life;
        self.after(delay, Event::At(replica, life, happening));
    }

    /// Time that a message takes; `None`: it is lost.
    fn travel(&mut self, replica: usize) -> Option<Duration> {
        let lost = self.replicas[replica].cut || self.down || self.rng.percent(self.loss);
        let time = ms(1) + self.rng.up_to(self.latency);
        (!lost).then_some(time)
    }

    pub(crate) fn run(mut self) -> Result<Statistics, Failure> {
        for replica in 0..self.replicas.len() {
            self.start(replica);
        }
        for _ in 0..FAULTS {
            let delay = ms(5_000) + self.rng.up_to(ACTIVE);
            self.after(delay, Event::Fault);
        }
        for _ in 0..ACTIONS {
            let delay = self.rng.up_to(ACTIVE + ms(10_000));
            self.after(delay, Event::Action);
        }
        self.go_on(ACTIVE + ms(60_000));
        self.heal();
        self.go_on(ms(60_000));
        self.at_rest();
        // Everything starts anew: nothing may be written.
        let writes = self.statistics.writes;
        for replica in 0..self.replicas.len() {
            self.kill(replica, ms(500));
        }
        self.go_on(ms(60_000));
        if self.statistics.writes != writes {
            self.fail("a restart of everything writes".to_owned());
        }
        self.at_rest();
        let (seed, at) = (self.seed, self.now);
        self.statistics.doubles = self.judge.doubles_seen;
        self.statistics.longest_repair = self.judge.longest_repair;
        match self.failure {
            Some(what) => Err(Failure { seed, at, what }),
            None => Ok(self.statistics),
        }
    }

    fn fail(&mut self, what: String) {
        self.say(|| format!("FAILURE: {what}"));
        self.failure.get_or_insert(what);
    }

    fn go_on(&mut self, time: Duration) {
        let end = self.now + time;
        while self.failure.is_none()
            && let Some(Reverse((at, number))) = self.queue.peek().copied()
            && at <= end
        {
            self.queue.pop();
            self.now = at;
            self.statistics.steps += 1;
            if let Err(what) = self.judge.pass(self.now, &self.replicas) {
                self.fail(what);
                return;
            }
            if let Some(event) = self.events.remove(&number) {
                self.take(event);
            }
        }
        if self.failure.is_none() {
            self.now = end;
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::At(replica, life, happening) => {
                if self.replicas[replica].life != life || !self.replicas[replica].alive {
                } else if self.replicas[replica].paused {
                    self.deferred[replica].push(Event::At(replica, life, happening));
                } else {
                    self.happen(replica, happening);
                }
            }
            Event::Arrives(replica, life, number, write) => self.arrive(replica, life, number, &write),
            Event::Fault => self.fault(),
            Event::Action => self.act_as_user(),
            Event::Starts(replica) => self.start(replica),
            Event::Resumes(replica) => self.resume(replica),
            Event::Heals(replica) => {
                self.replicas[replica].cut = false;
                self.reconnect(replica);
            }
            Event::Recovers => self.recover(),
        }
    }

    fn recover(&mut self) {
        self.down = false;
        self.latency = ms(10);
        for replica in 0..self.replicas.len() {
            self.reconnect(replica);
        }
    }

    fn happen(&mut self, replica: usize, happening: Happening) {
        let now = self.now;
        let this = &mut self.replicas[replica];
        let clock = this.clock(now);
        match happening {
            Happening::Wake => this.alarm = None,
            Happening::Listed => {
                if this.cut || self.down {
                    self.at(ms(500), replica, Happening::Listed);
                    return;
                }
                this.list(self.api.services.values(), self.api.log.len(), &self.config);
            }
            Happening::Watched(up_to) => {
                if !this.cut && !self.down && this.synced {
                    this.watch(&self.api.log, up_to);
                }
            }
            Happening::LeaseArrives(number, request) => {
                // The answer is made when the request arrives, even if nobody waits for it any more.
                let answer = match request {
                    LeaseOutput::Write(record) => self.api.write_lease(record),
                    _ => self.api.read_lease(),
                };
                if let Some(time) = self.travel(replica) {
                    self.at(time, replica, Happening::LeaseAnswers(number, answer));
                }
                return;
            }
            Happening::LeaseAnswers(number, answer) => {
                if this.lease_request != Some(number) {
                    return;
                }
                this.lease_request = None;
                this.lease.handle(clock, answer);
            }
            Happening::Sends(number, write) => {
                if let Some(time) = self.travel(replica) {
                    let life = self.replicas[replica].life;
                    self.after(time, Event::Arrives(replica, life, number, write));
                }
                return;
            }
            Happening::Answers(number, id, answer) => {
                if !this.ended(&id, number) {
                    return;
                }
                match answer {
                    Some(Answer::Is(service)) => this.succeeded(service),
                    // The watch will tell; the service may be there anew.
                    Some(Answer::Gone) => {}
                    None => {
                        let Wish::Retry(id, pause) = this.failed(&id) else {
                            return;
                        };
                        self.at(pause, replica, Happening::Retries(id));
                    }
                }
            }
            Happening::Retries(id) => this.retry(id),
        }
        self.act(replica);
    }

    fn act(&mut self, replica: usize) {
        let this = &mut self.replicas[replica];
        let led = this.lease.leading_until().is_some();
        let wishes = this.act(self.now, &mut self.numbers);
        let leads = this.lease.leading_until().is_some();
        let limit = Timing::default().request;
        if leads != led {
            self.say(|| {
                format!(
                    "replica {replica} {}",
                    if leads { "leads" } else { "leads no longer" }
                )
            });
            self.statistics.take_overs += usize::from(leads);
        }
        for wish in wishes {
            match wish {
                Wish::Lease(LeaseOutput::Stopped) => self.kill(replica, ms(2_000)),
                Wish::Lease(request) => {
                    self.numbers += 1;
                    let number = self.numbers;
                    self.replicas[replica].lease_request = Some(number);
                    self.at(
                        limit,
                        replica,
                        Happening::LeaseAnswers(number, LeaseInput::Failed),
                    );
                    if let Some(time) = self.travel(replica) {
                        self.at(time, replica, Happening::LeaseArrives(number, request));
                    }
                }
                Wish::Write(write) => {
                    let id = write.service.clone();
                    let number = self.replicas[replica].under_way[&id].0;
                    self.at(limit, replica, Happening::Answers(number, id, None));
                    self.at(ms(1), replica, Happening::Sends(number, write));
                    if let Some(time) = self.replicas[replica].stall.take() {
                        self.say(|| format!("replica {replica} stands still for {time:?} before it sends"));
                        self.pause(replica, time);
                    }
                }
                Wish::Retry(id, pause) => self.at(pause, replica, Happening::Retries(id)),
            }
        }
        let due = self.replicas[replica].due();
        if let Some(at) = due.filter(|_| due != self.replicas[replica].alarm) {
            self.replicas[replica].alarm = due;
            self.at(at - self.now, replica, Happening::Wake);
        }
    }

    fn arrive(&mut self, replica: usize, life: u64, number: u64, write: &StatusWrite) {
        let this = &self.replicas[replica];
        let late = this.life != life || !this.fence_is_open(self.now);
        let (went_through, answer) = self.api.write(write);
        self.say(|| {
            let verb = if went_through { "writes" } else { "is refused" };
            let late = if late { ", late" } else { "" };
            format!("replica {replica} {verb} {} {:?}{late}", write.service, write.ips)
        });
        if went_through {
            self.statistics.writes += 1;
            self.statistics.late_writes += usize::from(late);
            let outcome = self.judge.written(&self.api.services[&write.service]);
            self.changed();
            if let Err(what) = outcome {
                self.fail(what);
            }
        } else {
            self.statistics.refused += 1;
        }
        if this_life(&self.replicas[replica], life)
            && let Some(time) = self.travel(replica)
        {
            self.at(
                time,
                replica,
                Happening::Answers(number, write.service.clone(), Some(answer)),
            );
        }
    }

    /// A service changed: watches tell.
    pub(crate) fn changed(&mut self) {
        self.judge.look(&self.api);
        let up_to = self.api.log.len();
        for replica in 0..self.replicas.len() {
            if let Some(time) = self.travel(replica) {
                self.at(time, replica, Happening::Watched(up_to));
            } else if !self.replicas[replica].cut && !self.down {
                self.at(ms(1_000), replica, Happening::Watched(up_to));
            }
        }
    }

    fn start(&mut self, replica: usize) {
        if self.replicas[replica].life > 0 || self.replicas[replica].synced {
            self.say(|| format!("replica {replica} starts"));
        }
        let delay = ms(50) + self.rng.up_to(ms(500));
        self.at(delay, replica, Happening::Listed);
        self.at(Duration::ZERO, replica, Happening::Wake);
    }

    fn reconnect(&mut self, replica: usize) {
        if !self.replicas[replica].alive {
            return;
        }
        let up_to = self.api.log.len();
        let relists = self.rng.percent(50) || !self.replicas[replica].synced;
        let happening = if relists {
            Happening::Listed
        } else {
            Happening::Watched(up_to)
        };
        let delay = self.rng.up_to(ms(1_000));
        self.at(delay, replica, happening);
    }

    fn kill(&mut self, replica: usize, delay: Duration) {
        self.say(|| format!("replica {replica} is killed"));
        let lives = self.replicas[replica].life;
        // The container is started again, or the pod is replaced.
        let identity = if self.rng.percent(60) {
            self.replicas[replica].identity.clone()
        } else {
            format!("pod-{replica}-{lives}")
        };
        let clock = self.now;
        self.replicas[replica].restart(identity, clock);
        self.deferred[replica].clear();
        self.after(delay, Event::Starts(replica));
    }

    fn pause(&mut self, replica: usize, time: Duration) {
        if self.replicas[replica].paused {
            return;
        }
        self.replicas[replica].paused = true;
        // A whole machine that stands still takes its clock along.
        if self.rng.percent(30) {
            self.say(|| format!("replica {replica}'s clock stands still too"));
            self.replicas[replica].clock_lag += time;
        }
        self.after(time, Event::Resumes(replica));
    }

    fn resume(&mut self, replica: usize) {
        if !self.replicas[replica].paused {
            return;
        }
        self.say(|| format!("replica {replica} goes on"));
        self.replicas[replica].paused = false;
        for event in std::mem::take(&mut self.deferred[replica]) {
            self.after(Duration::ZERO, event);
        }
        self.at(Duration::ZERO, replica, Happening::Wake);
    }

    fn fault(&mut self) {
        let leader = self
            .replicas
            .iter()
            .position(|replica| replica.is_in_charge(self.now));
        let any = usize::try_from(self.rng.below(self.replicas.len() as u64)).expect("few");
        let replica = leader.filter(|_| self.rng.percent(70)).unwrap_or(any);
        let time = ms(500) + self.rng.up_to(ms(35_000));
        match self.rng.below(8) {
            0 => {
                let delay = ms(300) + self.rng.up_to(ms(8_000));
                self.kill(replica, delay);
            }
            1 => {
                self.say(|| format!("replica {replica} stands still for {time:?}"));
                self.pause(replica, time);
            }
            2 | 3 => self.replicas[replica].stall = Some(ms(14_000) + self.rng.up_to(ms(20_000))),
            4 => {
                self.say(|| format!("replica {replica} is cut off for {time:?}"));
                self.replicas[replica].cut = true;
                self.after(time, Event::Heals(replica));
            }
            5 => {
                self.say(|| format!("the API server is away for {time:?}"));
                self.down = true;
                self.after(time, Event::Recovers);
            }
            6 => {
                self.say(|| format!("the API server is slow for {time:?}"));
                self.latency = ms(2_000);
                self.after(time, Event::Recovers);
            }
            _ => {
                self.say(|| format!("replica {replica} is told to stop"));
                let clock = self.replicas[replica].clock(self.now);
                let this = &mut self.replicas[replica];
                if this.alive && !this.paused && !this.stopping {
                    this.stopping = true;
                    this.lease.handle(clock, LeaseInput::Stop);
                    self.act(replica);
                }
            }
        }
    }

    /// No disturbance any more.
    fn heal(&mut self) {
        self.say(|| "everything is whole again".to_owned());
        self.loss = 0;
        for replica in 0..self.replicas.len() {
            self.replicas[replica].cut = false;
            self.replicas[replica].stall = None;
            self.resume(replica);
        }
        self.recover();
    }

    /// What must be true when nothing has happened for a while.
    fn at_rest(&mut self) {
        if self.failure.is_some() {
            return;
        }
        if let Some((a, b)) = self.api.doubles().first() {
            self.fail(format!("{a} and {b} have one address in the end"));
        }
        let leaders = self
            .replicas
            .iter()
            .filter(|replica| replica.is_in_charge(self.now));
        if leaders.count() != 1 {
            self.fail("there is not one leader in the end".to_owned());
        }
        // A replica that knows nothing but what is stored finds nothing to do.
        let mut fresh = World::new(Policy::default());
        fresh.handle(Input::ListStarted);
        for service in self.api.services.values() {
            fresh.handle(Input::Listed(Box::new(service.clone())));
        }
        for input in [
            Input::ListDone,
            Input::Config(self.config.clone()),
            Input::Synced,
            Input::Leading(true),
        ] {
            fresh.handle(input);
        }
        let left: Vec<Output> = fresh.drain();
        if let Some(Output::Write(id)) = left.iter().find(|output| matches!(output, Output::Write(_))) {
            self.fail(format!("{id} is left as it should not be"));
        }
        let plain_waits = self.api.services.values().any(|service| {
            let request = &service.request;
            service.load_balancer && service.ingress.is_empty() && request.wanted_ips == Ok(Vec::new())
        });
        let mut used: Vec<_> = self
            .api
            .services
            .values()
            .flat_map(|service| service.ingress.iter().filter(|ip| ip.is_ipv4()))
            .collect();
        used.sort();
        used.dedup();
        if plain_waits && (used.len() as u64) < ADDRESSES {
            self.fail("a service waits although an address is free".to_owned());
        }
    }
}

fn this_life(replica: &Replica, life: u64) -> bool {
    replica.life == life && replica.alive
}
