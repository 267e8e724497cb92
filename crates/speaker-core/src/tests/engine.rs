use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metallb_election::{Candidate, Eligibility, NodeName, Standing, rank};
use metallb_l2::{Link, MacAddr};
use metallb_member::{Secret, Timing};
use metallb_sansio::{Instant, Machine};

use crate::{Cause, Change, Directive, Engine, EngineConfig, Input, Options, Output, Plan, ServiceKey};

const ADDRESS: &str = "192.0.2.10";

pub(super) fn address() -> IpAddr {
    ADDRESS.parse().expect("address")
}

pub(super) fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name)
}

/// An engine on `node` with one link, which presumes the other two of n1, n2, n3 alive.
pub(super) fn engine(node: &str) -> Engine {
    engine_with(node, Options::default())
}

pub(super) fn engine_with(node: &str, options: Options) -> Engine {
    engine_among(node, &["n1", "n2", "n3"], options)
}

/// One that presumes all others of these alive.
pub(super) fn engine_among(node: &str, nodes: &[&str], options: Options) -> Engine {
    let now = Instant::ZERO;
    let config = EngineConfig {
        node: node.into(),
        address: "192.0.2.1:7946".parse().expect("address"),
        generation: 1,
        seed: 1,
        session: [1; 16],
        secret: Secret::none(),
        timing: Timing::default(),
    };
    let mut engine = Engine::with_options(now, config, options);
    let peers = nodes
        .iter()
        .map(|name| ((*name).into(), "192.0.2.1:7946".parse().expect("address")));
    engine.handle(now, Input::Peers(peers.collect()));
    let link = Link {
        name: "eth0".into(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        arp: true,
        link_local: None,
    };
    engine.handle(now, Input::LinkUp(1, link));
    drain(&mut engine);
    engine
}

pub(super) fn plan(nodes: &[&str], interfaces: Option<&[&str]>) -> Plan {
    let candidate = Candidate {
        behind: 0,
        score: 0,
        shunned: false,
        despite: None,
        interfaces: interfaces.map(|names| names.iter().map(|name| Arc::from(*name)).collect()),
    };
    let candidates = nodes
        .iter()
        .map(|node| (NodeName::from(*node), candidate.clone()))
        .collect();
    let eligibility = Eligibility {
        candidates,
        ..Eligibility::default()
    };
    Plan::new([address()].into(), Arc::new(eligibility))
}

pub(super) fn tell(engine: &mut Engine, service: &str, plan: Option<Plan>) -> (Vec<Change>, usize) {
    let directive = Directive {
        service: key(service),
        plan,
        version: 0,
    };
    engine.handle(Instant::ZERO, Input::Directive(directive));
    drain(engine)
}

/// Owner changes, and the number of frames sent.
pub(super) fn drain(engine: &mut Engine) -> (Vec<Change>, usize) {
    let (mut changes, mut frames) = (Vec::new(), 0);
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Change(change) => changes.push(change),
            // Without the questions whether a stranger has the address.
            Output::Frame { frame, .. } if frame[28..32] != [0; 4] => frames += 1,
            _ => {}
        }
    }
    (changes, frames)
}

/// The three nodes as they rank for the address.
pub(super) fn ranked() -> Vec<&'static str> {
    rank(["n1", "n2", "n3"].map(|node| (node, 0)), address())
}

#[test]
fn the_first_by_rank_announces_and_the_others_know_who() {
    for node in ["n1", "n2", "n3"] {
        let mut engine = engine(node);
        let (changes, frames) = tell(&mut engine, "web", Some(plan(&["n1", "n2", "n3"], None)));
        let owner = ranked()[0];
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].from.as_deref(), changes[0].to.as_deref()),
            (None, Some(owner))
        );
        assert_eq!(frames, if node == owner { 2 } else { 0 });
        let report = engine.service(&key("web")).expect("planned");
        assert_eq!(report.standings[owner], Standing::Owner);
        assert_eq!(report.interfaces.len(), usize::from(node == owner));
    }
}

#[test]
fn the_successor_takes_over_when_the_owner_is_lost_and_says_why() {
    let mut engine = engine(ranked()[1]);
    tell(&mut engine, "web", Some(plan(&["n1", "n2", "n3"], None)));
    // Nobody answers: both peers stop being presumed alive.
    engine.handle_timeout(Instant::ZERO);
    let mut changes = Vec::new();
    while let Some(at) = engine
        .poll_timeout()
        .filter(|at| *at <= Instant::from_millis(3_000))
    {
        engine.handle_timeout(at);
        changes.extend(drain(&mut engine).0);
    }
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].to.as_deref(), Some(ranked()[1]));
    assert_eq!(changes[0].cause, Cause::NodeLost(ranked()[0].into()));
    let report = engine.service(&key("web")).expect("planned");
    assert_eq!(report.standings[ranked()[0]], Standing::NotAlive);
}

