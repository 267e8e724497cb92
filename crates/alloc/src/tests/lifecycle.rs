use serde_json::json;

use super::{Cluster, Wishes, at, id, ip, service};
use crate::{ClassPolicy, Input, World};

#[test]
fn exhaustion_is_told_once_and_the_oldest_waiting_service_is_served_first() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.2"]))]);
    for (name, created) in [("a", 1), ("b", 2), ("young", 9), ("old", 3)] {
        cluster.apply(service(name).created(created));
    }
    let failed = |events: &[String]| {
        events
            .iter()
            .filter(|event| event.starts_with("AllocationFailed"))
            .count()
    };
    assert_eq!(failed(&cluster.take_events()), 2);
    cluster.apply(service("young").created(9).label("touched", "yes"));
    assert_eq!(failed(&cluster.take_events()), 0, "told once");
    // A newcomer in the same moment does not overtake.
    cluster.put(service("new").created(20));
    cluster.delete("b");
    assert_eq!(cluster.have(&["old", "young", "new"]), ["10.0.0.2", "", ""]);
    cluster.configure(&[("p", at(&["10.0.0.1-10.0.0.2"])), ("q", at(&["10.1.0.1/32"]))]);
    assert_eq!(cluster.have(&["young", "new"]), ["10.1.0.1", ""]);
}

#[test]
fn restart_changes_nothing() {
    let pools = [
        ("p", at(&["10.0.0.1-10.0.0.9"])),
        ("q", at(&["10.1.0.0/24", "2001:db8::/64"])),
    ];
    let mut cluster = Cluster::new(&pools);
    for name in ["a", "b", "c", "e"] {
        cluster.apply(service(name));
    }
    cluster.apply(service("shared-1").shares("k", &["TCP/1"]).pool("q"));
    cluster.apply(service("shared-2").shares("k", &["TCP/2"]).pool("q"));
    cluster.delete("b");
    // Asks for nothing any more; the address stays.
    cluster.apply(service("named").ips("10.0.0.7"));
    cluster.apply(service("named"));
    let names = ["a", "c", "e", "shared-1", "shared-2", "named"];
    let before = cluster.have(&names);
    assert_eq!(
        before,
        [
            "10.0.0.1", "10.0.0.3", "10.0.0.4", "10.1.0.0", "10.1.0.0", "10.0.0.7"
        ]
    );
    cluster.take_events();
    cluster.take_writes();
    cluster.restart();
    assert_eq!(cluster.have(&names), before);
    assert_eq!((cluster.take_writes(), cluster.take_events()), (0, vec![]));
}

#[test]
fn services_with_an_address_come_before_waiting_ones_after_a_restart() {
    let mut cluster = Cluster::new(&[]);
    // The waiting service is older and would be the first in line.
    cluster.store(service("waiting").created(1));
    cluster.store(service("holder").created(5).has(&["10.0.0.1"], "p"));
    cluster.config = super::config(&[("p", at(&["10.0.0.1-10.0.0.2"]))]);
    cluster.restart();
    assert_eq!(cluster.have(&["waiting", "holder"]), ["10.0.0.2", "10.0.0.1"]);
}

#[test]
fn pools_change_under_services() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.4"]))]);
    for name in ["a", "b", "c"] {
        cluster.apply(service(name));
    }
    cluster.take_events();
    cluster.take_writes();
    // Renamed and split: every address is still there.
    cluster.configure(&[
        ("q", at(&["10.0.0.1-10.0.0.2"])),
        ("r", at(&["10.0.0.3-10.0.0.4"])),
    ]);
    assert_eq!(
        cluster.have(&["a", "b", "c"]),
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    );
    assert_eq!(cluster.take_events(), Vec::<String>::new());
    assert_eq!(cluster.take_writes(), 3, "the annotation names the new pool");
    // Shrunk: who is outside moves, or waits.
    cluster.configure(&[("q", at(&["10.0.0.2-10.0.0.3"]))]);
    assert_eq!(cluster.have(&["a", "b", "c"]), ["", "10.0.0.2", "10.0.0.3"]);
    let events = cluster.take_events();
    assert!(
        events[0].starts_with("ClearAssignment d/a: Took back 10.0.0.1: 10.0.0.1 is in no"),
        "{events:?}"
    );
    assert!(events[1].starts_with("AllocationFailed d/a"), "{events:?}");
    // Gone altogether.
    cluster.configure(&[]);
    assert_eq!(cluster.have(&["a", "b", "c"]), ["", "", ""]);
    cluster.configure(&[("z", at(&["10.9.0.1-10.9.0.3"]))]);
    assert_eq!(
        cluster.have(&["a", "b", "c"]),
        ["10.9.0.1", "10.9.0.2", "10.9.0.3"]
    );
}

