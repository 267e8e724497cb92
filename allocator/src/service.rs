//! From a service as the API server shows it to the allocator's view of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use metallb_alloc::{FamilyPolicy, Port, Protocol, Request, Service, ServiceId, Sharing, wanted_ips};
use metallb_api::names::annotations;
use metallb_kubeio::thin;

/// Id of a service from its metadata.
pub(crate) fn id_of(object: &thin::Service) -> ServiceId {
    let metadata = &object.metadata;
    ServiceId::new(
        metadata.namespace.as_deref().unwrap_or(""),
        metadata.name.as_deref().unwrap_or(""),
    )
}

/// Converts a service once, at the edge.
pub(crate) fn convert(object: thin::Service) -> Service {
    let id = id_of(&object);
    let thin::Service {
        metadata,
        spec,
        status,
    } = object;
    let notes = metadata.annotations.unwrap_or_default();
    let wished = Wished::read(&notes);
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let (ingress, other_ingress) = addresses(&status.load_balancer.ingress);
    let cluster_ips = if spec.cluster_ips.is_empty() {
        spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect()
    } else {
        spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect()
    };
    Service {
        uid: metadata.uid.unwrap_or_default().into(),
        created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
        resource_version: metadata.resource_version.unwrap_or_default().into(),
        load_balancer: spec.type_ == "LoadBalancer",
        class: spec.load_balancer_class.filter(|class| !class.is_empty()),
        request: Request {
            id,
            labels: metadata.labels.unwrap_or_default(),
            cluster_ips,
            policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
                Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
                _ => FamilyPolicy::SingleStack,
            },
            prefers_v6: spec.ip_families.first().is_some_and(|family| family == "IPv6"),
            wanted_ips: wanted_ips(wished.ips, spec.load_balancer_ip.as_deref()),
            wanted_pool: wished.pool.filter(|pool| !pool.is_empty()).map(str::to_owned),
            sharing: Sharing {
                key: wished.sharing_key.unwrap_or_default().into(),
                backend: if local {
                    selector_text(&spec.selector).into()
                } else {
                    "".into()
                },
                ports: spec.ports.iter().filter_map(port).collect(),
            },
        },
        ingress,
        other_ingress,
        recorded_pool: notes.get(annotations::ALLOCATED_FROM_POOL).cloned(),
        deprecated_record: notes.contains_key(&deprecated_record_key()),
        deprecated_annotations: wished.deprecated,
    }
}

/// `metallb.universe.tf/ip-allocated-from-pool`
pub(crate) fn deprecated_record_key() -> String {
    let name = annotations::ALLOCATED_FROM_POOL.trim_start_matches(annotations::PREFIX);
    format!("{}{name}", annotations::DEPRECATED_PREFIX)
}

/// What the annotations ask for. Of two prefixes the current one wins, even with an empty value.
struct Wished<'a> {
    pool: Option<&'a str>,
    ips: Option<&'a str>,
    sharing_key: Option<&'a str>,
    /// Old keys that had an effect, with what to write instead.
    deprecated: String,
}

impl<'a> Wished<'a> {
    fn read(notes: &'a BTreeMap<String, String>) -> Self {
        let mut deprecated = Vec::new();
        let mut value = |current: &str, old: &str| {
            notes.get(current).map(String::as_str).or_else(|| {
                let value = notes.get(old).map(String::as_str);
                if value.is_some() {
                    deprecated.push(format!("{current} instead of {old}"));
                }
                value
            })
        };
        let pool = value(annotations::ADDRESS_POOL, annotations::DEPRECATED_ADDRESS_POOL);
        let ips = value(
            annotations::LOAD_BALANCER_IPS,
            annotations::DEPRECATED_LOAD_BALANCER_IPS,
        );
        let sharing_key = value(
            annotations::ALLOW_SHARED_IP,
            annotations::DEPRECATED_ALLOW_SHARED_IP,
        );
        Self {
            pool,
            ips,
            sharing_key,
            deprecated: deprecated.join(", "),
        }
    }
}

/// Addresses in order, and whether there is anything else.
fn addresses(ingress: &[thin::Ingress]) -> (Vec<IpAddr>, bool) {
    let mut ips = Vec::new();
    let mut other = false;
    for entry in ingress {
        let ip = entry.ip.as_deref().and_then(|ip| ip.parse().ok());
        let named = entry.hostname.as_deref().is_some_and(|name| !name.is_empty());
        match ip {
            Some(ip) if !named && !ips.contains(&ip) => ips.push(ip),
            _ => other = true,
        }
    }
    (ips, other)
}

fn port(port: &thin::ServicePort) -> Option<Port> {
    let protocol = match port.protocol.as_deref() {
        None | Some("" | "TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    Some(Port {
        protocol,
        number: u16::try_from(port.port).ok()?,
    })
}