#[test]
fn a_changed_plan_moves_and_an_unchanged_one_is_silent() {
    let own = ranked()[1];
    let mut engine = engine(own);
    tell(&mut engine, "web", Some(plan(&["n1", "n2", "n3"], None)));
    assert_eq!(
        tell(&mut engine, "web", Some(plan(&["n1", "n2", "n3"], None))),
        (vec![], 0)
    );
    let (changes, frames) = tell(&mut engine, "web", Some(plan(&[own, ranked()[2]], None)));
    assert_eq!((changes.len(), frames), (1, 2), "the owner was excluded");
    assert_eq!(
        tell(&mut engine, "web", Some(plan(&[own, ranked()[2]], None))),
        (vec![], 0),
        "no re-announcement"
    );
    let (changes, frames) = tell(&mut engine, "web", None);
    assert_eq!((changes[0].to.as_deref(), frames), (None, 0));
    assert_eq!(engine.announcer().owned().count(), 0);
}

#[test]
fn a_new_address_replaces_the_old_one() {
    let own = ranked()[0];
    let mut engine = engine(own);
    tell(&mut engine, "web", Some(plan(&[own], None)));
    let other: IpAddr = "192.0.2.11".parse().expect("address");
    let (changes, frames) = tell(
        &mut engine,
        "web",
        Some(Plan {
            addresses: [other].into(),
            ..plan(&[own], None)
        }),
    );
    assert_eq!(engine.announcer().owned().collect::<Vec<_>>(), [other]);
    assert_eq!(
        (changes.len(), frames),
        (1, 2),
        "same owner, but whoever writes the status is told"
    );
}

#[test]
fn a_shared_address_stays_until_the_last_service_lets_go() {
    let own = ranked()[0];
    let mut engine = engine(own);
    tell(&mut engine, "tcp", Some(plan(&[own], Some(&["eth1"]))));
    assert_eq!(
        tell(&mut engine, "udp", Some(plan(&[own], Some(&["eth0"])))).1,
        2,
        "announced where it was not yet"
    );
    tell(&mut engine, "udp", None);
    assert_eq!(engine.announcer().owned().count(), 1);
    tell(&mut engine, "tcp", None);
    assert_eq!(engine.announcer().owned().count(), 0);
}

#[test]
fn an_owner_without_a_usable_interface_says_so() {
    let own = ranked()[0];
    let mut engine = engine(own);
    let (changes, frames) = tell(&mut engine, "web", Some(plan(&[own], Some(&["eth9"]))));
    assert_eq!((changes.len(), frames), (1, 0));
    let report = engine.service(&key("web")).expect("planned");
    assert!(report.restriction.is_some() && report.interfaces.is_empty());
}

#[test]
fn a_changed_restriction_of_interfaces_is_told() {
    let own = ranked()[0];
    let mut engine = engine(own);
    tell(&mut engine, "web", Some(plan(&[own], None)));
    let (changes, frames) = tell(&mut engine, "web", Some(plan(&[own], Some(&["eth0"]))));
    assert_eq!((changes.len(), frames), (1, 0));
    assert_eq!(changes[0].from, changes[0].to);
}

#[test]
fn pages_of_reports_continue_where_the_last_ended() {
    let mut engine = engine("n1");
    for name in ["a", "b", "c"] {
        tell(&mut engine, name, Some(plan(&["n1"], None)));
    }
    let after = key("a");
    let rest: Vec<_> = engine
        .services_from(std::ops::Bound::Excluded(&after))
        .map(|r| r.service)
        .collect();
    assert_eq!(rest, [key("b"), key("c")]);
    assert_eq!(engine.services().count(), 3);
}

#[test]
fn a_clean_stop_says_goodbye_and_nothing_more() {
    let mut engine = engine("n1");
    engine.handle(Instant::from_millis(10), Input::Leave);
    drain(&mut engine);
    assert!(engine.member().peers().all(|(_, state)| state.is_live()));
    engine.handle_timeout(Instant::ZERO + Duration::from_secs(10));
    assert_eq!(drain(&mut engine).0, vec![]);
}

