//! Partial views of core objects: only the fields that some component reads are parsed, the rest is skipped while
//! reading. A full `Node` or `Service` costs five times as much and lives longer than its parse.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer};

/// `null` and absent both mean the default: the API server writes either.
fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// `v1.Service`, the fields of the load-balancer contract.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = core::Service)]
pub struct Service {
    /// Object metadata.
    pub metadata: ObjectMeta,
    /// What the user wants.
    #[serde(default)]
    pub spec: ServiceSpec,
    /// The allocation record.
    #[serde(default)]
    pub status: ServiceStatus,
}

/// Part of `v1.ServiceSpec`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Wanted address (deprecated upstream, still used).
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    /// Class of the responsible load-balancer implementation.
    pub load_balancer_class: Option<String>,
    /// First cluster address; `None` for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// Cluster addresses, one a family.
    #[serde(rename = "clusterIPs", deserialize_with = "null_default")]
    pub cluster_ips: Vec<String>,
    /// `IPv4`, `IPv6`, in order of preference.
    #[serde(deserialize_with = "null_default")]
    pub ip_families: Vec<String>,
    /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
    pub ip_family_policy: Option<String>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: Option<String>,
    /// Exposed ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<ServicePort>,
    /// Pod selector.
    #[serde(deserialize_with = "null_default")]
    pub selector: BTreeMap<String, String>,
}

/// Part of `v1.ServicePort`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct ServicePort {
    /// `TCP`, `UDP` or `SCTP`; absent means `TCP`.
    pub protocol: Option<String>,
    /// Port number.
    pub port: i32,
}

/// Part of `v1.ServiceStatus`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Where the service is reachable.
    #[serde(deserialize_with = "null_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// Part of `v1.LoadBalancerStatus`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Addresses in force.
    #[serde(deserialize_with = "null_default")]
    pub ingress: Vec<Ingress>,
}

/// Part of `v1.LoadBalancerIngress`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Ingress {
    /// The address, for implementations that give addresses.
    pub ip: Option<String>,
    /// The host name, for those that give names.
    pub hostname: Option<String>,
}

/// `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = discovery::EndpointSlice)]
pub struct EndpointSlice {
    /// Object metadata; the label `kubernetes.io/service-name` names the service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(rename = "addressType", default)]
    pub address_type: String,
    /// The endpoints.
    #[serde(default, deserialize_with = "null_default")]
    pub endpoints: Vec<Endpoint>,
}

/// Part of `discovery.k8s.io/v1 Endpoint`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Conditions of the endpoint.
    #[serde(deserialize_with = "null_default")]
    pub conditions: EndpointConditions,
    /// Node of the endpoint.
    pub node_name: Option<String>,
}

impl Endpoint {
    /// Ready, or terminating but still serving: MetalLB keeps an announcement for both.
    pub fn usable(&self) -> bool {
        self.conditions.ready.unwrap_or(true) || self.conditions.serving.unwrap_or(false)
    }
}

/// Part of `discovery.k8s.io/v1 EndpointConditions`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct EndpointConditions {
    /// Absent means ready.
    pub ready: Option<bool>,
    /// Serving though perhaps terminating.
    pub serving: Option<bool>,
}

/// `v1.Node` without its long image list.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = core::Node)]
pub struct Node {
    /// Object metadata.
    pub metadata: ObjectMeta,
    /// Scheduling state.
    #[serde(default)]
    pub spec: NodeSpec,
    /// Conditions and addresses.
    #[serde(default)]
    pub status: NodeStatus,
}

/// Part of `v1.NodeSpec`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct NodeSpec {
    /// Cordoned.
    #[serde(deserialize_with = "null_default")]
    pub unschedulable: bool,
    /// Taints.
    #[serde(deserialize_with = "null_default")]
    pub taints: Vec<Taint>,
}

/// Part of `v1.Taint`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct Taint {
    /// Taint key.
    pub key: String,
    /// Taint effect.
    pub effect: String,
}

