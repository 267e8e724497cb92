//! What peers say of services, and what is believed.

use metallb_election::Standing;
use metallb_l2::MacAddr;
use metallb_sansio::{Instant, Machine as _};

use super::engine::{address, drain, engine, engine_with, key, plan, ranked, tell};
use crate::talk::{Facts, LinkFacts, Talk, View};
use crate::{Cause, Change, Directive, Engine, Input, Options, Plan};

/// A fresher view than any plan of these tests, by whoever works plans out itself.
pub(super) fn view(owner: &str) -> View {
    View {
        service: key("web"),
        version: 2,
        digest: 7,
        owner: Some(owner.into()),
        claim: None,
        holds: false,
        settled: true,
        reply: true,
        addresses: vec![address()],
        interfaces: None,
    }
}

pub(super) fn hear(engine: &mut Engine, from: &str, view: View) -> Vec<Change> {
    engine.heard(Instant::ZERO, &from.into(), &Talk::Views(vec![view]).encode());
    drain(engine).0
}

#[test]
fn what_a_claim_moves_it_is_the_cause_of() {
    let [me, other, _] = ranked()[..] else {
        panic!("three")
    };
    let options = Options {
        non_preempt: true,
        ..Options::default()
    };
    let mut engine = engine_with(me, options);
    tell(&mut engine, "web", Some(plan(&ranked(), None)));
    let claim = View {
        claim: Some((other.into(), 2)),
        version: 0,
        ..view(other)
    };
    let changes = hear(&mut engine, other, claim);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to.as_deref(), Some(other));
    assert_eq!(changes[0].cause, Cause::Claim(other.into()), "nobody joined");
}

/// Its plan is no fresher when it corrects itself: it was made of half a list, or somebody died or came.
#[test]
fn a_peer_may_take_back_what_it_told_and_nobody_else_while_it_lives() {
    let [first, me, other] = ranked()[..] else {
        panic!("three")
    };
    let mut engine = engine(me);
    tell(&mut engine, "web", Some(plan(&ranked(), None)));
    assert_eq!(hear(&mut engine, first, view(me))[0].to.as_deref(), Some(me));
    assert_eq!(hear(&mut engine, other, view(other)), vec![]);
    let unsure = View {
        settled: false,
        ..view(other)
    };
    assert_eq!(hear(&mut engine, first, unsure), vec![], "it was itself told");
    assert_eq!(
        hear(&mut engine, first, view(other))[0].to.as_deref(),
        Some(other)
    );
}

/// Of a service without a plan of its own, a speaker knows the addresses by the same word.
#[test]
fn addresses_that_were_told_are_taken_back_too() {
    let [me, other, _] = ranked()[..] else {
        panic!("three")
    };
    let mut engine = engine(me);
    hear(&mut engine, other, view(me));
    assert!(engine.holds(address()));
    let corrected = "192.0.2.11".parse().expect("address");
    let correction = View {
        digest: 8,
        addresses: vec![corrected],
        ..view(me)
    };
    hear(&mut engine, other, correction);
    assert!(engine.holds(corrected) && !engine.holds(address()));
}

/// What is known of those that share an address is of one age, also where nothing new came of it.
#[test]
fn an_older_view_of_one_of_those_that_share_an_address_is_not_believed() {
    let [me, other, _] = ranked()[..] else {
        panic!("three")
    };
    let told = |engine: &mut Engine, name, version, plan| {
        let service = key(name);
        let directive = Directive {
            service,
            plan,
            version,
        };
        engine.handle(Instant::ZERO, Input::Directive(directive));
        drain(engine);
    };
    for news in 0..3 {
        let mut engine = engine(me);
        told(&mut engine, "web", 1, Some(plan(&ranked(), None)));
        told(&mut engine, "mail", 1, Some(plan(&ranked(), None)));
        assert_eq!(
            hear(&mut engine, other, view(other))[0].to.as_deref(),
            Some(other)
        );
        // What was believed ends with what is fresher, too.
        let elsewhere = Plan::new(
            ["192.0.2.11".parse().expect("address")].into(),
            plan(&ranked(), None).eligibility,
        );
        let mail = [Some(plan(&ranked(), None)), None, Some(elsewhere)][news].take();
        told(&mut engine, "mail", 3, mail);
        assert_eq!(engine.owner(&key("web")).map(|name| &**name), Some(me), "{news}");
        assert_eq!(hear(&mut engine, other, view(other)), vec![]);
    }
}