#[test]
fn whoever_lacks_the_interfaces_is_passed_over_and_told_so() {
    let own = ranked()[0];
    let mut engine = engine(own);
    let (changes, frames) = tell(&mut engine, "web", Some(plan(&ranked(), Some(&["eth9"]))));
    assert_eq!(
        (changes[0].to.as_deref(), frames),
        (Some(ranked()[1]), 0),
        "of others it is presumed"
    );
    let report = engine.service(&key("web")).expect("planned");
    assert_eq!(report.standings[own], Standing::NoInterface);
    assert!(!report.usability_ignored);

    let link = Link {
        name: "eth9".into(),
        mac: MacAddr([2, 0, 0, 0, 0, 9]),
        arp: true,
        link_local: None,
    };
    engine.handle(Instant::ZERO, Input::LinkUp(9, link));
    let (changes, frames) = drain(&mut engine);
    assert_eq!(
        (changes[0].to.as_deref(), frames),
        (Some(own), 2),
        "a NIC that comes up announces at once"
    );
    assert_eq!(changes[0].cause, Cause::Interfaces(own.into()));
    engine.handle(Instant::ZERO, Input::LinkDown(9));
    assert_eq!(drain(&mut engine).0[0].to.as_deref(), Some(ranked()[1]));
}

/// Go speakers do not see ours, and elect the owner among themselves.
#[test]
fn what_speakers_of_go_metallb_announce_ours_do_not() {
    let own = ranked()[0];
    let mut engine = engine(own);
    tell(&mut engine, "web", Some(plan(&ranked(), None)));
    let mut go = plan(&ranked()[..2], None);
    let eligibility = Eligibility::clone(&go.eligibility);
    go.eligibility = Arc::new(Eligibility {
        go: true,
        ..eligibility
    });
    let (changes, frames) = tell(&mut engine, "web", Some(go));
    assert_eq!((changes[0].to.as_deref(), frames), (None, 0));
    assert_eq!(engine.announcer().owned().count(), 0);
    let report = engine.service(&key("web")).expect("planned");
    assert!(report.go && report.owner.is_none());
    assert_eq!(report.standings[own], Standing::Owner, "as far as they are alive");
    let (changes, frames) = tell(&mut engine, "web", Some(plan(&ranked(), None)));
    assert_eq!(
        (changes[0].to.as_deref(), frames),
        (Some(own), 2),
        "the last has left"
    );
}

/// In strict mode nothing is answered without tenure and grant, and a tenure ends by itself.
#[test]
fn leases_decide_in_strict_mode() {
    let own = ranked()[0];
    let strict = Options {
        strict: true,
        ..Options::default()
    };
    let mut engine = engine_with(own, strict);
    let wants = |engine: &mut Engine| {
        let outputs = std::iter::from_fn(|| engine.poll_output());
        let wants = outputs.filter_map(|output| match output {
            Output::Want(_, wanted) => Some(wanted),
            _ => None,
        });
        wants.collect::<Vec<_>>()
    };
    let until = Instant::from_millis(9_000);
    engine.handle(Instant::ZERO, Input::Tenure(Some(until)));
    let directive = Directive {
        service: key("web"),
        plan: Some(plan(&[own], None)),
        version: 0,
    };
    engine.handle(Instant::ZERO, Input::Directive(directive));
    assert_eq!(wants(&mut engine), [true]);
    assert!(engine.service(&key("web")).expect("planned").waits_for_lease);
    assert_eq!(engine.announcer().owned().count(), 0);
    engine.handle(Instant::ZERO, Input::Granted(address(), true));
    assert_eq!(engine.announcer().owned().count(), 1);

    // Woken too late: nothing is answered before the time is looked at.
    engine.handle_frame(until, 1, &[]);
    assert_eq!(engine.announcer().owned().count(), 0);
    engine.handle(until, Input::Tenure(Some(Instant::from_millis(12_000))));
    assert_eq!(engine.announcer().owned().count(), 1, "still granted");
    assert!(wants(&mut engine).is_empty(), "and wanted all the time");
    let directive = Directive {
        service: key("web"),
        plan: None,
        version: 0,
    };
    engine.handle(until, Input::Directive(directive));
    assert_eq!(wants(&mut engine), [false]);
}

#[test]
fn membership_rests_while_nobody_could_take_anything_over() {
    let by_rank = ranked();
    for node in &by_rank {
        let mut engine = engine(node);
        assert!(engine.rests, "there is no service");
        for (count, rests) in [(3, false), (1, true), (2, false), (0, true), (3, false)] {
            tell(&mut engine, "web", Some(plan(&by_rank[..count], None)));
            assert_eq!(engine.rests, rests, "{count} candidates");
        }
        tell(&mut engine, "api", Some(plan(&by_rank, None)));
        for (service, rests) in [("web", false), ("api", true)] {
            tell(&mut engine, service, None);
            assert_eq!(engine.rests, rests, "without {service}");
        }
    }
}