#[test]
fn rules_of_a_pool_change_under_services() {
    let open = || ("p", at(&["10.0.0.0/30"]));
    let mut cluster = Cluster::new(&[open()]);
    for name in ["a", "team/b"] {
        cluster.apply(service(name));
    }
    assert_eq!(cluster.have(&["a", "team/b"]), ["10.0.0.0", "10.0.0.1"]);
    cluster.configure(&[("p", json!({"addresses": ["10.0.0.0/30"], "autoAssign": false}))]);
    assert_eq!(cluster.has("a"), "10.0.0.0", "autoAssign is about new services");
    cluster.configure(&[(
        "p",
        json!({"addresses": ["10.0.0.0/30"], "serviceAllocation": {"namespaces": ["team"]}}),
    )]);
    assert_eq!(cluster.have(&["a", "team/b"]), ["", "10.0.0.1"]);
    cluster.configure(&[(
        "p",
        json!({"addresses": ["10.0.0.0/30"],
        "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]}}),
    )]);
    assert_eq!(cluster.have(&["a", "team/b"]), ["", ""]);
    cluster.namespace("d", &[("tier", "gold")]);
    assert_eq!(cluster.have(&["a", "team/b"]), ["10.0.0.0", ""]);
    cluster.namespace("d", &[("tier", "iron")]);
    cluster.namespace("team", &[("tier", "gold")]);
    assert_eq!(cluster.have(&["a", "team/b"]), ["", "10.0.0.0"]);
    cluster.configure(&[("p", json!({"addresses": ["10.0.0.0/30"], "avoidBuggyIPs": true}))]);
    assert_eq!(cluster.have(&["a", "team/b"]), ["10.0.0.2", "10.0.0.1"]);
}

#[test]
fn wishes_change() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"])), ("q", at(&["10.1.0.0/24"]))]);
    cluster.apply(service("other").ips("10.0.0.5"));
    cluster.apply(service("a"));
    assert_eq!(cluster.has("a"), "10.0.0.1");
    for (title, wish, expected) in [
        ("another address", service("a").ips("10.0.0.4"), "10.0.0.4"),
        ("no wish any more", service("a"), "10.0.0.4"),
        ("its own pool", service("a").pool("p"), "10.0.0.4"),
        ("another pool", service("a").pool("q"), "10.1.0.0"),
        ("an address that is taken", service("a").ips("10.0.0.5"), ""),
        ("nothing again", service("a"), "10.0.0.1"),
        (
            "nonsense: what it has stays",
            service("a").ips("junk"),
            "10.0.0.1",
        ),
    ] {
        cluster.apply(wish);
        assert_eq!(cluster.has("a"), expected, "{title}");
    }
    let events = cluster.take_events();
    let last = events.last().expect("an Event");
    assert!(
        last.starts_with("LoadBalancerFailed d/a") && last.contains("the present address stays"),
        "{last}"
    );
}

#[test]
fn no_load_balancer_any_more() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1/32"]))]);
    cluster.apply(service("a"));
    cluster.apply(service("b"));
    let mut plain = service("a");
    plain.load_balancer = false;
    cluster.apply(plain.clone());
    assert_eq!(cluster.have(&["a", "b"]), ["", "10.0.0.1"]);
    assert_eq!(
        cluster.stored[&id("a")].recorded_pool,
        None,
        "the annotation goes too"
    );
    assert_eq!(cluster.world.len(), 1, "it is not kept in mind");
    cluster.take_writes();
    cluster.apply(plain);
    assert_eq!(cluster.take_writes(), 0);
}