/// Who claims one of those that share an address has them all.
#[test]
fn what_one_claims_counts_for_all_that_share_its_address() {
    let [me, other, third] = ranked()[..] else {
        panic!("three")
    };
    let options = Options {
        non_preempt: true,
        ..Options::default()
    };
    let mut engine = engine_with(me, options);
    for name in ["mail", "web"] {
        tell(&mut engine, name, Some(plan(&ranked(), None)));
    }
    let claim = |service, owner: &str, term| View {
        service: key(service),
        claim: Some((owner.into(), term)),
        version: 0,
        ..view(owner)
    };
    let owners =
        |engine: &Engine| ["mail", "web"].map(|name| engine.owner(&key(name)).map(ToString::to_string));
    let both = |owner: &str| [Some(owner.to_owned()), Some(owner.to_owned())];
    hear(&mut engine, other, claim("web", other, 2));
    assert_eq!(owners(&engine), both(other), "nobody claims the other");
    hear(&mut engine, third, claim("mail", third, 2));
    assert_eq!(owners(&engine), both(third), "the first in order decides");
    hear(&mut engine, other, claim("web", other, 8));
    assert_eq!(owners(&engine), both(third));
}

/// Of both families a node with links for one comes before one that has none, and after one that has both.
#[test]
fn who_can_announce_more_of_the_addresses_comes_first() {
    let [me, other, third] = ranked()[..] else {
        panic!("three")
    };
    let both = Plan::new(
        [address(), "2001:db8::1".parse().expect("address")].into(),
        plan(&ranked(), None).eligibility,
    );
    let mut engine = engine(me);
    let says = |engine: &mut Engine, from: &str, number, arp, nd: bool| {
        let link = LinkFacts {
            name: "eth0".into(),
            mac: MacAddr([2, 0, 0, 0, 1, from.as_bytes()[1]]),
            arp,
            link_local: nd.then(|| "fe80::1".parse().expect("address")),
            addresses: Vec::new(),
        };
        let facts = Facts {
            number,
            links: vec![link],
            ..Facts::default()
        };
        engine.heard(Instant::ZERO, &from.into(), &Talk::Facts(facts).encode());
        drain(engine);
        engine.owner(&key("web")).cloned()
    };
    says(&mut engine, other, 1, false, false);
    says(&mut engine, third, 1, false, true);
    tell(&mut engine, "web", Some(both));
    assert_eq!(
        engine.owner(&key("web")).map(|name| &**name),
        Some(me),
        "the first address counts most"
    );
    let report = engine.service(&key("web")).expect("planned");
    assert_eq!(report.standings[third], Standing::NoInterface);
    assert!(!report.usability_ignored, "one address is answered for");
    assert_eq!(
        says(&mut engine, other, 2, true, false).as_deref(),
        Some(me),
        "no more than this node"
    );
    assert_eq!(says(&mut engine, third, 2, true, true).as_deref(), Some(third));
    assert_eq!(says(&mut engine, third, 3, false, true).as_deref(), Some(me));
    engine.handle(Instant::ZERO, Input::LinkDown(1));
    assert_eq!(says(&mut engine, third, 4, false, true).as_deref(), Some(other));
    assert_eq!(says(&mut engine, other, 3, false, false).as_deref(), Some(third));
    assert_eq!(
        says(&mut engine, third, 5, false, false).as_deref(),
        Some(me),
        "never nobody"
    );
    assert!(engine.service(&key("web")).expect("planned").usability_ignored);
}
