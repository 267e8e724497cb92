//! What an engine says of each address that it owns.

use std::net::IpAddr;
use std::time::Duration;

use metallb_l2::wire::arp;
use metallb_l2::{ConflictPolicy, Link, MacAddr};
use metallb_sansio::{Instant, Machine as _};

use super::engine::{address, engine_among, engine_with, key, plan};
use crate::{Directive, Engine, Input, Options, Plan, Unanswered};

const V6: &str = "2001:db8::10";

fn v6() -> IpAddr {
    V6.parse().expect("an address")
}

/// A service of both families, which this node alone may own.
fn own(engine: &mut Engine, now: Instant, interfaces: Option<&[&str]>) {
    let node = engine.node().to_string();
    let plan = Plan {
        addresses: [address(), v6()].into(),
        ..plan(&[&node], interfaces)
    };
    let directive = Directive {
        service: key("web"),
        plan: Some(plan),
        version: 0,
    };
    engine.handle(now, Input::Directive(directive));
}

fn link(link_local: bool) -> Input {
    let link = Link {
        name: "eth0".into(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        arp: true,
        link_local: link_local.then(|| "fe80::1".parse().expect("an address")),
    };
    Input::LinkUp(1, link)
}

/// An engine without peers: nobody has heard of those that others have, so it is in doubt who is a stranger.
fn alone(options: Options) -> Engine {
    let mut engine = engine_among("n1", &[], options);
    engine.handle(Instant::ZERO, link(true));
    engine
}

/// What is not answered for, and why; all else is.
fn unanswered(engine: &Engine) -> Vec<(IpAddr, Unanswered)> {
    let report = engine.service(&key("web")).expect("planned");
    let mut all: Vec<IpAddr> = report.unanswered.iter().map(|(address, _)| *address).collect();
    all.extend(&report.answered);
    all.sort();
    assert_eq!(all, [address(), v6()], "each address once");
    report.unanswered
}

#[test]
fn an_address_needs_an_interface_of_its_family_that_is_allowed() {
    let mut engine = engine_with("n1", Options::default());
    own(&mut engine, Instant::ZERO, None);
    assert_eq!(unanswered(&engine), [(v6(), Unanswered::NoInterface)]);
    let report = engine.service(&key("web")).expect("planned");
    assert_eq!(
        (report.interfaces, report.restriction),
        (vec!["eth0".into()], None)
    );
    engine.handle(Instant::ZERO, link(true));
    assert_eq!(unanswered(&engine), []);
    own(&mut engine, Instant::ZERO, Some(&["eth1"]));
    let none = Unanswered::NoInterface;
    assert_eq!(unanswered(&engine), [(address(), none), (v6(), none)]);
    let report = engine.service(&key("web")).expect("planned");
    assert_eq!(report.interfaces, []);
    let names = report.restriction.expect("restricted");
    assert!(names.iter().map(|name| &**name).eq(["eth1"]), "{names:?}");
}

#[test]
fn probes_and_strangers_are_told_and_turn_an_address() {
    let block = Options {
        conflicts: ConflictPolicy::Block,
        ..Options::default()
    };
    let mut engine = alone(block);
    let start = Instant::from_millis(10_000);
    own(&mut engine, start, None);
    let probing = Unanswered::Probing;
    assert_eq!(unanswered(&engine), [(address(), probing), (v6(), probing)]);
    let IpAddr::V4(ip) = address() else { panic!("IPv4") };
    let claim = arp::Repr::announcement_request(ip, MacAddr([2, 0, 0, 0, 0, 9])).emit(MacAddr::BROADCAST);
    engine.handle_frame(start, 1, &claim);
    assert_eq!(
        unanswered(&engine),
        [(address(), Unanswered::Conflict), (v6(), probing)]
    );
    assert_eq!(engine.take_turned(), [].into(), "nothing was answered for before");
    for millis in [100, 200, 300] {
        engine.handle_timeout(start + Duration::from_millis(millis));
    }
    assert_eq!(unanswered(&engine), [(address(), Unanswered::Conflict)]);
    assert_eq!(engine.take_turned(), [v6()].into());
    assert_eq!(engine.take_turned(), [].into());
}

#[test]
fn each_address_waits_for_its_own_lease() {
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let mut engine = engine_with("n1", strict);
    engine.handle(Instant::ZERO, link(true));
    let until = Instant::from_millis(9_000);
    engine.handle(Instant::ZERO, Input::Tenure(Some(until)));
    own(&mut engine, Instant::ZERO, None);
    let lease = Unanswered::Lease;
    assert_eq!(unanswered(&engine), [(address(), lease), (v6(), lease)]);
    engine.handle(Instant::ZERO, Input::Granted(v6(), true));
    assert_eq!(unanswered(&engine), [(address(), lease)]);
    assert!(engine.service(&key("web")).expect("planned").waits_for_lease);
    engine.handle(Instant::ZERO, Input::Granted(address(), true));
    assert_eq!(unanswered(&engine), []);
    engine.handle_timeout(until);
    assert_eq!(unanswered(&engine), [(address(), lease), (v6(), lease)]);
}
