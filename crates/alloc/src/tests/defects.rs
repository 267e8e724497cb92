//! Defects of the Go version, each with the story that shows it.

use serde_json::json;

use super::{Cluster, Wishes, at, id, ip, service};
use crate::{ClassPolicy, FamilyPolicy, Input, Policy, Service};

/// A selector that matches no namespace leaves an empty set there, and an empty set restricts nothing.
#[test]
fn defect_of_the_go_version_a_selector_that_matches_nothing_opens_the_pool() {
    let gold = |more: serde_json::Value| {
        let mut allocation = json!({"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]});
        for (key, value) in more.as_object().into_iter().flatten() {
            allocation[key] = value.clone();
        }
        [(
            "p",
            json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": allocation}),
        )]
    };
    for (title, pools, asks) in [
        ("by the pool's name", gold(json!({})), service("a").pool("p")),
        ("by address", gold(json!({})), service("a").ips("10.0.0.7")),
        (
            "through a service selector",
            gold(json!({"serviceSelectors": [{"matchLabels": {"app": "web"}}]})),
            service("a").label("app", "web"),
        ),
    ] {
        let mut cluster = Cluster::new(&pools);
        cluster.apply(asks);
        assert_eq!(cluster.has("a"), "", "{title}");
        cluster.namespace("d", &[("tier", "gold")]);
        assert_ne!(cluster.has("a"), "", "{title}: the namespace is gold now");
        cluster.namespace("d", &[]);
        assert_eq!(cluster.has("a"), "", "{title}: and now it is not");
    }
}

/// Every service of type LoadBalancer whose address is in no pool is cleared, and all of them when there is no pool.
#[test]
fn defect_of_the_go_version_the_status_of_other_load_balancers_services_is_cleared() {
    let theirs = || {
        let mut by_ip = service("by-ip");
        by_ip.ingress = vec![ip("203.0.113.7")];
        let mut by_name = service("by-name");
        by_name.other_ingress = true;
        let mut mixed = service("mixed");
        mixed.ingress = vec![ip("203.0.113.8"), ip("2001:db8::8")];
        [by_ip, by_name, mixed]
    };
    let mut cluster = Cluster::new(&[]);
    for service in theirs() {
        cluster.store(service);
    }
    cluster.settle();
    cluster.configure(&[("p", at(&["10.0.0.0/24"]))]);
    cluster.restart();
    cluster.configure(&[]);
    assert_eq!((cluster.take_writes(), cluster.take_events()), (0, vec![]));
    // Their controller lets go: the service is free for us.
    cluster.configure(&[("p", at(&["10.0.0.0/24"]))]);
    cluster.store(service("by-ip"));
    cluster.settle();
    assert_eq!(cluster.has("by-ip"), "10.0.0.0");
}

/// What another load balancer has left in the status of a service that asks for us is in nobody's way.
#[test]
fn a_service_that_asks_for_us_is_ours_whoever_served_it_before() {
    let policy = Policy {
        classes: ClassPolicy {
            class: Some("example.org/ours".to_owned()),
            classless_too: true,
        },
        ..Policy::default()
    };
    let left = |mut service: Service| {
        service.ingress = vec![ip("203.0.113.7")];
        service
    };
    let classed = |class: &str| {
        let mut service = service("a");
        service.class = Some(class.to_owned());
        service
    };
    for (title, stored, expected) in [
        ("by our class", classed("example.org/ours"), "10.0.0.0"),
        ("by another class", classed("example.org/theirs"), "203.0.113.7"),
        ("by a pool", service("a").pool("p"), "10.0.0.0"),
        ("by an address of ours", service("a").ips("10.0.0.9"), "10.0.0.9"),
        (
            "by an address that is not ours",
            service("a").ips("203.0.113.7"),
            "203.0.113.7",
        ),
        ("by nothing", service("a"), "203.0.113.7"),
    ] {
        let mut cluster = Cluster::with(policy.clone(), &[("p", at(&["10.0.0.0/24"]))]);
        cluster.store(left(stored));
        cluster.settle();
        assert_eq!(cluster.has("a"), expected, "{title}");
        cluster.restart();
        assert_eq!(cluster.has("a"), expected, "{title}, after a restart");
    }
}

/// The gauge exists there and is never set.
#[test]
fn defect_of_the_go_version_services_allocated_total_is_never_set() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.2", "2001:db8::/126"]))]);
    cluster.apply(service("a").shares("k", &["TCP/1"]));
    cluster.apply(service("b").shares("k", &["TCP/2"]));
    let dual = service("c")
        .cluster_ips(&["10.96.0.1", "fd00::1"])
        .policy(FamilyPolicy::RequireDualStack);
    cluster.apply(dual);
    let counters = cluster.counters("p");
    assert_eq!(
        (counters.services, counters.assigned_v4, counters.assigned_v6),
        (3, 2, 1)
    );
    cluster.delete("a");
    assert_eq!(cluster.counters("p").services, 2);
}

fn other() -> (&'static str, serde_json::Value) {
    (
        "other",
        json!({"addresses": ["10.2.0.0/24"], "autoAssign": false}),
    )
}

/// A service that waits there is asked again when another is deleted, but not when only a port, a sharing key or an
/// address moves. Here everything that can help wakes it, and a retry by the clock is there besides.
#[test]
fn defect_of_the_go_version_a_waiting_service_misses_its_chance() {
    type Help = fn(&mut Cluster);
    let helps: [(&str, Help); 12] = [
        ("deleted", |cluster| cluster.delete("holder")),
        ("no load balancer any more", |cluster| {
            let mut plain = service("holder").shares("k", &["TCP/1"]);
            plain.load_balancer = false;
            cluster.apply(plain);
        }),
        ("another class", |cluster| {
            let mut classed = service("holder").shares("k", &["TCP/1"]);
            classed.class = Some("example.org/other".to_owned());
            cluster.apply(classed);
        }),
        ("another port", |cluster| {
            cluster.apply(service("holder").shares("k", &["TCP/2"]));
        }),
        ("moved by a wish", |cluster| {
            cluster.apply(service("holder").shares("k", &["TCP/1"]).pool("other"));
        }),
        ("a wish that cannot be met", |cluster| {
            cluster.apply(service("holder").shares("k", &["TCP/1"]).ips("192.0.2.1"));
        }),
        ("the pool grows", |cluster| {
            cluster.configure(&[("p", at(&["10.0.0.1-10.0.0.2"])), other()]);
        }),
        ("another pool opens", |cluster| {
            cluster.configure(&[("p", at(&["10.0.0.1/32"])), ("q", at(&["10.1.0.1/32"])), other()]);
        }),
        ("the namespace is admitted", |cluster| {
            cluster.namespace("d", &[("tier", "gold")]);
        }),
        ("its own wish changes", |cluster| {
            cluster.apply(service("waiting").shares("k", &["TCP/1"]).pool("other"));
        }),
        ("its own port changes", |cluster| {
            cluster.apply(service("waiting").shares("k", &["TCP/3"]));
        }),
        ("a node leaves", |cluster| {
            cluster.nodes(&[]);
        }),
    ];
    for (title, help) in helps {
        let gold = json!({"addresses": ["10.3.0.0/24"],
            "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]}});
        let pools = [
            ("p", at(&["10.0.0.1/32", "10.9.0.9/32"])),
            ("gold", gold),
            other(),
        ];
        let mut cluster = Cluster::new(&pools);
        cluster.nodes(&["10.9.0.9"]);
        cluster.apply(service("holder").shares("k", &["TCP/1"]));
        cluster.apply(service("waiting").shares("k", &["TCP/1"]));
        assert_eq!(cluster.have(&["holder", "waiting"]), ["10.0.0.1", ""], "{title}");
        help(&mut cluster);
        assert_ne!(cluster.has("waiting"), "", "{title}");
    }
}

#[test]
fn a_retry_by_the_clock_writes_and_tells_nothing_new() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1/32"]))]);
    cluster.apply(service("a"));
    cluster.apply(service("waiting"));
    cluster.take_events();
    cluster.take_writes();
    for _ in 0..3 {
        cluster.world.handle(Input::Retry);
        cluster.settle();
    }
    assert_eq!((cluster.take_writes(), cluster.take_events()), (0, vec![]));
}

/// There, a service with `PreferDualStack` on a cluster of one family gets a second address of the other family on its
/// next look, loses both on the one after, and so on.
#[test]
fn defect_of_the_go_version_prefer_dual_stack_flaps_on_a_single_stack_cluster() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9", "2001:db8::/64"]))]);
    let made = || service("a").policy(FamilyPolicy::PreferDualStack);
    cluster.apply(made());
    assert_eq!(cluster.take_writes(), 1);
    for round in 0..3 {
        cluster.apply(made().label("round", &round.to_string()));
        assert_eq!(
            (cluster.has("a").as_str(), cluster.take_writes()),
            ("10.0.0.1", 0)
        );
    }
}

/// There, a class that is set after the address was given hides the service from its cleaning.
#[test]
fn defect_of_the_go_version_a_change_of_class_leaves_the_address_in_the_status() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1/32"]))]);
    cluster.apply(service("a"));
    let classed = || {
        let mut classed = service("a");
        classed.class = Some("example.org/other".to_owned());
        classed
    };
    cluster.apply(classed());
    assert_eq!(cluster.has("a"), "");
    assert_eq!(cluster.stored[&id("a")].recorded_pool, None);
    assert!(cluster.world.is_empty());
    // What its new controller writes is its own affair, even with our mark: it may be another MetalLB.
    cluster.take_writes();
    cluster.store(classed().has(&["10.0.0.1"], "p"));
    cluster.settle();
    cluster.restart();
    assert_eq!(
        (cluster.has("a").as_str(), cluster.take_writes()),
        ("10.0.0.1", 0)
    );
}
