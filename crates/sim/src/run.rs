//! A run: a schedule of faults drawn from a seed, and what must hold meanwhile.

use std::fmt;

use metallb_sansio::{Duration, Instant, SeededRng};
use metallb_speaker_core::election::rank;

use crate::cluster::{Cluster, NodeNumber};
use crate::facts::{Facts, ServiceNumber, node_name};

/// How often owners are compared in full: between two looks, every change is still judged by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One disturbance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A speaker is killed.
    Kill(NodeNumber),
    /// A speaker stops cleanly.
    Stop(NodeNumber),
    /// A speaker starts.
    Start(NodeNumber),
    /// A speaker is not scheduled for a while.
    Pause(NodeNumber, Duration),
    /// A speaker is scheduled again (drawn by [`Fault::Pause`]).
    Resume(NodeNumber),
    /// A cable is pulled.
    Unplug(NodeNumber),
    /// A cable is plugged in.
    Plug(NodeNumber),
    /// The LAN falls apart: these nodes are on their own.
    Split(Vec<NodeNumber>),
    /// The LAN is whole again.
    Heal,
    /// A node loses the API server.
    CutApi(NodeNumber),
    /// Everybody reaches the API server again.
    RestoreApi,
    /// A node gets or loses the exclude label.
    Exclude(NodeNumber, bool),
    /// The endpoints of a service move.
    Place(ServiceNumber, Vec<NodeNumber>),
    /// Everything that is broken is repaired.
    RepairAll,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest time without an answering node.
    pub takeover: Duration,
    /// After this long without a disturbance everything is as it should be.
    pub converged: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        // At start-up a peer that is not there is presumed alive for 1.5 s; that is the longest of the two.
        Self {
            takeover: Duration::from_millis(1_700),
            converged: Duration::from_millis(2_500),
        }
    }
}

/// What was broken, and when.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that replays it.
    pub seed: u64,
    /// Virtual time.
    pub at: Instant,
    /// Which invariant and how.
    pub what: String,
    /// What happened before, oldest first.
    pub history: Vec<(Instant, Fault)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} at {}: {}", self.seed, self.at, self.what)?;
        for (at, fault) in self.history.iter().rev().take(12).rev() {
            writeln!(f, "  {at} {fault:?}")?;
        }
        write!(
            f,
            "  replay: SIM_SEED={} cargo test -p metallb-sim --test seeds",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}

/// What a run saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Longest time that an address had no answering node among the clients, in any of its services.
    pub longest_gap: Duration,
    /// Disturbances.
    pub faults: usize,
    /// Owner changes, over all nodes' views.
    pub changes: usize,
    /// Membership datagrams.
    pub datagrams: u64,
}

/// A simulated cluster with a schedule of faults.
pub struct Run {
    seed: u64,
    rng: SeededRng,
    cluster: Cluster,
    bounds: Bounds,
    disturbed: Instant,
    history: Vec<(Instant, Fault)>,
    schedule: Vec<(Instant, Fault)>,
    nobody_since: Vec<Option<Instant>>,
    /// When the owners were last compared in full.
    looked: Instant,
    statistics: Statistics,
}

impl Run {
    /// A run that is a function of `seed`: its size, its losses and its faults.
    pub fn new(seed: u64, bounds: Bounds) -> Self {
        let mut rng = SeededRng::new(seed);
        let nodes = match rng.below(10) {
            0 => 2,
            1..=5 => 3,
            6..=8 => 4 + rng.below(4) as usize,
            _ => 8 + rng.below(8) as usize,
        };
        let services = 1 + rng.below(4) as usize;
        let mut cluster = Cluster::new(nodes, services, rng.next_u64());
        cluster.lose([0, 0, 1, 5][rng.below(4) as usize]);
        let now = cluster.now();
        Self {
            seed,
            rng,
            cluster,
            bounds,
            disturbed: now,
            history: Vec::new(),
            schedule: Vec::new(),
            nobody_since: vec![None; services],
            looked: now,
            statistics: Statistics::default(),
        }
    }

