//! Lines of the service contract that the other tables do not reach.

use super::{Cluster, Wishes, at, id, ip, service};
use crate::FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
use crate::{ClassPolicy, Input, Policy, Service};

const BOTH: &[&str] = &["10.96.0.1", "fd00::1"];

fn dual(name: &str, policy: crate::FamilyPolicy) -> Service {
    service(name).cluster_ips(BOTH).policy(policy)
}

fn both() -> Vec<(&'static str, serde_json::Value)> {
    vec![("p", at(&["10.0.0.1-10.0.0.9", "2001:db8::1-2001:db8::9"]))]
}

#[test]
fn one_family_is_renumbered_and_the_other_stays() {
    for policy in [PreferDualStack, RequireDualStack] {
        let mut cluster = Cluster::new(&both());
        cluster.apply(service("first"));
        cluster.apply(dual("a", policy));
        cluster.delete("first");
        assert_eq!(cluster.has("a"), "10.0.0.2,2001:db8::1");
        cluster.take_events();
        cluster.configure(&[("p", at(&["10.0.0.1-10.0.0.9", "2001:db8:1::/64"]))]);
        assert_eq!(cluster.has("a"), "10.0.0.2,2001:db8:1::", "{policy:?}");
        let events = cluster.take_events();
        assert!(
            events[0].starts_with("ClearAssignment d/a: Took back 2001:db8::1:"),
            "{events:?}"
        );
        assert!(
            events[1].starts_with("IPAllocated d/a: Assigned additional IP 2001:db8:1:: from pool p"),
            "{events:?}"
        );
    }
}

