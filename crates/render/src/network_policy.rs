//! What may reach the controller, and what it may reach.

use crate::{Installation, Object, controller, monitoring};
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use metallb_api::{
    MetalLBSpec,
    names::{labels, objects, ports},
};

/// The policy, when one is wanted. Speakers need none: policies do not concern pods in the node's network.
pub(crate) fn object(spec: &MetalLBSpec, installation: &Installation) -> Option<Object> {
    let config = spec.network_policies.as_ref().filter(|config| config.enabled)?;
    let component = labels::COMPONENT_CONTROLLER;
    let tcp = |number: u16| NetworkPolicyPort {
        protocol: Some("TCP".into()),
        port: Some(IntOrString::Int(number.into())),
        ..Default::default()
    };
    let metrics = spec.metrics.as_ref();
    let ingress = monitoring::is_enabled(metrics).then(|| {
        vec![NetworkPolicyIngressRule {
            ports: Some(vec![tcp(metrics
                .and_then(|config| config.port)
                .unwrap_or(installation.ports.metrics))]),
            ..Default::default()
        }]
    });
    Some(Object::NetworkPolicy(NetworkPolicy {
        metadata: installation.namespaced(objects::CONTROLLER, Some(component)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(controller::selector(component)),
                ..Default::default()
            }),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            // Probes come from the node, which policies let through.
            ingress,
            egress: Some(vec![NetworkPolicyEgressRule {
                ports: Some(vec![tcp(config.api_port.unwrap_or(ports::API_SERVER))]),
                ..Default::default()
            }]),
        }),
    }))
}
