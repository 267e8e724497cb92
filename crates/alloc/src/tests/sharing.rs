use super::{Cluster, Wishes, at, service};

fn one_address() -> Cluster {
    Cluster::new(&[("p", at(&["10.0.0.1/32"]))])
}

#[test]
fn who_may_share() {
    let first = || service("first").shares("k", &["TCP/80"]);
    for (title, second, expected) in [
        (
            "same key, other port",
            service("x").shares("k", &["TCP/81"]),
            Ok(()),
        ),
        (
            "same key, same number, other protocol",
            service("x").shares("k", &["UDP/80"]),
            Ok(()),
        ),
        (
            "same key, same port",
            service("x").shares("k", &["UDP/9", "TCP/80"]),
            Err("same port TCP/80"),
        ),
        (
            "other key",
            service("x").shares("l", &["TCP/81"]),
            Err("another value of the allow-shared-ip"),
        ),
        (
            "no key",
            service("x").shares("", &["TCP/81"]),
            Err("this service has no allow-shared-ip"),
        ),
        (
            "one with policy Local",
            service("x").shares("k", &["TCP/81"]).backend("app=x"),
            Err("externalTrafficPolicy"),
        ),
    ] {
        // Asked for by address, so that the Event says why.
        let mut cluster = one_address();
        cluster.apply(first());
        cluster.take_events();
        cluster.apply(second.clone().ips("10.0.0.1"));
        let events = cluster.take_events();
        match expected {
            Ok(()) => assert_eq!(cluster.has("x"), "10.0.0.1", "{title}"),
            Err(hint) => {
                assert_eq!(cluster.has("x"), "", "{title}");
                assert!(
                    events[0].contains(hint) && events[0].contains("d/first"),
                    "{title}: {events:?}"
                );
            }
        }
        // Not asked for: the same outcome.
        let mut cluster = one_address();
        cluster.apply(first());
        cluster.apply(second);
        assert_eq!(cluster.has("x").is_empty(), expected.is_err(), "{title}");
    }
}

#[test]
fn local_backends_share_when_their_selectors_are_equal() {
    let mut cluster = one_address();
    cluster.apply(service("a").shares("k", &["TCP/80"]).backend("app=x"));
    cluster.apply(service("b").shares("k", &["TCP/81"]).backend("app=x"));
    cluster.apply(service("c").shares("k", &["TCP/82"]).backend("app=y"));
    assert_eq!(cluster.have(&["a", "b", "c"]), ["10.0.0.1", "10.0.0.1", ""]);
    assert_eq!(cluster.counters("p").services, 2);
    assert_eq!(cluster.counters("p").assigned_v4, 1);
}

#[test]
fn the_lowest_free_or_shareable_address_is_taken() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.9"]))]);
    cluster.apply(service("a"));
    cluster.apply(service("b").shares("k", &["TCP/80"]));
    cluster.apply(service("c").shares("k", &["TCP/81"]));
    assert_eq!(
        cluster.have(&["a", "b", "c"]),
        ["10.0.0.1", "10.0.0.2", "10.0.0.2"]
    );
    cluster.delete("a");
    cluster.apply(service("e").shares("k", &["TCP/82"]));
    assert_eq!(
        cluster.has("e"),
        "10.0.0.1",
        "a lower free address comes before a higher shareable one"
    );
}

#[test]
fn iperf_s5() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.200-10.0.0.250"]))]);
    cluster.apply(service("tcp").shares("iperf", &["TCP/5201"]));
    cluster.apply(service("udp").shares("iperf", &["UDP/5201"]));
    cluster.delete("tcp");
    cluster.apply(service("tcp").shares("iperf", &["TCP/5201"]));
    assert_eq!(cluster.have(&["tcp", "udp"]), ["10.0.0.200", "10.0.0.200"]);
}

#[test]
fn keys_change() {
    let mut cluster = Cluster::new(&[("p", at(&["10.0.0.1-10.0.0.3"]))]);
    cluster.apply(service("a").shares("k", &["TCP/80"]));
    cluster.apply(service("a").shares("l", &["TCP/80"]));
    assert_eq!(
        cluster.has("a"),
        "10.0.0.1",
        "a sole owner changes its key in place"
    );
    cluster.apply(service("b").shares("l", &["TCP/81"]));
    assert_eq!(cluster.has("b"), "10.0.0.1");
    cluster.take_events();
    cluster.apply(service("b").shares("m", &["TCP/81"]));
    assert_eq!(
        cluster.have(&["a", "b"]),
        ["10.0.0.1", "10.0.0.2"],
        "who stops sharing moves away"
    );
    let events = cluster.take_events();
    assert!(
        events[0].starts_with("ClearAssignment d/b: Took back 10.0.0.1"),
        "{events:?}"
    );
    assert!(
        events[1].starts_with("IPAllocated d/b: Assigned IP 10.0.0.2"),
        "{events:?}"
    );
    cluster.apply(service("b").shares("l", &["TCP/80"]));
    assert_eq!(
        cluster.has("b"),
        "10.0.0.2",
        "an address that still fits stays, even if sharing were possible"
    );
    cluster.apply(service("c").shares("l", &["TCP/82"]));
    cluster.apply(service("c").shares("l", &["TCP/80"]));
    assert_eq!(
        cluster.has("c"),
        "10.0.0.3",
        "a port that is taken on the shared address moves the newcomer"
    );
}

#[test]
fn a_waiting_service_takes_a_seat_that_becomes_free() {
    let mut cluster = one_address();
    cluster.apply(service("a").shares("k", &["TCP/80"]));
    cluster.apply(service("b").shares("k", &["TCP/80"]));
    assert_eq!(cluster.has("b"), "");
    cluster.apply(service("a").shares("k", &["TCP/90"]));
    assert_eq!(cluster.have(&["a", "b"]), ["10.0.0.1", "10.0.0.1"]);
}
