//! Random histories: whatever happens, [`Cluster::check`] holds and a restart changes nothing.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Cluster, Wishes, service};
use crate::{FamilyPolicy, Policy, Reuse, Service};

#[derive(Clone, Debug)]
enum Step {
    Apply(u8, Wish),
    Delete(u8),
    /// Which of a set of configurations.
    Configure(u8),
    /// Label of a namespace.
    Namespace(bool),
    Restart,
    /// Somebody writes an address into a status.
    Overwrite(u8, u8),
    /// Somebody empties a status.
    Empty(u8),
    NotLoadBalancer(u8),
    OtherClass(u8),
    /// Nodes have these addresses, as bits.
    Nodes(u8),
}

#[derive(Clone, Debug)]
struct Wish {
    pool: Option<u8>,
    ip: Option<u8>,
    key: u8,
    port: u8,
    backend: bool,
    families: u8,
    policy: u8,
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        prop::option::weighted(0.2, 0_u8..4),
        prop::option::weighted(0.2, 0_u8..12),
        0_u8..3,
        1_u8..4,
        any::<bool>(),
        0_u8..4,
        0_u8..3,
    )
        .prop_map(|(pool, ip, key, port, backend, families, policy)| Wish {
            pool,
            ip,
            key,
            port,
            backend,
            families,
            policy,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..10, wish()).prop_map(|(name, wish)| Step::Apply(name, wish)),
        3 => (0_u8..10).prop_map(Step::Delete),
        2 => (0_u8..6).prop_map(Step::Configure),
        1 => any::<bool>().prop_map(Step::Namespace),
        1 => Just(Step::Restart),
        1 => (0_u8..10, 0_u8..12).prop_map(|(name, ip)| Step::Overwrite(name, ip)),
        1 => (0_u8..10).prop_map(Step::Empty),
        1 => (0_u8..10).prop_map(Step::NotLoadBalancer),
        1 => (0_u8..10).prop_map(Step::OtherClass),
        1 => any::<u8>().prop_map(Step::Nodes),
    ]
}

/// Namespaces alternate, so that restricted pools matter.
fn name(number: u8) -> String {
    format!(
        "{}/s{number}",
        if number.is_multiple_of(2) { "d" } else { "team" }
    )
}

fn made(number: u8, wish: &Wish) -> Service {
    let key = ["", "k", "l"][usize::from(wish.key)];
    let port = format!("TCP/{}", wish.port);
    let cluster_ips: &[&str] = match wish.families {
        1 => &["10.96.0.1"],
        2 => &["fd00::1"],
        _ => &["10.96.0.1", "fd00::1"],
    };
    let policy = match wish.policy {
        0 => FamilyPolicy::SingleStack,
        1 => FamilyPolicy::PreferDualStack,
        _ => FamilyPolicy::RequireDualStack,
    };
    let mut service = service(&name(number))
        .created(i64::from(number))
        .shares(key, &[&port])
        .cluster_ips(cluster_ips)
        .policy(policy);
    if wish.backend {
        service = service.backend("app=x");
    }
    if let Some(pool) = wish.pool {
        service = service.pool(["p", "q", "r", "none"][usize::from(pool)]);
    }
    if let Some(ip) = wish.ip {
        service = service.ips(&match wish.families {
            0 => format!("10.0.0.{ip},2001:db8::{}", ip % 4),
            2 => format!("2001:db8::{}", ip % 4),
            _ => format!("10.0.0.{ip}"),
        });
    }
    service
}

fn pools(which: u8) -> Vec<(&'static str, Value)> {
    let all = vec![
        ("p", json!({"addresses": ["10.0.0.0-10.0.0.3", "2001:db8::/126"]})),
        (
            "q",
            json!({"addresses": ["10.0.0.4/30"], "serviceAllocation": {"priority": 3, "namespaces": ["team"]}}),
        ),
        (
            "r",
            json!({"addresses": ["10.0.0.8/30", "2001:db8:1::/127"], "avoidBuggyIPs": true,
            "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]}}),
        ),
    ];
    match which {
        0 => all,
        1 => all[..1].to_vec(),
        2 => all[1..].to_vec(),
        3 => vec![("p", json!({"addresses": ["10.0.0.0/29"], "avoidBuggyIPs": true}))],
        4 => vec![("q", json!({"addresses": ["10.0.0.2-10.0.0.9", "2001:db8::/64"]}))],
        _ => vec![],
    }
}

fn take(cluster: &mut Cluster, step: Step) {
    let overwrite = |cluster: &mut Cluster, number: u8, change: &dyn Fn(&mut Service)| {
        if let Some(stored) = cluster.stored.get(&super::id(&name(number))) {
            let mut service = stored.clone();
            change(&mut service);
            cluster.store(service);
            cluster.settle();
        }
    };
    match step {
        Step::Apply(number, wish) => cluster.apply(made(number, &wish)),
        Step::Delete(number) => cluster.delete(&name(number)),
        Step::Configure(which) => cluster.configure(&pools(which)),
        Step::Namespace(gold) => cluster.namespace("d", if gold { &[("tier", "gold")] } else { &[] }),
        Step::Restart => cluster.restart(),
        Step::Overwrite(number, last) => overwrite(cluster, number, &|service| {
            service.ingress = vec![super::ip(&format!("10.0.0.{last}"))];
            service.recorded_pool = Some("p".to_owned());
        }),
        Step::Empty(number) => overwrite(cluster, number, &|service| {
            service.ingress.clear();
            service.recorded_pool = None;
        }),
        Step::NotLoadBalancer(number) => {
            overwrite(cluster, number, &|service| service.load_balancer = false);
        }
        Step::OtherClass(number) => {
            overwrite(cluster, number, &|service| {
                service.class = Some("example.org/x".to_owned());
            });
        }
        Step::Nodes(bits) => {
            let nodes = (0..8).filter(|bit| bits & (1 << bit) != 0);
            let nodes: Vec<String> = nodes.map(|last| format!("10.0.0.{last}")).collect();
            cluster.nodes(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_a_restart_changes_nothing(
        fair in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let reuse = if fair { Reuse::LeastRecentlyReleased } else { Reuse::LowestFree };
        let policy = Policy { reuse, ..Policy::default() };
        let mut cluster = Cluster::with(policy, &pools(0));
        for step in steps {
            take(&mut cluster, step);
            cluster.check();
        }
        let before = cluster.stored.clone();
        cluster.take_writes();
        cluster.restart();
        prop_assert_eq!(cluster.take_writes(), 0);
        prop_assert_eq!(&cluster.stored, &before);
    }
}
