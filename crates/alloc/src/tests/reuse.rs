//! Fair reuse: an address that was released rests as long as there are others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::{Cluster, Wishes, at, service};
use crate::{ClassPolicy, FamilyPolicy, Policy, Reuse};

fn fair() -> Policy {
    Policy {
        classes: ClassPolicy::default(),
        reuse: Reuse::LeastRecentlyReleased,
    }
}

/// `+a` creates service a, `-a` deletes it; the table gives the last number of the address.
#[test]
fn which_address_is_next() {
    type Case = (
        &'static str,
        Reuse,
        &'static str,
        &'static [(&'static str, &'static str)],
    );
    let lowest = Reuse::LowestFree;
    let fair = Reuse::LeastRecentlyReleased;
    let cases: &[Case] = &[
        ("lowest free", lowest, "+a +b -a +c", &[("b", "2"), ("c", "1")]),
        ("never used first", fair, "+a +b -a +c", &[("b", "2"), ("c", "3")]),
        (
            "then the one that was released longest ago",
            fair,
            "+a +b +c +d -c -a -b +e +f +g",
            &[("d", "4"), ("e", "3"), ("f", "1"), ("g", "2")],
        ),
        (
            "released again counts again",
            fair,
            "+a +b +c +d -a -b +e -e +f",
            &[("f", "2")],
        ),
        (
            "the last one rests in vain",
            fair,
            "+a +b +c +d -d +e",
            &[("e", "4")],
        ),
    ];
    for (title, reuse, story, expected) in cases {
        let policy = Policy {
            reuse: *reuse,
            ..Policy::default()
        };
        let mut cluster = Cluster::with(policy, &[("p", at(&["10.0.0.1-10.0.0.4"]))]);
        for step in story.split(' ') {
            match step.split_at(1) {
                ("+", name) => cluster.apply(service(name)),
                (_, name) => cluster.delete(name),
            }
        }
        for (name, last) in *expected {
            assert_eq!(cluster.has(name), format!("10.0.0.{last}"), "{title}: {name}");
        }
    }
}

#[test]
fn ranges_are_used_up_before_anything_is_used_again() {
    let mut cluster = Cluster::with(fair(), &[("p", at(&["10.0.0.1/32", "10.0.1.0/30"]))]);
    let mut seen = Vec::new();
    for round in 0..5 {
        let name = format!("s{round}");
        cluster.apply(service(&name));
        seen.push(cluster.has(&name));
        cluster.delete(&name);
    }
    assert_eq!(seen, ["10.0.0.1", "10.0.1.0", "10.0.1.1", "10.0.1.2", "10.0.1.3"]);
    cluster.apply(service("again"));
    assert_eq!(cluster.has("again"), "10.0.0.1");
}

#[test]
fn families_rest_each_for_itself() {
    let mut cluster = Cluster::with(
        fair(),
        &[("p", at(&["10.0.0.1-10.0.0.2", "2001:db8::1-2001:db8::9"]))],
    );
    let dual = |name: &str| {
        service(name)
            .cluster_ips(&["10.96.0.1", "fd00::1"])
            .policy(FamilyPolicy::RequireDualStack)
    };
    let mut seen = Vec::new();
    for name in ["a", "b", "c"] {
        cluster.apply(dual(name));
        seen.push(cluster.has(name));
        cluster.delete(name);
    }
    assert_eq!(
        seen,
        [
            "10.0.0.1,2001:db8::1",
            "10.0.0.2,2001:db8::2",
            "10.0.0.1,2001:db8::3"
        ]
    );
}

#[test]
fn sharing_comes_before_used_addresses_and_rest_begins_with_the_last_holder() {
    let mut cluster = Cluster::with(fair(), &[("p", at(&["10.0.0.1-10.0.0.2"]))]);
    cluster.apply(service("gone"));
    cluster.delete("gone");
    cluster.apply(service("a").shares("k", &["TCP/1"]));
    cluster.apply(service("b").shares("k", &["TCP/2"]));
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.2", "10.0.0.2"]);
    cluster.delete("a");
    cluster.apply(service("c"));
    assert_eq!(cluster.has("c"), "10.0.0.1", "b still has the other");
    cluster.delete("c");
    cluster.delete("b");
    cluster.apply(service("e"));
    assert_eq!(
        cluster.has("e"),
        "10.0.0.1",
        "released before the last holder left the other"
    );
}

