//! Services that share addresses are planned together.

use std::collections::BTreeMap;
use std::sync::Arc;

use metallb_election::{Endpoints, Exclusion, ServiceFacts};
use metallb_sansio::{Instant, Machine as _};
use serde_json::json;

use super::{config_of, endpoints, node, service};
use crate::{Directive, Input, Plan, Planner, ServiceKey};

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name)
}

/// A planner that knows four nodes and one pool with both families.
fn planner() -> Planner {
    let mut planner = Planner::new(false);
    planner.config(config_of(&["192.0.2.0/24", "2001:db8::/64"], json!({})));
    for name in ["n1", "n2", "n3", "n4"] {
        planner.node(name.into(), Some(node()));
    }
    planner
}

/// A service with these addresses; `Local` when it has endpoints on some nodes.
fn offer(planner: &mut Planner, name: &str, addresses: &[&str], local: &[&str]) {
    let on = if local.is_empty() { &["n1"] } else { local };
    planner.endpoints(&key(name), endpoints(on));
    let facts = ServiceFacts {
        local: !local.is_empty(),
        ..service(name, addresses)
    };
    planner.service(key(name), Some(facts));
}

/// Plans as they are handed out.
#[derive(Default)]
struct Told(BTreeMap<ServiceKey, (Plan, u64)>);

impl Told {
    /// Who was told of, in order.
    fn settle(&mut self, planner: &mut Planner) -> String {
        let directives = planner.settle();
        let names: Vec<String> = directives.iter().map(|d| d.service.name().to_owned()).collect();
        for Directive {
            service,
            plan,
            version,
        } in directives
        {
            match plan {
                Some(plan) => self.0.insert(service, (plan, version)),
                None => self.0.remove(&service),
            };
        }
        self.check();
        names.join(" ")
    }

    /// Those that share an address have one order of candidates.
    fn check(&self) {
        let plans = || self.0.iter().map(|(key, (plan, _))| (key, plan));
        for (a, plan) in plans() {
            for (b, other) in plans() {
                let shares = plan
                    .addresses
                    .iter()
                    .any(|address| other.addresses.contains(address));
                if shares {
                    let ranked = |plan: &Plan| plan.eligibility.ranked(plan.first());
                    assert_eq!(ranked(plan), ranked(other), "{a} and {b}");
                    assert_eq!(plan.first(), other.first());
                }
            }
        }
    }

    fn plan(&self, name: &str) -> &Plan {
        &self.0[&key(name)].0
    }

