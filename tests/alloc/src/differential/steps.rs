//! What users do, as data: it prints, is recorded in a file, and can be played again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::plane::NAMESPACE;

/// Current prefix of annotations, and the one before it.
pub const PREFIXES: [&str; 2] = ["metallb.io", "metallb.universe.tf"];
/// Names of the annotations that a service may carry.
pub const ANNOTATIONS: [&str; 3] = ["address-pool", "loadBalancerIPs", "allow-shared-ip"];
/// Labels that a service may carry.
pub const LABELS: [&str; 1] = ["tier"];

/// One thing that a user does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Makes a namespace or changes its label `team`.
    Namespace {
        /// Its name.
        name: String,
        /// The label; none removes it.
        team: Option<String>,
    },
    /// Makes or edits an `IPAddressPool`.
    Pool(PoolSpec),
    /// Deletes an `IPAddressPool`.
    DeletePool(String),
    /// Makes or edits a service.
    Service(ServiceSpec),
    /// Deletes a service.
    DeleteService {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Stops both controllers and starts them again.
    Restart,
}

/// An `IPAddressPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Its name.
    pub name: String,
    /// `spec.addresses`.
    pub addresses: Vec<String>,
    /// `spec.autoAssign`.
    pub auto_assign: bool,
    /// `spec.avoidBuggyIPs`.
    pub avoid_buggy: bool,
    /// `spec.serviceAllocation`.
    pub allocation: Option<AllocationSpec>,
}

/// `serviceAllocation` of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationSpec {
    /// `priority`.
    pub priority: u32,
    /// `namespaces`.
    pub namespaces: Vec<String>,
    /// `namespaceSelectors`, by label `team`.
    pub teams: Vec<String>,
    /// `serviceSelectors`, by label `tier`.
    pub tiers: Vec<String>,
}

impl PoolSpec {
    /// The object.
    pub fn object(&self) -> Value {
        let selectors = |key: &str, values: &[String]| -> Vec<Value> {
            values
                .iter()
                .map(|value| json!({"matchLabels": {key: value}}))
                .collect()
        };
        let mut spec = json!({"addresses": self.addresses, "autoAssign": self.auto_assign, "avoidBuggyIPs": self.avoid_buggy});
        if let Some(allocation) = &self.allocation {
            spec["serviceAllocation"] = json!({"priority": allocation.priority, "namespaces": allocation.namespaces,
                "namespaceSelectors": selectors("team", &allocation.teams),
                "serviceSelectors": selectors("tier", &allocation.tiers)});
        }
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": spec})
    }

    /// Its ranges; `None` when one cannot be read, as Go's webhook would say.
    pub fn ranges(&self) -> Option<Vec<(u128, u128)>> {
        self.addresses.iter().map(|text| range(text)).collect()
    }

    /// Whether Go's webhook would admit it beside these others.
    pub fn admitted_beside<'a>(&self, others: impl Iterator<Item = &'a PoolSpec>) -> bool {
        let Some(own) = self.ranges() else { return false };
        let mut taken: Vec<(u128, u128)> = others
            .filter(|other| other.name != self.name)
            .flat_map(|other| other.ranges().unwrap_or_default())
            .collect();
        for (first, last) in own {
            if taken.iter().any(|(from, to)| first <= *to && *from <= last) {
                return false;
            }
            taken.push((first, last));
        }
        true
    }
}

