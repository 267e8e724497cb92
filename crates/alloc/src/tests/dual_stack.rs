use super::{Cluster, Wishes, at, service};
use crate::FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
use crate::Service;

const BOTH: &[&str] = &["10.96.0.1", "fd00::1"];
const V4: &[&str] = &["10.96.0.1"];

fn dual(name: &str, policy: crate::FamilyPolicy) -> Service {
    service(name).cluster_ips(BOTH).policy(policy)
}

#[test]
fn which_addresses_a_dual_stack_service_gets() {
    let both = ("both", at(&["10.0.0.0/24", "2001:db8::/64"]));
    let four = ("four", at(&["10.4.0.0/24"]));
    let six = ("six", at(&["2001:db8:6::/64"]));
    for (title, pools, service, expected) in [
        (
            "require",
            vec![both.clone()],
            dual("a", RequireDualStack),
            "10.0.0.0,2001:db8::",
        ),
        (
            "require, two single pools",
            vec![four.clone(), six.clone()],
            dual("a", RequireDualStack),
            "",
        ),
        (
            "require, a later pool has both",
            vec![four.clone(), both.clone()],
            dual("a", RequireDualStack),
            "10.0.0.0,2001:db8::",
        ),
        (
            "require with one ClusterIP",
            vec![both.clone()],
            service("a").policy(RequireDualStack),
            "",
        ),
        (
            "prefer",
            vec![four.clone(), both.clone()],
            dual("a", PreferDualStack),
            "10.0.0.0,2001:db8::",
        ),
        (
            "prefer, IPv4 before IPv6",
            vec![six.clone(), four.clone()],
            dual("a", PreferDualStack),
            "10.4.0.0",
        ),
        (
            "prefer, only IPv6",
            vec![six.clone()],
            dual("a", PreferDualStack),
            "2001:db8:6::",
        ),
        (
            "prefer with one ClusterIP",
            vec![both.clone()],
            service("a").policy(PreferDualStack),
            "10.0.0.0",
        ),
        (
            "two wanted",
            vec![both.clone()],
            dual("a", RequireDualStack).ips("2001:db8::9,10.0.0.9"),
            "2001:db8::9,10.0.0.9",
        ),
        (
            "two wanted of two pools",
            vec![both, six.clone()],
            dual("a", RequireDualStack).ips("10.0.0.9,2001:db8:6::9"),
            "",
        ),
        (
            "single stack IPv6",
            vec![four, six],
            service("a").cluster_ips(&["fd00::1"]).policy(SingleStack),
            "2001:db8:6::",
        ),
    ] {
        let mut cluster = Cluster::new(&pools);
        cluster.apply(service);
        assert_eq!(cluster.has("a"), expected, "{title}");
    }
    let mut prefers_six = dual("a", PreferDualStack);
    prefers_six.request.prefers_v6 = true;
    let mut cluster = Cluster::new(&[("four", at(&["10.4.0.0/24"])), ("six", at(&["2001:db8:6::/64"]))]);
    cluster.apply(prefers_six);
    assert_eq!(cluster.has("a"), "2001:db8:6::", "ipFamilies[0] decides");
}

#[test]
fn require_with_one_cluster_ip_is_told() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.0/24", "2001:db8::/64"]))]);
    cluster.apply(service("a").policy(RequireDualStack));
    let events = cluster.take_events();
    assert!(events[0].starts_with("not enough clusterips d/a"), "{events:?}");
}

#[test]
fn up_and_down_in_place() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9", "2001:db8::1-2001:db8::9"]))]);
    cluster.apply(service("other"));
    cluster.apply(service("a"));
    assert_eq!(cluster.has("a"), "10.0.0.2");
    cluster.apply(dual("a", PreferDualStack));
    assert_eq!(
        cluster.has("a"),
        "10.0.0.2,2001:db8::1",
        "the address is kept, one is added"
    );
    cluster.delete("other");
    cluster.apply(service("a").cluster_ips(V4).policy(SingleStack));
    assert_eq!(cluster.has("a"), "10.0.0.2", "the address that fits is kept");
    cluster.apply(dual("a", RequireDualStack));
    assert_eq!(cluster.has("a"), "10.0.0.2,2001:db8::1");
    cluster.apply(service("a").cluster_ips(&["fd00::1"]).policy(SingleStack));
    assert_eq!(cluster.has("a"), "2001:db8::1");
    cluster.apply(service("a").cluster_ips(V4).policy(SingleStack));
    assert_eq!(cluster.has("a"), "10.0.0.1", "another family is another address");
    assert_eq!(
        (
            cluster.counters("p").assigned_v4,
            cluster.counters("p").assigned_v6
        ),
        (1, 0)
    );
}

#[test]
fn the_second_family_comes_from_the_same_pool_only_and_later_if_need_be() {
    let full = [
        ("p", at(&["10.0.0.1-10.0.0.9", "2001:db8::1/128"])),
        ("q", at(&["2001:db8:1::/64"])),
    ];
    let mut cluster = Cluster::new(&full);
    cluster.apply(service("six").cluster_ips(&["fd00::1"]).ips("2001:db8::1"));
    cluster.take_events();
    cluster.apply(dual("a", PreferDualStack));
    assert_eq!(cluster.has("a"), "10.0.0.1");
    let events = cluster.take_events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(
        events[0].starts_with("IPAllocated d/a: Assigned IP 10.0.0.1 from pool p"),
        "{events:?}"
    );
    assert!(
        events[1].starts_with("AdditionalAssignFailed d/a: pool p has no IPv6 address"),
        "{events:?}"
    );
    cluster.apply(dual("a", PreferDualStack).label("touched", "again"));
    assert_eq!(cluster.take_events(), Vec::<String>::new(), "told once");
    cluster.delete("six");
    assert_eq!(
        cluster.has("a"),
        "10.0.0.1,2001:db8::1",
        "a freed address completes it"
    );
    let events = cluster.take_events();
    assert!(
        events[0].starts_with("IPAllocated d/a: Assigned additional IP 2001:db8::1"),
        "{events:?}"
    );
}

#[test]
fn require_moves_when_the_pool_of_the_present_address_has_no_second_family() {
    let mut cluster = Cluster::new(&[
        ("four", at(&["10.4.0.0/24"])),
        (
            "manual",
            serde_json::json!({"addresses": ["10.0.0.0/24", "2001:db8::/64"], "autoAssign": true}),
        ),
    ]);
    cluster.apply(service("a"));
    assert_eq!(cluster.has("a"), "10.4.0.0");
    cluster.apply(dual("a", RequireDualStack));
    assert_eq!(cluster.has("a"), "10.0.0.0,2001:db8::");
}
