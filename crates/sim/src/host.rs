//! A node: its speaker's process, its clock, and what waits for it while it is not scheduled.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use metallb_lease::{TenureInput, TenureMachine, TenureOutput, TenureTiming};
use metallb_sansio::{Duration, Instant, Machine as _};
use metallb_speaker_core::l2::wire::ndp;
use metallb_speaker_core::l2::{Link, MacAddr};
use metallb_speaker_core::{EngineConfig, Input, Options, Output, ServiceKey, World, WorldInput};

use crate::facts::{Facts, Stream, node_name};
use crate::kernel::{Kernels, link_local};
use crate::{NodeNumber, ServiceNumber};

/// The interface of every node on the first LAN.
pub(crate) const INTERFACE: u32 = 1;
/// The one on the second LAN, where there is one.
pub(crate) const SECOND_INTERFACE: u32 = 2;
/// Datagrams, and frames, that the kernel keeps for a process that does not read: 208 KiB of about 700 bytes each.
const RECEIVE_BUFFER: usize = 300;

pub(crate) fn mac(node: NodeNumber, interface: u32) -> MacAddr {
    MacAddr([2, 0, 0, interface as u8, (node >> 8) as u8, node as u8])
}

pub(crate) fn node_of(mac: MacAddr, nodes: usize) -> Option<NodeNumber> {
    let [2, 0, 0, INTERFACE_BYTE | SECOND_BYTE, high, low] = mac.0 else {
        return None;
    };
    let node = usize::from(u16::from_be_bytes([high, low]));
    (node < nodes).then_some(node)
}

const INTERFACE_BYTE: u8 = INTERFACE as u8;
const SECOND_BYTE: u8 = SECOND_INTERFACE as u8;

pub(crate) fn link(node: NodeNumber, interface: u32, kernels: Kernels) -> Link {
    Link {
        name: format!("eth{}", interface - 1).into(),
        mac: mac(node, interface),
        arp: true,
        link_local: kernels.link_local.then(|| link_local(node, interface)),
    }
}

/// What happens to a speaker from outside.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Something at a socket, or of netlink.
    Wire(Input),
    /// The API server says this.
    Api(Stream, Arc<Facts>),
    /// The API server says this of a Lease.
    Lease(TenureInput),
}

/// What a node wants done.
pub(crate) enum Action {
    /// Something of its speaker.
    Speaker(Output),
    /// A request about a Lease.
    Lease(TenureOutput),
}

/// One node.
pub(crate) struct Host {
    number: NodeNumber,
    peers: usize,
    kernels: Kernels,
    world: Option<World>,
    tenures: Option<TenureMachine>,
    paused: bool,
    waiting: VecDeque<Event>,
    /// What each stream last said, before everything was listed once.
    listed: [Option<Arc<Facts>>; Stream::ALL.len()],
    /// Version last taken in of each stream.
    versions: [u64; Stream::ALL.len()],
    /// Everything was listed once.
    synced: bool,
    pub(crate) lives: u64,
    /// The node is switched on, whatever its speaker does.
    powered: bool,
    /// Multicast groups that are heard, by interface.
    groups: BTreeSet<(u32, Ipv6Addr)>,
    /// By how much the node's monotonic clock is ahead of the simulation's: it stood still while the node was suspended, or
    /// jumped.
    ahead: i64,
    asleep_since: Option<Instant>,
}