/// First and last address as numbers; IPv4 as IPv4-mapped.
fn range(text: &str) -> Option<(u128, u128)> {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => u128::from(ip),
    };
    if let Some((from, to)) = text.split_once('-') {
        let (from, to): (IpAddr, IpAddr) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        let ordered = from.is_ipv4() == to.is_ipv4() && number(from) <= number(to);
        return ordered.then(|| (number(from), number(to)));
    }
    let (ip, length) = text.split_once('/')?;
    let (ip, length): (IpAddr, u32) = (ip.parse().ok()?, length.parse().ok()?);
    let host = if ip.is_ipv4() { 32_u32 } else { 128 }.checked_sub(length)?;
    let mask = if host == 128 { u128::MAX } else { (1 << host) - 1 };
    Some((number(ip) & !mask, number(ip) | mask))
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.type`.
    pub kind: String,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// `spec.ipFamilyPolicy`.
    pub policy: String,
    /// `spec.ipFamilies[0]` is IPv6.
    pub v6_first: bool,
    /// `spec.externalTrafficPolicy` is Local.
    pub local: bool,
    /// `spec.selector.app`.
    pub app: String,
    /// `spec.ports` as `TCP/80`.
    pub ports: Vec<String>,
    /// Label `tier`.
    pub tier: Option<String>,
    /// Annotations with their whole keys.
    pub annotations: BTreeMap<String, String>,
    /// `spec.loadBalancerIP`.
    pub ip: Option<String>,
}

impl ServiceSpec {
    /// Whether it asks for addresses at all.
    pub fn is_load_balancer(&self) -> bool {
        self.kind == "LoadBalancer"
    }

    fn spec(&self) -> Value {
        let external = self.kind != "ClusterIP";
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| {
                let (protocol, number) = port.split_once('/').unwrap_or(("TCP", port));
                let number: u16 = number.parse().unwrap_or(80);
                json!({"name": port.to_lowercase().replace('/', "-"), "protocol": protocol, "port": number})
            })
            .collect();
        let policy = if self.local { "Local" } else { "Cluster" };
        json!({"type": self.kind, "ports": ports, "selector": {"app": self.app}, "ipFamilyPolicy": self.policy,
            "externalTrafficPolicy": if external { json!(policy) } else { Value::Null },
            "loadBalancerClass": if self.is_load_balancer() { json!(self.class) } else { Value::Null },
            "loadBalancerIP": self.ip})
    }

    /// The object, to create it.
    pub fn object(&self) -> Value {
        let mut spec = self.spec();
        let mut families = if self.v6_first { vec!["IPv6"] } else { vec!["IPv4"] };
        if self.policy == "RequireDualStack" {
            families.push(if self.v6_first { "IPv4" } else { "IPv6" });
        }
        spec["ipFamilies"] = json!(families);
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": self.namespace, "name": self.name, "annotations": self.annotations,
                "labels": self.tier.as_ref().map(|tier| json!({"tier": tier}))},
            "spec": spec})
    }

    /// A merge patch that makes an older version of it this one: what is not wanted is taken away.
    pub fn patch(&self) -> Value {
        let mut annotations = BTreeMap::new();
        for prefix in PREFIXES {
            for name in ANNOTATIONS {
                annotations.insert(format!("{prefix}/{name}"), Value::Null);
            }
        }
        annotations.extend(self.annotations.iter().map(|(k, v)| (k.clone(), json!(v))));
        json!({"metadata": {"annotations": annotations, "labels": {"tier": self.tier}}, "spec": self.spec()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, addresses: &[&str]) -> PoolSpec {
        PoolSpec {
            name: name.into(),
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
            auto_assign: true,
            avoid_buggy: false,
            allocation: None,
        }
    }

    #[test]
    fn overlaps_are_found_as_gos_webhook_finds_them() {
        let a = pool("a", &["192.0.2.0/30", "2001:db8::1-2001:db8::4"]);
        for (addresses, admitted) in [
            (&["192.0.2.4/32"][..], true),
            (&["192.0.2.3-192.0.2.9"], false),
            (&["2001:db8::4/127"], false),
            (&["2001:db8::8/126"], true),
            (&["192.0.2.9-192.0.2.8"], false),
            (&["192.0.2.300/32"], false),
            (&["192.0.2.8/31", "192.0.2.9/32"], false),
            (&["::/0"], false),
        ] {
            let b = pool("b", addresses);
            assert_eq!(b.admitted_beside([&a].into_iter()), admitted, "{addresses:?}");
            assert!(b.name != a.name);
        }
        assert!(
            a.admitted_beside([&a].into_iter()),
            "it does not stand in its own way"
        );
    }
}
