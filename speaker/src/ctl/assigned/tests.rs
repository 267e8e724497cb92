//! What is told of a service, address by address, from what a whole engine says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use metallb_election::{Candidate, Eligibility, NodeName};
use metallb_l2::{ConflictPolicy, Link, MacAddr};
use metallb_member::{Secret, Timing};
use metallb_sansio::{Instant, Machine as _};
use metallb_speaker_core::{Directive, Engine, EngineConfig, Input, Options, Plan, ServiceKey};

use super::*;
use crate::wire::Reporter;

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const NODE: &str = "n1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key() -> ServiceKey {
    ServiceKey::new("default", "web")
}

/// A speaker without peers and what is told of it.
struct Node {
    engine: Engine,
    assigned: Assigned,
}

impl Node {
    fn new(options: Options, link_local: bool) -> Self {
        let config = EngineConfig {
            node: NODE.into(),
            address: "192.0.2.1:7946".parse().expect("an address"),
            generation: 1,
            seed: 1,
            session: [1; 16],
            secret: Secret::none(),
            timing: Timing::default(),
        };
        let mut engine = Engine::with_options(Instant::ZERO, config, options);
        engine.handle(Instant::ZERO, Input::Peers(BTreeMap::new()));
        engine.handle(Instant::ZERO, Input::LinkUp(1, link(link_local)));
        let metrics = Metrics::new(NODE, Reporter::unanswered()).expect("metrics");
        Self {
            engine,
            assigned: Assigned::new(NODE, metrics),
        }
    }

    fn plan(&mut self, now: Instant, addresses: &[&str], interfaces: Option<&[&str]>) {
        let candidate = Candidate {
            behind: 0,
            score: 0,
            shunned: false,
            interfaces: interfaces.map(|names| names.iter().map(|name| Arc::from(*name)).collect()),
            despite: None,
        };
        let eligibility = Eligibility {
            candidates: [(NodeName::from(NODE), candidate)].into(),
            ..Eligibility::default()
        };
        let addresses = addresses.iter().map(|address| ip(address)).collect();
        let plan = Plan::new(addresses, Arc::new(eligibility));
        let directive = Directive {
            service: key(),
            plan: Some(plan),
            version: 0,
        };
        self.engine.handle(now, Input::Directive(directive));
    }

    fn look(&mut self) -> Option<Update> {
        self.assigned
            .update(&key(), self.engine.service(&key()).as_ref(), Some("u"))
    }

    /// The addresses that the metric names.
    fn announced(&self) -> Vec<IpAddr> {
        let families = self.assigned.metrics.registry().gather();
        let announced = families
            .iter()
            .find(|family| family.name() == "metallb_speaker_announced");
        let samples = announced.iter().flat_map(|family| family.get_metric());
        let address = |sample: &prometheus::proto::Metric| {
            let label = sample.get_label().iter().find(|label| label.name() == "ip");
            ip(label.expect("the address").value())
        };
        samples.map(address).collect()
    }
}

fn link(link_local: bool) -> Link {
    Link {
        name: "eth0".into(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        arp: true,
        link_local: link_local.then(|| "fe80::1".parse().expect("an address")),
    }
}

/// The owner has no IPv6 on its link: nobody answers for the second address.
#[test]
fn an_address_without_an_interface_is_not_announced() {
    let mut node = Node::new(Options::default(), false);
    node.plan(Instant::ZERO, &[V4, V6], None);
    node.look().expect("it is ours");
    assert_eq!(node.announced(), [ip(V4)]);
    node.engine.handle(Instant::ZERO, Input::LinkUp(1, link(true)));
    node.look().expect("both now");
    assert_eq!(node.announced(), [ip(V4), ip(V6)]);
    assert_eq!(node.look(), None);
}

/// An address that nobody announced before is probed first.
#[test]
fn an_address_that_is_probed_is_not_announced_yet() {
    let mut node = Node::new(Options::default(), true);
    let start = Instant::from_millis(10_000);
    node.plan(start, &[V4], None);
    node.look();
    assert_eq!(node.announced(), [] as [IpAddr; 0]);
    for millis in [100, 200, 300] {
        node.engine.handle_timeout(Instant::from_millis(10_000 + millis));
    }
    node.look().expect("announced now");
    assert_eq!(node.announced(), [ip(V4)]);
}

/// A stranger has the address and is left alone.
#[test]
fn an_address_that_is_left_to_a_stranger_is_not_announced() {
    let block = Options {
        conflicts: ConflictPolicy::Block,
        ..Options::default()
    };
    let mut node = Node::new(block, true);
    node.plan(Instant::ZERO, &[V4, V6], None);
    node.look();
    assert_eq!(node.announced(), [ip(V4), ip(V6)]);
    let claim = metallb_l2::wire::arp::Repr::announcement_request(
        "192.0.2.10".parse().expect("an address"),
        MacAddr([2, 0, 0, 0, 0, 9]),
    );
    let now = Instant::from_millis(1_000);
    node.engine.handle_frame(now, 1, &claim.emit(MacAddr::BROADCAST));
    node.look().expect("it changed");
    assert_eq!(node.announced(), [ip(V6)]);
}

/// In strict mode each address waits for its own Lease.
#[test]
fn an_address_that_waits_for_its_lease_is_not_announced() {
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let mut node = Node::new(strict, true);
    let until = Instant::from_millis(9_000);
    node.engine.handle(Instant::ZERO, Input::Tenure(Some(until)));
    node.plan(Instant::ZERO, &[V4, V6], None);
    node.look();
    assert_eq!(node.announced(), [] as [IpAddr; 0]);
    node.engine.handle(Instant::ZERO, Input::Granted(ip(V4), true));
    node.look().expect("one of two");
    assert_eq!(node.announced(), [ip(V4)]);
}