#[test]
fn a_pool_loses_one_family() {
    for (policy, expected) in [(PreferDualStack, "10.0.0.2"), (RequireDualStack, "")] {
        let mut cluster = Cluster::new(&both());
        cluster.apply(service("first"));
        cluster.apply(dual("a", policy));
        cluster.delete("first");
        cluster.configure(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
        assert_eq!(cluster.has("a"), expected, "{policy:?}");
        cluster.restart();
        assert_eq!(cluster.has("a"), expected, "{policy:?}");
    }
}

#[test]
fn a_pool_is_split_by_family() {
    let split = || {
        vec![
            ("four", at(&["10.0.0.1-10.0.0.9"])),
            ("six", at(&["2001:db8::1-2001:db8::9"])),
        ]
    };
    for (title, prefers_v6, expected) in [
        ("IPv4 is preferred", false, "10.0.0.2"),
        ("IPv6 is preferred", true, "2001:db8::1"),
    ] {
        for restart in [false, true] {
            let mut cluster = Cluster::new(&both());
            cluster.apply(service("first"));
            let mut made = dual("a", PreferDualStack);
            made.request.prefers_v6 = prefers_v6;
            cluster.apply(made);
            cluster.delete("first");
            if restart {
                cluster.config = super::config(&split());
                cluster.restart();
                assert_eq!(cluster.has("a"), expected, "{title}, at a restart");
            } else {
                cluster.configure(&split());
                assert!(
                    ["10.0.0.2", "2001:db8::1"].contains(&cluster.has("a").as_str()),
                    "{title}"
                );
            }
        }
    }
}

#[test]
fn a_wish_for_one_address_is_kept_through_an_upgrade_to_two_families() {
    let mut cluster = Cluster::new(&both());
    cluster.apply(service("a").ips("10.0.0.5"));
    cluster.apply(dual("a", PreferDualStack).ips("10.0.0.5"));
    assert_eq!(cluster.has("a"), "10.0.0.5");
    let events = cluster.take_events();
    assert!(
        events[1].starts_with("AdditionalAssignFailed d/a: ")
            && events[1].contains("one address is asked for"),
        "{events:?}"
    );
    cluster.apply(dual("a", PreferDualStack).ips("10.0.0.5").label("touched", "yes"));
    cluster.restart();
    assert_eq!(cluster.has("a"), "10.0.0.5");
    cluster.apply(dual("a", PreferDualStack).ips("10.0.0.5,2001:db8::5"));
    assert_eq!(cluster.has("a"), "10.0.0.5,2001:db8::5");
}

#[test]
fn more_addresses_than_families() {
    // The one that it has stays, wherever somebody puts the other.
    for named in [["10.0.0.1", "10.0.0.7"], ["10.0.0.7", "10.0.0.1"]] {
        let mut cluster = Cluster::new(&both());
        cluster.apply(service("a"));
        let mut edited = cluster.stored[&id("a")].clone();
        edited.ingress = named.map(ip).to_vec();
        cluster.take_events();
        cluster.store(edited);
        cluster.settle();
        assert_eq!(cluster.has("a"), "10.0.0.1", "{named:?}");
        let events = cluster.take_events();
        assert!(
            events.len() == 1 && events[0].starts_with("nolbIPsIPFamily d/a: Took back 10.0.0.7"),
            "{events:?}"
        );
    }
}

#[test]
fn a_dual_service_whose_one_address_is_taken_keeps_the_other() {
    let mut cluster = Cluster::new(&both());
    cluster.store(service("old").created(1).has(&["10.0.0.1"], "p"));
    cluster.store(
        dual("young", PreferDualStack)
            .created(2)
            .has(&["10.0.0.1", "2001:db8::7"], "p"),
    );
    cluster.restart();
    assert_eq!(
        cluster.have(&["old", "young"]),
        ["10.0.0.1", "2001:db8::7,10.0.0.2"]
    );
}

#[test]
fn the_answer_to_a_write_does_not_bring_a_deleted_service_back() {
    let mut cluster = Cluster::new(&both());
    cluster.apply(service("a"));
    let answer = cluster.stored[&id("a")].clone();
    cluster.delete("a");
    cluster.world.handle(Input::Applied(Box::new(answer.clone())));
    cluster.settle();
    assert_eq!((cluster.world.len(), cluster.counters("p").assigned_v4), (0, 0));
    // Deleted unseen, while the watch was away: the answer comes during the list or after it.
    for during in [true, false] {
        cluster.apply(service("b"));
        cluster.apply(service("newer"));
        let answer = cluster.stored.remove(&id("b")).expect("stored");
        *cluster.lives.entry(id("b")).or_default() += 1;
        let newer = cluster.stored[&id("newer")].clone();
        cluster.world.handle(Input::ListStarted);
        if during {
            cluster.world.handle(Input::Applied(Box::new(answer.clone())));
        }
        cluster.world.handle(Input::Listed(Box::new(newer)));
        cluster.world.handle(Input::ListDone);
        cluster.world.handle(Input::Applied(Box::new(answer)));
        cluster.settle();
        assert_eq!((cluster.world.len(), cluster.counters("p").assigned_v4), (1, 1));
        cluster.delete("newer");
    }
    cluster.apply(service("c"));
    assert_eq!(cluster.has("c"), "10.0.0.1");
}

#[test]
fn news_about_two_objects_of_one_name_cross() {
    let mut cluster = Cluster::new(&both());
    cluster.apply(service("a"));
    let old = cluster.stored[&id("a")].clone();
    let gone = Input::Gone {
        service: id("a"),
        uid: old.uid.clone(),
    };
    // A refused write reads the new object before the watch has told of the old one's end.
    let mut new = service("a").ips("10.0.0.5");
    new.uid = "another".into();
    cluster.apply(new);
    for late in [Input::Applied(Box::new(old)), gone] {
        cluster.world.handle(late);
        cluster.settle();
        assert_eq!((cluster.has("a").as_str(), cluster.world.len()), ("10.0.0.5", 1));
        assert_eq!(cluster.counters("p").assigned_v4, 1);
    }
    // And one that was made after the list that does not show it.
    cluster.world.handle(Input::ListStarted);
    cluster.world.handle(Input::ListDone);
    let new = cluster.stored[&id("a")].clone();
    cluster.world.handle(Input::Applied(Box::new(new)));
    cluster.settle();
    assert_eq!(cluster.world.len(), 1);
}

#[test]
fn deprecated_annotations_are_told_with_the_first_write() {
    let old = || {
        let mut old = service("a");
        old.deprecated_annotations = "metallb.io/address-pool instead of another".to_owned();
        old
    };
    let told = |cluster: &mut Cluster| {
        let events = cluster.take_events();
        events
            .iter()
            .filter(|event| event.starts_with("deprecatedAnnotation"))
            .count()
    };
    // It was made while no allocator ran.
    let mut cluster = Cluster::new(&[]);
    cluster.stored.insert(id("a"), old());
    cluster.restart();
    assert_eq!(told(&mut cluster), 0, "nothing was written");
    cluster.configure(&both());
    assert_eq!((cluster.has("a").as_str(), told(&mut cluster)), ("10.0.0.1", 1));
    cluster.configure(&[("q", at(&["10.5.0.0/24"]))]);
    assert_eq!(
        (cluster.has("a").as_str(), told(&mut cluster)),
        ("10.5.0.0", 0),
        "told once"
    );
}

#[test]
fn a_claim_that_is_not_granted_moves_nobody() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"])), ("q", at(&["10.1.0.0/24"]))]);
    cluster.apply(service("old").created(1).pool("q"));
    cluster.apply(service("young").created(2));
    cluster.take_writes();
    for claimed in ["10.0.0.1", "10.0.0.5"] {
        let mut overwritten = cluster.stored[&id("old")].clone();
        overwritten.ingress = vec![ip(claimed)];
        cluster.store(overwritten);
        cluster.settle();
        assert_eq!(cluster.have(&["old", "young"]), ["10.1.0.0", "10.0.0.1"]);
        assert_eq!(cluster.take_writes(), 1, "only the status that was overwritten");
    }
}

