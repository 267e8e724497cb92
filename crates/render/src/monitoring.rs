//! Where Prometheus finds the metrics, who may read them, and when somebody should look.

use crate::{Custom, Installation, Kind, Object, bgp_backend, cluster_name, controller, rbac};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        rbac::v1::{ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use metallb_api::{
    MetalLBSpec,
    metallb::{MetricsConfig, Monitor, PrometheusAccount},
    names::{labels, objects},
};
use serde_json::{Value, json};

/// Label whose value becomes the label `job` of the metrics: `metallb`, which is what the alerts and dashboards of MetalLB
/// expect it to begin with.
const JOB_LABEL: &str = labels::APP;
/// Metrics of this product, whatever scraped them.
const JOB: &str = r#"job=~"metallb.*""#;
/// How full a pool is when somebody should know, and how much they should care.
const POOL_USAGE: [(u32, &str); 3] = [(75, "warning"), (85, "warning"), (95, "critical")];

/// Name of the metrics port, which says how it is served.
pub(crate) fn port_name(config: Option<&MetricsConfig>) -> &'static str {
    if config.is_some_and(|config| config.plain) {
        "metrics"
    } else {
        "metricshttps"
    }
}

/// Whether there are metrics at all.
pub(crate) fn is_enabled(config: Option<&MetricsConfig>) -> bool {
    config.and_then(|config| config.enabled).unwrap_or(true)
}

/// Everything about metrics that is no part of the workloads.
pub(crate) fn objects(spec: &MetalLBSpec, installation: &Installation) -> Vec<Object> {
    let Some(config) = spec
        .metrics
        .as_ref()
        .filter(|_| is_enabled(spec.metrics.as_ref()))
    else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if let Some(account) = &config.prometheus {
        all.extend(rights(account, installation));
    }
    for component in [labels::COMPONENT_CONTROLLER, labels::COMPONENT_SPEAKER] {
        match config.monitor.unwrap_or_default() {
            Monitor::None => {}
            Monitor::ServiceMonitor => {
                all.push(Object::Service(service(component, config, installation)));
                all.push(service_monitor(component, config, installation));
            }
            Monitor::PodMonitor => all.push(pod_monitor(component, config, installation)),
        }
    }
    if let Some(alerts) = config.alerts.as_ref().filter(|alerts| alerts.enabled) {
        let metadata = further(installation.namespaced(objects::ALERTS, None), config);
        let spec = rules(bgp_backend(spec), &alerts.exclude_pools);
        all.push(Object::Custom(Custom::new(Kind::PrometheusRule, metadata, spec)));
    }
    all
}

/// Prometheus may find the pods, and the API server lets it read `/metrics`.
fn rights(account: &PrometheusAccount, installation: &Installation) -> [Object; 4] {
    let subject = Subject {
        kind: "ServiceAccount".into(),
        name: account.service_account.clone(),
        namespace: Some(account.namespace.clone()),
        ..Default::default()
    };
    let local = installation.namespaced(objects::PROMETHEUS, None);
    let cluster = installation.cluster_scoped(objects::METRICS_READER, None);
    [
        Object::ClusterRole(rbac::cluster_role(cluster.clone(), vec![metrics_url()])),
        Object::ClusterRoleBinding(ClusterRoleBinding {
            role_ref: rbac::role_ref(
                "ClusterRole",
                &cluster_name(&installation.namespace, objects::METRICS_READER),
            ),
            subjects: Some(vec![subject.clone()]),
            metadata: cluster,
        }),
        Object::Role(Role {
            metadata: local.clone(),
            rules: Some(discovery_rules().into()),
        }),
        Object::RoleBinding(RoleBinding {
            role_ref: rbac::role_ref("Role", objects::PROMETHEUS),
            subjects: Some(vec![subject]),
            metadata: local,
        }),
    ]
}

/// The URL that the API server is asked about before metrics are given out.
pub(crate) fn metrics_url() -> PolicyRule {
    PolicyRule {
        non_resource_urls: Some(vec!["/metrics".into()]),
        verbs: vec!["get".into()],
        ..Default::default()
    }
}

/// What Prometheus lists to find pods.
pub(crate) fn discovery_rules() -> [PolicyRule; 2] {
    let read = ["get", "list", "watch"];
    [
        rbac::rule(&[""], &["pods", "services", "endpoints"], &read),
        rbac::rule(&["discovery.k8s.io"], &["endpointslices"], &read),
    ]
}

