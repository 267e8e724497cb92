//! The `ConfigMap` `config`: what it means, its spellings, and what stays when an entry breaks.

use serde_json::{Value, json};

use super::{OWN, add, build, errors, found, labels, object};
use crate::{Community, Config, Issue, Kind, PeerPassword, Sources};

fn read(text: Value) -> (Config, Vec<Issue>) {
    let mut sources = Sources::default();
    add(&mut sources, Kind::ConfigMap, "config", 1, text);
    build(&sources)
}

fn edited(text: Value, last_valid: Value) -> (Config, Vec<Issue>) {
    let mut sources = Sources::default();
    sources.add(
        object(Kind::ConfigMap, OWN, "config", 1),
        labels([]),
        Ok(text),
        Some(last_valid),
    );
    build(&sources)
}

fn pools(config: &Config) -> Vec<String> {
    config
        .pools()
        .map(|pool| format!("{}={:?}", pool.name, pool.ranges))
        .collect()
}

#[test]
fn every_key() {
    let (config, issues) = read(json!({
        "peers": [{
            "my-asn": 64512, "peer-asn": 64513, "peer-address": "10.0.0.1", "source-address": "10.0.0.2",
            "peer-port": 20179, "hold-time": "120s", "keepalive-time": "30s", "router-id": "10.0.0.3",
            "node-selectors": [
                {"match-labels": {"rack": "1"}},
                {"match-expressions": [{"key": "tier", "operator": "In", "values": ["edge"]}]}],
            "password": "hush", "bfd-profile": "fast", "ebgp-multihop": true},
            {"my-asn": 64512, "peer-asn": 64512, "peer-address": "2001:db8::1"}],
        "address-pools": [
            {"name": "default", "protocol": "layer2", "addresses": ["192.0.2.0/25", "192.0.2.200-192.0.2.210"],
             "avoid-buggy-ips": true, "auto-assign": false},
            {"name": "Public_Pool 1", "protocol": "bgp", "addresses": ["198.51.100.0/24", "2001:db8:1::/64"],
             "bgp-advertisements": [
                {"aggregation-length": 32, "aggregation-length-v6": 128, "localpref": 100, "communities": ["no-advertise"]},
                {"aggregation-length": 24, "aggregation-length-v6": 64}]},
            {"name": "plain", "protocol": "bgp", "addresses": ["203.0.113.0/24"]}],
        "bgp-communities": {"no-advertise": "65535:65282"},
        "bfd-profiles": [{"name": "fast", "receive-interval": 80, "transmit-interval": 81, "detect-multiplier": 4,
                          "echo-interval": 82, "echo-mode": false, "passive-mode": true, "minimum-ttl": 253}]}));
    assert_eq!(found(&issues), Vec::<String>::new());
    let peer = config
        .bgp_peer("ConfigMap/10.0.0.1 port 20179")
        .expect("the first peer");
    assert_eq!(
        (peer.port, peer.hold_time, peer.keepalive_time),
        (20_179, Some(120), Some(30))
    );
    assert!(matches!(&peer.password, PeerPassword::Text(password) if password.reveal() == "hush"));
    assert!(peer.selects_node(&labels([("tier", "edge")])) && !peer.selects_node(&labels([])));
    assert!(peer.ebgp_multi_hop && peer.bfd_profile.as_deref() == Some("fast"));
    let second = config.bgp_peer("ConfigMap/2001:db8::1").expect("the second peer");
    assert_eq!(
        (second.port, second.hold_time, second.keepalive_time),
        (179, Some(90), Some(30)),
        "this source always had a hold time"
    );
    let default = config.pool("default").expect("in force");
    assert!(default.avoid_buggy_ips && !default.auto_assign);
    let routed: Vec<_> = config
        .bgp_advertisements()
        .iter()
        .map(|a| {
            (
                a.name.as_str(),
                a.aggregation_length,
                a.local_pref,
                a.communities.iter().next().copied(),
            )
        })
        .collect();
    assert_eq!(
        routed,
        [
            (
                "ConfigMap/Public_Pool 1#1",
                32,
                100,
                Some(Community::Standard(65_535, 65_282))
            ),
            ("ConfigMap/Public_Pool 1#2", 24, 0, None),
            ("ConfigMap/plain#1", 32, 0, None),
        ]
    );
    let profile = config.bfd_profile("fast").expect("in force");
    assert_eq!(
        (profile.echo_interval, profile.minimum_ttl, profile.passive_mode),
        (Some(82), Some(253), true)
    );
}

