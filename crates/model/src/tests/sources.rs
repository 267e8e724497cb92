//! Sources of several kinds at once.

use serde_json::{Value, json};

use super::{OWN, add, add_with_last, build, errors, found, labels, object};
use crate::{Config, Issue, Kind, ServiceFacts, Sources};

fn at(range: &str) -> Value {
    json!({"addresses": [range]})
}

fn old(range: &str) -> Value {
    json!({"protocol": "layer2", "addresses": [range]})
}

fn text(name: &str, range: &str) -> Value {
    json!({"address-pools": [{"name": name, "protocol": "layer2", "addresses": [range]}]})
}

fn in_force(config: &Config) -> Vec<String> {
    config
        .pools()
        .map(|pool| format!("{}={:?}", pool.name, pool.ranges))
        .collect()
}

#[test]
fn all_sources_together() {
    let mut sources = Sources::default();
    add(&mut sources, Kind::IpAddressPool, "new", 1, at("10.0.0.0/24"));
    add(&mut sources, Kind::L2Advertisement, "all", 1, json!({}));
    add(&mut sources, Kind::AddressPool, "old", 1, old("10.0.1.0/24"));
    add(
        &mut sources,
        Kind::AddressPool,
        "routed",
        1,
        json!({"protocol": "bgp", "addresses": ["10.0.3.0/24", "2001:db8::/64"], "autoAssign": false,
               "bgpAdvertisements": [{"aggregationLength": 24, "localPref": 5, "communities": ["1:1"]}, {}]}),
    );
    add(
        &mut sources,
        Kind::ConfigMap,
        "config",
        1,
        text("oldest", "10.0.2.0/24"),
    );
    let (config, issues) = build(&sources);
    assert_eq!(found(&issues), Vec::<String>::new());
    let none = labels([]);
    let facts = |pool| ServiceFacts {
        namespace: "default",
        name: "web",
        labels: &none,
        pool,
    };
    for (pool, l2, bgp) in [
        ("new", vec!["all"], vec![]),
        ("old", vec!["AddressPool/old"], vec![]),
        (
            "routed",
            vec![],
            vec!["AddressPool/routed#1", "AddressPool/routed#2"],
        ),
        ("oldest", vec!["ConfigMap/oldest"], vec![]),
    ] {
        let names: Vec<&str> = config
            .l2_for(&facts(pool))
            .iter()
            .map(|a| a.name.as_str())
            .collect();
        assert_eq!(names, l2, "{pool}");
        let names: Vec<&str> = config
            .bgp_for(&facts(pool))
            .iter()
            .map(|a| a.name.as_str())
            .collect();
        assert_eq!(names, bgp, "{pool}");
    }
    let routed = config.bgp_advertisements();
    assert_eq!(
        routed
            .iter()
            .map(|a| (a.aggregation_length, a.local_pref, a.communities.len()))
            .collect::<Vec<_>>(),
        [(24, 5, 1), (32, 0, 0)]
    );
    assert!(!config.pool("routed").expect("in force").auto_assign);
}

#[test]
fn the_first_valid_one_wins_and_stays() {
    let (pool, old_pool, map) = (Kind::IpAddressPool, Kind::AddressPool, Kind::ConfigMap);
    let r = "10.0.0.0/24";
    let overlapping = "10.0.0.128-10.0.1.5";
    for (title, objects, expected, issues) in [
        (
            "overlap: the older object",
            vec![
                (pool, "a", 9, at(r), false),
                (old_pool, "b", 1, old(overlapping), false),
            ],
            vec!["b=[10.0.0.128-10.0.1.5]"],
            vec!["a:spec.addresses[0]:AddressOverlap:LeftOut"],
        ),
        (
            "overlap: what was valid before, although it is younger",
            vec![
                (pool, "a", 9, at(r), true),
                (old_pool, "b", 1, old(overlapping), false),
            ],
            vec!["a=[10.0.0.0/24]"],
            vec!["b:spec.addresses[0]:AddressOverlap:LeftOut"],
        ),
        (
            "as old: the order of the kinds",
            vec![
                (map, "config", 1, text("c", r), false),
                (old_pool, "b", 1, old(r), false),
                (pool, "a", 1, at(r), false),
            ],
            vec!["a=[10.0.0.0/24]"],
            vec![
                "b:spec.addresses[0]:AddressOverlap:LeftOut",
                "config:data.config: address-pools[0].addresses[0]:AddressOverlap:LeftOut",
            ],
        ),
        (
            "the same name with other addresses",
            vec![
                (map, "config", 1, text("a", r), false),
                (pool, "a", 2, at("10.9.0.0/24"), false),
            ],
            vec!["a=[10.0.0.0/24]"],
            vec!["a:metadata.name:NameClash:LeftOut"],
        ),
        (
            "the objects that replace a ConfigMap are made beside it",
            vec![
                (map, "config", 1, text("a", r), true),
                (pool, "a", 2, at(r), false),
            ],
            vec!["a=[10.0.0.0/24]"],
            vec!["a:metadata.name:NameClash:LeftOut"],
        ),
        (
            "a name clash with what is younger but was valid before",
            vec![
                (old_pool, "a", 1, old(r), false),
                (pool, "a", 2, at("10.9.0.0/24"), true),
            ],
            vec!["a=[10.9.0.0/24]"],
            vec!["a:metadata.name:NameClash:LeftOut"],
        ),
    ] {
        let mut sources = Sources::default();
        for (kind, name, created, spec, valid_before) in objects {
            if valid_before {
                add_with_last(&mut sources, kind, name, created, spec.clone(), spec);
            } else {
                add(&mut sources, kind, name, created, spec);
            }
        }
        let (config, found_issues) = build(&sources);
        assert_eq!(in_force(&config), expected, "{title}");
        assert_eq!(found(&found_issues), issues, "{title}");
        let message = errors(&found_issues)[0].to_string();
        assert!(message.contains("of them"), "says what to do: {message}");
    }
}

#[test]
fn every_kind_elsewhere_is_answered_but_a_config_map_there_is_somebody_elses() {
    let mut sources = Sources::default();
    for kind in Kind::ALL {
        let object = object(kind, "default", "config", 1);
        sources.add(object, labels([]), Ok(at("10.0.0.0/24")), Some(at("10.0.0.0/24")));
    }
    add(&mut sources, Kind::ConfigMap, "other", 1, json!({"junk": 1}));
    let (config, issues) = build(&sources);
    assert_eq!(config, Config::default());
    let kinds: Vec<Kind> = issues.iter().map(|issue| issue.object.kind).collect();
    assert_eq!(kinds, Kind::ALL[..7]);
    for issue in &issues {
        assert!(issue.is_error() && issue.to_string().contains(OWN), "{issue}");
    }
}

#[test]
fn order_does_not_matter() {
    let mut objects = Vec::new();
    for index in 0..12 {
        let range = format!("10.0.{}.0/22", index * 2);
        objects.push((Kind::IpAddressPool, format!("p{index}"), index % 3, at(&range)));
        objects.push((
            Kind::AddressPool,
            format!("p{}", index * 2),
            index % 2,
            old(&range),
        ));
    }
    let build_from = |objects: &[(Kind, String, i64, Value)]| {
        let mut sources = Sources::default();
        for (kind, name, created, spec) in objects {
            add(&mut sources, *kind, name, *created, spec.clone());
        }
        build(&sources)
    };
    let (config, issues): (Config, Vec<Issue>) = build_from(&objects);
    for _ in 0..objects.len() {
        objects.rotate_left(5);
        objects.swap(0, 7);
        assert_eq!(build_from(&objects), (config.clone(), issues.clone()));
    }
}
