//! What peers say of services, and what is believed.

use metallb_sansio::Instant;

use super::engine::{address, drain, engine, engine_with, key, plan, ranked, tell};
use crate::talk::{Talk, View};
use crate::{Cause, Change, Engine, Options};

/// A fresher view than any plan of these tests, by whoever works plans out itself.
fn view(owner: &str) -> View {
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

fn hear(engine: &mut Engine, from: &str, view: View) -> Vec<Change> {
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
