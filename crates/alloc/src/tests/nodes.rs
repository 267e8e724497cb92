//! Addresses that nodes of the cluster use themselves.

use super::{Cluster, Wishes, at, service};

fn warnings(cluster: &Cluster, pool: &str) -> Vec<String> {
    cluster.warnings.get(pool).cloned().unwrap_or_default()
}

#[test]
fn they_are_not_chosen_and_the_event_says_so() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.3"]))]);
    cluster.nodes(&["10.0.0.1", "10.0.0.3", "192.0.2.1"]);
    cluster.apply(service("a"));
    cluster.take_events();
    cluster.apply(service("b"));
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.2", ""]);
    let events = cluster.take_events();
    assert!(
        events[0].contains("pool p has no free IPv4 address, but for 2 that nodes of the cluster use"),
        "{events:?}"
    );
    assert_eq!(warnings(&cluster, "p"), Vec::<String>::new(), "nothing was given");
    cluster.nodes(&["10.0.0.3"]);
    assert_eq!(
        cluster.has("b"),
        "10.0.0.1",
        "the node is gone: who waits gets it at once"
    );
}

#[test]
fn what_is_asked_for_or_assigned_is_kept_with_a_warning() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"])), ("q", at(&["10.1.0.0/24"]))]);
    cluster.apply(service("a"));
    cluster.nodes(&["10.0.0.1", "10.0.0.2"]);
    assert_eq!(cluster.has("a"), "10.0.0.1", "already assigned");
    let said = warnings(&cluster, "p");
    assert!(
        said.len() == 1
            && said[0].starts_with("10.0.0.1 is the address of a node and is held by service d/a:"),
        "{said:?}"
    );
    cluster.apply(service("b").ips("10.0.0.2"));
    assert_eq!(cluster.has("b"), "10.0.0.2", "asked for by name");
    assert_eq!(warnings(&cluster, "p").len(), 2);
    cluster.restart();
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(warnings(&cluster, "p").len(), 2);
    assert_eq!(cluster.counters("p").assigned_v4, 2);
    cluster.delete("a");
    assert_eq!(warnings(&cluster, "p").len(), 1, "only what is held");
    cluster.apply(service("c"));
    assert_eq!(cluster.has("c"), "10.0.0.3", "what was given back is not chosen");
    cluster.nodes(&[]);
    assert_eq!(warnings(&cluster, "p"), Vec::<String>::new());
    assert_eq!(warnings(&cluster, "q"), Vec::<String>::new());
}

#[test]
fn warnings_follow_the_pools_and_are_told_once() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.apply(service("a"));
    cluster.nodes(&["10.0.0.1"]);
    cluster.warnings.clear();
    cluster.apply(service("b"));
    assert!(cluster.warnings.is_empty(), "nothing new about it");
    cluster.configure(&[("renamed", at(&["10.0.0.1-10.0.0.9"]))]);
    assert_eq!(warnings(&cluster, "renamed").len(), 1);
    cluster.apply(service("c"));
    assert_eq!(
        cluster.have(&["a", "b", "c"]),
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    );
}

#[test]
fn a_shared_one_may_be_joined_and_names_everybody() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.apply(service("a").shares("k", &["TCP/1"]));
    cluster.nodes(&["10.0.0.1"]);
    cluster.apply(service("b").shares("k", &["TCP/2"]));
    assert_eq!(cluster.has("b"), "10.0.0.1");
    assert!(
        warnings(&cluster, "p")[0].contains("held by service d/a, d/b"),
        "{:?}",
        cluster.warnings
    );
}

#[test]
fn many_warnings_are_cut_short() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24"]))]);
    let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    for name in &names {
        cluster.apply(service(name));
    }
    let all: Vec<String> = (0..20).map(|last| format!("10.0.0.{last}")).collect();
    cluster.nodes(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let said = warnings(&cluster, "p");
    assert_eq!(
        (said.len(), said[8].as_str()),
        (9, "so are 12 more addresses of this pool")
    );
}
