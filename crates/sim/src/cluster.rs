//! Speakers on a virtual LAN.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use metallb_sansio::{Duration, Instant, Machine as _, SeededRng};
use metallb_speaker_core::l2::{Link, MacAddr};
use metallb_speaker_core::member::{Secret, Timing};
use metallb_speaker_core::{Change, EngineConfig, Input, Output, World, WorldInput};

use crate::facts::{Facts, ServiceNumber, node_name};

/// A node of the simulation, from 0.
pub type NodeNumber = usize;

/// The one interface of every node.
const INTERFACE: u32 = 1;

struct Node {
    /// The speaker, when its process runs.
    world: Option<World>,
    /// Its process is stopped (as by SIGSTOP); what arrives waits.
    paused: bool,
    waiting: VecDeque<WorldInput>,
    /// Its cable is plugged in.
    link: bool,
    /// Nodes of different islands do not hear each other, although their cables have a carrier.
    island: u8,
    /// Its connection to the API server works.
    api: bool,
    /// What the API server last told it.
    version: u64,
    lives: u64,
}

enum Arrival {
    Wire(NodeNumber, Input),
    /// The API server's truth as of this version.
    Facts(NodeNumber, u64),
}

/// A change of an owner in the view of a node.
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) node: NodeNumber,
    pub(crate) change: Change,
}

/// Whole speakers, a wire between them, and an API server.
pub struct Cluster {
    now: Instant,
    nodes: Vec<Node>,
    facts: Facts,
    version: u64,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    rng: SeededRng,
    loss_percent: u8,
    seen: Vec<Seen>,
    datagrams: u64,
    trace: bool,
}

fn address(node: NodeNumber) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, (node % 250) as u8 + 1], 7_946 + (node / 250) as u16))
}

fn mac(node: NodeNumber) -> MacAddr {
    MacAddr([2, 0, 0, 0, (node >> 8) as u8, node as u8])
}

impl Cluster {
    /// A cluster whose nodes are all off.
    pub fn new(nodes: usize, services: usize, seed: u64) -> Self {
        let node = || Node {
            world: None,
            paused: false,
            waiting: VecDeque::new(),
            link: true,
            island: 0,
            api: true,
            version: 0,
            lives: 0,
        };
        Self {
            now: Instant::from_millis(1_000),
            nodes: (0..nodes).map(|_| node()).collect(),
            facts: Facts::new(nodes, services),
            version: 1,
            arrivals: BTreeMap::new(),
            sequence: 0,
            rng: SeededRng::new(seed),
            loss_percent: 0,
            seen: Vec::new(),
            datagrams: 0,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many nodes there are, on or off.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// What the API server says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Membership datagrams sent so far.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Starts a node's speaker.
    pub fn start(&mut self, number: NodeNumber) {
        if self.nodes[number].world.is_some() {
            return;
        }
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
        let seed = self.rng.next_u64();
        let now = self.now;
        let node = &mut self.nodes[number];
        node.lives += 1;
        let config = EngineConfig {
            node: node_name(number),
            address: address(number),
            generation: now.as_millis() + node.lives,
            seed,
            session,
            // The seal has its own tests; without it a thousand runs take a quarter of the time.
            secret: Secret::none(),
            timing: Timing::default(),
        };
        node.world = Some(World::new(now, config, false));
        node.version = 0;
        node.paused = false;
        node.waiting.clear();
        if node.link {
            self.tell(number, WorldInput::Wire(Input::LinkUp(INTERFACE, link(number))));
        }
        self.publish_to(number);
    }

    /// Kills a node's speaker, as by SIGKILL.
    pub fn kill(&mut self, number: NodeNumber) {
        let node = &mut self.nodes[number];
        node.world = None;
        node.waiting.clear();
    }

    /// Stops a node's speaker cleanly.
    pub fn stop(&mut self, number: NodeNumber) {
        if self.nodes[number].world.is_some() && !self.nodes[number].paused {
            self.tell(number, WorldInput::Wire(Input::Leave));
        }
        self.kill(number);
    }

    /// Stops or continues scheduling a node's speaker.
    pub fn pause(&mut self, number: NodeNumber, paused: bool) {
        self.nodes[number].paused = paused;
        if !paused {
            // What waited in the sockets is read before timers run.
            while let Some(input) = self.nodes[number].waiting.pop_front() {
                self.tell(number, input);
            }
            self.tick(number);
        }
    }

    /// Plugs or unplugs a node's cable; the node notices by its carrier.
    pub fn plug(&mut self, number: NodeNumber, plugged: bool) {
        if std::mem::replace(&mut self.nodes[number].link, plugged) == plugged {
            return;
        }
        let input = if plugged {
            Input::LinkUp(INTERFACE, link(number))
        } else {
            Input::LinkDown(INTERFACE)
        };
        self.tell(number, WorldInput::Wire(input));
    }

    /// Puts a node on an island of the LAN; carriers stay up.
    pub fn drift(&mut self, number: NodeNumber, island: u8) {
        self.nodes[number].island = island;
    }

    /// Cuts or restores a node's connection to the API server.
    pub fn connect_api(&mut self, number: NodeNumber, connected: bool) {
        self.nodes[number].api = connected;
        if connected && self.nodes[number].version != self.version {
            self.publish_to(number);
        }
    }

    /// Which share of all datagrams is lost.
    pub fn lose(&mut self, percent: u8) {
        self.loss_percent = percent;
    }

    /// Changes what the API server says and tells everybody who listens.
    pub fn change(&mut self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts);
        self.version += 1;
        for number in 0..self.nodes.len() {
            self.publish_to(number);
        }
    }

    fn publish_to(&mut self, number: NodeNumber) {
        if self.nodes[number].api && self.nodes[number].world.is_some() {
            let delay = Duration::from_millis(5) + self.rng.up_to(Duration::from_millis(40));
            let version = self.version;
            self.arrive(delay, Arrival::Facts(number, version));
        }
    }

    /// Whether the node's speaker runs and is scheduled.
    pub fn runs(&self, number: NodeNumber) -> bool {
        self.nodes[number].world.is_some() && !self.nodes[number].paused
    }

    /// Whether the node's process exists, scheduled or not.
    pub fn exists(&self, number: NodeNumber) -> bool {
        self.nodes[number].world.is_some()
    }

    /// Whether two nodes hear each other.
    pub fn connected(&self, a: NodeNumber, b: NodeNumber) -> bool {
        let (left, right) = (&self.nodes[a], &self.nodes[b]);
        a == b || (left.link && right.link && left.island == right.island)
    }

    /// Whether the node is where the clients are.
    pub fn with_clients(&self, number: NodeNumber) -> bool {
        self.nodes[number].link && self.nodes[number].island == 0
    }

    /// Whether every running speaker knows what the API server says now.
    pub fn all_informed(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.world.is_none() || node.version == self.version)
    }

