//! What one speaker of a large cluster costs: `cargo run -p metallb-sim --example cost [NODES [SERVICES]]`.
//!
//! Prints the processor time that one engine takes for each second of membership, close watching and talk in steady state, the
//! memory that the services take in both halves of the speaker, and what a change for all services costs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as WallClock};

use metallb_sansio::{Instant, Machine as _};
use metallb_speaker_core::election::{Candidate, Eligibility, NodeName};
use metallb_speaker_core::l2::{Link, MacAddr};
use metallb_speaker_core::member::{Secret, Timing};
use metallb_speaker_core::{Directive, Engine, EngineConfig, Input, Output, Plan, ServiceKey};

fn name(node: usize) -> NodeName {
    format!("worker-{node}.example.org").into()
}

fn address(node: usize) -> std::net::SocketAddr {
    ([10, 0, (node >> 8) as u8, node as u8], 7_946).into()
}

fn engine(node: usize, nodes: usize) -> Engine {
    let now = Instant::from_millis(1_000);
    let config = EngineConfig {
        node: name(node),
        address: address(node),
        generation: 1,
        seed: node as u64,
        session: [node as u8; 16],
        secret: Secret::new(b"a secret"),
        timing: Timing::default(),
    };
    let mut engine = Engine::new(now, config);
    let peers: BTreeMap<NodeName, _> = (0..nodes).map(|peer| (name(peer), address(peer))).collect();
    engine.handle(now, Input::Peers(peers));
    let link = Link {
        name: "eth0".into(),
        mac: MacAddr([2, 0, 0, 0, (node >> 8) as u8, node as u8]),
        arp: true,
        link_local: None,
    };
    engine.handle(now, Input::LinkUp(1, link));
    engine
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}

struct Cluster {
    engines: Vec<Engine>,
    now: Instant,
    /// What the first engine took, how often it was called, and its datagrams.
    spent: Duration,
    datagrams: u64,
    /// How often it had something to do: each time wakes its thread.
    turns: u64,
}

impl Cluster {
    fn first<T>(&mut self, node: usize, act: impl FnOnce(&mut Engine) -> T) -> T {
        let started = WallClock::now();
        let result = act(&mut self.engines[node]);
        if node == 0 {
            self.spent += started.elapsed();
        }
        result
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let nodes = self.engines.len();
        let mut wire: Vec<(usize, Input)> = Vec::new();
        while self.now < end {
            self.now += Duration::from_millis(1);
            let now = self.now;
            for (to, input) in std::mem::take(&mut wire) {
                self.turns += u64::from(to == 0);
                self.first(to, |engine| engine.handle(now, input));
            }
            for node in 0..nodes {
                if self.engines[node].poll_timeout().is_some_and(|at| at <= now) {
                    self.turns += u64::from(node == 0);
                    self.first(node, |engine| engine.handle_timeout(now));
                }
                while let Some(output) = self.first(node, Engine::poll_output) {
                    if let Output::Datagram { to, datagram } = output {
                        self.datagrams += u64::from(node == 0);
                        let peer = (0..nodes).find(|peer| address(*peer) == to).expect("a peer");
                        let from = address(node);
                        wire.push((peer, Input::Datagram { from, datagram }));
                    }
                }
            }
        }
    }

    fn measure(&mut self, what: &str) {
        (self.spent, self.datagrams, self.turns) = (Duration::ZERO, 0, 0);
        let seconds = 10;
        self.run(Duration::from_secs(seconds));
        println!(
            "{what}: {:.2} ms of processor time a second ({:.2} %), woken {} times a second, {} datagrams sent",
            self.spent.as_secs_f64() * 1_000.0 / seconds as f64,
            self.spent.as_secs_f64() * 100.0 / seconds as f64,
            self.turns / seconds,
            self.datagrams / seconds
        );
    }
}

fn address_of(number: usize) -> IpAddr {
    IpAddr::from([192, 168, (number >> 8) as u8, number as u8])
}

fn directive(number: usize, eligibility: &Arc<Eligibility>, version: u64) -> Directive {
    Directive {
        service: ServiceKey::new("default", &format!("service-{number}")),
        plan: Some(Plan::new([address_of(number)].into(), Arc::clone(eligibility))),
        version,
    }
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"));
    let nodes: usize = arguments.next().unwrap_or(200);
    let services: usize = arguments.next().unwrap_or(1_000);
    let before = resident();
    let mut cluster = Cluster {
        engines: (0..nodes).map(|node| engine(node, nodes)).collect(),
        now: Instant::from_millis(1_000),
        spent: Duration::ZERO,
        datagrams: 0,
        turns: 0,
    };
    cluster.run(Duration::from_secs(3));
    println!(
        "{nodes} engines without services: {} KiB each",
        (resident() - before) / 1_024 / nodes as u64
    );

    cluster.measure("at rest");

    let candidate = || Candidate {
        behind: 0,
        score: 0,
        shunned: false,
        despite: None,
        interfaces: None,
    };
    let eligibility = Arc::new(Eligibility {
        candidates: (0..nodes).map(|node| (name(node), candidate())).collect(),
        ..Eligibility::default()
    });
    let before = resident();
    cluster.spent = Duration::ZERO;
    for number in 0..services {
        let directive = directive(number, &eligibility, 1);
        let ip = address_of(number);
        let now = cluster.now;
        // Whoever owns it or is next takes part; the others would only use memory.
        let ranked = eligibility.ranked(ip);
        for name in &ranked[..ranked.len().min(2)] {
            let node = cluster.engines.iter().position(|engine| engine.node() == name);
            let node = node.filter(|node| *node != 0);
            if let Some(node) = node {
                let input = Input::Directive(directive.clone());
                cluster.engines[node].handle(now, input);
            }
        }
        cluster.first(0, |engine| engine.handle(now, Input::Directive(directive)));
    }
    println!(
        "{services} services are told: {:?}, all engines now {} KiB more",
        cluster.spent,
        (resident() - before) / 1_024
    );
    cluster.run(Duration::from_secs(10));
    cluster.measure("steady state");

    // A node more: everything is told anew.
    let mut candidates = eligibility.candidates.clone();
    candidates.insert(name(nodes), candidate());
    let eligibility = Arc::new(Eligibility {
        candidates,
        ..Eligibility::default()
    });
    cluster.spent = Duration::ZERO;
    for number in 0..services {
        let directive = directive(number, &eligibility, 2);
        let now = cluster.now;
        cluster.first(0, |engine| engine.handle(now, Input::Directive(directive)));
    }
    println!("all are told again with one node more: {:?}", cluster.spent);
    let owned = cluster.engines[0].announcer().owned().count();
    println!("of the {services} services this one owns {owned}");
}
