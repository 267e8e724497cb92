//! What valid BGP objects mean.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{add, add_with_last, build, errors, found, with_secrets};
use crate::bgp::nanoseconds;
use crate::{
    BgpPeer, Community, CommunityError, Config, Issue, Kind, Labels, PeerEndpoint, PeerPassword, RemoteAsn,
    ServiceFacts, Sources,
};

fn peer(spec: &Value) -> BgpPeer {
    let mut sources = with_secrets();
    let mut whole = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"});
    for (key, value) in spec.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    add(
        &mut sources,
        Kind::BfdProfile,
        "fast",
        1,
        json!({"receiveInterval": 100, "echoMode": true}),
    );
    add(&mut sources, Kind::BgpPeer, "tor", 1, whole);
    let (config, issues) = build(&sources);
    assert_eq!(errors(&issues), Vec::<&Issue>::new(), "{spec}");
    config.bgp_peer("tor").expect("in force").clone()
}

#[test]
fn a_peer_with_defaults() {
    let peer = peer(&json!({}));
    let expected = BgpPeer {
        name: "tor".to_owned(),
        my_asn: 64512,
        remote_asn: RemoteAsn::Number(64513),
        local_asn: None,
        endpoint: PeerEndpoint::Address(IpAddr::from([192, 0, 2, 1])),
        source_address: None,
        port: 179,
        hold_time: None,
        keepalive_time: None,
        connect_time: None,
        router_id: None,
        node_selectors: Vec::new(),
        password: PeerPassword::None,
        bfd_profile: None,
        graceful_restart: false,
        ebgp_multi_hop: false,
        vrf: None,
        dual_stack: false,
    };
    assert_eq!(peer, expected);
    assert!(peer.selects_node(&Labels::new()));
}

#[test]
fn timers() {
    for (hold, keepalive, expected) in [
        (None, None, (None, None)),
        (Some("90s"), None, (Some(90), Some(30))),
        (None, Some("10s"), (Some(30), Some(10))),
        (Some("1m30s"), Some("45s"), (Some(90), Some(45))),
        (Some("0s"), None, (Some(0), Some(0))),
        (Some("0s"), Some("0s"), (Some(0), Some(0))),
        (Some("3.9s"), None, (Some(3), Some(1))),
        (Some("65535s"), Some("65535s"), (Some(65_535), Some(65_535))),
    ] {
        let peer = peer(&json!({"holdTime": hold, "keepaliveTime": keepalive}));
        assert_eq!(
            (peer.hold_time, peer.keepalive_time),
            expected,
            "{hold:?} {keepalive:?}"
        );
    }
}

#[test]
fn every_field_of_a_peer() {
    let full = peer(&json!({
        "peerASN": null, "dynamicASN": "external", "localASN": 65000, "peerAddress": null, "interface": "eth1",
        "sourceAddress": "::ffff:192.0.2.7", "peerPort": 1179, "connectTime": "10s", "routerID": "10.0.0.1",
        "nodeSelectors": [{"matchLabels": {"rack": "1"}}], "password": "hush", "bfdProfile": "fast",
        "enableGracefulRestart": true, "ebgpMultiHop": true, "vrf": "red", "dualStackAddressFamily": true}));
    assert_eq!(
        (full.remote_asn, full.local_asn, full.port, full.connect_time),
        (RemoteAsn::External, Some(65_000), 1179, Some(10))
    );
    assert_eq!(full.endpoint, PeerEndpoint::Interface("eth1".to_owned()));
    assert_eq!(full.source_address, Some(IpAddr::from([192, 0, 2, 7])));
    assert_eq!(
        full.router_id.map(|id| id.to_string()).as_deref(),
        Some("10.0.0.1")
    );
    assert!(full.selects_node(&super::labels([("rack", "1")])) && !full.selects_node(&Labels::new()));
    assert_eq!(
        (full.vrf.as_deref(), full.bfd_profile.as_deref()),
        (Some("red"), Some("fast"))
    );
    assert!(full.graceful_restart && full.ebgp_multi_hop && full.dual_stack);
    let PeerPassword::Text(password) = &full.password else {
        panic!("{full:?}");
    };
    assert_eq!(password.reveal(), "hush");
    assert!(!format!("{full:?}").contains("hush"), "Debug goes to logs");
    let secret = peer(&json!({"passwordSecret": {"name": "good"}}));
    assert_eq!(secret.password, PeerPassword::Secret("good".to_owned()));
}

