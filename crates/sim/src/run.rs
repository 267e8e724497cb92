//! A run: a schedule of faults drawn from a seed, judged all the way.

use std::collections::VecDeque;
use std::fmt;

use metallb_sansio::{Duration, Instant, SeededRng, Timers};

use crate::judge::{ASK_EVERY, Judge};
use crate::{Bounds, Cluster, Fault, NodeNumber, Notice, Seen, Setup, Sharing};

/// How many events a failure shows.
const SHOWN: usize = 40;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A disturbance.
    Fault(Fault),
    /// A speaker made something known.
    Notice(NodeNumber, Notice),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "-- {fault:?}"),
            Self::Notice(node, Notice::Change(change)) => {
                let name = |name: &Option<_>| name.as_deref().unwrap_or("nobody").to_owned();
                let (from, to) = (name(&change.from), name(&change.to));
                write!(
                    f,
                    "   n{node}: {} from {from} to {to}, {:?}",
                    change.service, change.cause
                )
            }
            Self::Notice(node, notice) => write!(f, "   n{node}: {notice:?}"),
        }
    }
}

/// What was broken, and when.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that replays it.
    pub seed: u64,
    /// What the cluster was made of.
    pub setup: Setup,
    /// Virtual time.
    pub at: Instant,
    /// Which invariant and how.
    pub what: String,
    /// What happened before, oldest first.
    pub history: Vec<(Instant, Happening)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup {
            nodes,
            services,
            loss,
            ..
        } = &self.setup;
        writeln!(
            f,
            "seed {} ({nodes} nodes, {services} services, {loss} % loss) at {}:",
            self.seed, self.at
        )?;
        writeln!(f, "{}", self.what)?;
        for (at, happening) in &self.history {
            writeln!(f, "  {at} {happening}")?;
        }
        write!(
            f,
            "replay: SIM_SEED={} cargo test -p metallb-sim --test seeds -- --nocapture",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}

/// What a run saw.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Percentage of datagrams lost.
    pub loss: u8,
    /// Disturbances.
    pub faults: usize,
    /// Membership datagrams.
    pub datagrams: u64,
    /// Virtual time.
    pub time: Duration,
    /// What the judge saw.
    pub seen: Seen,
}

/// A simulated cluster with a schedule of faults.
pub struct Run {
    seed: u64,
    setup: Setup,
    rng: SeededRng,
    cluster: Cluster,
    bounds: Bounds,
    judge: Judge,
    scheduled: Timers<Fault>,
    next_ask: Instant,
    history: VecDeque<(Instant, Happening)>,
    verbose: bool,
    faults: usize,
}

impl Run {
    /// A run that is a function of `seed`: its size, its losses, its delays and its faults.
    pub fn new(seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        // Large clusters cost most of the time; what is different in them, single failures show.
        let drawn = rng.below(10);
        let nodes = match drawn {
            _ if seed % 1_000 == 777 => 200,
            _ if seed % 250 == 27 => 50,
            0 => 2,
            1..=5 => 3,
            6..=8 => 4 + rng.below(4) as usize,
            _ => 8 + rng.below(8) as usize,
        };
        let services = 1 + rng.below(6) as usize;
        let mut setup = Setup::new(nodes, services, rng.next_u64());
        setup.loss = [0, 0, 0, 1, 5, 10, 20, 30][rng.below(8) as usize];
        setup.api_delay = Duration::from_millis([10, 50, 200, 800][rng.below(4) as usize]);
        setup.secret = seed.is_multiple_of(10).then_some("a secret of the simulation");
        setup.second_lan = services > 3 && rng.percent(60);
        setup.options.non_preempt = rng.percent(12);
        setup.sharing = match rng.below(4) {
            0 => Sharing::Pairs,
            1 => Sharing::Chain,
            _ => Sharing::Nothing,
        };
        Self::with(seed, setup)
    }

