//! Speakers on a virtual LAN, with clients, under a virtual API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metallb_sansio::{Duration, Instant, SeededRng};
use metallb_speaker_core::l2::wire::arp::{self, Operation};
use metallb_speaker_core::l2::wire::ethernet::Frame;
use metallb_speaker_core::l2::{ForeignClaim, MacAddr};
use metallb_speaker_core::member::{Secret, Timing};
use metallb_speaker_core::{Change, EngineConfig, Input, Output};

use crate::client::{Client, Neighbour};
use crate::facts::{Facts, ServiceNumber, Stream, node_name, node_number};
use crate::host::{Event, Host, INTERFACE, address, link, mac, node_at};
use crate::lan::{CLIENT_ISLANDS, Island, Lan};

/// A node of the simulation, from 0.
pub type NodeNumber = usize;

enum Arrival {
    /// Something reaches a node.
    Node(NodeNumber, Event),
    /// The API server says something on a connection with this number.
    Api(NodeNumber, u64, Stream, Arc<Facts>),
    /// A frame reaches the client of an island.
    Client(Island, Vec<u8>),
    /// A frame reaches the kernel of a node.
    Kernel(NodeNumber, Vec<u8>),
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
        }
    }
}

/// Whether a frame is an ARP request for this address.
fn asks_for(frame: &[u8], ip: std::net::IpAddr) -> bool {
    Frame::new_checked(frame)
        .and_then(|frame| arp::Repr::parse(frame.payload()))
        .is_ok_and(|packet| packet.operation == Operation::Request && packet.target_ip == ip)
}

/// Whole speakers, a wire between them, clients and an API server.
pub struct Cluster {
    setup: Setup,
    now: Instant,
    hosts: Vec<Host>,
    /// Nodes by the time at which they want to be woken, and that time by node.
    wakes: BTreeSet<(Instant, NodeNumber)>,
    wake_at: Vec<Option<Instant>>,
    lan: Lan,
    clients: Vec<Client>,
    /// Nodes that the API server reaches.
    api: Vec<bool>,
    /// Which connection to the API server each node has; what was under way on an earlier one is lost.
    connections: Vec<u64>,
    /// For each node and stream, when the last thing said arrives; a connection keeps its order.
    said_until: Vec<[Instant; Stream::ALL.len()]>,
    facts: Arc<Facts>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    rng: SeededRng,
    notices: Vec<(Instant, NodeNumber, Notice)>,
    datagrams: u64,
}