#[test]
fn asked_for_by_name_needs_no_rest() {
    let mut cluster = Cluster::with(fair(), &[("p", at(&["10.0.0.1-10.0.0.3"]))]);
    cluster.apply(service("a"));
    cluster.delete("a");
    cluster.apply(service("b").ips("10.0.0.1"));
    assert_eq!(cluster.has("b"), "10.0.0.1");
    cluster.apply(service("c"));
    cluster.apply(service("e"));
    assert_eq!(cluster.have(&["c", "e"]), ["10.0.0.2", "10.0.0.3"]);
}

#[test]
fn avoided_addresses_and_those_of_nodes_are_not_used_up_either() {
    let pool = json!({"addresses": ["10.0.0.0/30", "10.0.0.255/32"], "avoidBuggyIPs": true});
    let mut cluster = Cluster::with(fair(), &[("p", pool)]);
    let mut seen = Vec::new();
    for round in 0..4 {
        let name = format!("s{round}");
        if round == 2 {
            // It rests at this time; and 10.0.0.3 is fresh.
            cluster.nodes(&["10.0.0.1", "10.0.0.3"]);
        }
        cluster.apply(service(&name));
        seen.push(cluster.has(&name));
        cluster.delete(&name);
    }
    assert_eq!(seen, ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"]);
    cluster.nodes(&[]);
    cluster.apply(service("last"));
    assert_eq!(cluster.has("last"), "10.0.0.1");
}

#[test]
fn the_order_outlives_changes_of_the_pools_but_not_the_process() {
    let pools = [("p", at(&["10.0.0.1-10.0.0.3"]))];
    let mut cluster = Cluster::with(fair(), &pools);
    for name in ["a", "b", "c"] {
        cluster.apply(service(name));
    }
    for name in ["b", "a", "c"] {
        cluster.delete(name);
    }
    cluster.configure(&[]);
    cluster.configure(&[("renamed", at(&["10.0.0.1-10.0.0.3"]))]);
    cluster.apply(service("next"));
    assert_eq!(cluster.has("next"), "10.0.0.2");
    // An address that is lost with its pool was released then.
    cluster.configure(&[]);
    assert_eq!(cluster.has("next"), "");
    cluster.configure(&pools);
    assert_eq!(cluster.has("next"), "10.0.0.1");
    cluster.restart();
    assert_eq!(cluster.has("next"), "10.0.0.1", "what is held stays");
    cluster.apply(service("more"));
    assert_eq!(cluster.has("more"), "10.0.0.2", "a new process knows no history");
}

/// Against a plain list, over thousands of random steps.
#[test]
fn behaves_like_a_list_of_releases() {
    let size = 40_u8;
    let mut cluster = Cluster::with(fair(), &[("p", at(&["10.0.0.0-10.0.0.39"]))]);
    let mut rng = 1_u64;
    let mut order: Vec<u8> = (0..size).collect();
    let mut held: BTreeMap<String, u8> = BTreeMap::new();
    for step in 0..3_000 {
        rng = rng
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let die = usize::try_from(rng >> 33).expect("31 bits");
        if !held.is_empty() && (order.is_empty() || die.is_multiple_of(2)) {
            let name = held.keys().nth(die / 2 % held.len()).expect("one").clone();
            order.extend(held.remove(&name));
            cluster.delete(&name);
        } else {
            let name = format!("s{step}");
            let last = order.remove(0);
            cluster.apply(service(&name));
            assert_eq!(
                cluster.has(&name),
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)).to_string()
            );
            held.insert(name, last);
        }
    }
}
