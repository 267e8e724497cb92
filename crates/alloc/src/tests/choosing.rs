use serde_json::{Value, json};

use super::{Cluster, Wishes, at, service};
use crate::{Service, WantedIpsError, wanted_ips};

/// Pools of the table below.
fn pools() -> Vec<(&'static str, Value)> {
    let only = |spec: Value| spec;
    vec![
        ("open", at(&["10.0.0.1-10.0.0.2"])),
        ("other", at(&["10.0.1.1/32"])),
        (
            "manual",
            json!({"addresses": ["10.0.2.0/24"], "autoAssign": false}),
        ),
        (
            "team",
            only(
                json!({"addresses": ["10.0.3.0/24"], "serviceAllocation": {"priority": 20, "namespaces": ["team"]}}),
            ),
        ),
        (
            "team-first",
            only(
                json!({"addresses": ["10.0.4.1/32"], "serviceAllocation": {"priority": 10, "namespaces": ["team"]}}),
            ),
        ),
        (
            "web",
            only(json!({"addresses": ["10.0.5.0/24"], "avoidBuggyIPs": true,
            "serviceAllocation": {"serviceSelectors": [{"matchLabels": {"app": "web"}}]}})),
        ),
        (
            "labelled",
            only(json!({"addresses": ["10.0.6.0/24"],
            "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]}})),
        ),
        ("six", at(&["2001:db8::/126"])),
    ]
}

#[test]
fn where_an_address_comes_from() {
    type Case = (&'static str, Service, Result<&'static str, &'static str>);
    let cases: Vec<Case> = vec![
        ("the lowest of the first open pool", service("a"), Ok("10.0.0.1")),
        ("a pool by name", service("a").pool("other"), Ok("10.0.1.1")),
        (
            "a pool by name, although it does not assign by itself",
            service("a").pool("manual"),
            Ok("10.0.2.0"),
        ),
        (
            "an unknown pool",
            service("a").pool("none"),
            Err("no valid IPAddressPool none"),
        ),
        (
            "a pool of another family",
            service("a").pool("six"),
            Err("pool six has no IPv4 addresses"),
        ),
        ("an address", service("a").ips("10.0.0.2"), Ok("10.0.0.2")),
        (
            "an address of a pool that does not assign by itself",
            service("a").ips("10.0.2.9"),
            Ok("10.0.2.9"),
        ),
        (
            "an address in no pool",
            service("a").ips("10.9.9.9"),
            Err("10.9.9.9 is in no IPAddressPool"),
        ),
        (
            "an address and its pool",
            service("a").ips("10.0.0.2").pool("open"),
            Ok("10.0.0.2"),
        ),
        (
            "an address and another pool",
            service("a").ips("10.0.0.2").pool("other"),
            Err("belongs to pool open"),
        ),
        (
            "an address of the wrong family",
            service("a").ips("2001:db8::1"),
            Err("the service is IPv4"),
        ),
        (
            "two addresses",
            service("a").ips("10.0.0.1,2001:db8::1"),
            Err("the service is IPv4"),
        ),
        (
            "an avoided address",
            service("a").label("app", "web").ips("10.0.5.0"),
            Err("avoidBuggyIPs"),
        ),
        (
            "nonsense",
            service("a").ips("10.0.0"),
            Err("\"10.0.0\", which is not an IP address"),
        ),
        ("by namespace, by priority", service("team/a"), Ok("10.0.4.1")),
        (
            "the other pool of the namespace by name",
            service("team/a").pool("team"),
            Ok("10.0.3.0"),
        ),
        (
            "a pool of another namespace by name",
            service("a").pool("team"),
            Err("does not admit"),
        ),
        (
            "an address of a pool of another namespace",
            service("a").ips("10.0.3.7"),
            Err("does not admit"),
        ),
        (
            "by service label, avoiding .0",
            service("a").label("app", "web"),
            Ok("10.0.5.1"),
        ),
        ("by namespace label", service("gold/a"), Ok("10.0.6.0")),
        (
            "a namespace selector that matches nothing opens nothing",
            service("a").pool("labelled"),
            Err("does not admit"),
        ),
        (
            "IPv6 by ClusterIP",
            service("a").cluster_ips(&["fd00::1"]),
            Ok("2001:db8::"),
        ),
    ];
    for (title, service, expected) in cases {
        let mut cluster = Cluster::new(&pools());
        cluster.namespace("gold", &[("tier", "gold")]);
        let name = service.request.id.to_string();
        cluster.apply(service);
        let events = cluster.take_events();
        match expected {
            Ok(ip) => {
                assert_eq!(cluster.has(&name), ip, "{title}");
                assert!(
                    events.len() == 1 && events[0].starts_with("IPAllocated"),
                    "{title}: {events:?}"
                );
                assert_eq!(cluster.take_writes(), 1, "{title}");
            }
            Err(hint) => {
                assert_eq!(cluster.has(&name), "", "{title}");
                let told = events.len() == 1
                    && events[0].starts_with("AllocationFailed")
                    && events[0].contains(hint);
                assert!(told, "{title}: {events:?}");
                assert_eq!(cluster.take_writes(), 0, "{title}");
            }
        }
    }
}

#[test]
fn pools_are_used_up_in_order_and_the_event_names_each() {
    let mut cluster = Cluster::new(&pools());
    let names = ["a", "b", "c", "x"];
    for name in names {
        cluster.apply(service(name));
    }
    assert_eq!(cluster.have(&names), ["10.0.0.1", "10.0.0.2", "10.0.1.1", ""]);
    let events = cluster.take_events();
    let failed = events.last().expect("an Event");
    assert!(
        failed.starts_with("AllocationFailed d/x: Failed to allocate an IP for d/x: no available IPs"),
        "{failed}"
    );
    assert!(
        failed.contains("serviceAllocation of pool labelled does not admit"),
        "{failed}"
    );
    assert!(failed.contains("pool manual has autoAssign false"), "{failed}");
}

#[test]
fn reserved_pools_come_before_open_ones_and_spill_over() {
    let mut cluster = Cluster::new(&[
        ("open", at(&["10.0.0.0/24"])),
        (
            "mine",
            json!({"addresses": ["10.0.1.1/32"], "serviceAllocation": {"namespaces": ["d"]}}),
        ),
        (
            "all",
            json!({"addresses": ["10.0.2.1/32"], "serviceAllocation": {"priority": 1}}),
        ),
    ]);
    for name in ["a", "b", "c"] {
        cluster.apply(service(name));
    }
    assert_eq!(
        cluster.have(&["a", "b", "c"]),
        ["10.0.2.1", "10.0.1.1", "10.0.0.0"]
    );
}

#[test]
fn wanted_addresses() {
    let list = |texts: &[&str]| Ok(texts.iter().map(|text| super::ip(text)).collect::<Vec<_>>());
    for (annotation, field, expected) in [
        (None, None, list(&[])),
        (Some(""), Some(""), list(&[])),
        (Some("10.0.0.1"), None, list(&["10.0.0.1"])),
        (
            Some(" 10.0.0.1 , 2001:db8::1"),
            Some(""),
            list(&["10.0.0.1", "2001:db8::1"]),
        ),
        (Some("::ffff:10.0.0.1"), None, list(&["10.0.0.1"])),
        (None, Some("10.0.0.1"), list(&["10.0.0.1"])),
        (Some("10.0.0.1"), Some("10.0.0.1"), Err(WantedIpsError::Twice)),
        (
            Some("10.0.0.1,"),
            None,
            Err(WantedIpsError::Annotation(String::new())),
        ),
        (
            Some("10.0.0.1,10.0.0.2"),
            None,
            Err(WantedIpsError::SameFamily(metallb_model::Family::V4)),
        ),
        (
            None,
            Some("10.0.0.1,10.0.0.2"),
            Err(WantedIpsError::Field("10.0.0.1,10.0.0.2".to_owned())),
        ),
        (None, Some("web"), Err(WantedIpsError::Field("web".to_owned()))),
    ] {
        assert_eq!(
            wanted_ips(annotation, field),
            expected,
            "{annotation:?} {field:?}"
        );
    }
}