    /// The cluster, for reading.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs the schedule to its end.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn run(mut self, faults: usize) -> Result<Statistics, Failure> {
        for node in 0..self.cluster.size() {
            self.disturb(Fault::Start(node));
        }
        self.pass(self.bounds.converged * 2)?;
        for _ in 0..faults {
            let fault = self.draw();
            self.disturb(fault);
            // Often long enough to settle, often not.
            let pause = if self.rng.percent(40) {
                self.bounds.converged + self.rng.up_to(Duration::from_secs(3))
            } else {
                self.rng.up_to(Duration::from_millis(1_500))
            };
            self.pass(pause)?;
        }
        self.schedule.clear();
        self.disturb(Fault::RepairAll);
        self.pass(self.bounds.converged * 2)?;
        self.statistics.datagrams = self.cluster.datagrams();
        Ok(self.statistics)
    }

    /// Applies one fault.
    pub fn disturb(&mut self, fault: Fault) {
        self.history.push((self.cluster.now(), fault.clone()));
        self.statistics.faults += 1;
        self.disturbed = self.cluster.now();
        let size = self.cluster.size();
        match fault {
            Fault::Kill(node) => self.cluster.kill(node),
            Fault::Stop(node) => self.cluster.stop(node),
            Fault::Start(node) => self.cluster.start(node),
            Fault::Pause(node, length) => {
                self.cluster.pause(node, true);
                self.schedule
                    .push((self.cluster.now() + length, Fault::Resume(node)));
            }
            Fault::Resume(node) => self.cluster.pause(node, false),
            Fault::Unplug(node) => self.cluster.plug(node, false),
            Fault::Plug(node) => self.cluster.plug(node, true),
            Fault::Split(nodes) => nodes.into_iter().for_each(|node| self.cluster.drift(node, 1)),
            Fault::Heal => (0..size).for_each(|node| self.cluster.drift(node, 0)),
            Fault::CutApi(node) => self.cluster.connect_api(node, false),
            Fault::RestoreApi => (0..size).for_each(|node| self.cluster.connect_api(node, true)),
            Fault::Exclude(node, excluded) => self.cluster.change(|facts| facts.exclude(node, excluded)),
            Fault::Place(service, nodes) => self.cluster.change(|facts| facts.place(service, nodes)),
            Fault::RepairAll => {
                for node in 0..size {
                    self.cluster.pause(node, false);
                    self.cluster.plug(node, true);
                    self.cluster.drift(node, 0);
                    self.cluster.connect_api(node, true);
                    self.cluster.start(node);
                }
            }
        }
    }

    fn draw(&mut self) -> Fault {
        let size = self.cluster.size() as u64;
        let node = self.rng.below(size) as usize;
        match self.rng.below(16) {
            0 | 1 if self.cluster.exists(node) => Fault::Kill(node),
            2 if self.cluster.exists(node) => Fault::Stop(node),
            0..=3 => Fault::Start(node),
            4 | 5 if self.cluster.runs(node) => {
                let longest = [300, 1_000, 5_000][self.rng.below(3) as usize];
                let length = self.rng.up_to(Duration::from_millis(longest)) + Duration::from_millis(20);
                Fault::Pause(node, length)
            }
            4..=6 => Fault::Unplug(node),
            7 => Fault::Plug(node),
            8 => {
                let nodes = (0..self.cluster.size())
                    .filter(|_| self.rng.percent(50))
                    .collect();
                Fault::Split(nodes)
            }
            9 => Fault::Heal,
            10 => Fault::CutApi(node),
            11 => Fault::RestoreApi,
            12 => Fault::Exclude(node, !self.cluster.facts().is_excluded(node)),
            13 => {
                let service = self.rng.below(self.cluster.facts().services() as u64) as usize;
                let nodes = (0..self.cluster.size())
                    .filter(|_| self.rng.percent(60))
                    .collect();
                Fault::Place(service, nodes)
            }
            _ => Fault::RepairAll,
        }
    }

    /// Lets time pass, checking after every event.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn pass(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.cluster.now() + time;
        loop {
            self.schedule.sort_by_key(|(at, _)| *at);
            let scheduled = self.schedule.first().map(|(at, _)| *at);
            let next = self.cluster.next_event().into_iter().chain(scheduled).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.cluster.advance(next);
            if scheduled.is_some_and(|at| at <= next) {
                let (_, fault) = self.schedule.remove(0);
                self.disturb(fault);
            }
            self.check()?;
        }
        self.cluster.advance(end);
        self.check()
    }

    fn fail(&self, what: String) -> Failure {
        Failure {
            seed: self.seed,
            at: self.cluster.now(),
            what,
            history: self.history.clone(),
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        let now = self.cluster.now();
        let quiet = now - self.disturbed;
        for seen in self.cluster.take_seen() {
            self.statistics.changes += 1;
            if seen.at - self.disturbed > self.bounds.converged {
                let what = format!(
                    "no change without cause: node {} saw {:?}",
                    seen.node, seen.change
                );
                return Err(self.fail(what));
            }
        }
        for service in 0..self.cluster.facts().services() {
            self.check_answered(now, service)?;
        }
        let looked_lately = now - self.looked < LOOK_EVERY;
        if quiet > self.bounds.converged && !looked_lately && self.cluster.all_informed() {
            self.looked = now;
            for node in 0..self.cluster.size() {
                for service in 0..self.cluster.facts().services() {
                    self.check_owner(node, service)?;
                }
            }
        }
        Ok(())
    }

    /// Invariant 1.
    fn check_answered(&mut self, now: Instant, service: ServiceNumber) -> Result<(), Failure> {
        let cluster = &self.cluster;
        let candidates = (0..cluster.size()).filter(|node| {
            cluster.runs(*node) && cluster.with_clients(*node) && cluster.facts().eligible(service, *node)
        });
        let (mut any, mut answered) = (false, false);
        for node in candidates {
            any = true;
            answered |= cluster.answers(node, service);
        }
        // A node that knows an older truth may own what by the new one it may not.
        let answered = answered
            || (0..cluster.size()).any(|node| cluster.with_clients(node) && cluster.answers(node, service));
        if !any || answered || !cluster.all_informed() {
            self.nobody_since[service] = None;
            return Ok(());
        }
        let since = *self.nobody_since[service].get_or_insert(now);
        let gap = now - since;
        self.statistics.longest_gap = self.statistics.longest_gap.max(gap);
        if now - since.max(self.disturbed) > self.bounds.takeover {
            return Err(self.fail(format!(
                "never nobody: nobody has answered for service {service} for {gap:?}"
            )));
        }
        Ok(())
    }

    /// Invariant 2, seen from one node.
    fn check_owner(&self, node: NodeNumber, service: ServiceNumber) -> Result<(), Failure> {
        let cluster = &self.cluster;
        if !cluster.runs(node) {
            return Ok(());
        }
        let part: Vec<NodeNumber> = (0..cluster.size())
            .filter(|other| cluster.runs(*other) && cluster.connected(node, *other))
            .collect();
        let names: Vec<(NodeNumber, _)> = part
            .iter()
            .filter(|member| cluster.facts().eligible(service, **member))
            .map(|member| (*member, node_name(*member)))
            .collect();
        let ranked = rank(
            names.iter().map(|(_, name)| (&**name, 0)),
            Facts::address(service),
        );
        let expected = ranked
            .first()
            .and_then(|first| names.iter().find(|(_, name)| **name == **first));
        let expected: Vec<NodeNumber> = expected.map(|(number, _)| *number).into_iter().collect();
        let holders: Vec<NodeNumber> = part
            .into_iter()
            .filter(|member| cluster.holds(*member, service))
            .collect();
        if holders == expected {
            return Ok(());
        }
        let what =
            format!("one owner: of service {service} around node {node}: {holders:?}, not {expected:?}");
        Err(self.fail(what))
    }
}