    /// Its candidates, and in brackets those that come after all others.
    fn candidates(&self, name: &str) -> String {
        let mut classes: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (name, candidate) in &self.plan(name).eligibility.candidates {
            classes.entry(candidate.behind).or_default().push(name);
        }
        let classes = classes.into_iter().map(|(behind, names)| match behind {
            0 => names.join(" "),
            _ => format!("({})", names.join(" ")),
        });
        classes.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn another_that_wants_the_same_changes_nothing() {
    let (mut planner, mut told) = (planner(), Told::default());
    offer(&mut planner, "a", &[V4], &[]);
    assert_eq!(told.settle(&mut planner), "a");
    offer(&mut planner, "b", &[V4], &[]);
    assert_eq!(told.settle(&mut planner), "b");
    let (a, b) = (told.plan("a"), told.plan("b"));
    assert!(a.group.is_none() && Arc::ptr_eq(&a.eligibility, &b.eligibility));
    planner.service(key("a"), None);
    assert_eq!(told.settle(&mut planner), "a");
    assert_eq!(told.settle(&mut planner), "");
}

#[test]
fn all_that_change_with_one_are_told_at_once() {
    let (mut planner, mut told) = (planner(), Told::default());
    planner.at(10);
    offer(&mut planner, "a", &[V4], &[]);
    offer(&mut planner, "z", &["192.0.2.2"], &[]);
    assert_eq!(told.settle(&mut planner), "a z");
    planner.at(20);
    offer(&mut planner, "b", &[V6, V4], &["n2", "n3"]);
    assert_eq!(told.settle(&mut planner), "a b");
    assert_eq!(told.candidates("a"), "n2 n3 (n1 n4)");
    assert_eq!(
        told.plan("a").eligibility.candidates["n1"].despite,
        Some(Exclusion::SharedAddress)
    );
    assert_eq!(told.plan("b").first(), told.plan("a").addresses[0]);
    assert_eq!(told.0[&key("a")].1, 20, "as fresh as what changed it");

    // Through the second address of `b` another is connected, through that a third.
    planner.at(30);
    offer(&mut planner, "c", &[V6], &["n3", "n4"]);
    offer(&mut planner, "d", &["2001:db8::2", V6], &["n1", "n3"]);
    assert_eq!(told.settle(&mut planner), "a b c d");
    assert_eq!(told.candidates("a"), "n3 (n1 n2 n4)");

    // Without it they fall apart, and nobody who still knows of it knows better.
    planner.at(40);
    planner.service(key("b"), None);
    assert_eq!(told.settle(&mut planner), "b a c d");
    assert_eq!(told.candidates("a"), "n1 n2 n3 n4");
    assert_eq!((told.plan("a").group.is_none(), told.0[&key("a")].1), (true, 40));
    assert_eq!(told.candidates("d"), "n3 (n1 n4)");
    assert_eq!(told.settle(&mut planner), "");
}

#[test]
fn what_nobody_announces_takes_no_part() {
    let (mut planner, mut told) = (planner(), Told::default());
    offer(&mut planner, "a", &[V4], &["n1"]);
    offer(&mut planner, "b", &[V4], &["n2", "n3"]);
    offer(&mut planner, "c", &[V4], &["n3"]);
    told.settle(&mut planner);
    assert_eq!(told.candidates("a"), "n3 (n1 n2)", "a node of most");
    let despite = told.plan("a").eligibility.candidates["n3"].despite;
    assert_eq!(despite, Some(Exclusion::NoLocalEndpoint));
    planner.endpoints(&key("c"), Endpoints::default());
    assert_eq!(told.settle(&mut planner), "a b c");
    assert_eq!(told.candidates("a"), "n1 n2 n3", "never nobody");
    planner.endpoints(&key("a"), endpoints(&["n2"]));
    assert_eq!(told.settle(&mut planner), "a b");
    assert_eq!(told.candidates("b"), "n2 (n3)");
    offer(&mut planner, "a", &["192.0.2.9"], &["n2"]);
    assert_eq!(
        told.settle(&mut planner),
        "a b",
        "an address that it left is the other's alone"
    );
    assert_eq!(told.candidates("b"), "n2 n3");
}

#[test]
fn whatever_happens_the_plans_are_those_made_anew() {
    let addresses = [V4, "192.0.2.2", "192.0.2.3", V6, "2001:db8::2"];
    let names = ["a", "b", "c", "d", "e", "f"];
    let nodes = ["n1", "n2", "n3", "n4"];
    let mut rng = metallb_sansio::SeededRng::new(11);
    let mut drawn: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    let (mut planner, mut told) = (planner(), Told::default());
    for step in 1..1_500 {
        planner.at(step);
        for _ in 0..=rng.below(2) {
            let name = names[rng.below(6) as usize];
            if rng.percent(25) {
                drawn.remove(name);
                planner.service(key(name), None);
            } else {
                let mut some = |all: &[&'static str], percent| -> Vec<&'static str> {
                    all.iter().copied().filter(|_| rng.percent(percent)).collect()
                };
                let (list, local) = (some(&addresses, 30), some(&nodes, 50));
                offer(&mut planner, name, &list, &local);
                drawn.insert(name, (list, local));
            }
        }
        told.settle(&mut planner);
        let (mut anew, mut expected) = (self::planner(), Told::default());
        for (name, (list, local)) in &drawn {
            offer(&mut anew, name, list, local);
        }
        expected.settle(&mut anew);
        let plans = |told: &Told| -> BTreeMap<ServiceKey, Plan> {
            let plans = told.0.iter().map(|(key, (plan, _))| (key.clone(), plan.clone()));
            plans.collect()
        };
        assert_eq!(plans(&told), plans(&expected), "step {step}");
    }
}

/// Ten thousand on one address, a third of which want something else: once through is enough.
#[test]
fn many_on_one_address_are_planned_in_one_go() {
    let (mut planner, mut told) = (planner(), Told::default());
    let names: Vec<String> = (0..10_000).map(|n| format!("s{n:05}")).collect();
    for (n, name) in names.iter().enumerate() {
        let local: &[&str] = if n % 3 == 0 { &["n1", "n2"] } else { &["n2", "n3"] };
        offer(&mut planner, name, &[V4], local);
    }
    assert_eq!(planner.settle().len(), names.len());
    offer(&mut planner, "z", &[V4], &["n2", "n3"]);
    assert_eq!(told.settle(&mut planner), "z", "nothing changes for the others");
    assert_eq!(told.candidates("z"), "n2 (n3) (n1)");
}

/// Services that share an address and have one of their own each: the group has as many addresses as services.
#[test]
fn a_group_of_many_addresses_is_gone_through_once_per_change() {
    let (mut planner, mut told) = (planner(), Told::default());
    let names: Vec<String> = (1..=40).map(|n| format!("s{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        let own = format!("2001:db8::{}", n + 10);
        offer(&mut planner, name, &[V4, &own], &[]);
    }
    let directives = planner.settle();
    assert_eq!(directives.len(), names.len());
    let group = directives[0].plan.as_ref().and_then(|plan| plan.group.clone());
    let mut engine = super::engine::engine("n1");
    for directive in directives {
        engine.handle(Instant::ZERO, Input::Directive(directive));
    }
    assert_eq!(engine.digests.groups, 1);
    // One more that has what another has: neither what it shares nor the others change.
    offer(&mut planner, "t", &[V4, "2001:db8::10"], &[]);
    assert_eq!(told.settle(&mut planner), "t");
    let again = told.plan("t").group.as_ref();
    assert!(group.is_some_and(|group| again.is_some_and(|again| Arc::ptr_eq(&group, again))));
}