#[test]
fn yaml_as_the_old_library_read_it() {
    let pool = |key: &str, value: Value| {
        let mut pool = json!({"name": "a", "protocol": "layer2", "addresses": ["10.0.0.0/24"]});
        pool[key] = value;
        json!({"address-pools": [pool]})
    };
    for (value, expected) in [
        (json!("yes"), true),
        (json!("no"), false),
        (json!("On"), true),
        (json!("OFF"), false),
        (json!("y"), true),
        (json!(false), false),
        (Value::Null, true),
    ] {
        let (config, issues) = read(pool("auto-assign", value.clone()));
        assert_eq!(errors(&issues), Vec::<&Issue>::new(), "{value}");
        assert_eq!(
            config.pool("a").map(|pool| pool.auto_assign),
            Some(expected),
            "{value}"
        );
    }
    // A plain scalar is a text where a text is wanted.
    for (value, name) in [(json!(2024), "2024"), (json!(true), "true"), (json!("no"), "no")] {
        assert!(read(pool("name", value)).0.pool(name).is_some(), "{name}");
    }
    let peer = json!([{"my-asn": 6.4512e4, "peer-asn": 2, "peer-address": "192.0.2.1", "password": 1234, "hold-time": "",
                       "router-id": null, "node-selectors": null}]);
    let (config, issues) = read(json!({"peers": peer, "address-pools": null, "bgp-communities": null}));
    assert_eq!(errors(&issues), Vec::<&Issue>::new());
    let peer = config.bgp_peers().next().expect("in force");
    assert_eq!((peer.my_asn, peer.hold_time), (64_512, Some(90)));
    assert!(matches!(&peer.password, PeerPassword::Text(password) if password.reveal() == "1234"));
    assert_eq!(read(Value::Null).0, Config::default());
}

#[test]
fn spellings_of_v0_2() {
    let (config, issues) = read(json!({
        "address-pools": [{"name": "a", "protocol": "arp", "cidr": ["10.0.0.0/24"], "arp-network": "10.0.0.0/16"},
                          {"name": "b", "protocol": "bgp", "cidr": ["10.0.1.0/24"], "advertisements": [{"communities": ["c"]}]}],
        "communities": {"c": "1:1"}}));
    assert_eq!(found(&issues), Vec::<String>::new());
    assert_eq!(pools(&config), ["a=[10.0.0.0/24]", "b=[10.0.1.0/24]"]);
    assert_eq!(
        (
            config.l2_advertisements().len(),
            config.bgp_advertisements().len()
        ),
        (1, 1)
    );
}

#[test]
fn an_unknown_alias_costs_the_advertisement_and_not_the_pool() {
    let (config, issues) = read(json!({
        "address-pools": [{"name": "b", "protocol": "bgp", "addresses": ["10.0.1.0/24"],
                           "bgp-advertisements": [{"communities": ["1:1", "absent"]}, {"localpref": 3}]}]}));
    assert_eq!(
        found(&issues),
        [
            "config:data.config: address-pools[0].bgp-advertisements[0].communities[1]:WaitingForCommunity:Partly"
        ]
    );
    assert_eq!(pools(&config), ["b=[10.0.1.0/24]"]);
    assert_eq!(config.bgp_advertisements().len(), 1);
}

