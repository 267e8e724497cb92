use std::collections::BTreeSet;

use metallb_model::{Config, Kind, Labels, ObjectRef, Source, Sources};
use serde_json::{Value, json};

use crate::{
    EXCLUDE_LABEL, Eligibility, Endpoints, Exclusion, NodeFacts, NodeName, Nodes, Refusal, Rules,
    ServiceFacts, Standing,
};

fn source<T: serde::de::DeserializeOwned>(kind: Kind, name: &str, spec: Value) -> Source<T> {
    let object = ObjectRef {
        kind,
        namespace: "metallb-system".into(),
        name: name.into(),
        uid: String::new(),
        created: 0,
        generation: 1,
    };
    Source::from_json(object, Labels::new(), spec, None)
}

/// Pool `pool` with `192.0.2.0/24` and `2001:db8::/64`, and the given advertisements.
fn config(advertisements: &[Value]) -> Config {
    let sources = Sources {
        pools: vec![source(
            Kind::IpAddressPool,
            "pool",
            json!({"addresses": ["192.0.2.0/24", "2001:db8::/64"]}),
        )],
        l2_advertisements: advertisements
            .iter()
            .enumerate()
            .map(|(n, spec)| source(Kind::L2Advertisement, &format!("ad{n}"), spec.clone()))
            .collect(),
        ..Sources::default()
    };
    let (config, issues) = Config::from_sources(&sources, "metallb-system");
    assert_eq!(issues, vec![]);
    config
}

const IGNORE_LABEL: Rules = Rules {
    ignore_exclude_label: true,
    shun: false,
};

