//! References between objects: what is waited for, what stays, and what one object does to another.

use serde_json::{Value, json};

use super::{add, add_with_last, build, errors, found, with_secrets};
use crate::{Effect, Issue, Kind, Reason, Sources};

fn peer() -> Value {
    json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"})
}

fn peer_with(field: &str, value: Value) -> Value {
    let mut spec = peer();
    spec[field] = value;
    spec
}

#[test]
fn what_is_missing_is_waited_for_and_found_when_it_comes() {
    let ad = json!({"communities": ["gold"]});
    for (kind, spec, reason, missing) in [
        (
            Kind::BgpPeer,
            peer_with("bfdProfile", json!("fast")),
            Reason::WaitingForBfdProfile,
            (Kind::BfdProfile, "fast", json!({})),
        ),
        (
            Kind::BgpAdvertisement,
            ad,
            Reason::WaitingForCommunity,
            (
                Kind::Community,
                "any",
                json!({"communities": [{"name": "gold", "value": "1:1"}]}),
            ),
        ),
    ] {
        let mut sources = Sources::default();
        add(&mut sources, kind, "waits", 1, spec);
        let (config, issues) = build(&sources);
        let told = errors(&issues);
        assert_eq!(
            (told.len(), told[0].reason, told[0].effect),
            (1, reason, Effect::LeftOut)
        );
        assert_eq!(config.bgp_peers().count() + config.bgp_advertisements().len(), 0);
        let (kind, name, spec) = missing;
        add(&mut sources, kind, name, 2, spec);
        let (config, issues) = build(&sources);
        assert_eq!(errors(&issues), Vec::<&Issue>::new());
        assert_eq!(config.bgp_peers().count() + config.bgp_advertisements().len(), 1);
    }
}

#[test]
fn secrets_are_judged_only_when_somebody_looked() {
    let spec = peer_with(
        "passwordSecret",
        json!({"name": "absent", "namespace": "elsewhere"}),
    );
    let mut sources = Sources::default();
    add(&mut sources, Kind::BgpPeer, "tor", 1, spec.clone());
    assert_eq!(sources.secret_refs().into_iter().collect::<Vec<_>>(), ["absent"]);
    let (config, issues) = build(&sources);
    assert_eq!(config.bgp_peers().count(), 1);
    assert_eq!(
        found(&issues),
        ["tor:spec.passwordSecret.namespace:InvalidSecret:Warning"]
    );
    let mut sources = with_secrets();
    add_with_last(
        &mut sources,
        Kind::BgpPeer,
        "tor",
        1,
        spec,
        peer_with("passwordSecret", json!({"name": "gone"})),
    );
    assert_eq!(
        sources.secret_refs().into_iter().collect::<Vec<_>>(),
        ["absent", "gone"]
    );
    let (config, issues) = build(&sources);
    // What was valid before stays, although its Secret is gone: the engine goes on with the password that it has.
    assert_eq!(config.bgp_peers().count(), 1);
    assert_eq!(
        errors(&issues)
            .iter()
            .map(|i| (i.reason, i.effect))
            .collect::<Vec<_>>(),
        [(Reason::WaitingForSecret, Effect::LastValid)]
    );
}

#[test]
fn a_deleted_profile_does_not_take_the_session_down() {
    let spec = peer_with("bfdProfile", json!("fast"));
    let mut sources = Sources::default();
    add_with_last(&mut sources, Kind::BgpPeer, "tor", 1, spec.clone(), spec);
    let (config, issues) = build(&sources);
    assert_eq!(
        found(&issues),
        ["tor:spec.bfdProfile:WaitingForBFDProfile:LastValid"]
    );
    assert!(config.bgp_peer("tor").is_some() && config.bfd_profile("fast").is_none());
}

