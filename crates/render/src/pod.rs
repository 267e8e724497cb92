//! Pieces that the pods of all components share.

use crate::{Installation, monitoring};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EnvVar, EnvVarSource, HTTPGetAction, LocalObjectReference,
        ObjectFieldSelector, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
        SecurityContext, Toleration,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use metallb_api::{MetalLBSpec, metallb::PodConfig};
use std::collections::BTreeMap;

/// The unprivileged user of everything but the speaker.
pub(crate) const NOBODY: i64 = 65534;

pub(crate) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..Default::default()
    }
}

/// An environment variable taken from a field of the pod.
pub(crate) fn env_from(name: &str, field_path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: field_path.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// How often a probe asks, and how patient it is.
pub(crate) struct Pace {
    pub(crate) initial_delay_seconds: i32,
    pub(crate) period_seconds: i32,
    pub(crate) failure_threshold: i32,
}

/// Slow to kill: a restart is the last resort.
pub(crate) const LIVENESS: Pace = Pace {
    initial_delay_seconds: 10,
    period_seconds: 10,
    failure_threshold: 3,
};
/// Quick to notice that a component has come up.
pub(crate) const READINESS: Pace = Pace {
    initial_delay_seconds: 1,
    period_seconds: 5,
    failure_threshold: 3,
};

pub(crate) fn http_probe(path: &str, host: Option<&str>, port: u16, pace: &Pace) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            host: host.map(Into::into),
            port: IntOrString::Int(port.into()),
            ..Default::default()
        }),
        initial_delay_seconds: Some(pace.initial_delay_seconds),
        period_seconds: Some(pace.period_seconds),
        failure_threshold: Some(pace.failure_threshold),
        timeout_seconds: Some(3),
        ..Default::default()
    }
}

/// A container may do nothing but what is added.
pub(crate) fn container_security(add: &[&str]) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: (!add.is_empty()).then(|| add.iter().map(ToString::to_string).collect()),
        }),
        ..Default::default()
    }
}

pub(crate) fn unprivileged_pod() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        seccomp_profile: Some(runtime_default()),
        ..Default::default()
    }
}

pub(crate) fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".into(),
        ..Default::default()
    }
}

/// Processor time of a component that may wait its turn.
pub(crate) const SOME_CPU: &str = "10m";
/// Processor time of the speaker. It uses a tenth of that, but the kernel's scheduler makes a small share wait for its turn: on a
/// node with twice as many busy processes as processors the slowest of 800 ARP replies took 119 ms with 10m, 61 ms with this.
pub(crate) const PROMPT_CPU: &str = "50m";

/// Requests that cover what the component needs; no limits, because a throttled or killed speaker drops traffic.
pub(crate) fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".into(), Quantity(cpu.into())),
            ("memory".into(), Quantity(memory.into())),
        ])),
        ..Default::default()
    }
}

/// Tolerations of control-plane nodes, then the user's.
pub(crate) fn tolerations(user: &[Toleration]) -> Vec<Toleration> {
    let control_plane = [
        "node-role.kubernetes.io/master",
        "node-role.kubernetes.io/control-plane",
    ];
    let ours = control_plane.map(|key| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some("NoSchedule".into()),
        ..Default::default()
    });
    ours.into_iter().chain(user.iter().cloned()).collect()
}

/// Linux nodes with the user's labels.
pub(crate) fn node_selector(user: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
    all.extend(user.clone());
    all
}

/// Puts the user's pod settings where they belong.
pub(crate) fn configure(pod: &mut PodSpec, container: usize, config: Option<&PodConfig>) {
    let Some(config) = config else { return };
    let given = |name: &String| (!name.is_empty()).then(|| name.clone());
    pod.priority_class_name = given(&config.priority_class_name);
    pod.runtime_class_name = given(&config.runtime_class_name);
    pod.affinity.clone_from(&config.affinity);
    if let Some(resources) = &config.resources {
        let container: &mut Container = &mut pod.containers[container];
        container.resources = Some(resources.clone());
    }
}

/// Annotations of the pods, if any: what Prometheus' older configurations look for, then the user's.
pub(crate) fn annotations(
    spec: &MetalLBSpec,
    installation: &Installation,
    config: Option<&PodConfig>,
) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    if let (Some(metrics), Some(port)) = (&spec.metrics, ports(spec, installation).metrics)
        && metrics.scrape_annotations
    {
        let scheme = if metrics.plain { "http" } else { "https" };
        for (word, value) in [
            ("scrape", "true"),
            ("scheme", scheme),
            ("port", &port.to_string()),
            ("path", "/metrics"),
        ] {
            all.insert(format!("prometheus.io/{word}"), value.to_owned());
        }
    }
    all.extend(config.into_iter().flat_map(|config| config.annotations.clone()));
    (!all.is_empty()).then_some(all)
}

/// The metadata with the user's labels. What selects pods, and what finds objects again, is not theirs to change.
pub(crate) fn labelled(mut metadata: ObjectMeta, config: Option<&PodConfig>) -> ObjectMeta {
    let labels = metadata.labels.get_or_insert_default();
    for (key, value) in config.into_iter().flat_map(|config| &config.labels) {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata
}

/// Secrets for pulling images, if any.
pub(crate) fn pull_secrets(spec: &MetalLBSpec) -> Option<Vec<LocalObjectReference>> {
    let all: Vec<_> = spec
        .image_pull_secrets
        .iter()
        .map(|secret| LocalObjectReference {
            name: secret.name.clone(),
        })
        .collect();
    (!all.is_empty()).then_some(all)
}

/// Ports of the operands as the spec wants them.
pub(crate) struct OperandPorts {
    /// Metrics; `None` when there are none.
    pub(crate) metrics: Option<u16>,
    pub(crate) health: u16,
    pub(crate) memberlist: u16,
}

pub(crate) fn ports(spec: &MetalLBSpec, installation: &Installation) -> OperandPorts {
    let usual = installation.ports;
    let metrics = spec.metrics.as_ref();
    let memberlist = spec.memberlist.as_ref();
    OperandPorts {
        metrics: monitoring::is_enabled(metrics)
            .then(|| metrics.and_then(|config| config.port).unwrap_or(usual.metrics)),
        health: usual.health,
        memberlist: memberlist
            .and_then(|config| config.bind_port)
            .unwrap_or(usual.memberlist),
    }
}
