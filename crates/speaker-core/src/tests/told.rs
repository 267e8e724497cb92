//! What peers say of services, and what is believed.

use metallb_sansio::Instant;

use super::engine::{address, drain, engine_with, key, plan, ranked, tell};
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
