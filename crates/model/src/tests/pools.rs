use serde_json::{Value, json};

use super::{OWN, build, found, labels, object, source};
use crate::{Config, Effect, Issue, Kind, Labels, Pool, PoolSpec, Source, Sources};

fn pool(name: &str, created: i64, spec: Value, last_valid: Option<Value>) -> Source<PoolSpec> {
    source(Kind::IpAddressPool, name, created, spec, last_valid)
}

fn at(addresses: &[&str]) -> Value {
    json!({"addresses": addresses})
}

fn settle(pools: Vec<Source<PoolSpec>>) -> (Config, Vec<Issue>) {
    build(&Sources {
        pools,
        ..Sources::default()
    })
}

/// `name=range,range` of every pool in force.
fn in_force(config: &Config) -> Vec<String> {
    let text = |pool: &Pool| {
        pool.ranges
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    config
        .pools()
        .map(|pool| format!("{}={}", pool.name, text(pool)))
        .collect()
}

#[test]
fn defaults_and_every_field() {
    let (config, issues) = settle(vec![
        pool("plain", 1, at(&["10.0.0.0/24"]), None),
        pool(
            "full",
            2,
            json!({"addresses": ["10.0.1.0/24"], "autoAssign": false, "avoidBuggyIPs": true,
                   "serviceAllocation": {"priority": 5, "namespaces": ["a"]}}),
            None,
        ),
    ]);
    assert_eq!(issues, []);
    let plain = config.pool("plain").expect("plain");
    assert!(plain.auto_assign && !plain.avoid_buggy_ips && plain.allocation.is_none());
    let full = config.pool("full").expect("full");
    assert!(!full.auto_assign && full.avoid_buggy_ips);
    assert_eq!(full.allocation.as_ref().map(|a| a.priority), Some(5));
    assert!(full.avoids("10.0.1.0".parse().unwrap()) && full.avoids("10.0.1.255".parse().unwrap()));
    assert!(!full.avoids("10.0.1.25".parse().unwrap()) && !plain.avoids("10.0.0.0".parse().unwrap()));
    assert_eq!(
        config
            .pool_of("10.0.1.7".parse().unwrap())
            .map(|p| p.name.as_str()),
        Some("full")
    );
    assert_eq!(config.pool_of("10.0.2.0".parse().unwrap()), None);
    assert_eq!(config.pool_of("2001:db8::1".parse().unwrap()), None);
}

#[test]
fn who_wins_an_overlap() {
    let (a, b, c) = ("10.0.0.0/28", "10.0.0.8-10.0.0.23", "10.0.1.0/24");
    let overlap =
        |name: &str, effect: &str| vec![format!("{name}:spec.addresses[0]:AddressOverlap:{effect}")];
    for (title, pools, expected, issues) in [
        (
            "both new: the older one",
            vec![pool("a", 2, at(&[a]), None), pool("b", 1, at(&[b]), None)],
            vec!["b=10.0.0.8-10.0.0.23"],
            overlap("a", "LeftOut"),
        ),
        (
            "both new and as old: by name",
            vec![pool("b", 1, at(&[b]), None), pool("a", 1, at(&[a]), None)],
            vec!["a=10.0.0.0/28"],
            overlap("b", "LeftOut"),
        ),
        (
            "the one that was valid before stays, although it is younger",
            vec![
                pool("a", 1, at(&[a]), None),
                pool("b", 2, at(&[b]), Some(at(&[b]))),
            ],
            vec!["b=10.0.0.8-10.0.0.23"],
            overlap("a", "LeftOut"),
        ),
        (
            "an edit does not push out what was there, and falls back",
            vec![
                pool("a", 1, at(&[a]), Some(at(&[c]))),
                pool("b", 2, at(&[b]), Some(at(&[b]))),
            ],
            vec!["a=10.0.1.0/24", "b=10.0.0.8-10.0.0.23"],
            overlap("a", "LastValid"),
        ),
        (
            "a new pool does not take what a broken pool last validly said",
            vec![
                pool("a", 2, at(&["junk"]), Some(at(&[a]))),
                pool("b", 1, at(&[b]), None),
            ],
            vec!["a=10.0.0.0/28"],
            vec![
                "a:spec.addresses[0]:InvalidAddress:LastValid".to_owned(),
                "b:spec.addresses[0]:AddressOverlap:LeftOut".to_owned(),
            ],
        ),
        (
            "two pools exchange their addresses in one edit",
            vec![
                pool("a", 1, at(&[c]), Some(at(&[a]))),
                pool("b", 2, at(&[a]), Some(at(&[c]))),
            ],
            vec!["a=10.0.1.0/24", "b=10.0.0.0/28"],
            vec![],
        ),
        (
            "addresses move from one pool to another",
            vec![
                pool("a", 1, at(&[c, a]), Some(at(&[c]))),
                pool("b", 2, at(&["10.9.0.0/24"]), Some(at(&[a]))),
            ],
            vec!["a=10.0.1.0/24,10.0.0.0/28", "b=10.9.0.0/24"],
            vec![],
        ),
        (
            "a pool that loses to a loser comes back",
            vec![
                pool("a", 1, at(&[a]), None),
                pool("b", 2, at(&[a, c]), None),
                pool("c", 3, at(&[c]), None),
            ],
            vec!["a=10.0.0.0/28", "c=10.0.1.0/24"],
            overlap("b", "LeftOut"),
        ),
        (
            "nested ranges are seen behind a wide one",
            vec![
                pool("a", 1, at(&["10.0.0.0/16"]), None),
                pool("b", 2, at(&["10.0.0.0/24"]), None),
                pool("c", 3, at(&["10.0.255.0/24"]), None),
            ],
            vec!["a=10.0.0.0/16"],
            vec![
                "b:spec.addresses[0]:AddressOverlap:LeftOut".to_owned(),
                "c:spec.addresses[0]:AddressOverlap:LeftOut".to_owned(),
            ],
        ),
        (
            "families never overlap",
            vec![
                pool("a", 1, at(&["0.0.0.0/0"]), None),
                pool("b", 2, at(&["2001:db8::/32"]), None),
            ],
            vec!["a=0.0.0.0/0", "b=2001:db8::/32"],
            vec![],
        ),
    ] {
        let (config, found_issues) = settle(pools);
        assert_eq!(in_force(&config), expected, "{title}");
        assert_eq!(found(&found_issues), issues, "{title}");
    }
}

#[test]
fn an_overlap_names_both_pools_and_the_addresses() {
    let (_, issues) = settle(vec![
        pool("first", 1, at(&["192.0.2.0/24"]), None),
        pool(
            "second",
            2,
            at(&["198.51.100.0/24", "192.0.2.250-192.0.3.10"]),
            None,
        ),
    ]);
    let sentence = issues[0].to_string();
    for part in [
        "metallb-system/second",
        "spec.addresses[1]",
        "pool first",
        "192.0.2.250-192.0.2.255",
    ] {
        assert!(sentence.contains(part), "{part} in: {sentence}");
    }
}

#[test]
fn the_last_valid_spec_is_in_force_until_the_object_is_corrected_or_deleted() {
    let last = Some(at(&["10.0.0.0/24"]));
    let (config, issues) = settle(vec![pool("a", 1, at(&["10.0.0.0/33"]), last.clone())]);
    assert_eq!(in_force(&config), ["a=10.0.0.0/24"]);
    assert_eq!(issues[0].effect, Effect::LastValid);
    assert!(issues[0].is_error());
    let (config, issues) = settle(vec![pool("a", 1, at(&["10.0.0.0/25"]), last)]);
    assert_eq!(
        (in_force(&config), issues.len()),
        (vec!["a=10.0.0.0/25".to_owned()], 0)
    );
    let (config, _) = settle(vec![]);
    assert!(config.is_empty());
}

#[test]
fn another_namespace_is_answered() {
    let elsewhere = Source::from_json(
        object(Kind::IpAddressPool, "default", "lost", 1),
        Labels::new(),
        at(&["10.0.0.0/24"]),
        Some(at(&["10.0.0.0/24"])),
    );
    let (config, issues) = settle(vec![elsewhere]);
    assert!(config.is_empty());
    assert_eq!(found(&issues), ["lost:metadata.namespace:WrongNamespace:LeftOut"]);
    assert!(issues[0].to_string().contains(OWN));
}

#[test]
fn who_may_use_a_pool() {
    let (config, _) = settle(vec![pool(
        "a",
        1,
        json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": {
            "namespaces": ["named"],
            "namespaceSelectors": [{"matchLabels": {"team": "x"}}],
            "serviceSelectors": [{"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}]}}),
        None,
    )]);
    let allocation = config
        .pool("a")
        .and_then(|pool| pool.allocation.as_ref())
        .expect("restricted");
    for (namespace, namespace_labels, service_labels, expected) in [
        ("named", labels([]), labels([("app", "web")]), true),
        ("other", labels([("team", "x")]), labels([("app", "db")]), true),
        ("other", labels([("team", "y")]), labels([("app", "web")]), false),
        ("named", labels([]), labels([("app", "mail")]), false),
        ("named", labels([("team", "x")]), labels([]), false),
    ] {
        assert_eq!(
            allocation.admits(namespace, &namespace_labels, &service_labels),
            expected,
            "{namespace}"
        );
    }
    let open = crate::ServiceAllocation::default();
    assert!(
        open.admits("any", &labels([]), &labels([])),
        "a block with three empty lists admits every service"
    );
    let mut ranks = [0, 7, -1, 1].map(|priority| crate::ServiceAllocation {
        priority,
        ..open.clone()
    });
    ranks.sort_by_key(crate::ServiceAllocation::rank);
    assert_eq!(ranks.map(|a| a.priority), [-1, 1, 7, 0]);
}