    /// Whether the node answers for the service's address.
    pub fn answers(&self, number: NodeNumber, service: ServiceNumber) -> bool {
        let address = Facts::address(service);
        let answers = |world: &World| world.engine().announcer().owned().any(|owned| owned == address);
        self.runs(number) && self.nodes[number].link && self.nodes[number].world.as_ref().is_some_and(answers)
    }

    /// Whether the node holds the service's address, heard or not.
    pub fn holds(&self, number: NodeNumber, service: ServiceNumber) -> bool {
        let owner = |world: &World| world.engine().owner(&Facts::key(service)) == Some(world.engine().node());
        self.nodes[number].world.as_ref().is_some_and(owner)
    }

    /// Owner changes seen since the last call.
    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// When something happens next.
    pub fn next_event(&self) -> Option<Instant> {
        let timers = self
            .nodes
            .iter()
            .filter(|node| !node.paused)
            .filter_map(|node| node.world.as_ref()?.poll_timeout());
        let arrival = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        timers.chain(arrival).min()
    }

    /// Moves the clock to `to`, which must not skip an event, and lets happen what is due.
    pub fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
        while let Some(entry) = self.arrivals.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Arrival::Wire(number, input) => self.tell(number, WorldInput::Wire(input)),
                Arrival::Facts(number, version) => self.inform(number, version),
            }
        }
        for number in 0..self.nodes.len() {
            if !self.nodes[number].paused {
                self.tick(number);
            }
        }
    }

    fn inform(&mut self, number: NodeNumber, version: u64) {
        let node = &mut self.nodes[number];
        if !node.api || node.world.is_none() || version != self.version {
            return;
        }
        let first = node.version == 0;
        node.version = version;
        if first {
            let peers = (0..self.nodes.len())
                .map(|peer| (node_name(peer), address(peer)))
                .collect();
            self.tell(number, WorldInput::Wire(Input::Peers(peers)));
        }
        for input in self.facts.inputs() {
            self.tell(number, input);
        }
    }

    fn tick(&mut self, number: NodeNumber) {
        let now = self.now;
        if let Some(world) = &mut self.nodes[number].world
            && world.poll_timeout().is_some_and(|at| at <= now)
        {
            world.handle_timeout(now);
            self.collect(number);
        }
    }

    fn tell(&mut self, number: NodeNumber, input: WorldInput) {
        let now = self.now;
        let node = &mut self.nodes[number];
        let Some(world) = &mut node.world else { return };
        if node.paused {
            node.waiting.push_back(input);
            return;
        }
        world.handle(now, input);
        self.collect(number);
    }

    fn collect(&mut self, number: NodeNumber) {
        while let Some(output) = self.nodes[number]
            .world
            .as_mut()
            .and_then(metallb_sansio::Machine::poll_output)
        {
            if self.trace && !matches!(output, Output::Datagram { .. } | Output::Frame { .. }) {
                println!("{} n{number} {output:?}", self.now);
            }
            match output {
                Output::Datagram { to, datagram } => self.carry(number, to, datagram),
                Output::Frame { frame, .. } => self.broadcast(number, &frame),
                Output::Change(change) => self.seen.push(Seen {
                    at: self.now,
                    node: number,
                    change,
                }),
                Output::Liveness { .. } | Output::Rejoined | Output::ForeignClaim(_) => {}
            }
        }
    }

    fn carry(&mut self, from: NodeNumber, to: SocketAddr, datagram: Vec<u8>) {
        self.datagrams += 1;
        let Some(to) = (0..self.nodes.len()).find(|node| address(*node) == to) else {
            return;
        };
        if self.connected(from, to) && !self.rng.percent(self.loss_percent) {
            self.travel(
                to,
                Input::Datagram {
                    from: address(from),
                    datagram,
                },
            );
        }
    }

    fn broadcast(&mut self, from: NodeNumber, frame: &[u8]) {
        for to in 0..self.nodes.len() {
            if to != from && self.connected(from, to) && !self.rng.percent(self.loss_percent) {
                self.travel(to, Input::Frame(INTERFACE, frame.to_vec()));
            }
        }
    }

    fn travel(&mut self, to: NodeNumber, input: Input) {
        let latency = Duration::from_micros(100) + self.rng.up_to(Duration::from_micros(900));
        self.arrive(latency, Arrival::Wire(to, input));
    }

    fn arrive(&mut self, after: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals.insert((self.now + after, self.sequence), arrival);
    }
}

fn link(number: NodeNumber) -> Link {
    Link {
        name: "eth0".into(),
        mac: mac(number),
        arp: true,
        link_local: None,
    }
}