#[test]
fn durations_as_go_reads_them() {
    for (text, expected) in [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("90s", Some(90_000_000_000)),
        ("1h15m30.918273645s", Some(4_530_918_273_645)),
        ("+5m", Some(300_000_000_000)),
        ("-1.5h", Some(-5_400_000_000_000)),
        (".5s", Some(500_000_000)),
        ("1.s", Some(1_000_000_000)),
        ("10us", Some(10_000)),
        ("10µs", Some(10_000)),
        ("10μs", Some(10_000)),
        ("3ns", Some(3)),
        ("0.33333333333333333333h", Some(1_199_999_999_999)),
        ("2562047h47m16.854775807s", Some(i64::MAX)),
        ("2562047h47m16.854775808s", None),
        ("", None),
        ("s", None),
        (".s", None),
        ("-", None),
        ("1", None),
        ("1d", None),
        ("1 s", None),
        ("1sm", None),
        ("--1s", None),
        ("1_000s", None),
        ("9999999999999999999999s", None),
    ] {
        assert_eq!(nanoseconds(text), expected, "{text}");
    }
}

#[test]
fn communities() {
    for text in ["0:0", "65535:65535", "large:1:2:3", "large:4294967295:0:0"] {
        let community: Community = text.parse().expect(text);
        assert_eq!(community.to_string(), text);
    }
    assert_eq!("007:1".parse(), Ok(Community::Standard(7, 1)));
    let value = |text: &str| Err::<Community, _>(CommunityError::Value(text.to_owned()));
    let form = |text: &str| Err::<Community, _>(CommunityError::Form(text.to_owned()));
    for text in [
        "65536:0",
        "a:1",
        ":",
        "1:+1",
        "small:1:2:3",
        "large:1:2:4294967296",
    ] {
        assert_eq!(text.parse::<Community>(), value(text), "{text}");
    }
    for text in ["", "1", "alias", "1:2:3", "large:1:2", "1:2:3:4:5"] {
        assert_eq!(text.parse::<Community>(), form(text), "{text}");
    }
}

fn advertised(advertisements: &[(&str, Value)]) -> (Config, Vec<Issue>) {
    let mut sources = Sources::default();
    let mut put = |kind, name: &str, spec| add(&mut sources, kind, name, 1, spec);
    put(Kind::IpAddressPool, "four", json!({"addresses": ["10.0.0.0/24"]}));
    put(
        Kind::IpAddressPool,
        "six",
        json!({"addresses": ["2001:db8::/64"]}),
    );
    put(
        Kind::IpAddressPool,
        "both",
        json!({"addresses": ["10.0.1.0-10.0.1.130", "2001:db8:1::/64"]}),
    );
    put(
        Kind::Community,
        "aliases",
        json!({"communities": [{"name": "gold", "value": "64512:100"}, {"name": "1:1", "value": "large:1:1:1"}]}),
    );
    put(
        Kind::BgpPeer,
        "tor",
        json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}),
    );
    for (name, spec) in advertisements {
        put(Kind::BgpAdvertisement, name, spec.clone());
    }
    build(&sources)
}

#[test]
fn an_advertisement_is_resolved() {
    let (config, issues) = advertised(&[
        (
            "a",
            json!({"ipAddressPools": ["four"], "aggregationLength": 24, "localPref": 7, "peers": ["tor"],
                   "communities": ["gold", "1:1", "2:2"], "nodeSelectors": [{"matchLabels": {"rack": "1"}}]}),
        ),
        (
            "b",
            json!({"serviceSelectors": [{"matchLabels": {"app": "web"}}]}),
        ),
    ]);
    assert_eq!(found(&issues), Vec::<String>::new());
    let a = &config.bgp_advertisements()[0];
    assert_eq!(
        (a.aggregation_length, a.aggregation_length_v6, a.local_pref),
        (24, 128, 7)
    );
    let communities: Vec<String> = a.communities.iter().map(ToString::to_string).collect();
    assert_eq!(
        communities,
        ["2:2", "64512:100", "large:1:1:1"],
        "an alias wins over a value"
    );
    assert!(a.selects_peer("tor") && !a.selects_peer("other"));
    assert!(a.selects_node(&super::labels([("rack", "1")])) && !a.selects_node(&Labels::new()));
    let names = |pool, labels: &Labels| -> Vec<String> {
        let facts = ServiceFacts {
            namespace: "default",
            name: "web",
            labels,
            pool,
        };
        config.bgp_for(&facts).iter().map(|a| a.name.clone()).collect()
    };
    let web = super::labels([("app", "web")]);
    assert_eq!(names("four", &web), ["a", "b"]);
    assert_eq!(names("four", &Labels::new()), ["a"]);
    assert_eq!(names("six", &web), ["b"]);
    assert_eq!(names("absent", &web), Vec::<String>::new());
}

