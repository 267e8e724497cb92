//! Two processes that both believe to lead, for a moment.

use super::{Cluster, Wishes, at, id, ip, service};
use crate::Input;

#[test]
fn of_two_services_with_one_address_the_older_keeps_it() {
    for young_first in [false, true] {
        let mut cluster = Cluster::new(&[]);
        let old = service("old").created(1).has(&["10.0.0.1"], "p");
        let young = service("young").created(2).has(&["10.0.0.1"], "p");
        let both = if young_first { [young, old] } else { [old, young] };
        for service in both {
            cluster.store(service);
        }
        cluster.config = super::config(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
        cluster.restart();
        assert_eq!(cluster.have(&["old", "young"]), ["10.0.0.1", "10.0.0.2"]);
        let events = cluster.take_events();
        assert!(
            events[0].starts_with("ClearAssignment d/young") && events[0].contains("d/old"),
            "{events:?}"
        );
    }
}

#[test]
fn a_deposed_leader_writes_late() {
    for (title, old_is_late) in [
        ("into the younger service", false),
        ("into the older service", true),
    ] {
        let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
        let (first, late) = if old_is_late {
            ("young", "old")
        } else {
            ("old", "young")
        };
        let made = |name: &str| service(name).created(if name == "old" { 1 } else { 2 });
        cluster.apply(made(first));
        assert_eq!(cluster.has(first), "10.0.0.1");
        // The other service appears with the same address in its status before this leader has decided for it.
        cluster.store(made(late).has(&["10.0.0.1"], "p"));
        cluster.settle();
        assert_eq!(
            cluster.have(&["old", "young"]),
            ["10.0.0.1", "10.0.0.2"],
            "{title}"
        );
    }
}

#[test]
fn a_deposed_leader_writes_over_what_this_one_wrote() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.apply(service("old").created(1));
    cluster.apply(service("young").created(2));
    let mut overwritten = cluster.stored[&id("old")].clone();
    overwritten.ingress = vec![ip("10.0.0.2")];
    cluster.store(overwritten);
    cluster.settle();
    assert_eq!(
        cluster.have(&["old", "young"]),
        ["10.0.0.2", "10.0.0.1"],
        "the older service keeps what it has"
    );
}

#[test]
fn a_conflict_adopts_what_the_other_leader_gave() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.put(service("a"));
    // This one decides, but another writes first; the refused write reads the service again.
    for output in cluster.world.drain() {
        cluster.note(output);
    }
    let mut theirs = cluster.stored[&id("a")].clone().has(&["10.0.0.5"], "p");
    theirs.resource_version = "77".into();
    cluster.version = 77;
    cluster.stored.insert(id("a"), theirs);
    cluster.write(&id("a"));
    cluster.settle();
    assert_eq!(cluster.has("a"), "10.0.0.5");
    assert_eq!(cluster.take_writes(), 0);
}

#[test]
fn leadership_comes_and_goes() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.2"]))]);
    cluster.apply(service("a"));
    cluster.world.handle(Input::Leading(false));
    assert_eq!(cluster.world.drain(), []);
    assert_eq!(cluster.world.status_write(&id("a")), None);
    // Meanwhile another leader moves things.
    cluster.store(service("a").has(&["10.0.0.2"], "p"));
    cluster.store(service("b"));
    assert_eq!(cluster.world.drain(), []);
    cluster.world.handle(Input::Leading(true));
    cluster.settle();
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.2", "10.0.0.1"]);
}

#[test]
fn what_a_reply_shows_ahead_of_the_watch_is_not_overruled_yet() {
    // This leader was away: it does not know that the address of "moved" was given to "a" meanwhile.
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.apply(service("moved").created(1));
    cluster.put(service("a").created(2));
    for output in cluster.world.drain() {
        cluster.note(output);
    }
    let mut theirs = cluster.stored[&id("a")].clone().has(&["10.0.0.1"], "p");
    theirs.resource_version = "77".into();
    cluster.stored.insert(id("a"), theirs.clone());
    cluster.version = 77;
    cluster.world.handle(Input::Read(Box::new(theirs.clone())));
    assert_eq!(cluster.world.drain(), []);
    assert_eq!(cluster.world.status_write(&id("a")), None);
    // The watch catches up.
    let mut moved = cluster.stored[&id("moved")].clone().has(&["10.0.0.2"], "p");
    moved.resource_version = "76".into();
    cluster.stored.insert(id("moved"), moved.clone());
    cluster.world.handle(Input::Applied(Box::new(moved)));
    cluster.world.handle(Input::Applied(Box::new(theirs)));
    cluster.settle();
    assert_eq!(cluster.have(&["moved", "a"]), ["10.0.0.2", "10.0.0.1"]);
    assert_eq!(cluster.take_writes(), 1, "only the one at the beginning");
}

#[test]
fn who_makes_room_keeps_its_other_address() {
    // Each of two dual-stack services has one address of its own and was meant to get the other's.
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1/32", "2001:db8::1/128"]))]);
    let dual = |name: &str, ip: &str| {
        service(name)
            .cluster_ips(&["10.96.0.1", "fd00::1"])
            .policy(crate::FamilyPolicy::PreferDualStack)
            .has(&[ip], "p")
    };
    cluster.store(dual("a", "10.0.0.1").created(2));
    for output in cluster.world.drain() {
        cluster.note(output);
    }
    cluster.store(dual("b", "2001:db8::1").created(1));
    cluster.settle();
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.1", "2001:db8::1"]);
}