#[test]
fn deleted_and_created_again_unseen() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.apply(service("a"));
    cluster.apply(service("b"));
    let mut again = service("a").ips("10.0.0.7");
    again.uid = "another".into();
    cluster.apply(again);
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.7", "10.0.0.2"]);
    // A list that does not show it ends it.
    cluster.stored.remove(&id("a"));
    cluster.world.handle(Input::ListStarted);
    cluster
        .world
        .handle(Input::Listed(Box::new(cluster.stored[&id("b")].clone())));
    cluster.world.handle(Input::ListDone);
    cluster.settle();
    assert_eq!(cluster.counters("p").assigned_v4, 1);
}

#[test]
fn services_of_other_classes_are_left_alone() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24"]))]);
    let mut classed = service("classed");
    classed.class = Some("example.org/other".to_owned());
    cluster.store(classed);
    cluster.settle();
    assert_eq!((cluster.take_writes(), cluster.take_events()), (0, vec![]));
}

#[test]
fn an_address_of_ours_without_our_mark_is_taken_over() {
    // Old releases wrote no annotation.
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24"]))]);
    let mut old = service("old");
    old.ingress = vec![ip("10.0.0.77")];
    cluster.store(old);
    cluster.settle();
    assert_eq!(cluster.has("old"), "10.0.0.77");
    assert_eq!(
        (cluster.take_writes(), cluster.take_events()),
        (1, vec![]),
        "the annotation is added"
    );
}

#[test]
fn a_status_that_somebody_empties_or_overwrites() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24"]))]);
    cluster.apply(service("a").created(9));
    cluster.apply(service("b").created(1));
    let mut emptied = cluster.stored[&id("a")].clone();
    emptied.ingress.clear();
    emptied.recorded_pool = None;
    cluster.store(emptied);
    cluster.settle();
    assert_eq!(cluster.has("a"), "10.0.0.0", "written again");
    for (title, written, expected) in [
        ("a free address of the pool is accepted", "10.0.0.9", "10.0.0.9"),
        ("an address of another service is not", "10.0.0.1", "10.0.0.9"),
        ("an address in no pool is not", "203.0.113.7", "10.0.0.9"),
    ] {
        let mut overwritten = cluster.stored[&id("a")].clone();
        overwritten.ingress = vec![ip(written)];
        cluster.store(overwritten);
        cluster.settle();
        assert_eq!(cluster.has("a"), expected, "{title}");
    }
}

#[test]
fn stale_news_is_ignored() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24"]))]);
    cluster.put(service("a"));
    let stale = cluster.stored[&id("a")].clone();
    cluster.settle();
    cluster.take_writes();
    cluster.world.handle(Input::Applied(Box::new(stale)));
    cluster.settle();
    assert_eq!(cluster.take_writes(), 0);
}

#[test]
fn a_deprecated_annotation_is_told_when_it_appears_not_at_every_start() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24"]))]);
    let mut old = service("a").pool("p");
    old.deprecated_annotations =
        "metallb.io/address-pool instead of metallb.universe.tf/address-pool".to_owned();
    old.deprecated_record = true;
    cluster.apply(old);
    let events = cluster.take_events();
    assert!(
        events[0].starts_with("deprecatedAnnotation d/a: ") && events[0].contains("metallb.io/"),
        "{events:?}"
    );
    assert!(
        !cluster.stored[&id("a")].deprecated_record,
        "the old record goes with the write"
    );
    cluster.restart();
    assert_eq!(cluster.take_events(), Vec::<String>::new());
}

#[test]
fn classes() {
    let policy = |class: Option<&str>, classless_too| ClassPolicy {
        class: class.map(str::to_owned),
        classless_too,
    };
    for (ours, class, expected) in [
        (policy(None, false), None, true),
        (policy(None, false), Some("x"), false),
        (policy(Some("x"), false), Some("x"), true),
        (policy(Some("x"), false), Some("y"), false),
        (policy(Some("x"), false), None, false),
        (policy(Some("x"), true), None, true),
        (policy(Some("x"), true), Some("x"), true),
        (policy(Some("x"), true), Some("y"), false),
    ] {
        assert_eq!(ours.admits(class), expected, "{ours:?} {class:?}");
    }
    let mut world = World::new(policy(Some("x"), false));
    world.handle(Input::Applied(Box::new(service("a"))));
    assert!(world.is_empty(), "what is not ours is not kept in mind");
}
