//! The DaemonSet `speaker`, and the interfaces it leaves alone.

use crate::{Installation, Installer, controller, monitoring, pod};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, PodSecurityContext, PodSpec,
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
    metallb::{self, ConflictPolicy, UpdateStrategyType},
    names::{env, labels, objects, paths},
};
use metallb_model::DEFAULT_EXCLUDED_INTERFACES;
use serde_json::json;
use std::{collections::BTreeMap, fmt::Write as _};

/// Long enough to leave the membership and to withdraw.
const GRACE_SECONDS: i64 = 5;
const LOOPBACK: &str = "127.0.0.1";
/// Readable by the owner only.
const KEY_MODE: i32 = 0o400;

/// The `ConfigMap` `metallb-excludel2`.
pub(crate) fn exclude_l2_config_map(spec: &MetalLBSpec, installation: &Installation) -> ConfigMap {
    let mut text = String::from("announcedInterfacesToExclude:\n");
    for pattern in DEFAULT_EXCLUDED_INTERFACES {
        writeln!(text, "- {pattern}").expect("a string takes all");
    }
    if let Some(own) = &spec.exclude_interfaces {
        // JSON is YAML, and quotes whatever a pattern holds.
        text = format!("{}\n", json!({ "announcedInterfacesToExclude": own }));
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
        image_pull_secrets: pod::pull_secrets(spec),
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
        metadata: pod::labelled(installation.namespaced(objects::SPEAKER, Some(component)), config),
        spec: Some(DaemonSetSpec {
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(controller::selector(component)),
                ..Default::default()
            },
            update_strategy: Some(update_strategy(spec)),
            template: PodTemplateSpec {
                metadata: Some(pod::labelled(
                    ObjectMeta {
                        labels: Some(pod_labels(component)),
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

/// One node at a time, unless somebody knows better: its neighbours answer in its name meanwhile, if they are there.
fn update_strategy(spec: &MetalLBSpec) -> DaemonSetUpdateStrategy {
    let wanted = spec.speaker_update_strategy.clone().unwrap_or_default();
    if wanted.type_ == Some(UpdateStrategyType::OnDelete) {
        return DaemonSetUpdateStrategy {
            type_: Some("OnDelete".into()),
            rolling_update: None,
        };
    }
    let max_unavailable = wanted
        .rolling_update
        .and_then(|rolling| rolling.max_unavailable)
        .unwrap_or(IntOrString::Int(1));
    DaemonSetUpdateStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDaemonSet {
            max_unavailable: Some(max_unavailable),
            ..Default::default()
        }),
    }
}

/// Flags that only speakers have. What is as by default is not said, so that the pods of an older spec are not rolled.
fn arguments(spec: &MetalLBSpec, installation: &Installation) -> Vec<String> {
    let mut all = controller::arguments(spec, installation);
    if spec.ignore_exclude_lb {
        all.push("--ignore-exclude-lb".into());
    }
    let layer2 = spec.layer2.clone().unwrap_or_default();
    let refresh = [
        &layer2.gratuitous_arp_interval,
        &spec.speaker_gratuitous_arp_interval,
    ];
    let refresh = refresh.into_iter().find(|interval| !interval.is_empty());
    for (flag, value) in [
        ("gratuitous-arp-interval", refresh.map_or("", String::as_str)),
        (
            "l2-conflict-policy",
            layer2.conflict_policy.map_or("", ConflictPolicy::as_str),
        ),
        ("l2-probe", layer2.probe.map_or("", metallb::Probe::as_str)),
        ("l2-restart-grace", layer2.restart_grace.as_str()),
    ] {
        if !value.is_empty() {
            all.push(format!("--{flag}={value}"));
        }
    }
    for (flag, wanted) in [
        ("l2-unready-last", layer2.unready_last),
        ("l2-non-preempt", layer2.non_preempt),
        ("l2-strict", layer2.strict),
    ] {
        if wanted {
            all.push(format!("--{flag}"));
        }
    }
    if let (true, Installer::Operator { uid, .. }) = (layer2.strict, &installation.installer) {
        all.push(format!("--l2-lease-owner={uid}"));
    }
    all
}

/// Where membership listens, and what peers are told where that says nothing of the node. Without an address there is none.
fn membership(spec: &MetalLBSpec, port: u16) -> Vec<EnvVar> {
    let config = spec.memberlist.clone().unwrap_or_default();
    if config.enabled == Some(false) {
        return Vec::new();
    }
    let address = if config.bind_address.is_empty() {
        pod::env_from(env::ML_BIND_ADDR, "status.podIP")
    } else {
        pod::env(env::ML_BIND_ADDR, config.bind_address)
    };
    vec![
        pod::env_from(env::HOST, "status.hostIP"),
        address,
        pod::env(env::ML_BIND_PORT, port.to_string()),
    ]
}

/// The selector's labels, and the one that tells ours from the speakers of Go MetalLB.
fn pod_labels(component: &str) -> BTreeMap<String, String> {
    let mut all = controller::selector(component);
    all.insert(labels::ENGINE.into(), labels::ENGINE_RUST.into());
    all
}

fn container(spec: &MetalLBSpec, installation: &Installation) -> Container {
    let ports = pod::ports(spec, installation);
    let mut environment = controller::common_environment(spec);
    environment.push(pod::env_from(env::NODE_NAME, "spec.nodeName"));
    let membership = membership(spec, ports.memberlist);
    let is_member = !membership.is_empty();
    environment.extend(membership);
    environment.extend([
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
    let open: Vec<_> = ports
        .metrics
        .map(|number| port(monitoring::port_name(spec.metrics.as_ref()), number, "TCP"))
        .into_iter()
        .chain(is_member.then(|| port("memberlist-udp", ports.memberlist, "UDP")))
        .collect();
    Container {
        name: objects::SPEAKER.into(),
        image: Some(installation.images.speaker.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        // The last words of a container that fails reach the pod's status, and from there the MetalLB resource's.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        args: Some(arguments(spec, installation)),
        env: Some(environment),
        ports: Some(open).filter(|open| !open.is_empty()),
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
        resources: Some(pod::requests(pod::PROMPT_CPU, "24Mi")),
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