/// Part of `v1.NodeStatus`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct NodeStatus {
    /// Conditions.
    #[serde(deserialize_with = "null_default")]
    pub conditions: Vec<Condition>,
    /// Addresses.
    #[serde(deserialize_with = "null_default")]
    pub addresses: Vec<NodeAddress>,
}

/// Type, status and reason of a condition.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct Condition {
    /// Condition type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Machine-readable reason.
    pub reason: Option<String>,
    /// Sentence for a person.
    pub message: Option<String>,
}

/// Part of `v1.NodeAddress`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname` …
    #[serde(rename = "type")]
    pub type_: String,
    /// The address.
    pub address: String,
}

/// `v1.Pod`, enough to find a speaker and to say why a pod does not run.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = core::Pod)]
pub struct Pod {
    /// Object metadata.
    pub metadata: ObjectMeta,
    /// Placement.
    #[serde(default)]
    pub spec: PodSpec,
    /// What became of it.
    #[serde(default)]
    pub status: PodStatus,
}

/// Part of `v1.PodSpec`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Node the pod is bound to.
    pub node_name: Option<String>,
}

/// Part of `v1.PodStatus`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Reason of an eviction or refusal.
    pub reason: Option<String>,
    /// Sentence that goes with `reason`.
    pub message: Option<String>,
    /// First pod address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// Conditions.
    #[serde(deserialize_with = "null_default")]
    pub conditions: Vec<Condition>,
    /// One status a container.
    #[serde(deserialize_with = "null_default")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// Part of `v1.ContainerStatus`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Container name.
    pub name: String,
    /// Ready to serve.
    pub ready: bool,
    /// Restarts so far.
    pub restart_count: i32,
    /// Current state.
    #[serde(deserialize_with = "null_default")]
    pub state: ContainerState,
    /// State before the last restart.
    #[serde(deserialize_with = "null_default")]
    pub last_state: ContainerState,
}

/// Part of `v1.ContainerState`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct ContainerState {
    /// Why it waits.
    pub waiting: Option<StateReason>,
    /// Why it ended.
    pub terminated: Option<StateReason>,
}

/// Reason and message of a container state.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct StateReason {
    /// `CrashLoopBackOff`, `ImagePullBackOff` …
    pub reason: Option<String>,
    /// Sentence for a person.
    pub message: Option<String>,
    /// Exit code of a terminated container.
    pub exit_code: Option<i32>,
}

/// `v1.Namespace`, for its labels.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = core::Namespace)]
pub struct Namespace {
    /// Object metadata.
    pub metadata: ObjectMeta,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_as_the_api_server_prints_it() {
        let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"w","namespace":"d","uid":"u","resourceVersion":"7",
          "managedFields":[{"manager":"kubectl","fieldsV1":{"f:spec":{}}}]},
          "spec":{"type":"LoadBalancer","clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack",
          "loadBalancerIP":"192.0.2.7","externalTrafficPolicy":"Local","ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":80}],"selector":null},
          "status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.7","ipMode":"VIP"}]}}}"#;
        let service: Service = serde_json::from_str(json).unwrap();
        assert_eq!(service.spec.load_balancer_ip.as_deref(), Some("192.0.2.7"));
        assert_eq!(service.spec.cluster_ips, ["10.96.0.9"]);
        assert_eq!(
            service.spec.ports,
            [ServicePort {
                protocol: Some("TCP".into()),
                port: 80
            }]
        );
        assert!(service.spec.selector.is_empty(), "null reads as empty");
        assert_eq!(
            service.status.load_balancer.ingress[0].ip.as_deref(),
            Some("192.0.2.7")
        );
    }

    #[test]
    fn endpoints_are_usable_while_they_serve() {
        let endpoint = |ready, serving| Endpoint {
            conditions: EndpointConditions { ready, serving },
            node_name: None,
        };
        assert!(endpoint(None, None).usable(), "absent means ready");
        assert!(endpoint(Some(true), None).usable());
        assert!(
            endpoint(Some(false), Some(true)).usable(),
            "terminating but serving"
        );
        assert!(!endpoint(Some(false), Some(false)).usable());
        assert!(!endpoint(Some(false), None).usable());
    }
}
