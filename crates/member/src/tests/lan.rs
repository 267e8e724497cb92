//! Members on a virtual wire: everything is delivered after one millisecond unless a cable is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metallb_sansio::{Instant, Machine, SeededRng};

use crate::{Config, Input, Member, NodeName, Output, Secret, Timing};

pub(super) struct Lan {
    pub(super) now: Instant,
    pub(super) members: BTreeMap<usize, Member>,
    pub(super) events: Vec<(Instant, usize, Output)>,
    pub(super) cut: BTreeSet<usize>,
    /// Two that do not hear each other, the lesser first.
    pub(super) deaf: BTreeSet<(usize, usize)>,
    pub(super) paused: BTreeSet<usize>,
    pub(super) loss_percent: u8,
    /// How often each member had something to do.
    pub(super) turns: BTreeMap<usize, usize>,
    wire: VecDeque<(Instant, usize, usize, Vec<u8>)>,
    rng: SeededRng,
    lives: u64,
}

pub(super) fn name(node: usize) -> NodeName {
    format!("n{node}").into()
}

pub(super) fn address(node: usize) -> SocketAddr {
    format!("192.0.2.{node}:7946").parse().expect("address")
}

impl Lan {
    /// `count` members, 1 and up, that know of each other.
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut lan = Self {
            now: Instant::from_millis(1_000),
            members: BTreeMap::new(),
            events: Vec::new(),
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            paused: BTreeSet::new(),
            loss_percent: 0,
            turns: BTreeMap::new(),
            wire: VecDeque::new(),
            rng: SeededRng::new(seed),
            lives: 0,
        };
        for node in 1..=count {
            lan.start(node, "secret");
        }
        for node in 1..=count {
            lan.list(node, count);
        }
        lan
    }

    pub(super) fn start(&mut self, node: usize, secret: &str) {
        self.lives += 1;
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.lives.to_be_bytes());
        let config = Config {
            node: name(node),
            address: address(node),
            generation: self.lives * 1_000,
            seed: self.rng.next_u64(),
            session,
            secret: Secret::new(secret.as_bytes()),
            timing: Timing::default(),
        };
        self.members.insert(node, Member::new(config));
    }

    pub(super) fn list(&mut self, node: usize, count: usize) {
        let peers = (1..=count).map(|n| (name(n), address(n))).collect();
        self.tell(node, Input::Peers(peers));
    }

    pub(super) fn tell(&mut self, node: usize, input: Input) {
        let now = self.now;
        self.members.get_mut(&node).expect("member").handle(now, input);
        self.collect(node);
    }

    fn collect(&mut self, node: usize) {
        let member = self.members.get_mut(&node).expect("member");
        while let Some(output) = member.poll_output() {
            if let Output::Send { to, datagram } = &output {
                let Some(to) = (1..=64).find(|n| address(*n) == *to) else {
                    continue;
                };
                if !self.cut.contains(&node)
                    && !self.cut.contains(&to)
                    && !self.deaf.contains(&(node.min(to), node.max(to)))
                    && !self.rng.percent(self.loss_percent)
                {
                    self.wire
                        .push_back((self.now + Duration::from_millis(1), node, to, datagram.clone()));
                }
            } else {
                self.events.push((self.now, node, output));
            }
        }
    }

    /// Lets `time` pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = self.members.iter().filter(|(n, _)| !self.paused.contains(n));
            let timer = timers.filter_map(|(_, m)| m.poll_timeout()).min();
            let arrival = self
                .wire
                .iter()
                .filter(|(_, _, to, _)| !self.paused.contains(to))
                .map(|(at, ..)| *at)
                .min();
            let Some(next) = timer.into_iter().chain(arrival).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let mut waiting = VecDeque::new();
            while let Some((at, node, to, datagram)) = self.wire.pop_front() {
                if self.paused.contains(&to) || at > self.now {
                    waiting.push_back((at, node, to, datagram));
                } else if self.members.contains_key(&to) {
                    *self.turns.entry(to).or_default() += 1;
                    let from = address(node);
                    self.tell(to, Input::Datagram { from, datagram });
                }
            }
            waiting.append(&mut self.wire);
            self.wire = waiting;
            for node in self.members.keys().copied().collect::<Vec<_>>() {
                let now = self.now;
                let member = self.members.get_mut(&node).expect("member");
                if !self.paused.contains(&node) && member.poll_timeout().is_some_and(|at| at <= now) {
                    member.handle_timeout(now);
                    *self.turns.entry(node).or_default() += 1;
                    self.collect(node);
                }
            }
        }
        self.now = end;
    }

    /// Which of `nodes` the member holds for live.
    pub(super) fn live(&self, node: usize) -> BTreeSet<usize> {
        let member = &self.members[&node];
        (1..=64).filter(|n| member.is_live(&name(*n))).collect()
    }

    /// When `node` first reported the loss of `lost` after `since`.
    pub(super) fn lost_at(&self, node: usize, lost: usize, since: Instant) -> Option<Duration> {
        self.events
            .iter()
            .find(|(at, n, output)| {
                *at >= since && *n == node && *output == Output::Lost(Arc::clone(&name(lost)))
            })
            .map(|(at, ..)| *at - since)
    }

    pub(super) fn losses(&self) -> usize {
        self.events
            .iter()
            .filter(|(_, _, output)| matches!(output, Output::Lost(_)))
            .count()
    }
}
