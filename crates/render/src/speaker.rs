//! The DaemonSet `speaker`, and the interfaces it leaves alone.

use crate::{Installation, controller, pod};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, PodSecurityContext, PodSpec,
            PodTemplateSpec, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use metallb_api::{
    MetalLBSpec,
    names::{env, labels, objects, paths},
};
use metallb_model::DEFAULT_EXCLUDED_INTERFACES;
use std::{collections::BTreeMap, fmt::Write as _};

/// Long enough to leave the membership and to withdraw.
const GRACE_SECONDS: i64 = 5;
const LOOPBACK: &str = "127.0.0.1";
/// Readable by the owner only.
const KEY_MODE: i32 = 0o400;

/// The `ConfigMap` `metallb-excludel2`.
pub(crate) fn exclude_l2_config_map(installation: &Installation) -> ConfigMap {
    let mut text = String::from("announcedInterfacesToExclude:\n");
    for pattern in DEFAULT_EXCLUDED_INTERFACES {
        writeln!(text, "- {pattern}").expect("a string takes all");
    }
    ConfigMap {
        metadata: installation.namespaced(objects::EXCLUDE_L2_CONFIG_MAP, Some(labels::COMPONENT_SPEAKER)),
        data: Some(BTreeMap::from([(objects::EXCLUDE_L2_FILE.to_owned(), text)])),
        ..Default::default()
    }
}

/// The DaemonSet.
pub fn daemon_set(spec: &MetalLBSpec, installation: &Installation) -> DaemonSet {
    let component = labels::COMPONENT_SPEAKER;
    let config = spec.speaker_config.as_ref();
    let mut pod = PodSpec {
        service_account_name: Some(objects::SPEAKER.into()),
        // ARP, NDP and BGP speak for the node.
        host_network: Some(true),
        node_selector: Some(pod::node_selector(&spec.node_selector)),
        tolerations: Some(pod::tolerations(&spec.speaker_tolerations)),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(pod::runtime_default()),
            ..Default::default()
        }),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        containers: vec![container(spec, installation)],
        volumes: Some(volumes()),
        ..Default::default()
    };
    pod::configure(&mut pod, 0, config);
    DaemonSet {
        metadata: installation.namespaced(objects::SPEAKER, Some(component)),
        spec: Some(DaemonSetSpec {
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(controller::selector(component)),
                ..Default::default()
            },
            // One node at a time: what it announces moves to its neighbours meanwhile.
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::Int(1)),
                    ..Default::default()
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(controller::selector(component)),
                    annotations: pod::annotations(config),
                    ..Default::default()
                }),
                spec: Some(pod),
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container(spec: &MetalLBSpec, installation: &Installation) -> Container {
    let ports = installation.ports;
    let mut environment = controller::common_environment(spec);
    environment.extend([
        pod::env_from(env::NODE_NAME, "spec.nodeName"),
        pod::env_from(env::ML_BIND_ADDR, "status.podIP"),
        pod::env(env::ML_BIND_PORT, ports.memberlist.to_string()),
        pod::env(env::ML_LABELS, "app=metallb,component=speaker"),
        pod::env(env::ML_SECRET_KEY_PATH, paths::MEMBERLIST_DIR),
    ]);
    let port = |name: &str, number: u16, protocol: &str| ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        // With the node's network the two are one; the scheduler then keeps a second user of the port off the node.
        host_port: Some(number.into()),
        protocol: Some(protocol.into()),
        ..Default::default()
    };
    Container {
        name: objects::SPEAKER.into(),
        image: Some(installation.images.speaker.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        // The last words of a container that fails reach the pod's status, and from there the MetalLB resource's.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        args: Some(controller::arguments(spec, installation)),
        env: Some(environment),
        ports: Some(vec![
            port("metricshttps", ports.metrics, "TCP"),
            port("memberlist-udp", ports.memberlist, "UDP"),
        ]),
        liveness_probe: Some(pod::http_probe(
            "/healthz",
            Some(LOOPBACK),
            ports.health,
            &pod::LIVENESS,
        )),
        readiness_probe: Some(pod::http_probe(
            "/readyz",
            Some(LOOPBACK),
            ports.health,
            &pod::READINESS,
        )),
        resources: Some(pod::small_requests("24Mi")),
        security_context: Some(SecurityContext {
            // Kubernetes gives a process of another user no ambient capability, and raw sockets need one.
            run_as_user: Some(0),
            ..pod::container_security(&["NET_RAW"])
        }),
        volume_mounts: Some(mounts()),
        ..Default::default()
    }
}

fn volumes() -> Vec<Volume> {
    // Optional, all of them: a speaker starts without any, and takes a key up when it appears.
    let secret = |volume: &str, name: &str| Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.into()),
            default_mode: Some(KEY_MODE),
            optional: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    vec![
        secret("memberlist", objects::USER_MEMBERLIST_SECRET),
        secret("memberlist-generated", objects::MEMBERLIST_SECRET),
        Volume {
            name: "metallb-excludel2".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: objects::EXCLUDE_L2_CONFIG_MAP.into(),
                optional: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        },
    ]
}

fn mounts() -> Vec<VolumeMount> {
    let mount = |volume: &str, path: &str| VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        read_only: Some(true),
        ..Default::default()
    };
    vec![
        mount("memberlist", paths::MEMBERLIST_DIR),
        mount("memberlist-generated", paths::MEMBERLIST_GENERATED_DIR),
        mount("metallb-excludel2", paths::EXCLUDE_L2_DIR),
    ]
}
