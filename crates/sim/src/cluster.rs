//! Speakers on a virtual LAN, with clients, under a virtual API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metallb_lease::{TenureInput, TenureOutput, TenureTiming};
use metallb_sansio::{Duration, Instant, SeededRng};
use metallb_speaker_core::l2::{ForeignClaim, MacAddr};
use metallb_speaker_core::member::{Secret, Timing};
use metallb_speaker_core::{Change, EngineConfig, Input, Options, Output};

use crate::client::{Client, Neighbour};
use crate::facts::{Facts, ServiceNumber, Sharing, Stream, node_name, node_number};
use crate::host::{self, Action, Event, Host, INTERFACE, SECOND_INTERFACE, link};
use crate::kernel::Kernels;
use crate::lan::{CLIENT_ISLANDS, CLIENTS, Island, Lan, SECOND_LAN};
use crate::leases::Leases;
use crate::run::Happening;

/// A node of the simulation, from 0.
pub type NodeNumber = usize;

pub(crate) enum Arrival {
    /// Something reaches a node.
    Node(NodeNumber, Event),
    /// The API server says something on a connection with this number.
    Api(NodeNumber, u64, Stream, Arc<Facts>),
    /// What the client of an island asks about a service reaches the nodes there.
    Question(Island, ServiceNumber, Vec<u8>),
    /// A frame reaches the client of an island.
    Client(Island, Vec<u8>),
    /// A frame reaches the kernel of a node.
    Kernel(NodeNumber, u32, Vec<u8>),
    /// A request about a Lease, with its number, reaches the API server.
    LeaseRequest(NodeNumber, u64, TenureOutput),
    /// The outcome of that request reaches the node, unless another did before.
    LeaseOutcome(NodeNumber, u64, TenureInput),
    /// The API server tells the node of a Lease, on the connection with this number.
    LeaseSeen(NodeNumber, u64, TenureInput),
}

/// What a speaker made known, or what reached it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An owner changed in its view.
    Change(Change),
    /// Membership lost or found a node.
    Liveness(NodeNumber, bool),
    /// The others had declared it dead.
    Rejoined,
    /// It held another node for a stranger.
    Foreign(ForeignClaim),
    /// It took in what a stream of the API server says.
    Informed(Stream),
}

/// Parameters of a cluster.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// How many services.
    pub services: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Percentage of datagrams and frames lost between nodes.
    pub loss: u8,
    /// Longest time that a fact takes from the API server to a speaker.
    pub api_delay: Duration,
    /// The shared secret of membership; `None` sends in the clear, which is faster.
    pub secret: Option<&'static str>,
    /// Periods of membership.
    pub timing: Timing,
    /// Whether every node has a cable to a second LAN, too.
    pub second_lan: bool,
    /// Which services share addresses.
    pub sharing: Sharing,
    /// How the nodes are set up.
    pub kernels: Kernels,
    /// What can be chosen of the speakers.
    pub options: Options,
    /// In strict mode: times of the Leases.
    pub leases: TenureTiming,
}

impl Setup {
    /// A quiet LAN.
    pub fn new(nodes: usize, services: usize, seed: u64) -> Self {
        let api_delay = Duration::from_millis(50);
        Self {
            nodes,
            services,
            seed,
            loss: 0,
            api_delay,
            secret: None,
            timing: Timing::default(),
            second_lan: false,
            sharing: Sharing::Nothing,
            kernels: Kernels::default(),
            options: Options::default(),
            leases: TenureTiming::default(),
        }
    }
}

/// Whole speakers, a wire between them, clients and an API server.
pub struct Cluster {
    pub(crate) setup: Setup,
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    /// Nodes by the time at which they want to be woken, and that time by node.
    wakes: BTreeSet<(Instant, NodeNumber)>,
    wake_at: Vec<Option<Instant>>,
    pub(crate) lan: Lan,
    pub(crate) clients: Vec<Client>,
    /// Nodes that the API server reaches.
    pub(crate) api: Vec<bool>,
    pub(crate) leases: Leases,
    /// Which connection to the API server each node has; what was under way on an earlier one is lost.
    pub(crate) connections: Vec<u64>,
    /// For each node and stream, when the last thing said arrives; a connection keeps its order.
    said_until: Vec<[Instant; Stream::ALL.len()]>,
    facts: Arc<Facts>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    pub(crate) rng: SeededRng,
    notices: Vec<(Instant, NodeNumber, Notice)>,
    pub(crate) datagrams: u64,
}