    /// A run of a given cluster; `seed` draws the faults.
    pub fn with(seed: u64, setup: Setup) -> Self {
        let cluster = Cluster::new(setup.clone());
        let bounds = Bounds::of(setup.nodes, setup.loss);
        Self {
            seed,
            rng: SeededRng::new(seed ^ 0x6661_756c_7473),
            judge: Judge::new(&cluster, bounds),
            scheduled: Timers::new(),
            next_ask: cluster.now(),
            history: VecDeque::new(),
            verbose: false,
            faults: 0,
            bounds,
            cluster,
            setup,
        }
    }

    /// Prints everything as it happens when `print` is set.
    #[must_use]
    pub fn verbose(mut self, print: bool) -> Self {
        self.verbose = print;
        self
    }

    /// The bounds that are judged by.
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The cluster, for reading.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Starts everybody, makes that many faults, repairs everything; judges all the way.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn run(mut self, faults: usize) -> Result<Statistics, Box<Failure>> {
        self.begin()?;
        let fewer = self.setup.nodes / 8;
        for _ in 0..faults.saturating_sub(fewer).max(2) {
            let fault = Fault::draw(&mut self.rng, &self.cluster);
            self.disturb(fault);
            // Often long enough to settle, often not.
            let settles = self.rng.percent(40);
            let pause = if settles {
                self.bounds.converged + self.setup.api_delay + self.rng.up_to(Duration::from_secs(3))
            } else {
                self.rng.up_to(Duration::from_millis(1_500))
            };
            self.pass(pause)?;
        }
        self.scheduled = Timers::new();
        self.disturb(Fault::RepairAll);
        self.pass((self.bounds.converged + self.setup.api_delay) * 2)?;
        Ok(self.finish())
    }

    /// Starts everybody and waits until all is settled.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn begin(&mut self) -> Result<(), Box<Failure>> {
        (0..self.cluster.size()).for_each(|node| self.disturb(Fault::Start(node)));
        self.pass((self.bounds.converged + self.setup.api_delay) * 2)
    }

    /// What was seen.
    pub fn finish(self) -> Statistics {
        Statistics {
            loss: self.setup.loss,
            faults: self.faults,
            datagrams: self.cluster.datagrams(),
            time: self.cluster.now() - Instant::from_millis(1_000),
            seen: self.judge.seen,
        }
    }

    /// Makes one fault.
    pub fn disturb(&mut self, fault: Fault) {
        self.faults += 1;
        let later = fault.apply(&mut self.cluster);
        self.judge.disturb(&self.cluster, &fault);
        if let Some((after, fault)) = later {
            self.scheduled.set(self.cluster.now() + after, fault);
        }
        self.remember(self.cluster.now(), Happening::Fault(fault));
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn pass(&mut self, time: Duration) -> Result<(), Box<Failure>> {
        let end = self.cluster.now() + time;
        loop {
            let next = self
                .cluster
                .next_event()
                .into_iter()
                .chain(self.scheduled.next())
                .chain([self.next_ask]);
            let Some(next) = next.min().filter(|at| *at <= end) else {
                break;
            };
            self.cluster.advance(next);
            while let Some(fault) = self.scheduled.pop_due(next) {
                self.disturb(fault);
            }
            self.hear()?;
            if self.next_ask <= next {
                let verdict = self.judge.look(&self.cluster);
                verdict.map_err(|what| self.fail(what))?;
                self.cluster.ask();
                self.next_ask += ASK_EVERY;
            }
        }
        self.cluster.advance(end);
        self.hear()
    }

    fn hear(&mut self) -> Result<(), Box<Failure>> {
        for (at, node, notice) in self.cluster.take_notices() {
            let verdict = self.judge.notice(&self.cluster, at, node, &notice);
            self.remember(at, Happening::Notice(node, notice));
            verdict.map_err(|what| self.fail(what))?;
        }
        Ok(())
    }

    fn remember(&mut self, at: Instant, happening: Happening) {
        if self.verbose {
            println!("  {at} {happening}");
        }
        if self.history.len() >= SHOWN {
            self.history.pop_front();
        }
        self.history.push_back((at, happening));
    }

    fn fail(&self, what: String) -> Box<Failure> {
        Box::new(Failure {
            seed: self.seed,
            setup: self.setup.clone(),
            at: self.cluster.now(),
            what,
            history: self.history.iter().cloned().collect(),
        })
    }
}
