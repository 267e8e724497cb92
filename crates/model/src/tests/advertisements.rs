use serde_json::{Value, json};

use super::{OWN, build, labels, object, source};
use crate::{Config, Issue, Kind, L2AdvertisementSpec, Labels, Reason, ServiceFacts, Source, Sources};

fn l2(name: &str, spec: Value) -> Source<L2AdvertisementSpec> {
    source(Kind::L2Advertisement, name, 1, spec, None)
}

fn with_pools(l2_advertisements: Vec<Source<L2AdvertisementSpec>>) -> (Config, Vec<Issue>) {
    let pool = |name: &str, net: &str, labels: Labels| {
        let spec = json!({"addresses": [net]});
        Source::from_json(object(Kind::IpAddressPool, OWN, name, 1), labels, spec, None)
    };
    build(&Sources {
        pools: vec![
            pool("gold", "10.0.0.0/24", labels([("class", "gold")])),
            pool("iron", "10.0.1.0/24", labels([])),
        ],
        l2_advertisements,
        ..Sources::default()
    })
}

fn names(config: &Config, pool: &str, service_labels: &Labels) -> Vec<String> {
    let facts = ServiceFacts {
        namespace: "default",
        name: "web",
        labels: service_labels,
        pool,
    };
    config
        .l2_for(&facts)
        .into_iter()
        .map(|advertisement| advertisement.name.clone())
        .collect()
}

#[test]
fn which_services_an_advertisement_is_for() {
    for (spec, gold, iron, gold_web) in [
        (json!({}), true, true, true),
        (json!({"ipAddressPools": ["gold"]}), true, false, true),
        (
            json!({"ipAddressPoolSelectors": [{"matchLabels": {"class": "gold"}}]}),
            true,
            false,
            true,
        ),
        (
            json!({"ipAddressPools": ["iron"], "ipAddressPoolSelectors": [{"matchLabels": {"class": "gold"}}]}),
            true,
            true,
            true,
        ),
        (
            json!({"ipAddressPoolSelectors": [{"matchLabels": {"class": "none"}}]}),
            false,
            false,
            false,
        ),
        (
            json!({"serviceSelectors": [{"matchLabels": {"app": "web"}}]}),
            false,
            false,
            true,
        ),
    ] {
        let text = spec.to_string();
        let (config, issues) = with_pools(vec![l2("ad", spec)]);
        assert_eq!(issues, [], "{text}");
        let covers = |pool, service: Labels| !names(&config, pool, &service).is_empty();
        assert_eq!(covers("gold", labels([])), gold, "{text}");
        assert_eq!(covers("iron", labels([])), iron, "{text}");
        assert_eq!(covers("gold", labels([("app", "web")])), gold_web, "{text}");
    }
}

#[test]
fn nodes_interfaces_and_preferences() {
    let (config, issues) = with_pools(vec![l2(
        "ad",
        json!({"nodeSelectors": [{"matchLabels": {"rack": "1"}}, {"matchLabels": {"rack": "2"}}],
               "interfaces": ["eth1", "eth0"],
               "preferredNodeSelectors": [
                   {"weight": 100, "preference": {"matchLabels": {"disk": "ssd"}}},
                   {"weight": 7, "preference": {"matchLabels": {"rack": "2"}}}]}),
    )]);
    assert_eq!(issues, []);
    let ad = &config.l2_advertisements()[0];
    assert_eq!(
        ad.interfaces.iter().map(String::as_str).collect::<Vec<_>>(),
        ["eth0", "eth1"]
    );
    for (node, selected, preference) in [
        (labels([("rack", "1")]), true, 0),
        (labels([("rack", "2")]), true, 7),
        (labels([("rack", "2"), ("disk", "ssd")]), true, 107),
        (labels([("rack", "3"), ("disk", "ssd")]), false, 0),
        (labels([]), false, 0),
    ] {
        assert_eq!(
            (ad.selects_node(&node), ad.preference(&node)),
            (selected, preference),
            "{node:?}"
        );
    }
}

#[test]
fn advertisements_that_say_the_same_are_one_unless_they_prefer_nodes() {
    let same = json!({"ipAddressPools": ["gold"], "interfaces": ["eth0"]});
    let (config, _) = with_pools(vec![l2("b", same.clone()), l2("a", same)]);
    assert_eq!(names(&config, "gold", &labels([])), ["a"]);
    let preferring = json!({"preferredNodeSelectors": [{"weight": 1, "preference": {}}]});
    let (config, _) = with_pools(vec![l2("a", preferring.clone()), l2("b", preferring)]);
    assert_eq!(names(&config, "gold", &labels([])), ["a", "b"]);
}

#[test]
fn findings() {
    for (spec, field, reason) in [
        (
            json!({"ipAddressPools": ["gold", "gold"]}),
            "spec.ipAddressPools[1]",
            Reason::DuplicateEntry,
        ),
        (
            json!({"ipAddressPools": ["gold", "lead"]}),
            "spec.ipAddressPools",
            Reason::UnknownPool,
        ),
        (
            json!({"preferredNodeSelectors": [{"weight": 101, "preference": {}}]}),
            "spec.preferredNodeSelectors[0].weight",
            Reason::OutOfRange,
        ),
        (
            json!({"preferredNodeSelectors": [{"weight": 1}]}),
            "spec.preferredNodeSelectors[0].preference",
            Reason::InvalidSelector,
        ),
        (
            json!({"nodeSelectors": [{"matchLabels": {"a": "b c"}}]}),
            "spec.nodeSelectors[0]",
            Reason::InvalidSelector,
        ),
        (
            json!({"interfaces": {"eth0": true}}),
            "spec.interfaces",
            Reason::InvalidSpec,
        ),
    ] {
        let text = spec.to_string();
        let (config, issues) = with_pools(vec![l2("bad", spec), l2("good", json!({}))]);
        assert_eq!(issues.len(), 1, "{text}");
        assert_eq!(
            (issues[0].field.as_str(), issues[0].reason),
            (field, reason),
            "{text}"
        );
        let bad_is_used = names(&config, "gold", &labels([])).contains(&"bad".to_owned());
        assert_eq!(
            bad_is_used,
            !issues[0].is_error(),
            "{text}: only a hint leaves the object in force"
        );
    }
}

#[test]
fn last_valid_advertisement_stays_in_force() {
    let broken = source(
        Kind::L2Advertisement,
        "ad",
        1,
        json!({"interfaces": 5}),
        Some(json!({"ipAddressPools": ["gold"]})),
    );
    let (config, issues) = with_pools(vec![broken]);
    assert_eq!(names(&config, "gold", &labels([])), ["ad"]);
    assert_eq!(names(&config, "iron", &labels([])), Vec::<String>::new());
    assert_eq!(issues.len(), 1);
}
