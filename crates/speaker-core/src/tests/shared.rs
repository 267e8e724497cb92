//! What the engine decides of services that share addresses, and what it costs.

use metallb_election::rank;

use super::engine::{address, drain, engine_among, engine_with, key, plan, tell};
use super::told::{hear, view};
use crate::Options;
use crate::talk::View;

/// Many services on one address, and peers none of which knows who has them: each answer is news of one service.
#[test]
fn an_answer_without_a_claim_is_news_of_one_service() {
    let services = 100;
    let nodes: Vec<String> = (1..=11).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let ranked = rank(names.iter().map(|node| (*node, 0)), address());
    for me in [ranked[0], ranked[10]] {
        let options = Options {
            non_preempt: true,
            ..Options::default()
        };
        let mut engine = engine_among(me, &names, options);
        let keys: Vec<String> = (0..services).map(|n| format!("s{n:03}")).collect();
        for name in &keys {
            tell(&mut engine, name, Some(plan(&names, None)));
        }
        drain(&mut engine);
        engine.decisions = 0;
        for peer in ranked.iter().filter(|peer| **peer != me) {
            for name in &keys {
                let answer = View {
                    service: key(name),
                    version: 0,
                    digest: 0,
                    owner: None,
                    ..view(peer)
                };
                hear(&mut engine, peer, answer);
            }
        }
        for name in &keys {
            assert_eq!(engine.owner(&key(name)).map(|owner| &**owner), Some(ranked[0]));
        }
        // Each answer, and once all of them when one is claimed.
        let most = services * 10 + services * 2;
        assert!(engine.decisions <= most, "{me}: {} decisions", engine.decisions);
    }
}

/// Claims of all that share an address, by the same node: what they go by changes once.
#[test]
fn claims_that_say_the_same_are_news_once() {
    let services = 100;
    let options = Options {
        non_preempt: true,
        ..Options::default()
    };
    let ranked = super::engine::ranked();
    let mut engine = engine_with(ranked[0], options);
    let keys: Vec<String> = (0..services).map(|n| format!("s{n:03}")).collect();
    for name in &keys {
        tell(&mut engine, name, Some(plan(&ranked, None)));
    }
    engine.decisions = 0;
    // Each comes before those that were claimed until then.
    for name in keys.iter().rev() {
        let claim = View {
            service: key(name),
            version: 0,
            claim: Some((ranked[2].into(), 2)),
            ..view(ranked[2])
        };
        hear(&mut engine, ranked[2], claim);
        for name in &keys {
            assert_eq!(engine.owner(&key(name)).map(|owner| &**owner), Some(ranked[2]));
        }
    }
    assert!(engine.decisions <= services * 3, "{} decisions", engine.decisions);
}