impl Cluster {
    /// A cluster whose nodes are all off.
    pub fn new(setup: Setup) -> Self {
        let (nodes, services) = (setup.nodes, setup.services);
        let mut lan = Lan::new(nodes);
        lan.loss = setup.loss;
        Self {
            now: Instant::from_millis(1_000),
            hosts: (0..nodes).map(|node| Host::new(node, nodes)).collect(),
            wakes: BTreeSet::new(),
            wake_at: vec![None; nodes],
            lan,
            clients: (0..CLIENT_ISLANDS)
                .map(|island| Client::new(island, services))
                .collect(),
            api: vec![true; nodes],
            connections: vec![0; nodes],
            said_until: vec![[Instant::ZERO; Stream::ALL.len()]; nodes],
            facts: Arc::new(Facts::new(nodes, services)),
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
        (0..self.size()).find(|node| self::mac(*node) == mac)
    }

    /// What was made known since the last call, in order.
    pub fn take_notices(&mut self) -> Vec<(Instant, NodeNumber, Notice)> {
        std::mem::take(&mut self.notices)
    }

    /// Starts a node's speaker, if it is off.
    pub fn start(&mut self, node: NodeNumber) {
        if self.hosts[node].exists() {
            return;
        }
        if !self.hosts[node].is_powered() {
            self.lan.plug(node, true);
        }
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
        let config = EngineConfig {
            node: node_name(node),
            address: address(node),
            generation: self.now.as_millis() + self.hosts[node].lives,
            seed: self.rng.next_u64(),
            session,
            secret: self
                .setup
                .secret
                .map_or_else(Secret::none, |secret| Secret::new(secret.as_bytes())),
            timing: self.setup.timing.clone(),
        };
        self.hosts[node].start(self.now, config);
        self.connections[node] += 1;
        if self.lan.is_plugged(node) {
            self.tell(node, Event::Wire(Input::LinkUp(INTERFACE, link(node))));
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
        self.lan.plug(node, false);
        self.settle(node);
    }

    /// Whether the node forwards what a client on the island sends to it, whatever its speaker does.
    pub fn forwards(&self, node: NodeNumber, island: Island) -> bool {
        self.hosts[node].is_powered() && self.lan.island(node) == Some(island)
    }

    /// Takes a node's speaker from the processor; what arrives waits.
    pub fn pause(&mut self, node: NodeNumber) {
        self.hosts[node].pause();
        self.settle(node);
    }

    /// Schedules a node's speaker again.
    pub fn resume(&mut self, node: NodeNumber) {
        if self.hosts[node].exists() && !self.hosts[node].runs() {
            self.hosts[node].resume(self.now);
            self.settle(node);
        }
    }

    /// Plugs or unplugs a node's cable; the node notices by its carrier.
    pub fn plug(&mut self, node: NodeNumber, plugged: bool) {
        if self.lan.plug(node, plugged) {
            let input = if plugged {
                Input::LinkUp(INTERFACE, link(node))
            } else {
                Input::LinkDown(INTERFACE)
            };
            self.tell(node, Event::Wire(input));
        }
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

    /// Every client asks for the address of every service.
    pub fn ask(&mut self) {
        for island in 0..self.clients.len() {
            for service in 0..self.facts.services() {
                if let Some(request) = self.clients[island].ask(service) {
                    self.flood(None, island, &request);
                }
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
                Arrival::Api(..) => {}
                Arrival::Client(island, frame) => self.clients[island].hear(self.now, &frame),
                Arrival::Kernel(node, frame) => self.kernel_answers(node, &frame),
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

    fn tell(&mut self, node: NodeNumber, event: Event) {
        self.hosts[node].tell(self.now, event);
        self.settle(node);
    }

    /// Carries out what the node wants, and notes when it wants to be woken.
    fn settle(&mut self, node: NodeNumber) {
        let mut ended = false;
        while let Some(output) = self.hosts[node].poll_output() {
            let notice = match output {
                Output::Datagram { to, datagram } => {
                    self.carry(node, to, datagram);
                    continue;
                }
                Output::Frame { frame, .. } => {
                    if let Some(island) = self.lan.island(node) {
                        self.flood(Some(node), island, &frame);
                    }
                    continue;
                }
                Output::ForeignClaim(claim) => Notice::Foreign(claim),
                Output::Probed { .. } | Output::Join(..) | Output::Part(..) => continue,
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

    fn carry(&mut self, from: NodeNumber, to: std::net::SocketAddr, datagram: Vec<u8>) {
        self.datagrams += 1;
        let Some(to) = node_at(to, self.size()) else {
            return;
        };
        if self.lan.hears(from, to) && !self.lan.loses(&mut self.rng) {
            let at = self.now + Lan::latency(&mut self.rng);
            let input = Input::Datagram {
                from: address(from),
                datagram,
            };
            self.arrive(at, Arrival::Node(to, Event::Wire(input)));
        }
    }

    /// What a switch does with a frame from a node, or from the client: to one when it knows where, to all otherwise.
    fn flood(&mut self, from: Option<NodeNumber>, island: Island, frame: &[u8]) {
        let Ok(header) = Frame::new_checked(frame) else {
            return;
        };
        let destination = header.destination();
        let to_all = !destination.is_unicast();
        if from.is_some() && island < CLIENT_ISLANDS && (to_all || destination == self.clients[island].mac) {
            let at = self.now + Lan::latency(&mut self.rng);
            self.arrive(at, Arrival::Client(island, frame.to_vec()));
        }
        for node in 0..self.size() {
            let wanted = to_all || destination == mac(node);
            let hears = from.map_or(self.lan.island(node) == Some(island), |from| {
                self.lan.hears(from, node)
            });
            if wanted && hears && from != Some(node) && self.hosts[node].is_powered() {
                if from.is_some() && self.lan.loses(&mut self.rng) {
                    continue;
                }
                if asks_for(frame, address(node).ip()) {
                    let at = self.now + Lan::latency(&mut self.rng);
                    self.arrive(at, Arrival::Kernel(node, frame.to_vec()));
                }
                if !self.hosts[node].exists() {
                    continue;
                }
                let at = self.now + Lan::latency(&mut self.rng);
                self.arrive(
                    at,
                    Arrival::Node(node, Event::Wire(Input::Frame(INTERFACE, frame.to_vec()))),
                );
            }
        }
    }

    /// The kernel answers for the node's own address, whether a speaker runs or not.
    fn kernel_answers(&mut self, node: NodeNumber, bytes: &[u8]) {
        let Ok(frame) = Frame::new_checked(bytes) else {
            return;
        };
        let Ok(packet) = arp::Repr::parse(frame.payload()) else {
            return;
        };
        let own = std::net::IpAddr::V4(packet.target_ip) == address(node).ip();
        if let (true, Operation::Request, Some(island)) = (own, packet.operation, self.lan.island(node))
            && self.hosts[node].is_powered()
        {
            let reply = arp::Repr::reply_to(&packet, mac(node)).emit(packet.sender_mac);
            self.flood(Some(node), island, &reply);
        }
    }

    fn arrive(&mut self, at: Instant, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals.insert((at, self.sequence), arrival);
    }
}