#[test]
fn a_broken_profile_stays_as_it_was_and_its_peers_with_it() {
    let mut sources = Sources::default();
    add(
        &mut sources,
        Kind::BgpPeer,
        "tor",
        1,
        peer_with("bfdProfile", json!("fast")),
    );
    let valid = json!({"detectMultiplier": 5});
    add_with_last(
        &mut sources,
        Kind::BfdProfile,
        "fast",
        1,
        json!({"detectMultiplier": 1}),
        valid,
    );
    let (config, issues) = build(&sources);
    assert_eq!(
        found(&issues),
        ["fast:spec.detectMultiplier:OutOfRange:LastValid"]
    );
    assert_eq!(
        config.bfd_profile("fast").and_then(|p| p.detect_multiplier),
        Some(5)
    );
    assert!(config.bgp_peer("tor").is_some());
}

#[test]
fn aliases_are_unique_over_all_objects() {
    let alias = |name: &str| json!({"communities": [{"name": name, "value": "1:1"}, {"name": "own", "value": "1:2"}]});
    let mut sources = Sources::default();
    add(&mut sources, Kind::Community, "young", 9, alias("x"));
    add(&mut sources, Kind::Community, "old", 1, alias("y"));
    add(
        &mut sources,
        Kind::BgpAdvertisement,
        "ad",
        1,
        json!({"communities": ["y", "own"]}),
    );
    let (config, issues) = build(&sources);
    assert_eq!(found(&issues), ["young:spec.communities:NameClash:LeftOut"]);
    assert!(
        errors(&issues)[0]
            .to_string()
            .contains("Community metallb-system/old")
    );
    assert_eq!(config.communities().keys().collect::<Vec<_>>(), ["own", "y"]);
    assert_eq!(config.bgp_advertisements().len(), 1);
}

#[test]
fn echo_and_ipv6_exclude_each_other() {
    for (title, pool, ad, echo, refused) in [
        ("IPv6 to all peers", "2001:db8::/64", json!({}), true, true),
        ("no echo", "2001:db8::/64", json!({}), false, false),
        ("IPv4", "10.0.0.0/24", json!({}), true, false),
        (
            "IPv6 to this peer",
            "2001:db8::/64",
            json!({"peers": ["tor"]}),
            true,
            true,
        ),
        (
            "IPv6 to another",
            "2001:db8::/64",
            json!({"peers": ["other"]}),
            true,
            false,
        ),
        (
            "not this pool",
            "2001:db8::/64",
            json!({"ipAddressPools": ["other"]}),
            true,
            false,
        ),
    ] {
        let mut sources = Sources::default();
        add(
            &mut sources,
            Kind::IpAddressPool,
            "pool",
            1,
            json!({"addresses": [pool]}),
        );
        add(&mut sources, Kind::BgpAdvertisement, "ad", 1, ad);
        add(
            &mut sources,
            Kind::BfdProfile,
            "echo",
            1,
            json!({"echoMode": echo}),
        );
        add(
            &mut sources,
            Kind::BgpPeer,
            "tor",
            1,
            peer_with("bfdProfile", json!("echo")),
        );
        let (config, issues) = build(&sources);
        let told: Vec<Reason> = errors(&issues).iter().map(|issue| issue.reason).collect();
        let expected = if refused { vec![Reason::EchoOnIpv6] } else { vec![] };
        assert_eq!(told, expected, "{title}");
        assert_eq!(config.bgp_peer("tor").is_none(), refused, "{title}");
        assert_eq!(config.bgp_advertisements().len(), 1, "{title}");
    }
}