#[test]
fn what_an_entry_last_validly_said_stays() {
    let entry = |name: &str, range: &str| json!({"name": name, "protocol": "layer2", "addresses": [range]});
    let before = json!({"address-pools": [entry("a", "10.0.0.0/24"), entry("b", "10.0.1.0/24")]});
    let (a, b) = (entry("a", "10.0.0.0/24"), entry("b", "10.0.1.0/24"));
    for (title, present, expected, issues) in [
        (
            "one entry broken, the other edited",
            json!([entry("a", "10.0.0.0/33"), entry("b", "10.0.9.0/24")]),
            vec!["a=[10.0.0.0/24]", "b=[10.0.9.0/24]"],
            vec!["config:data.config: address-pools[0].addresses[0]:InvalidAddress:LastValid"],
        ),
        (
            "a typo in the key of the name",
            json!([{"nmae": "a", "protocol": "layer2", "addresses": ["10.0.0.0/24"]}, b]),
            vec!["a=[10.0.0.0/24]", "b=[10.0.1.0/24]"],
            vec!["config:data.config: address-pools[0].nmae:UnknownField:LastValid"],
        ),
        (
            "moved and broken",
            json!([b, {"name": "a"}]),
            vec!["a=[10.0.0.0/24]", "b=[10.0.1.0/24]"],
            vec!["config:data.config: address-pools[1].addresses:InvalidAddress:LastValid"],
        ),
        ("deleted", json!([b]), vec!["b=[10.0.1.0/24]"], vec![]),
        (
            "deleted, and a broken new one in its place",
            json!([{"name": "c", "protocol": "layer2", "addresses": []}, b]),
            vec!["a=[10.0.0.0/24]", "b=[10.0.1.0/24]"],
            vec!["config:data.config: address-pools[0].addresses:InvalidAddress:LastValid"],
        ),
        (
            "renamed",
            json!([entry("c", "10.0.0.0/24"), b]),
            vec!["b=[10.0.1.0/24]", "c=[10.0.0.0/24]"],
            vec![],
        ),
        (
            "the section is no list",
            json!({"a": a}),
            vec!["a=[10.0.0.0/24]", "b=[10.0.1.0/24]"],
            vec!["config:data.config: address-pools:InvalidSpec:LastValid"],
        ),
        (
            "a new entry takes what the other has",
            json!([a, entry("b", "10.0.0.8/29")]),
            vec!["a=[10.0.0.0/24]", "b=[10.0.1.0/24]"],
            vec!["config:data.config: address-pools[1].addresses[0]:AddressOverlap:LastValid"],
        ),
    ] {
        let (config, found_issues) = edited(json!({"address-pools": present}), before.clone());
        assert_eq!(pools(&config), expected, "{title}");
        assert_eq!(found(&found_issues), issues, "{title}");
        assert_eq!(config.l2_advertisements().len(), expected.len(), "{title}");
    }
    // The whole text is no mapping.
    let (config, issues) = edited(json!("address-pools"), before);
    assert_eq!(config.pools().count(), 2);
    assert_eq!(found(&issues), ["config:data.config:InvalidSpec:LastValid"]);
}

#[test]
fn peers_are_known_by_their_address() {
    let peer = |address: &str, asn: i64| json!({"my-asn": 1, "peer-asn": asn, "peer-address": address});
    let before = json!({"peers": [peer("192.0.2.1", 2), peer("192.0.2.2", 2)]});
    let (config, issues) = edited(
        json!({"peers": [peer("192.0.2.9", 2), peer("192.0.2.1", 0), peer("192.0.2.2", 3)]}),
        before,
    );
    assert_eq!(
        found(&issues),
        ["config:data.config: peers[1].peer-asn:MissingField:LastValid"]
    );
    let names: Vec<&str> = config.bgp_peers().map(|peer| peer.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ConfigMap/192.0.2.1",
            "ConfigMap/192.0.2.2",
            "ConfigMap/192.0.2.9"
        ]
    );
    // One router, dialled by each rack with its own AS number.
    let rack = |asn: i64, rack: &str| {
        json!({"my-asn": asn, "peer-asn": 2, "peer-address": "192.0.2.1",
               "node-selectors": [{"match-labels": {"rack": rack}}]})
    };
    let (config, issues) = read(json!({"peers": [rack(10, "1"), rack(11, "2")]}));
    assert_eq!(found(&issues), Vec::<String>::new());
    let names: Vec<&str> = config.bgp_peers().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["ConfigMap/192.0.2.1", "ConfigMap/192.0.2.1#2"]);
}