/// `errors` of the second of two advertisements.
#[test]
fn local_preferences_that_contradict() {
    let clash = vec!["b:spec.localPref:ConflictingLocalPref:LeftOut".to_owned()];
    for (title, a, b, conflict) in [
        (
            "both for all",
            json!({"localPref": 1}),
            json!({"localPref": 2}),
            true,
        ),
        ("equal", json!({"localPref": 1}), json!({"localPref": 1}), false),
        ("one unset", json!({"localPref": 1}), json!({}), true),
        (
            "other pools",
            json!({"localPref": 1, "ipAddressPools": ["four"]}),
            json!({"localPref": 2, "ipAddressPools": ["six"]}),
            false,
        ),
        (
            "other lengths of IPv4",
            json!({"localPref": 1, "ipAddressPools": ["four"], "aggregationLength": 24}),
            json!({"localPref": 2, "ipAddressPools": ["four"]}),
            false,
        ),
        (
            "other lengths of the family that the pool has not",
            json!({"localPref": 1, "ipAddressPools": ["four"], "aggregationLengthV6": 64}),
            json!({"localPref": 2, "ipAddressPools": ["four"]}),
            true,
        ),
        (
            "one length of two equal",
            json!({"localPref": 1, "ipAddressPools": ["both"], "aggregationLength": 25}),
            json!({"localPref": 2, "ipAddressPools": ["both"]}),
            true,
        ),
        (
            "other peers",
            json!({"localPref": 1, "peers": ["x", "y"]}),
            json!({"localPref": 2, "peers": ["z"]}),
            false,
        ),
        (
            "a common peer",
            json!({"localPref": 1, "peers": ["x", "y"]}),
            json!({"localPref": 2, "peers": ["y"]}),
            true,
        ),
        (
            "all peers",
            json!({"localPref": 1, "peers": ["x"]}),
            json!({"localPref": 2}),
            true,
        ),
        (
            "other nodes",
            json!({"localPref": 1, "nodeSelectors": [{"matchLabels": {"rack": "1"}}]}),
            json!({"localPref": 2, "nodeSelectors": [{"matchLabels": {"rack": "2"}}]}),
            false,
        ),
        (
            "a common node selector",
            json!({"localPref": 1, "nodeSelectors": [{"matchLabels": {"rack": "1"}}]}),
            json!({"localPref": 2, "nodeSelectors": [{"matchLabels": {"rack": "2"}}, {"matchLabels": {"rack": "1"}}]}),
            true,
        ),
        (
            "services decide at run time",
            json!({"localPref": 1}),
            json!({"localPref": 2, "serviceSelectors": [{"matchLabels": {"app": "web"}}]}),
            false,
        ),
    ] {
        let (config, issues) = advertised(&[("a", a), ("b", b)]);
        let errors: Vec<String> = found(&issues)
            .into_iter()
            .filter(|line| !line.contains("UnknownPeer"))
            .collect();
        assert_eq!(
            errors,
            if conflict { clash.clone() } else { Vec::new() },
            "{title}"
        );
        assert_eq!(
            config.bgp_advertisements().len(),
            if conflict { 1 } else { 2 },
            "{title}"
        );
    }
}

#[test]
fn a_new_pool_that_does_not_fit_is_left_out_and_the_others_stay() {
    let mut sources = Sources::default();
    let spec = json!({"aggregationLength": 24});
    add(
        &mut sources,
        Kind::IpAddressPool,
        "wide",
        1,
        json!({"addresses": ["10.0.0.0/16"]}),
    );
    add_with_last(&mut sources, Kind::BgpAdvertisement, "ad", 1, spec.clone(), spec);
    let (config, issues) = build(&sources);
    // A /24 of a /16 is inside; of a /28 it is not.
    assert_eq!(errors(&issues), Vec::<&Issue>::new());
    assert_eq!(config.bgp_advertisements()[0].pools.len(), 1);
    add(
        &mut sources,
        Kind::IpAddressPool,
        "narrow",
        2,
        json!({"addresses": ["10.9.0.0/28"]}),
    );
    let (config, issues) = build(&sources);
    assert_eq!(
        found(&issues),
        ["ad:spec.aggregationLength:InvalidAggregation:LastValid"]
    );
    let pools: Vec<&String> = config.bgp_advertisements()[0].pools.iter().collect();
    assert_eq!(pools, ["wide"]);
}

#[test]
fn a_range_fits_if_one_of_its_prefixes_does() {
    // 10.0.1.0-10.0.1.130 holds a /25 among others.
    for (length, fits) in [(25, true), (24, false)] {
        let spec = json!({"ipAddressPools": ["both"], "aggregationLength": length});
        let (_, issues) = advertised(&[("a", spec)]);
        assert_eq!(errors(&issues).is_empty(), fits, "{length}");
    }
}