/// One text for equal selectors.
fn selector_text(selector: &BTreeMap<String, String>) -> String {
    selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(json: Value) -> Service {
        convert(serde_json::from_value(json).expect("a service"))
    }

    #[test]
    fn every_field_of_the_contract() {
        let service = read(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "42",
                "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": "web"},
                "annotations": {"metallb.io/address-pool": "gold", "metallb.io/allow-shared-ip": "k",
                    "metallb.io/loadBalancerIPs": "10.0.0.7, 2001:db8::7",
                    "metallb.io/ip-allocated-from-pool": "gold"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
                "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack",
                "externalTrafficPolicy": "Local", "loadBalancerClass": "example.org/lb",
                "selector": {"b": "2", "a": "1"},
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.7", "ipMode": "VIP"}]}}
        }));
        assert_eq!(service.request.id.to_string(), "shop/web");
        assert_eq!(
            (&*service.uid, &*service.resource_version, service.created),
            ("u1", "42", 1_767_323_045)
        );
        assert_eq!(service.class.as_deref(), Some("example.org/lb"));
        assert_eq!(service.request.wanted_pool.as_deref(), Some("gold"));
        assert_eq!(service.request.wanted_ips.as_ref().map(Vec::len), Ok(2));
        assert_eq!(
            (&*service.request.sharing.key, &*service.request.sharing.backend),
            ("k", "a=1,b=2")
        );
        assert_eq!(service.request.sharing.ports[0].to_string(), "UDP/53");
        assert_eq!(service.request.sharing.ports[1].to_string(), "TCP/80");
        assert!(service.request.prefers_v6 && service.load_balancer && !service.other_ingress);
        assert_eq!(service.request.policy, FamilyPolicy::RequireDualStack);
        assert_eq!(
            service.ingress,
            ["10.0.0.7".parse::<IpAddr>().expect("an address")]
        );
        assert_eq!(service.recorded_pool.as_deref(), Some("gold"));
        assert_eq!(service.deprecated_annotations, "");
    }

    #[test]
    fn old_prefix_is_read_and_the_new_one_wins() {
        let with = |notes: Value| {
            read(
                json!({"metadata": {"name": "w", "namespace": "d", "annotations": notes},
                        "spec": {"type": "LoadBalancer"}}),
            )
        };
        let old = with(json!({"metallb.universe.tf/address-pool": "old",
                              "metallb.universe.tf/allow-shared-ip": "k",
                              "metallb.universe.tf/ip-allocated-from-pool": "old"}));
        assert_eq!(old.request.wanted_pool.as_deref(), Some("old"));
        assert_eq!(&*old.request.sharing.key, "k");
        assert!(old.deprecated_record && old.recorded_pool.is_none());
        assert!(
            old.deprecated_annotations
                .contains("metallb.io/address-pool instead of")
        );
        let both = with(json!({"metallb.universe.tf/address-pool": "old", "metallb.io/address-pool": "new"}));
        assert_eq!(both.request.wanted_pool.as_deref(), Some("new"));
        assert_eq!(both.deprecated_annotations, "");
        let emptied = with(json!({"metallb.universe.tf/address-pool": "old", "metallb.io/address-pool": ""}));
        assert_eq!(emptied.request.wanted_pool, None);
    }

    #[test]
    fn what_another_controller_wrote_is_seen() {
        for (ingress, ips, other) in [
            (json!([{"hostname": "lb.example.org"}]), 0, true),
            (
                json!([{"ip": "10.0.0.1"}, {"hostname": "lb.example.org"}]),
                1,
                true,
            ),
            (json!([{"ip": "10.0.0.1", "hostname": "lb.example.org"}]), 0, true),
            (json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]), 1, true),
            (json!([{"ip": "10.0.0.1"}, {"ip": "2001:db8::1"}]), 2, false),
            (json!([]), 0, false),
            (Value::Null, 0, false),
        ] {
            let text = ingress.to_string();
            let service = read(
                json!({"metadata": {"name": "w"}, "spec": {"type": "LoadBalancer"},
                                      "status": {"loadBalancer": {"ingress": ingress}}}),
            );
            assert_eq!(
                (service.ingress.len(), service.other_ingress),
                (ips, other),
                "{text}"
            );
        }
    }

    #[test]
    fn externaltrafficpolicy_cluster_has_no_backend_key() {
        let service = read(json!({"metadata": {"name": "w"},
            "spec": {"type": "LoadBalancer", "selector": {"a": "1"}, "externalTrafficPolicy": "Cluster"}}));
        assert_eq!(&*service.request.sharing.backend, "");
    }
}