fn shifted(at: Instant, by: i64) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_add_signed(by))
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Host {
    pub(crate) fn new(number: NodeNumber, peers: usize, kernels: Kernels) -> Self {
        Self {
            number,
            peers,
            kernels,
            world: None,
            tenures: None,
            paused: false,
            waiting: VecDeque::new(),
            listed: Default::default(),
            versions: Default::default(),
            synced: false,
            lives: 0,
            powered: true,
            groups: BTreeSet::new(),
            ahead: 0,
            asleep_since: None,
        }
    }

    /// The node's own clock.
    fn clock(&self, now: Instant) -> Instant {
        shifted(now, self.ahead)
    }

    pub(crate) fn start(
        &mut self,
        now: Instant,
        config: EngineConfig,
        options: Options,
        leases: Option<TenureTiming>,
    ) {
        let local = self.clock(now);
        *self = Self {
            tenures: leases.map(|timing| TenureMachine::new(node_name(self.number), timing, local)),
            world: Some(World::with_options(local, config, options)),
            lives: self.lives + 1,
            ahead: self.ahead,
            ..Self::new(self.number, self.peers, self.kernels)
        };
    }

    pub(crate) fn power_off(&mut self) {
        self.kill();
        self.powered = false;
        self.asleep_since = None;
    }

    /// The node is switched on, so its kernel answers and forwards.
    pub(crate) const fn is_powered(&self) -> bool {
        self.powered
    }

    pub(crate) fn kill(&mut self) {
        self.world = None;
        self.tenures = None;
        self.waiting.clear();
        self.groups.clear();
        self.paused = false;
    }

    /// The process exists, scheduled or not.
    pub(crate) fn exists(&self) -> bool {
        self.world.is_some()
    }

    /// The process exists and is scheduled.
    pub(crate) fn runs(&self) -> bool {
        self.world.is_some() && !self.paused
    }

    /// Everything was listed once, so it may decide.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// It runs and has listed everything: until then it is silent and no way round for others.
    pub(crate) fn takes_part(&self) -> bool {
        self.runs() && self.synced
    }

    /// It knows the present truth.
    pub(crate) fn is_informed(&self, facts: &Facts) -> bool {
        self.synced
            && Stream::ALL
                .iter()
                .all(|stream| self.versions[*stream as usize] == facts.version(*stream))
    }

    /// In its own view it answers for the service, as its owner or in the owner's name.
    pub(crate) fn acts(&self, service: ServiceNumber) -> bool {
        self.world.as_ref().is_some_and(|world| {
            let engine = world.engine();
            engine.acting(&Facts::key(service)) == Some(engine.node())
        })
    }

    /// Who answers for the service in its view.
    pub(crate) fn acting(&self, service: ServiceNumber) -> Option<&str> {
        let acting = self.world.as_ref()?.engine().acting(&Facts::key(service));
        acting.map(|name| &**name)
    }

    /// Who owns the service in its view.
    pub(crate) fn owner(&self, service: &ServiceKey) -> Option<&str> {
        self.world.as_ref()?.engine().owner(service).map(|name| &**name)
    }

    /// It answers for the address, or may.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        self.world
            .as_ref()
            .is_some_and(|world| world.engine().holds(address))
    }

    /// Whether its process hears the group to which this frame goes. Switches that snoop keep it from all others.
    pub(crate) fn hears_group(&self, interface: u32, destination: MacAddr) -> bool {
        let [0x33, 0x33, 0xff, ..] = destination.0 else {
            return true;
        };
        let mut groups = self.groups.iter();
        groups.any(|(on, group)| *on == interface && ndp::multicast_mac(*group) == destination)
    }

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        let world = self.world.as_ref()?.poll_timeout();
        let tenures = self.tenures.as_ref().and_then(TenureMachine::poll_timeout);
        let at = world.into_iter().chain(tenures).min()?;
        Some(shifted(at, -self.ahead))
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        if self.paused {
            return;
        }
        let now = self.clock(now);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if let Some(world) = self.world.as_mut().filter(|world| due(world.poll_timeout())) {
            world.handle_timeout(now);
        }
        if let Some(tenures) = self
            .tenures
            .as_mut()
            .filter(|tenures| due(tenures.poll_timeout()))
        {
            tenures.handle_timeout(now);
        }
    }

    /// What it wants done next. What its two machines want of each other is done here.
    pub(crate) fn poll_output(&mut self, now: Instant) -> Option<Action> {
        let now = self.clock(now);
        loop {
            let world = self.world.as_mut()?;
            match world.poll_output() {
                Some(Output::Join(interface, group)) => {
                    self.groups.insert((interface, group));
                }
                Some(Output::Part(interface, group)) => {
                    self.groups.remove(&(interface, group));
                }
                Some(Output::Want(address, wanted)) => {
                    if let Some(tenures) = &mut self.tenures {
                        tenures.handle(now, TenureInput::Want(address, wanted));
                    }
                }
                Some(output) => return Some(Action::Speaker(output)),
                None => match self.tenures.as_mut()?.poll_output()? {
                    TenureOutput::Tenure(until) => {
                        world.handle(now, WorldInput::Wire(Input::Tenure(until)));
                    }
                    TenureOutput::Granted(address, granted) => {
                        world.handle(now, WorldInput::Wire(Input::Granted(address, granted)));
                    }
                    TenureOutput::Holder(address, holder) => {
                        world.handle(now, WorldInput::Wire(Input::Holder(address, holder)));
                    }
                    request => return Some(Action::Lease(request)),
                },
            }
        }
    }

    /// Lets an event happen, or wait when the process is not scheduled.
    pub(crate) fn tell(&mut self, now: Instant, event: Event) {
        if self.world.is_none() {
            return;
        }
        if self.paused {
            let alike = |waiting: &&Event| {
                matches!(
                    (&event, waiting),
                    (
                        Event::Wire(Input::Datagram { .. }),
                        Event::Wire(Input::Datagram { .. })
                    ) | (Event::Wire(Input::Frame(..)), Event::Wire(Input::Frame(..)))
                )
            };
            if self.waiting.iter().filter(alike).count() < RECEIVE_BUFFER {
                self.waiting.push_back(event);
            }
            return;
        }
        let now = self.clock(now);
        self.take(now, event);
    }

    pub(crate) fn pause(&mut self) {
        self.paused = self.world.is_some();
    }

    /// Schedules the process again: as in the binary's loop it reads datagrams, then lets timers run, then takes the rest.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.paused = false;
        let waiting = std::mem::take(&mut self.waiting);
        let (datagrams, rest): (Vec<Event>, Vec<Event>) = waiting
            .into_iter()
            .partition(|event| matches!(event, Event::Wire(Input::Datagram { .. })));
        let local = self.clock(now);
        for event in datagrams {
            self.take(local, event);
        }
        self.wake(now);
        for event in rest {
            self.take(local, event);
        }
    }

    /// The whole node is suspended.
    pub(crate) fn suspend(&mut self, now: Instant) {
        self.pause();
        self.asleep_since.get_or_insert(now);
    }

    /// It goes on; its monotonic clock stood still.
    pub(crate) fn wake_up(&mut self, now: Instant) {
        if let Some(since) = self.asleep_since.take() {
            // Strict mode demands a clock that goes on.
            if self.tenures.is_none() {
                self.ahead -= nanos(now - since);
            }
            if self.paused {
                self.resume(now);
            }
        }
    }

    /// The clock jumps ahead.
    pub(crate) fn jump(&mut self, by: Duration) {
        self.ahead += nanos(by);
    }

    fn take(&mut self, now: Instant, event: Event) {
        let Some(world) = &mut self.world else { return };
        match event {
            Event::Wire(input) => {
                if let Input::LinkDown(interface) = input {
                    self.groups.retain(|(on, _)| *on != interface);
                }
                world.handle(now, WorldInput::Wire(input));
            }
            Event::Lease(input) => {
                if let Some(tenures) = &mut self.tenures {
                    tenures.handle(now, input);
                }
            }
            Event::Api(stream, facts) => {
                self.versions[stream as usize] = facts.version(stream);
                if self.synced {
                    facts
                        .inputs(stream)
                        .into_iter()
                        .for_each(|input| world.handle(now, input));
                    return;
                }
                self.listed[stream as usize] = Some(facts);
                if self.listed.iter().all(Option::is_some) {
                    self.sync(now);
                }
            }
        }
    }

    /// Everything is listed once: now it is told who the peers are, and then the rest.
    fn sync(&mut self, now: Instant) {
        let Some(world) = &mut self.world else { return };
        self.synced = true;
        let peers = (0..self.peers)
            .map(|peer| (node_name(peer), self.kernels.address(peer)))
            .collect();
        world.handle(now, WorldInput::Wire(Input::Peers(peers)));
        for stream in Stream::ALL {
            if let Some(facts) = self.listed[stream as usize].take() {
                facts
                    .inputs(stream)
                    .into_iter()
                    .for_each(|input| world.handle(now, input));
            }
        }
    }
}
