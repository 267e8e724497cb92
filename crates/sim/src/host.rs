//! A node: its speaker's process, and what waits for it while it is not scheduled.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use metallb_sansio::{Instant, Machine as _};
use metallb_speaker_core::l2::{Link, MacAddr};
use metallb_speaker_core::{EngineConfig, Input, Output, World, WorldInput};

use crate::facts::{Facts, Stream, node_name};
use crate::{NodeNumber, ServiceNumber};

/// The one interface of every node.
pub(crate) const INTERFACE: u32 = 1;
/// Datagrams, and frames, that the kernel keeps for a process that does not read: 208 KiB of about 700 bytes each.
const RECEIVE_BUFFER: usize = 300;

pub(crate) fn address(node: NodeNumber) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, (node % 250) as u8 + 1], 7_946 + (node / 250) as u16))
}

pub(crate) fn node_at(address: SocketAddr, nodes: usize) -> Option<NodeNumber> {
    (0..nodes).find(|node| self::address(*node) == address)
}

pub(crate) fn mac(node: NodeNumber) -> MacAddr {
    MacAddr([2, 0, 0, 0, (node >> 8) as u8, node as u8])
}

pub(crate) fn link(node: NodeNumber) -> Link {
    Link {
        name: "eth0".into(),
        mac: mac(node),
        arp: true,
        link_local: None,
    }
}

/// What happens to a speaker from outside.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Something at a socket, or of netlink.
    Wire(Input),
    /// The API server says this.
    Api(Stream, Arc<Facts>),
}

/// One node.
pub(crate) struct Host {
    number: NodeNumber,
    peers: usize,
    world: Option<World>,
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
}

impl Host {
    pub(crate) fn new(number: NodeNumber, peers: usize) -> Self {
        Self {
            number,
            peers,
            world: None,
            paused: false,
            waiting: VecDeque::new(),
            listed: Default::default(),
            versions: Default::default(),
            synced: false,
            lives: 0,
            powered: true,
        }
    }

    pub(crate) fn start(&mut self, now: Instant, config: EngineConfig) {
        *self = Self {
            world: Some(World::new(now, config, false)),
            lives: self.lives + 1,
            ..Self::new(self.number, self.peers)
        };
    }

    pub(crate) fn power_off(&mut self) {
        self.kill();
        self.powered = false;
    }

    /// The node is switched on, so its kernel answers and forwards.
    pub(crate) const fn is_powered(&self) -> bool {
        self.powered
    }

    pub(crate) fn kill(&mut self) {
        self.world = None;
        self.waiting.clear();
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

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.paused {
            None
        } else {
            self.world.as_ref()?.poll_timeout()
        }
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        if let Some(world) = self.world.as_mut().filter(|_| !self.paused)
            && world.poll_timeout().is_some_and(|at| at <= now)
        {
            world.handle_timeout(now);
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.world.as_mut()?.poll_output()
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
        for event in datagrams {
            self.take(now, event);
        }
        self.wake(now);
        for event in rest {
            self.take(now, event);
        }
    }

    fn take(&mut self, now: Instant, event: Event) {
        let Some(world) = &mut self.world else { return };
        match event {
            Event::Wire(input) => world.handle(now, WorldInput::Wire(input)),
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
            .map(|peer| (node_name(peer), address(peer)))
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