#[test]
fn classes_over_a_life() {
    let policy = Policy {
        classes: ClassPolicy {
            class: Some("example.org/ours".to_owned()),
            classless_too: true,
        },
        ..Policy::default()
    };
    let classed = |name: &str, class: Option<&str>| {
        let mut made = service(name);
        made.class = class.map(str::to_owned);
        made
    };
    let mut cluster = Cluster::with(policy, &both());
    for (name, class, expected) in [
        ("classless", None, "10.0.0.1"),
        ("ours", Some("example.org/ours"), "10.0.0.2"),
        ("theirs", Some("example.org/theirs"), ""),
    ] {
        cluster.apply(classed(name, class));
        assert_eq!(cluster.has(name), expected, "{name}");
    }
    cluster.apply(classed("classless", Some("example.org/ours")));
    assert_eq!(cluster.has("classless"), "10.0.0.1", "both classes are ours");
    cluster.apply(classed("theirs", None));
    assert_eq!(cluster.has("theirs"), "10.0.0.3");
    // Through another type and back, as the API server asks for it.
    let mut plain = service("ours");
    plain.load_balancer = false;
    cluster.apply(plain);
    assert_eq!(cluster.has("ours"), "");
    cluster.apply(classed("ours", Some("example.org/theirs")));
    assert_eq!(cluster.has("ours"), "");
    assert_eq!(cluster.world.len(), 2);
}

#[test]
fn no_cluster_ip() {
    let mut cluster = Cluster::new(&both());
    cluster.apply(service("a").cluster_ips(&[]));
    assert_eq!((cluster.has("a").as_str(), cluster.take_events()), ("", vec![]));
    cluster.apply(service("a"));
    assert_eq!(cluster.has("a"), "10.0.0.1");
    cluster.apply(service("a").cluster_ips(&[]).policy(SingleStack));
    assert_eq!(cluster.has("a"), "");
}

#[test]
fn priorities() {
    let pool = |priority: i64, last: u8| {
        serde_json::json!({"addresses": [format!("10.0.{last}.1/32")],
            "serviceAllocation": {"priority": priority, "namespaces": ["d"]}})
    };
    let mut cluster = Cluster::new(&[
        ("a-unset", pool(0, 1)),
        ("b-late", pool(50, 2)),
        ("c-first", pool(1, 3)),
        ("d-open", at(&["10.0.4.1/32"])),
        ("e-late", pool(50, 5)),
    ]);
    let names: Vec<String> = (0..6).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        cluster.apply(service(name));
    }
    assert_eq!(
        cluster.have(&names),
        ["10.0.3.1", "10.0.2.1", "10.0.5.1", "10.0.1.1", "10.0.4.1", ""]
    );
}
