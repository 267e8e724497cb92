use super::*;
use kube::Resource as _;
use serde_json::json;

fn stored(object: Value) -> Stored {
    serde_json::from_value(object).expect("any object")
}

/// Events as words.
fn words(told: &mut VecDeque<ConfigEvent>) -> Vec<String> {
    told.drain(..)
        .map(|event| match event {
            ConfigEvent::ListStarted(kind) => format!("list {kind}"),
            ConfigEvent::Found(object) => format!("found {}", object.object),
            ConfigEvent::Gone { namespace, name, .. } => format!("gone {namespace}/{name}"),
            ConfigEvent::ListDone(kind) => format!("done {kind}"),
        })
        .collect()
}

#[test]
fn a_kind_that_is_not_served_is_an_empty_list_until_it_is() {
    let mut reading = Reading::new(Kind::AddressPool, Place::Everywhere);
    let mut told = VecDeque::new();
    reading.take(Observed::NotServed, &mut told);
    assert_eq!(words(&mut told), ["list AddressPool", "done AddressPool"]);
    reading.take(Observed::NotServed, &mut told);
    assert_eq!(words(&mut told), [""; 0], "said once");
    let pool = stored(json!({"metadata": {"namespace": "m", "name": "p"}, "spec": {}}));
    reading.take(Observed::Event(Event::Init), &mut told);
    reading.take(Observed::Event(Event::InitApply(pool)), &mut told);
    reading.take(Observed::Event(Event::InitDone), &mut told);
    assert_eq!(
        words(&mut told),
        ["list AddressPool", "found AddressPool m/p", "done AddressPool"]
    );
    // The CRD is deleted: believed when it is said again and again.
    for _ in 1..CONFIRMATIONS {
        reading.take(Observed::NotServed, &mut told);
        assert_eq!(
            words(&mut told),
            [""; 0],
            "one answer takes nobody's addresses away"
        );
    }
    reading.take(Observed::NotServed, &mut told);
    assert_eq!(words(&mut told), ["list AddressPool", "done AddressPool"]);
}

#[test]
fn whoever_may_not_look_everywhere_looks_at_home() {
    let mut reading = Reading::new(Kind::IpAddressPool, Place::Everywhere);
    let mut told = VecDeque::new();
    for _ in 1..REFUSALS {
        assert_eq!(reading.take(Observed::Forbidden, &mut told), None);
    }
    assert_eq!(
        reading.take(Observed::Forbidden, &mut told),
        Some(Place::OwnNamespace)
    );
    reading.take(Observed::Event(Event::InitDone), &mut told);
    for _ in 1..REFUSALS_ONCE_LISTED {
        assert_eq!(
            reading.take(Observed::Forbidden, &mut told),
            None,
            "a returning API server refuses for a moment"
        );
    }
    assert_eq!(
        reading.take(Observed::Forbidden, &mut told),
        Some(Place::Everywhere)
    );
    assert_eq!(words(&mut told), ["done IPAddressPool"], "nothing is gone");
}

#[test]
fn only_deprecated_kinds_are_taken_as_unused_when_nobody_lets_us_look() {
    for (kind, unused) in [
        (Kind::AddressPool, true),
        (Kind::ConfigMap, true),
        (Kind::IpAddressPool, false),
        (Kind::BgpPeer, false),
    ] {
        let mut reading = Reading::new(kind, Place::Everywhere);
        let mut told = VecDeque::new();
        for _ in 0..100 {
            reading.take(Observed::Forbidden, &mut told);
        }
        assert_eq!(words(&mut told).len(), if unused { 2 } else { 0 }, "{kind}");
        let mut home = Reading::new(kind, Place::OwnNamespace);
        assert!(
            (0..100).all(|_| home.take(Observed::Forbidden, &mut told).is_none()),
            "{kind}"
        );
    }
}

#[test]
fn objects_of_a_kind() {
    let object = config_object(
        Kind::IpAddressPool,
        stored(json!({
            "metadata": {"name": "p", "namespace": "m", "uid": "u", "resourceVersion": "7", "generation": 3,
                "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"addresses": 7},
            "status": {"lastValidSpec": {"addresses": ["192.0.2.0/24"]}, "assignedIPv4": 1},
        })),
    );
    assert_eq!(object.object.to_string(), "IPAddressPool m/p");
    assert_eq!(
        (object.object.created, object.object.generation),
        (1_767_323_045, 3)
    );
    assert_eq!(object.spec, Ok(json!({"addresses": 7})));
    assert_eq!(object.raw_spec, json!({"addresses": 7}));
    assert_eq!(object.last_valid, Some(json!({"addresses": ["192.0.2.0/24"]})));
    assert_eq!(
        (object.resource_version.as_str(), &object.status["assignedIPv4"]),
        ("7", &json!(1))
    );
    let empty = config_object(
        Kind::L2Advertisement,
        stored(json!({"metadata": {"name": "a"}, "status": {"lastValidSpec": null}})),
    );
    assert_eq!((empty.spec, empty.last_valid), (Ok(json!({})), None));
}

#[test]
fn the_config_map() {
    let mut reading = Reading::new(Kind::ConfigMap, Place::Everywhere);
    let mut told = VecDeque::new();
    let map = |data: Value, last: &str| {
        stored(
            json!({"metadata": {"name": "config", "namespace": "m", "annotations": {LAST_VALID_CONFIG: last}}, "data": data}),
        )
    };
    reading.take(
        Observed::Event(Event::Apply(map(
            json!({"config": "address-pools: [\n"}),
            "address-pools: []\n",
        ))),
        &mut told,
    );
    let Some(ConfigEvent::Found(object)) = told.pop_front() else {
        panic!("found");
    };
    let unreadable = object.spec.clone().expect_err("no YAML");
    assert_eq!(unreadable.field, "data.config");
    assert!(unreadable.message.contains("line"), "{}", unreadable.message);
    assert_eq!(object.last_valid, Some(json!({"address-pools": []})));
    assert_eq!(object.raw_spec, json!("address-pools: [\n"));
    // A ConfigMap of the same name without the key is none of ours.
    reading.take(
        Observed::Event(Event::Apply(map(json!({"other": "x"}), ""))),
        &mut told,
    );
    reading.take(Observed::Event(Event::Apply(map(Value::Null, ""))), &mut told);
    assert_eq!(words(&mut told), ["gone m/config", "gone m/config"]);
}

#[test]
fn urls() {
    for (kind, url) in [
        (Kind::BgpPeer, "/apis/metallb.io/v1beta2/namespaces/m/bgppeers"),
        (
            Kind::Community,
            "/apis/metallb.io/v1beta1/namespaces/m/communities",
        ),
        (Kind::ConfigMap, "/api/v1/namespaces/m/configmaps"),
    ] {
        assert_eq!(Stored::url_path(&resource(kind), Some("m")), url);
    }
}