#[test]
fn the_same_session_twice_is_a_hint() {
    let rack = |rack: &str| json!([{"matchLabels": {"rack": rack}}]);
    for (title, a, b, hint) in [
        ("everywhere", peer(), peer(), true),
        (
            "one everywhere",
            peer(),
            peer_with("nodeSelectors", rack("1")),
            true,
        ),
        (
            "other racks",
            peer_with("nodeSelectors", rack("2")),
            peer_with("nodeSelectors", rack("1")),
            false,
        ),
        ("another port", peer(), peer_with("peerPort", json!(1179)), false),
        ("another VRF", peer(), peer_with("vrf", json!("red")), false),
        // Native MetalLB takes any of these; the FRR modes refuse them.
        (
            "other AS and router ID",
            peer_with("myASN", json!(7)),
            json!({"myASN": 8, "peerASN": 2, "peerAddress": "192.0.2.2", "routerID": "1.1.1.1"}),
            false,
        ),
    ] {
        let mut sources = Sources::default();
        add(&mut sources, Kind::BgpPeer, "a", 1, a);
        add(&mut sources, Kind::BgpPeer, "b", 1, b);
        let (config, issues) = build(&sources);
        let expected: &[&str] = if hint {
            &["b:spec.peerAddress:DuplicatePeer:Warning"]
        } else {
            &[]
        };
        assert_eq!(found(&issues), expected, "{title}");
        assert_eq!(config.bgp_peers().count(), 2, "{title}");
    }
}

#[test]
fn names_that_do_not_exist_are_hints() {
    let mut sources = Sources::default();
    add(
        &mut sources,
        Kind::IpAddressPool,
        "pool",
        1,
        json!({"addresses": ["10.0.0.0/24"]}),
    );
    let old = json!({"protocol": "layer2", "addresses": ["10.0.1.0/24"]});
    add(&mut sources, Kind::AddressPool, "old", 1, old);
    let spec = json!({"ipAddressPools": ["pool", "absent", "missing"], "peers": ["nobody"]});
    add(&mut sources, Kind::BgpAdvertisement, "b", 1, spec);
    add(
        &mut sources,
        Kind::L2Advertisement,
        "l",
        1,
        json!({"ipAddressPools": ["pool", "old"]}),
    );
    let (config, issues) = build(&sources);
    assert_eq!(
        found(&issues),
        [
            "l:spec.ipAddressPools:UnknownPool:Warning",
            "b:spec.ipAddressPools:UnknownPool:Warning",
            "b:spec.peers:UnknownPeer:Warning",
        ]
    );
    let sentence = |reason, part: &str| {
        assert!(
            issues
                .iter()
                .any(|issue| issue.reason == reason && issue.to_string().contains(part)),
            "{part}: {issues:#?}"
        );
    };
    sentence(Reason::UnknownPool, "absent, missing");
    sentence(
        Reason::UnknownPool,
        "pool old comes from AddressPool metallb-system/old",
    );
    sentence(Reason::UnknownPeer, "nobody");
    assert_eq!(config.bgp_advertisements()[0].pools.len(), 1);
}

#[test]
fn what_bgp_objects_and_old_kinds_are_told() {
    let mut sources = Sources::default();
    for (kind, spec) in [
        (Kind::BgpAdvertisement, json!({})),
        (Kind::BgpPeer, peer()),
        (Kind::BfdProfile, json!({})),
        (Kind::Community, json!({})),
        (
            Kind::AddressPool,
            json!({"protocol": "bgp", "addresses": ["10.0.0.0/24"]}),
        ),
    ] {
        add(&mut sources, kind, "x", 1, spec);
    }
    let text = json!({"peers": [{"my-asn": 1, "peer-asn": 2, "peer-address": "192.0.2.9"}]});
    add(&mut sources, Kind::ConfigMap, "config", 1, text);
    let (_, issues) = build(&sources);
    let told = |reason: Reason| -> Vec<Kind> {
        let of = issues.iter().filter(|issue| issue.reason == reason);
        of.map(|issue| issue.object.kind).collect()
    };
    assert_eq!(errors(&issues), Vec::<&Issue>::new());
    assert_eq!(
        told(Reason::NotImplemented),
        [
            Kind::BgpAdvertisement,
            Kind::BgpPeer,
            Kind::BfdProfile,
            Kind::Community,
            Kind::AddressPool,
            Kind::ConfigMap
        ]
    );
    assert_eq!(
        told(Reason::DeprecatedSource),
        [Kind::AddressPool, Kind::ConfigMap]
    );
}
