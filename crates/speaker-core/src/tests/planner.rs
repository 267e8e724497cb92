use std::sync::Arc;

use metallb_election::{Endpoints, NodeFacts, Refusal};
use serde_json::json;

use super::{config, endpoints, node, service};
use crate::{Directive, Planner, ServiceKey};

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name)
}

/// A planner that knows nodes n1 and n2, a configuration and endpoints of `web`, but no service.
fn planner() -> Planner {
    let mut planner = Planner::new(false);
    planner.config(config(json!({})));
    planner.node("n1".into(), Some(node()));
    planner.node("n2".into(), Some(node()));
    planner.endpoints(&key("web"), endpoints(&["n1"]));
    assert_eq!(planner.settle(), vec![]);
    planner
}

fn candidates(directives: &[Directive]) -> Vec<(&str, Vec<&str>)> {
    directives
        .iter()
        .map(|directive| {
            let plan = directive.plan.as_ref();
            let nodes = plan.map(|plan| plan.eligibility.candidates.keys().map(|name| &**name).collect());
            (directive.service.name(), nodes.unwrap_or_default())
        })
        .collect()
}

#[test]
fn only_changes_are_handed_out() {
    let mut planner = planner();
    planner.service(key("web"), Some(service("web", &["192.0.2.1"])));
    assert_eq!(candidates(&planner.settle()), [("web", vec!["n1", "n2"])]);
    assert_eq!(planner.settle(), vec![]);
    planner.service(key("web"), Some(service("web", &["192.0.2.1"])));
    planner.node("n1".into(), Some(node()));
    planner.config(config(json!({})));
    planner.endpoints(&key("web"), endpoints(&["n1"]));
    assert_eq!(planner.settle(), vec![], "the same again");
    planner.endpoints(&key("web"), endpoints(&["n1", "n2"]));
    assert_eq!(planner.settle(), vec![], "does not matter for policy Cluster");

    planner.endpoints(&key("web"), Endpoints::default());
    assert_eq!(candidates(&planner.settle()), [("web", vec![])]);
    assert_eq!(
        planner.outcomes().collect::<Vec<_>>(),
        [(&key("web"), Some(&Refusal::NoEndpoints))]
    );
    planner.endpoints(&key("web"), endpoints(&["n2"]));
    assert_eq!(candidates(&planner.settle()), [("web", vec!["n1", "n2"])]);
    planner.service(key("web"), None);
    assert_eq!(candidates(&planner.settle()), [("web", vec![])]);
    assert_eq!(planner.settle(), vec![]);
}

#[test]
fn a_service_removed_and_made_again_before_anybody_looked_is_a_change_or_nothing() {
    let mut planner = planner();
    planner.service(key("web"), Some(service("web", &["192.0.2.1"])));
    let first = planner.settle();
    planner.service(key("web"), None);
    planner.service(key("web"), Some(service("web", &["192.0.2.1"])));
    assert_eq!(
        planner.settle(),
        first,
        "told again, which changes nothing at the other end"
    );
    planner.service(key("web"), None);
    planner.service(key("web"), Some(service("web", &[])));
    let refused = planner.settle();
    assert_eq!(
        candidates(&refused),
        [("web", vec![])],
        "an announced service lost its address"
    );
}

#[test]
fn nodes_and_configuration_concern_all_services() {
    let mut planner = planner();
    for name in ["a", "b"] {
        planner.endpoints(&key(name), endpoints(&["n1"]));
        planner.service(key(name), Some(service(name, &["192.0.2.1"])));
    }
    planner.settle();
    let out_of_network = NodeFacts {
        network_unavailable: true,
        ..node()
    };
    planner.node("n1".into(), Some(out_of_network));
    assert_eq!(
        candidates(&planner.settle()),
        [("a", vec!["n2"]), ("b", vec!["n2"])]
    );
    planner.node("n2".into(), None);
    assert_eq!(
        candidates(&planner.settle()),
        [("a", vec!["n1"]), ("b", vec!["n1"])],
        "never nobody"
    );
    let out_of_service = NodeFacts {
        network_unavailable: true,
        out_of_service: true,
        ..node()
    };
    planner.node("n1".into(), Some(out_of_service));
    assert_eq!(candidates(&planner.settle()), [("a", vec![]), ("b", vec![])]);
    assert!(
        planner
            .outcomes()
            .all(|(_, refusal)| refusal == Some(&Refusal::NoCandidate))
    );
}

#[test]
fn equal_eligibilities_are_one_allocation() {
    let mut planner = planner();
    for name in ["a", "b"] {
        planner.endpoints(&key(name), endpoints(&["n1"]));
        planner.service(key(name), Some(service(name, &["192.0.2.1"])));
    }
    let directives = planner.settle();
    let plans: Vec<_> = directives
        .iter()
        .filter_map(|directive| directive.plan.as_ref())
        .collect();
    assert!(Arc::ptr_eq(&plans[0].eligibility, &plans[1].eligibility));
}

#[test]
fn endpoints_that_are_ahead_make_no_plan_fresher_than_the_end_of_its_service() {
    let announced = || {
        let mut planner = planner();
        planner.at(10);
        planner.service(key("web"), Some(service("web", &["192.0.2.1"])));
        assert_eq!(planner.settle()[0].version, 10);
        planner
    };
    let (mut knows, mut behind) = (announced(), announced());
    knows.at(20);
    knows.service(key("web"), None);
    let end = knows.settle();
    // The watch of endpoints has come further than that of services.
    for (version, nodes) in [(21, &[][..]), (22, &["n2"][..])] {
        behind.at(version);
        behind.endpoints(&key("web"), endpoints(nodes));
        let plan = behind.settle();
        assert!(
            plan[0].version < end[0].version,
            "{plan:?} would bring back what ended at {}",
            end[0].version
        );
    }
    behind.at(30);
    behind.node("n2".into(), None);
    assert_eq!(behind.settle()[0].version, 30, "nodes concern all services");
}
