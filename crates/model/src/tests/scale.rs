//! Large configurations: the work grows as n log n. The sizes are such that anything quadratic would not end in a test
//! run; no times are asserted.

use serde_json::{Value, json};

use super::{add, add_with_last, build, errors};
use crate::{Config, Issue, Kind, Reason, Sources};

fn ip(number: u32) -> String {
    std::net::Ipv4Addr::from_bits(number).to_string()
}

const BASE: u32 = 10 << 24;

#[test]
fn very_many_entries_in_one_pool() {
    entries_in_one_pool(100_000);
}

#[test]
#[ignore = "half a minute without optimisation; run with --ignored"]
fn a_million_entries_in_one_pool() {
    entries_in_one_pool(1_000_000);
}

fn entries_in_one_pool(count: u32) {
    let mut addresses: Vec<String> = (0..count).map(|n| format!("{}/32", ip(BASE + 2 * n))).collect();
    let pool = |addresses: &[String]| {
        let mut sources = Sources::default();
        add(
            &mut sources,
            Kind::IpAddressPool,
            "large",
            1,
            json!({"addresses": addresses}),
        );
        add(
            &mut sources,
            Kind::IpAddressPool,
            "good",
            1,
            json!({"addresses": ["192.0.2.0/24"]}),
        );
        build(&sources)
    };
    let (config, issues) = pool(&addresses);
    assert_eq!(errors(&issues), Vec::<&Issue>::new());
    assert_eq!(
        config
            .pool_of(ip(BASE + 2 * (count / 3)).parse().unwrap())
            .map(|p| p.name.as_str()),
        Some("large")
    );
    assert_eq!(
        config.pool_of(ip(BASE + 2 * (count / 3) + 1).parse().unwrap()),
        None
    );
    addresses.push(format!("{}-{}", ip(BASE + 2 * count - 2), ip(BASE + 3 * count)));
    let (config, issues) = pool(&addresses);
    assert_eq!(errors(&issues)[0].field, format!("spec.addresses[{count}]"));
    assert_eq!(config.pools().count(), 1);
}

#[test]
fn long_lists_of_everything_else() {
    let names: Vec<String> = (0..20_000).map(|n| format!("n{n}")).collect();
    let selectors: Vec<Value> = names
        .iter()
        .map(|name| json!({"matchLabels": {"a": name}}))
        .collect();
    let mut sources = Sources::default();
    let allocation =
        json!({"namespaces": names, "namespaceSelectors": selectors, "serviceSelectors": selectors});
    let spec = json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": allocation});
    add(&mut sources, Kind::IpAddressPool, "good", 1, spec);
    let spec = json!({"ipAddressPools": names, "nodeSelectors": selectors, "interfaces": names});
    add(&mut sources, Kind::L2Advertisement, "ad", 1, spec);
    let aliases: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "value": "1:1"}))
        .collect();
    add(
        &mut sources,
        Kind::Community,
        "c",
        1,
        json!({"communities": aliases}),
    );
    add(
        &mut sources,
        Kind::BgpAdvertisement,
        "ad",
        1,
        json!({"communities": names, "peers": names}),
    );
    let mut text = serde_json::Map::new();
    let pools: Vec<Value> = (0..5_000)
        .map(|n| json!({"name": format!("p{n}"), "protocol": "layer2", "addresses": [format!("{}/32", ip(BASE + n))]}))
        .collect();
    text.insert("address-pools".to_owned(), json!(pools));
    text.insert(
        "peers".to_owned(),
        json!(
            (0..5_000)
                .map(|n| json!({"my-asn": 1, "peer-asn": 2, "peer-address": ip(BASE + n)}))
                .collect::<Vec<_>>()
        ),
    );
    add_with_last(
        &mut sources,
        Kind::ConfigMap,
        "config",
        1,
        json!(text),
        json!(text),
    );
    let (config, issues) = build(&sources);
    assert_eq!(errors(&issues), Vec::<&Issue>::new());
    assert_eq!(
        (config.pools().count(), config.bgp_peers().count()),
        (5_001, 5_000)
    );
}

#[test]
fn text_of_any_length_makes_one_sentence() {
    let long = "9".repeat(1 << 20);
    let mut sources = Sources::default();
    add(
        &mut sources,
        Kind::IpAddressPool,
        "a",
        1,
        json!({"addresses": [long]}),
    );
    let key = format!("{long}\n");
    add(&mut sources, Kind::ConfigMap, "config", 1, json!({key: 1}));
    let (_, issues) = build(&sources);
    for issue in errors(&issues) {
        assert!(
            issue.to_string().len() < 1000,
            "{} bytes",
            issue.to_string().len()
        );
    }
}

/// `count` pools and advertisements of both kinds: for one pool each, or for all.
fn many(count: u32, for_all: bool, overlapping: bool) -> Sources {
    let mut sources = Sources::default();
    for n in 0..count {
        let start = BASE + if overlapping { 128 * n } else { 256 * n };
        let spec = json!({"addresses": [format!("{}-{}", ip(start), ip(start + 255))]});
        add_with_last(
            &mut sources,
            Kind::IpAddressPool,
            &format!("p{n}"),
            1,
            spec.clone(),
            spec,
        );
        let spec = if for_all {
            json!({"interfaces": [format!("eth{n}")]})
        } else {
            json!({"ipAddressPools": [format!("p{n}")]})
        };
        add_with_last(
            &mut sources,
            Kind::L2Advertisement,
            &format!("l{n}"),
            1,
            spec.clone(),
            spec,
        );
        let spec = if for_all {
            json!({"aggregationLength": 24})
        } else {
            json!({"ipAddressPools": [format!("p{n}")], "localPref": n % 7})
        };
        add(&mut sources, Kind::BgpAdvertisement, &format!("b{n}"), 1, spec);
    }
    sources
}

#[test]
fn a_thousand_pools_and_advertisements() {
    for for_all in [false, true] {
        let sources = many(1_000, for_all, false);
        let (config, issues) = build(&sources);
        assert_eq!(errors(&issues), Vec::<&Issue>::new());
        assert_eq!(
            (
                config.pools().count(),
                config.l2_advertisements().len(),
                config.bgp_advertisements().len()
            ),
            (1_000, 1_000, 1_000)
        );
        assert_eq!(
            build(&sources).0,
            config,
            "the same sources make an equal configuration"
        );
    }
}

#[test]
fn thousands_of_pools_that_overlap_their_neighbours() {
    let (config, issues) = build(&many(3_000, false, true));
    let overlaps = issues
        .iter()
        .filter(|issue| issue.reason == Reason::AddressOverlap);
    assert_eq!(config.pools().count() + overlaps.count(), 3_000);
    assert!(config.pools().count() >= 1_500);
    let (_, empty) = build(&Sources::default());
    assert_eq!((Config::default().is_empty(), empty.len()), (true, 0));
}