fn further(mut metadata: ObjectMeta, config: &MetricsConfig) -> ObjectMeta {
    let labels = metadata.labels.get_or_insert_default();
    for (key, value) in &config.monitor_labels {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata
}

fn service(component: &str, config: &MetricsConfig, installation: &Installation) -> Service {
    let port = i32::from(config.port.unwrap_or(installation.ports.metrics));
    let name = format!("{component}-monitor-service");
    let mut metadata = installation.namespaced(&name, Some(component));
    metadata
        .labels
        .get_or_insert_default()
        .insert("name".into(), name);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some(controller::selector(component)),
            ports: Some(vec![ServicePort {
                name: Some(port_name(Some(config)).into()),
                port,
                target_port: Some(IntOrString::Int(port)),
                protocol: Some("TCP".into()),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// How one kind of pods is asked.
fn endpoint(config: &MetricsConfig) -> Value {
    let mut endpoint = json!({"port": port_name(Some(config)), "path": "/metrics", "honorLabels": true});
    if config.plain {
        endpoint["scheme"] = "http".into();
    } else {
        endpoint["scheme"] = "https".into();
        // The certificate is made at start, by each pod for itself.
        endpoint["tlsConfig"] = json!({"insecureSkipVerify": true});
    }
    if !config.interval.is_empty() {
        endpoint["interval"] = config.interval.clone().into();
    }
    endpoint
}

fn service_monitor(component: &str, config: &MetricsConfig, installation: &Installation) -> Object {
    let mut endpoint = endpoint(config);
    if !config.plain {
        endpoint["bearerTokenFile"] = "/var/run/secrets/kubernetes.io/serviceaccount/token".into();
    }
    let metadata = installation.namespaced(&format!("{component}-monitor"), Some(component));
    let spec = json!({
        "jobLabel": JOB_LABEL,
        "namespaceSelector": {"matchNames": [installation.namespace]},
        "selector": {"matchLabels": {"name": format!("{component}-monitor-service")}},
        "endpoints": [endpoint],
    });
    Object::Custom(Custom::new(Kind::ServiceMonitor, further(metadata, config), spec))
}

fn pod_monitor(component: &str, config: &MetricsConfig, installation: &Installation) -> Object {
    let mut endpoint = endpoint(config);
    if let (false, Some(secret)) = (config.plain, &config.token_secret) {
        let key = if secret.key.is_empty() {
            "token"
        } else {
            &secret.key
        };
        endpoint["authorization"] =
            json!({"type": "Bearer", "credentials": {"name": secret.name, "key": key}});
    }
    let metadata = installation.namespaced(&format!("{component}-monitor"), Some(component));
    let spec = json!({
        "jobLabel": JOB_LABEL,
        "namespaceSelector": {"matchNames": [installation.namespace]},
        "selector": {"matchLabels": controller::selector(component)},
        "podMetricsEndpoints": [endpoint],
    });
    Object::Custom(Custom::new(Kind::PodMonitor, further(metadata, config), spec))
}

fn rules(backend: &str, exclude_pools: &str) -> Value {
    let alert = |name: &str, expression: &str, severity: &str, summary: &str, description: &str| {
        json!({
            "alert": name,
            "expr": expression,
            "for": "1m",
            "labels": {"severity": severity},
            "annotations": {"summary": summary, "description": description},
        })
    };
    // The flavour chooses the prefix of the BGP metrics, as in MetalLB.
    let bgp = if backend.starts_with("frr-k8s") {
        "frrk8s"
    } else {
        "metallb"
    };
    let exclude = serde_json::Value::from(exclude_pools);
    let in_use = format!("metallb_allocator_addresses_in_use_total{{pool!~{exclude}}}");
    let mut all = vec![
        alert(
            "MetalLBStaleConfig",
            &format!("metallb_k8s_client_config_stale_bool{{{JOB}}} == 1"),
            "warning",
            "Configuration on {{ $labels.pod }} is not in force as written",
            "Part of the configuration that {{ $labels.pod }} reads is invalid; what it last validly said stays in force. kubectl get configurationstates shows which object, and why.",
        ),
        alert(
            "MetalLBConfigNotLoaded",
            &format!("metallb_k8s_client_config_loaded_bool{{{JOB}}} == 0"),
            "warning",
            "No configuration on {{ $labels.pod }}",
            "{{ $labels.pod }} has read no configuration for a minute.",
        ),
        alert(
            "MetalLBAddressPoolExhausted",
            &format!("{in_use} >= on(pool) metallb_allocator_addresses_total"),
            "critical",
            "Pool {{ $labels.pool }} has no address left",
            "Every address of pool {{ $labels.pool }} is in use; further services stay pending.",
        ),
    ];
    all.extend(POOL_USAGE.map(|(percent, severity)| {
        alert(
            &format!("MetalLBAddressPoolUsage{percent}Percent"),
            &format!("{in_use} / on(pool) metallb_allocator_addresses_total * 100 > {percent}"),
            severity,
            &format!("Pool {{{{ $labels.pool }}}} is more than {percent}% full"),
            &format!("More than {percent}% of the addresses of pool {{{{ $labels.pool }}}} are in use."),
        )
    }));
    all.push(alert(
        "MetalLBBGPSessionDown",
        &format!("{bgp}_bgp_session_up{{{JOB}}} == 0"),
        "critical",
        "BGP session of {{ $labels.pod }} is down",
        "{{ $labels.pod }} has had no session with {{ $labels.peer }} for a minute.",
    ));
    json!({"groups": [{"name": "metallb.rules", "rules": all}]})
}
