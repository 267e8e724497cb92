//! The Deployment `controller`, which runs the allocator.

use crate::{Installation, Installer, bgp_backend, monitoring, pod};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{Container, ContainerPort, EnvVar, PodSpec, PodTemplateSpec, TopologySpreadConstraint},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use metallb_api::{
    MetalLBSpec,
    names::{env, labels, objects},
};
use std::collections::BTreeMap;

/// Long enough to release the Lease, so that a successor starts at once.
const GRACE_SECONDS: i64 = 10;

/// The labels that select a component's pods. They are immutable in the API: never add one.
pub(crate) fn selector(component: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::APP.to_owned(), labels::APP_METALLB.to_owned()),
        (labels::COMPONENT.to_owned(), component.to_owned()),
    ])
}

/// The Deployment.
pub fn deployment(spec: &MetalLBSpec, installation: &Installation) -> Deployment {
    let component = labels::COMPONENT_CONTROLLER;
    let config = spec.controller_config.as_ref();
    let mut pod = PodSpec {
        service_account_name: Some(objects::CONTROLLER.into()),
        image_pull_secrets: pod::pull_secrets(spec),
        topology_spread_constraints: spread(spec),
        node_selector: Some(pod::node_selector(&spec.controller_node_selector)),
        tolerations: Some(pod::tolerations(&spec.controller_tolerations)),
        security_context: Some(pod::unprivileged_pod()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        containers: vec![container(spec, installation)],
        ..Default::default()
    };
    pod::configure(&mut pod, 0, config);
    Deployment {
        metadata: pod::labelled(
            installation.namespaced(objects::CONTROLLER, Some(component)),
            config,
        ),
        spec: Some(DeploymentSpec {
            replicas: Some(spec.controller_replicas.map_or(1, u32::cast_signed)),
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(selector(component)),
                ..Default::default()
            },
            // The new pod waits for the Lease while the old one still serves.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(pod::labelled(
                    ObjectMeta {
                        labels: Some(selector(component)),
                        annotations: pod::annotations(spec, installation, config),
                        ..Default::default()
                    },
                    config,
                )),
                spec: Some(pod),
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The user's constraints; one that selects no pods means these.
fn spread(spec: &MetalLBSpec) -> Option<Vec<TopologySpreadConstraint>> {
    let mut all = spec.controller_topology_spread_constraints.clone();
    for constraint in &mut all {
        constraint.label_selector.get_or_insert_with(|| LabelSelector {
            match_labels: Some(selector(labels::COMPONENT_CONTROLLER)),
            ..Default::default()
        });
    }
    (!all.is_empty()).then_some(all)
}

fn container(spec: &MetalLBSpec, installation: &Installation) -> Container {
    let ports = pod::ports(spec, installation);
    Container {
        name: objects::CONTROLLER.into(),
        image: Some(installation.images.controller.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        // The last words of a container that fails reach the pod's status, and from there the MetalLB resource's.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        args: Some(own_arguments(spec, installation)),
        env: Some(environment(spec, installation)),
        ports: ports.metrics.map(|port| {
            vec![ContainerPort {
                name: Some(monitoring::port_name(spec.metrics.as_ref()).into()),
                container_port: port.into(),
                protocol: Some("TCP".into()),
                ..Default::default()
            }]
        }),
        liveness_probe: Some(pod::http_probe("/healthz", None, ports.health, &pod::LIVENESS)),
        readiness_probe: Some(pod::http_probe("/readyz", None, ports.health, &pod::READINESS)),
        resources: Some(pod::requests(pod::SOME_CPU, "24Mi")),
        security_context: Some(pod::container_security(&[])),
        ..Default::default()
    }
}

fn own_arguments(spec: &MetalLBSpec, installation: &Installation) -> Vec<String> {
    let mut all = arguments(spec, installation);
    if spec.fair_reuse {
        all.push("--fair-reuse".into());
    }
    all
}

/// Flags that both operands have.
pub(crate) fn arguments(spec: &MetalLBSpec, installation: &Installation) -> Vec<String> {
    let ports = pod::ports(spec, installation);
    let mut all = vec![
        format!("--port={}", ports.metrics.unwrap_or(0)),
        format!("--health-probe-port={}", ports.health),
        format!("--log-level={}", spec.log_level.unwrap_or_default().as_str()),
    ];
    if ports.metrics.is_some() && spec.metrics.as_ref().is_some_and(|config| config.plain) {
        all.push("--metrics-plain".into());
    }
    if !spec.load_balancer_class.is_empty() {
        all.push(format!("--lb-class={}", spec.load_balancer_class));
    }
    all
}

/// Environment that both operands have.
pub(crate) fn common_environment(spec: &MetalLBSpec) -> Vec<EnvVar> {
    let mut all = vec![
        pod::env_from(env::NAMESPACE, "metadata.namespace"),
        pod::env_from(env::POD_NAME, "metadata.name"),
        pod::env_from(env::POD_UID, "metadata.uid"),
    ];
    match bgp_backend(spec) {
        "native" => {}
        // To the operands it is the same flavour whoever has installed frr-k8s.
        "frr-k8s-external" => all.push(pod::env(env::BGP_TYPE, "frr-k8s")),
        backend => all.push(pod::env(env::BGP_TYPE, backend)),
    }
    all
}

fn environment(spec: &MetalLBSpec, installation: &Installation) -> Vec<EnvVar> {
    let mut all = common_environment(spec);
    all.push(pod::env(env::DEPLOYMENT, objects::CONTROLLER));
    if installation.installer == Installer::Manifests {
        all.push(pod::env(env::ML_SECRET_NAME, objects::MEMBERLIST_SECRET));
        all.push(pod::env(env::DAEMON_SET, objects::SPEAKER));
    }
    all
}