impl Cluster {
    /// A cluster whose nodes are all off.
    pub fn new(setup: Setup) -> Self {
        let (nodes, services) = (setup.nodes, setup.services);
        let mut lan = Lan::new(nodes, setup.second_lan);
        lan.loss = setup.loss;
        Self {
            now: Instant::from_millis(1_000),
            hosts: (0..nodes)
                .map(|node| Host::new(node, nodes, setup.kernels))
                .collect(),
            wakes: BTreeSet::new(),
            wake_at: vec![None; nodes],
            lan,
            clients: (0..CLIENTS).map(|island| Client::new(island, services)).collect(),
            api: vec![true; nodes],
            leases: Leases::default(),
            connections: vec![0; nodes],
            said_until: vec![[Instant::ZERO; Stream::ALL.len()]; nodes],
            facts: Arc::new(Facts::new(nodes, services, setup.second_lan, setup.sharing)),
            arrivals: BTreeMap::new(),
            sequence: 0,
            rng: SeededRng::new(setup.seed),
            notices: Vec::new(),
            datagrams: 0,
            setup,
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many nodes there are, on or off.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// What the API server says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Membership datagrams sent so far.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Percentage of datagrams and frames lost between nodes.
    pub fn loss(&self) -> u8 {
        self.lan.loss
    }

    /// The wires.
    pub(crate) fn lan(&self) -> &Lan {
        &self.lan
    }

    pub(crate) fn host(&self, node: NodeNumber) -> &Host {
        &self.hosts[node]
    }

    /// What the client of an island knows of a service's address.
    pub fn neighbour(&self, island: Island, service: ServiceNumber) -> &Neighbour {
        self.clients[island].neighbour(service)
    }

    /// The node with this hardware address.
    pub fn node_of(&self, mac: MacAddr) -> Option<NodeNumber> {
        host::node_of(mac, self.size())
    }

    /// What was made known since the last call, in order.
    pub fn take_notices(&mut self) -> Vec<(Instant, NodeNumber, Notice)> {
        std::mem::take(&mut self.notices)
    }

    /// The same for people, one to a line.
    pub fn take_story(&mut self) -> String {
        let notices = self.take_notices().into_iter();
        let lines = notices.map(|(at, node, notice)| format!("{at} {}", Happening::Notice(node, notice)));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Starts a node's speaker, if it is off.
    pub fn start(&mut self, node: NodeNumber) {
        if self.hosts[node].exists() {
            return;
        }
        if !self.hosts[node].is_powered() {
            self.lan.plug(node, INTERFACE, true);
            self.lan.plug(node, SECOND_INTERFACE, true);
        }
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
        let config = EngineConfig {
            node: node_name(node),
            address: self.setup.kernels.address(node),
            generation: self.now.as_millis() + self.hosts[node].lives,
            seed: self.rng.next_u64(),
            session,
            secret: self
                .setup
                .secret
                .map_or_else(Secret::none, |secret| Secret::new(secret.as_bytes())),
            timing: self.setup.timing.clone(),
        };
        let leases = self.setup.options.strict.then_some(self.setup.leases);
        self.hosts[node].start(self.now, config, self.setup.options.clone(), leases);
        self.connections[node] += 1;
        self.forget_lease_requests(node);
        for interface in [INTERFACE, SECOND_INTERFACE] {
            if self.lan.is_plugged(node, interface) {
                self.link_up(node, interface);
            }
        }
        self.relist(node);
        self.settle(node);
    }

    /// Kills a node's speaker, as by SIGKILL.
    pub fn kill(&mut self, node: NodeNumber) {
        self.hosts[node].kill();
        self.settle(node);
    }

    /// Stops a node's speaker cleanly: it goes when it has said goodbye.
    pub fn stop(&mut self, node: NodeNumber) {
        if self.hosts[node].runs() {
            self.tell(node, Event::Wire(Input::Leave));
        } else {
            self.kill(node);
        }
    }

    /// Switches a whole node off.
    pub fn power_off(&mut self, node: NodeNumber) {
        self.hosts[node].power_off();
        self.lan.sleep(node, false);
        self.lan.plug(node, INTERFACE, false);
        self.lan.plug(node, SECOND_INTERFACE, false);
        self.settle(node);
    }

    /// Whether the node forwards what a client on the island sends to it, whatever its speaker does.
    pub fn forwards(&self, node: NodeNumber, island: Island) -> bool {
        self.hosts[node].is_powered() && self.lan.is_on(node, island)
    }

    /// Suspends a whole node.
    pub fn suspend(&mut self, node: NodeNumber) {
        if self.hosts[node].is_powered() && !self.lan.is_asleep(node) {
            self.hosts[node].suspend(self.now);
            self.lan.sleep(node, true);
            self.settle(node);
        }
    }

    /// Wakes a suspended node. Its monotonic clock stood still meanwhile.
    pub fn wake_up(&mut self, node: NodeNumber) {
        if self.lan.is_asleep(node) {
            self.lan.sleep(node, false);
            self.hosts[node].wake_up(self.now);
            self.settle(node);
        }
    }

    /// The monotonic clock of a node jumps ahead.
    pub fn jump(&mut self, node: NodeNumber, by: Duration) {
        self.hosts[node].jump(by);
        self.settle(node);
    }

    /// Takes a node's speaker from the processor; what arrives waits.
    pub fn pause(&mut self, node: NodeNumber) {
        self.hosts[node].pause();
        self.settle(node);
    }

    /// Schedules a node's speaker again.
    pub fn resume(&mut self, node: NodeNumber) {
        if self.hosts[node].exists() && !self.hosts[node].runs() && !self.lan.is_asleep(node) {
            self.hosts[node].resume(self.now);
            self.settle(node);
        }
    }

    /// Plugs or unplugs a node's cable; the node notices by its carrier.
    pub fn plug(&mut self, node: NodeNumber, interface: u32, plugged: bool) {
        if self.hosts[node].is_powered() && self.lan.plug(node, interface, plugged) {
            if plugged {
                self.link_up(node, interface);
            } else {
                self.tell(node, Event::Wire(Input::LinkDown(interface)));
            }
        }
    }

    fn link_up(&mut self, node: NodeNumber, interface: u32) {
        let kernels = self.setup.kernels;
        let link = link(node, interface, kernels);
        let addresses = kernels.ipv4_of(node, interface);
        self.tell(node, Event::Wire(Input::Addresses(interface, addresses)));
        self.tell(node, Event::Wire(Input::LinkUp(interface, link)));
    }

    /// Puts a node on an island of the LAN; carriers stay up.
    pub fn drift(&mut self, node: NodeNumber, island: Island) {
        self.lan.drift(node, island);
    }

    /// Cuts a node off from everybody without its noticing: a fault between switches.
    pub fn isolate(&mut self, node: NodeNumber) {
        self.lan.drift(node, Lan::exile(node));
    }

    /// Two nodes no longer hear each other.
    pub fn deafen(&mut self, a: NodeNumber, b: NodeNumber) {
        if a != b {
            self.lan.deafen(a, b);
        }
    }

    /// Everybody on one island hears everybody there.
    pub fn clear_deafness(&mut self) {
        self.lan.clear_deafness();
    }

    /// Cuts or restores a node's connection to the API server.
    pub fn connect_api(&mut self, node: NodeNumber, connected: bool) {
        let before = std::mem::replace(&mut self.api[node], connected);
        self.connections[node] += u64::from(before != connected);
        if connected && !before {
            self.relist(node);
        }
    }

    /// Whether the API server reaches the node.
    pub fn reaches_api(&self, node: NodeNumber) -> bool {
        self.api[node]
    }

    /// Changes what the API server says and tells everybody who listens.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Facts)) {
        let before = Arc::clone(&self.facts);
        change(Arc::make_mut(&mut self.facts));
        for stream in Stream::ALL {
            if before.version(stream) != self.facts.version(stream) {
                (0..self.size()).for_each(|node| self.say(node, stream));
            }
        }
    }

    fn relist(&mut self, node: NodeNumber) {
        for stream in Stream::ALL {
            self.say(node, stream);
        }
        self.list_leases(node);
    }

    fn say(&mut self, node: NodeNumber, stream: Stream) {
        if self.api[node] && self.hosts[node].exists() {
            let delay = Duration::from_millis(1) + self.rng.up_to(self.setup.api_delay);
            let at = (self.now + delay).max(self.said_until[node][stream as usize] + Duration::from_nanos(1));
            self.said_until[node][stream as usize] = at;
            let facts = Arc::clone(&self.facts);
            self.arrive(at, Arrival::Api(node, self.connections[node], stream, facts));
        }
    }

    /// The islands on which a service is to be announced.
    pub(crate) fn islands_of(&self, service: ServiceNumber) -> std::ops::Range<Island> {
        if self.facts.interface(service) == INTERFACE {
            0..CLIENT_ISLANDS
        } else {
            SECOND_LAN..CLIENTS
        }
    }

    /// Every client asks for the address of every service.
    pub fn ask(&mut self) {
        for service in 0..self.facts.services() {
            for island in self.islands_of(service) {
                let request = self.clients[island].ask(service);
                let at = self.now + Lan::latency(&mut self.rng);
                self.arrive(at, Arrival::Question(island, service, request));
            }
        }
    }

    /// When something happens next.
    pub fn next_event(&self) -> Option<Instant> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        let arrival = self.arrivals.first_key_value().map(|((at, _), _)| *at);
        wake.into_iter().chain(arrival).min()
    }

    /// Moves the clock to `to`, which must not skip an event, and lets happen what is due.
    pub fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
        while let Some(entry) = self.arrivals.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Arrival::Node(node, event) => self.tell(node, event),
                Arrival::Api(node, connection, stream, facts) if connection == self.connections[node] => {
                    self.notices.push((self.now, node, Notice::Informed(stream)));
                    self.tell(node, Event::Api(stream, facts));
                }
                Arrival::Question(island, service, frame) => self.question(island, service, &frame),
                Arrival::Client(island, frame) => self.clients[island].hear(self.now, &frame),
                Arrival::Kernel(node, interface, frame) => self.kernel_answers(node, interface, &frame),
                Arrival::LeaseRequest(node, number, request) => self.serve_lease(node, number, request),
                Arrival::LeaseOutcome(node, number, outcome) => self.lease_outcome(node, number, outcome),
                Arrival::LeaseSeen(node, connection, seen) if connection == self.connections[node] => {
                    self.tell(node, Event::Lease(seen));
                }
                // On a connection that is no more.
                Arrival::Api(..) | Arrival::LeaseSeen(..) => {}
            }
        }
        while let Some((at, node)) = self.wakes.first().copied()
            && at <= self.now
        {
            self.hosts[node].wake(self.now);
            self.settle(node);
            // A machine may ask to be woken at once; not twice in one turn, or a mistake of its would stop the clock.
            if self.wake_at[node].is_some_and(|at| at <= self.now) {
                self.wake_later(node);
            }
        }
    }

    /// Lets time pass without faults.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_event().filter(|at| *at <= end) {
            self.advance(next);
        }
        self.advance(end);
    }

    fn wake_later(&mut self, node: NodeNumber) {
        let later = self.now + Duration::from_micros(10);
        if let Some(at) = self.wake_at[node].replace(later) {
            self.wakes.remove(&(at, node));
        }
        self.wakes.insert((later, node));
    }

    pub(crate) fn tell(&mut self, node: NodeNumber, event: Event) {
        self.hosts[node].tell(self.now, event);
        self.settle(node);
    }

    /// Carries out what the node wants, and notes when it wants to be woken.
    fn settle(&mut self, node: NodeNumber) {
        let mut ended = false;
        while let Some(action) = self.hosts[node].poll_output(self.now) {
            let output = match action {
                Action::Speaker(output) => output,
                Action::Lease(request) => {
                    self.request_lease(node, request);
                    continue;
                }
            };
            let notice = match output {
                Output::Datagram { to, datagram } => {
                    self.carry(node, to, datagram);
                    continue;
                }
                Output::Frame { interface, frame } => {
                    if let Some(island) = self.lan.reaches(node, interface) {
                        self.flood(node, island, &frame);
                    }
                    continue;
                }
                Output::ForeignClaim(claim) => Notice::Foreign(claim),
                // The host has dealt with the others.
                Output::Probed { .. } | Output::Join(..) | Output::Part(..) | Output::Want(..) => continue,
                Output::Left => {
                    ended = true;
                    continue;
                }
                Output::Change(change) => Notice::Change(change),
                Output::Liveness { node, live } => {
                    node_number(&node).map_or(Notice::Rejoined, |number| Notice::Liveness(number, live))
                }
                Output::Rejoined => Notice::Rejoined,
            };
            self.notices.push((self.now, node, notice));
        }
        if ended {
            self.hosts[node].kill();
        }
        let wake = self.hosts[node].poll_timeout();
        let before = std::mem::replace(&mut self.wake_at[node], wake);
        if before != wake {
            before.map(|at| self.wakes.remove(&(at, node)));
            wake.map(|at| self.wakes.insert((at, node)));
        }
    }

    pub(crate) fn arrive(&mut self, at: Instant, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals.insert((at, self.sequence), arrival);
    }
}