fn labels(text: &str) -> Labels {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

/// Nodes n1, n2, n3, each with the label `name`.
fn nodes() -> Nodes {
    ["n1", "n2", "n3"]
        .map(|name| {
            let facts = NodeFacts {
                labels: labels(&format!("name={name}")),
                ..NodeFacts::default()
            };
            (NodeName::from(name), facts)
        })
        .into()
}

fn endpoints(on: &[&str]) -> Endpoints {
    Endpoints {
        any: !on.is_empty(),
        nodes: on.iter().map(|n| NodeName::from(*n)).collect(),
    }
}

fn service(addresses: &[&str]) -> ServiceFacts {
    ServiceFacts {
        namespace: "default".into(),
        name: "web".into(),
        labels: labels("app=web"),
        addresses: addresses.iter().map(|a| a.parse().expect("address")).collect(),
        local: false,
        shared: false,
    }
}

fn select(name: &str) -> Value {
    json!({"matchLabels": {"name": name}})
}

/// Go speakers do not see ours: as long as one may own the service, they have it to themselves.
#[test]
fn speakers_of_go_metallb_come_first() {
    let with = |on: &[&str], advertisements: &[Value]| {
        let mut nodes = nodes();
        for name in on {
            nodes.get_mut(*name).expect("a node").foreign_speaker = true;
        }
        let eligibility = Eligibility::of(
            &service(&["192.0.2.1"]),
            &endpoints(&["n1"]),
            &nodes,
            &config(advertisements),
            Rules::default(),
        );
        eligibility.expect("candidates")
    };
    let names = |eligibility: &Eligibility| -> Vec<String> {
        let names = eligibility.candidates.keys();
        names.map(ToString::to_string).collect()
    };
    let mixed = with(&["n1", "n3"], &[json!({})]);
    assert!(mixed.go);
    assert_eq!(names(&mixed), ["n1", "n3"]);
    assert_eq!(mixed.excluded["n2"], Exclusion::GoSpeakersFirst);

    let elsewhere = json!({"nodeSelectors": [select("n1"), select("n2")]});
    let ours = with(&["n3"], &[elsewhere]);
    assert!(!ours.go, "that one may not own it");
    assert_eq!(names(&ours), ["n1", "n2"]);
    assert_eq!(ours.excluded["n3"], Exclusion::NotSelected);
}

#[test]
fn refusals() {
    let by_service = json!({"serviceSelectors": [{"matchLabels": {"app": "web"}}]});
    let other_service = json!({"serviceSelectors": [{"matchLabels": {"app": "db"}}]});
    let shared = ServiceFacts {
        shared: true,
        ..service(&["192.0.2.1"])
    };
    let cases = [
        (service(&[]), vec![json!({})], &["n1"][..], Refusal::NoAddress),
        (
            service(&["198.51.100.1"]),
            vec![json!({})],
            &["n1"],
            Refusal::NotInPool("198.51.100.1".parse().expect("ip")),
        ),
        (
            service(&["192.0.2.1"]),
            vec![],
            &["n1"],
            Refusal::NoAdvertisement { pool: "pool".into() },
        ),
        (
            service(&["192.0.2.1"]),
            vec![other_service],
            &["n1"],
            Refusal::NoAdvertisement { pool: "pool".into() },
        ),
        (
            shared,
            vec![by_service],
            &["n1"],
            Refusal::SharedWithServiceSelectors {
                advertisement: "ad0".into(),
            },
        ),
        (
            service(&["192.0.2.1"]),
            vec![json!({})],
            &[],
            Refusal::NoEndpoints,
        ),
    ];
    for (service, advertisements, on, expected) in cases {
        let result = Eligibility::of(
            &service,
            &endpoints(on),
            &nodes(),
            &config(&advertisements),
            Rules::default(),
        );
        assert_eq!(result, Err(expected));
    }
}

#[test]
fn exclusions() {
    let service = ServiceFacts {
        local: true,
        ..service(&["192.0.2.1"])
    };
    let mut nodes = nodes();
    nodes.get_mut("n1").expect("n1").network_unavailable = true;
    nodes
        .get_mut("n2")
        .expect("n2")
        .labels
        .insert(EXCLUDE_LABEL.into(), String::new());
    nodes.insert(
        "n4".into(),
        NodeFacts {
            labels: labels("name=n4"),
            ..NodeFacts::default()
        },
    );
    nodes.insert(
        "n5".into(),
        NodeFacts {
            labels: labels("name=n5"),
            ..NodeFacts::default()
        },
    );
    let selectors = ["n1", "n2", "n4", "n5"].map(select);
    let config = config(&[json!({"nodeSelectors": selectors})]);
    let endpoints = endpoints(&["n1", "n2", "n3", "n5"]);
    let strict = Eligibility::of(&service, &endpoints, &nodes, &config, Rules::default()).expect("announced");
    let expected = [
        ("n1", Exclusion::NetworkUnavailable),
        ("n2", Exclusion::ExcludeLabel),
        ("n3", Exclusion::NotSelected),
        ("n4", Exclusion::NoLocalEndpoint),
    ];
    assert_eq!(
        strict.excluded,
        expected.map(|(name, why)| (NodeName::from(name), why)).into()
    );
    assert_eq!(
        strict.candidates.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["n5"]
    );

    let out_of_service = |nodes: &mut Nodes, name| nodes.get_mut(name).expect("a node").out_of_service = true;
    out_of_service(&mut nodes, "n5");
    out_of_service(&mut nodes, "n1");
    let strict = Eligibility::of(&service, &endpoints, &nodes, &config, Rules::default()).expect("announced");
    assert!(strict.candidates.is_empty());
    let decision = strict.elect(service.addresses[0], |_| true);
    assert_eq!((decision.owner, decision.liveness_ignored), (None, false));

    let lenient = Eligibility::of(&service, &endpoints, &nodes, &config, IGNORE_LABEL).expect("announced");
    assert_eq!(
        lenient.candidates.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["n2"]
    );
}

#[test]
fn where_every_candidate_has_no_network_that_is_ignored() {
    let config = config(&[json!({"nodeSelectors": [select("n1"), select("n2")]})]);
    let mut nodes = nodes();
    let of = |nodes: &Nodes| {
        let web = service(&["192.0.2.1"]);
        Eligibility::of(&web, &endpoints(&["n1"]), nodes, &config, Rules::default()).expect("announced")
    };
    let names = |all: &Eligibility| {
        all.candidates
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let address = "192.0.2.1".parse().expect("address");
    let usual = of(&nodes);
    nodes.get_mut("n1").expect("n1").network_unavailable = true;
    assert_eq!(names(&of(&nodes)), "n2");
    nodes.get_mut("n2").expect("n2").network_unavailable = true;
    let all = of(&nodes);
    assert_eq!(names(&all), "n1 n2", "n3, which has a network, is not selected");
    assert_eq!(all.excluded["n3"], Exclusion::NotSelected);
    assert_eq!(all.ranked(address), usual.ranked(address));
    let decision = all.elect(address, |_| true);
    let owner = decision.owner.expect("never nobody");
    let why = Standing::OwnerDespite(Exclusion::NetworkUnavailable);
    assert_eq!(decision.standings[&owner], why);
    nodes
        .get_mut("n1")
        .expect("n1")
        .labels
        .insert(EXCLUDE_LABEL.into(), String::new());
    assert_eq!(names(&of(&nodes)), "n2", "other exclusions stay");
    nodes.get_mut("n2").expect("n2").foreign_speaker = true;
    assert!(!of(&nodes).go, "Go speakers do not ignore it");
}

#[test]
fn cluster_policy_needs_an_endpoint_anywhere_and_local_policy_one_on_the_node() {
    let endpoints = endpoints(&["n2"]);
    let config = config(&[json!({})]);
    let cluster = Eligibility::of(
        &service(&["192.0.2.1"]),
        &endpoints,
        &nodes(),
        &config,
        Rules::default(),
    )
    .expect("announced");
    assert_eq!(cluster.candidates.len(), 3);
    let local = ServiceFacts {
        local: true,
        ..service(&["192.0.2.1"])
    };
    let local = Eligibility::of(&local, &endpoints, &nodes(), &config, Rules::default()).expect("announced");
    assert_eq!(
        local.candidates.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["n2"]
    );
}

#[test]
fn preferences_add_up_over_advertisements_that_select_the_node() {
    let prefer = |weight: u32, name: &str| json!({"weight": weight, "preference": select(name)});
    let config = config(&[
        json!({"preferredNodeSelectors": [prefer(10, "n1"), prefer(5, "n2")]}),
        json!({"preferredNodeSelectors": [prefer(6, "n2")]}),
        json!({"nodeSelectors": [select("n1")], "preferredNodeSelectors": [prefer(100, "n3")]}),
    ]);
    let all = Eligibility::of(
        &service(&["192.0.2.1"]),
        &endpoints(&["n1"]),
        &nodes(),
        &config,
        Rules::default(),
    );
    let all = all.expect("announced");
    let scores: Vec<u64> = all.candidates.values().map(|c| c.score).collect();
    assert_eq!(scores, [10, 11, 0]);
    let decision = all.elect("192.0.2.1".parse().expect("ip"), |_| true);
    assert_eq!(decision.owner.as_deref(), Some("n2"));
    assert_eq!(decision.standings["n1"], Standing::Standby { place: 1 });
    assert_eq!(decision.standings["n3"], Standing::Standby { place: 2 });
}

#[test]
fn interfaces_are_the_union_and_one_unrestricted_advertisement_lifts_the_restriction() {
    let cases = [
        (vec![json!({"interfaces": ["eth0"]})], Some(vec!["eth0"])),
        (
            vec![json!({"interfaces": ["eth0"]}), json!({"interfaces": ["eth1"]})],
            Some(vec!["eth0", "eth1"]),
        ),
        (vec![json!({"interfaces": ["eth0"]}), json!({})], None),
        (
            vec![
                json!({"interfaces": ["eth0"]}),
                json!({"nodeSelectors": [select("n2")]}),
            ],
            Some(vec!["eth0"]),
        ),
    ];
    for (advertisements, expected) in cases {
        let config = config(&advertisements);
        let all = Eligibility::of(
            &service(&["192.0.2.1"]),
            &endpoints(&["n1"]),
            &nodes(),
            &config,
            Rules::default(),
        );
        let expected: Option<BTreeSet<_>> = expected.map(|names| names.into_iter().map(Into::into).collect());
        assert_eq!(all.expect("announced").candidates["n1"].interfaces, expected);
    }
}

#[test]
fn the_dead_are_passed_over_and_never_nobody() {
    let address = "192.0.2.10".parse().expect("ip");
    let config = config(&[json!({})]);
    let all = Eligibility::of(
        &service(&["192.0.2.10"]),
        &endpoints(&["n1"]),
        &nodes(),
        &config,
        Rules::default(),
    );
    let all = all.expect("announced");
    let order = crate::rank(["n1", "n2", "n3"].map(|n| (n, 0)), address);

    let second = all.elect(address, |node| node != order[0]);
    assert_eq!(second.owner.as_deref(), Some(order[1]));
    assert_eq!(second.standings[order[0]], Standing::NotAlive);
    assert_eq!(second.standings[order[2]], Standing::Standby { place: 1 });
    assert!(!second.liveness_ignored);

    let none = all.elect(address, |_| false);
    assert_eq!(none.owner.as_deref(), Some(order[0]));
    assert!(none.liveness_ignored);

    for dead in 0..8_u32 {
        let alive = |node: &str| dead & (1 << (node.as_bytes()[1] - b'1')) == 0;
        assert_eq!(
            all.owner(address, alive),
            all.elect(address, alive).owner.as_ref(),
            "{dead:03b}"
        );
    }
}

#[test]
fn the_first_address_decides_for_both_families() {
    let config = config(&[json!({})]);
    let both = service(&["192.0.2.10", "2001:db8::10"]);
    let all =
        Eligibility::of(&both, &endpoints(&["n1"]), &nodes(), &config, Rules::default()).expect("announced");
    let single = all.elect(both.addresses[0], |_| true);
    assert_eq!(
        single.owner.as_deref(),
        Some(crate::rank(["n1", "n2", "n3"].map(|n| (n, 0)), both.addresses[0])[0])
    );
}

#[test]
fn out_of_service_excludes_and_shunned_come_last_when_asked_for() {
    let config = config(&[json!({})]);
    let mut nodes = nodes();
    let address: std::net::IpAddr = "192.0.2.1".parse().expect("address");
    let ranked = |nodes: &Nodes, rules: Rules| {
        let all = Eligibility::of(
            &service(&["192.0.2.1"]),
            &endpoints(&["n1"]),
            nodes,
            &config,
            rules,
        );
        let all = all.expect("announced");
        (all.ranked(address), all.excluded)
    };
    let (usual, _) = ranked(&nodes, Rules::default());
    nodes.get_mut(&usual[0]).expect("node").shunned = true;
    assert_eq!(
        ranked(&nodes, Rules::default()).0,
        usual,
        "MetalLB does not look at it"
    );
    let shun = Rules {
        shun: true,
        ..Rules::default()
    };
    let last = [&usual[1..], &usual[..1]].concat();
    assert_eq!(ranked(&nodes, shun).0, last);
    nodes.get_mut(&usual[1]).expect("node").out_of_service = true;
    let (rest, excluded) = ranked(&nodes, shun);
    assert_eq!(rest, [usual[2].clone(), usual[0].clone()]);
    assert_eq!(excluded[&usual[1]], Exclusion::OutOfService);
}
