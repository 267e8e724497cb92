//! `MetalLB`: one resource that stands for the whole installation.

mod settings;

pub use settings::{
    AlertsConfig, ConflictPolicy, Layer2Config, MemberlistConfig, MetricsConfig, Monitor,
    NetworkPoliciesConfig, Probe, PrometheusAccount, RollingUpdate, TokenSecret, UpdateStrategy,
    UpdateStrategyType,
};

use crate::schema::{conditions, is_cidr, is_false};
use k8s_openapi::{
    api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the operator should run. An empty spec is a complete one: every field has a sensible default.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "MetalLB",
    plural = "metallbs",
    namespaced,
    status = "MetalLBStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An installation of the load-balancer: its controller and speakers run in the namespace of this resource, which must be named 'metallb'. A cluster has one.",
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(
        name = "Degraded",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Degraded")].status"#
    ),
    printcolumn(
        name = "Progressing",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Progressing")].status"#
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(
        name = "Speakers",
        type_ = "string",
        description = "ready/desired",
        json_path = ".status.speakers"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetalLBSpec {
    /// Ignored, and kept so that old manifests are accepted: images are part of the operator's release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,

    /// Nodes that run a speaker: those with all of these labels. Empty: all Linux nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that speakers tolerate, besides those of control-plane nodes, which they always tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "tolerations")]
    pub speaker_tolerations: Vec<Toleration>,

    /// Nodes that may run the controller: those with all of these labels. Empty: all Linux nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub controller_node_selector: BTreeMap<String, String>,

    /// Taints that the controller tolerates, besides those of control-plane nodes, which it always tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "tolerations")]
    pub controller_tolerations: Vec<Toleration>,

    /// How much controller and speakers log: all, debug, info, warn, error or none. Default: info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,

    /// Serve only services whose spec.loadBalancerClass is this. Empty: serve only services without a class.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "load_balancer_class")]
    pub load_balancer_class: String,

    /// Let a released address rest: the address that was released longest ago is given out next. With false it is the lowest
    /// free one, as MetalLB does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fair_reuse: bool,

    /// Secrets for pulling the images, in the namespace of this resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "settings::pull_secrets")]
    pub image_pull_secrets: Vec<ImagePullSecret>,

    /// How many controllers run. One of them works, the others take over within seconds when it ends. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub controller_replicas: Option<u32>,

    /// How controllers are spread over nodes or zones. A constraint without labelSelector means the controllers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "settings::topology_spread")]
    pub controller_topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// How speakers are replaced when something changes. Default: a rolling update, one node at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker_update_strategy: Option<UpdateStrategy>,

    /// Regular expressions of network interfaces that nothing is announced on, instead of the built-in ones (those of
    /// containers, bridges and overlays: docker, cbr, dummy, virbr, lxcbr, veth, lo, cali, tunl, flannel, kube-ipvs, cni,
    /// nodelocaldns, lxc). An empty list announces on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "settings::interfaces")]
    pub exclude_interfaces: Option<Vec<String>>,

    /// Announce also from nodes with the label node.kubernetes.io/exclude-from-external-load-balancers, which control-plane
    /// nodes have: a cluster of one node needs this.
    #[serde(default, rename = "ignoreExcludeLB", skip_serializing_if = "is_false")]
    pub ignore_exclude_lb: bool,

    /// How speakers know of each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memberlist: Option<MemberlistConfig>,

    /// How addresses are announced by ARP and NDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer2: Option<Layer2Config>,

    /// The same as layer2.gratuitousARPInterval, under metallb-operator's name. Of two that differ, that of layer2 holds.
    #[serde(
        default,
        rename = "speakerGratuitousARPInterval",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(schema_with = "settings::refresh")]
    pub speaker_gratuitous_arp_interval: String,

    /// Metrics, and what Prometheus is told about them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsConfig>,

    /// What may reach the controller, and what it may reach, by NetworkPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policies: Option<NetworkPoliciesConfig>,

    /// Pod settings of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_config: Option<PodConfig>,

    /// Pod settings of the speakers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker_config: Option<PodConfig>,

    /// Flavour of BGP: native, frr, frr-k8s or frr-k8s-external. All of them run the engine inside the speaker, without
    /// side-cars; the name selects the default local preference and the names of the metrics. Default: frr.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "bgp_backend")]
    pub bgp_backend: String,

    /// Settings that belonged to the frr-k8s daemons. Accepted; those that cannot apply are reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frrk8s_config: Option<Frrk8sConfig>,
}

/// A Secret for pulling images.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePullSecret {
    /// Name of the Secret.
    #[serde(default)]
    pub name: String,
}

/// How much controller and speakers log. Default: info.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    All,
    /// Also what helps to find a fault.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may need attention.
    Warn,
    /// What failed.
    Error,
    /// Nothing.
    None,
}

impl LogLevel {
    /// The word of the flag `--log-level`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::All => "all",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::None => "none",
        }
    }
}

/// Settings of a component's pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodConfig {
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub priority_class_name: String,
    /// RuntimeClass of the pods.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runtime_class_name: String,
    /// Affinity of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "affinity")]
    pub affinity: Option<Affinity>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Further labels of the workload and its pods. Those by which the pods are found (app, component) and the operator's own
    /// cannot be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "settings::further_labels")]
    pub labels: BTreeMap<String, String>,
    /// Requests and limits of the component's container, instead of the default requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resources")]
    pub resources: Option<ResourceRequirements>,
}

/// Settings that belonged to the frr-k8s daemons.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Frrk8sConfig {
    /// Prefixes that are never accepted from a peer, as CIDR. (Nothing is accepted from peers here, so each holds already.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "cidrs")]
    pub always_block: Vec<String>,
    /// Namespace of a frr-k8s that was installed apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Whether references to BGP password secrets are handed to a frr-k8s that was installed apart.
    #[serde(default, skip_serializing_if = "is_false")]
    pub secret_passthrough: bool,
}

/// What the operator observed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetalLBStatus {
    /// Available, Progressing, Degraded, Upgradeable; each with a reason and a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Release that the operator rolls out or has rolled out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Speakers that are ready, of those that are wanted, such as 3/3.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub speakers: String,
}

/// Values of `bgpBackend`.
pub const BGP_BACKENDS: [&str; 4] = ["native", "frr", "frr-k8s", "frr-k8s-external"];

fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let items = Toleration::json_schema(generator);
    // One rule, the one of metallb-operator: what it admitted must stay writable after an upgrade. The rest of what a pod's
    // toleration must be is the API server's to say when the workload is applied, and the operator reports it.
    // Bounded because a rule looks at each element, and the API server prices rules by the longest possible list.
    json_schema!({
        "type": "array",
        "maxItems": 256,
        "items": with_rules(items, json!([{
            "rule": "!has(self.tolerationSeconds) || self.tolerationSeconds <= 0 || (has(self.effect) && self.effect == 'NoExecute')",
            "message": "a toleration with tolerationSeconds needs effect: NoExecute (the other effects never evict a running pod, so there is nothing to delay)",
        }])),
    })
}

fn load_balancer_class(_: &mut SchemaGenerator) -> Schema {
    // The domain is a name like the other part, as in metallb-operator, although a service's class has no capitals and
    // underscores there: such a class serves nothing, but an installation that has it can be changed.
    const NAME: &str = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?";
    json_schema!({
        "type": "string",
        "maxLength": 317,
        "x-kubernetes-validations": [{
            "rule": format!("self == '' || self.matches('^({NAME}/)?{NAME}$')"),
            "message": "loadBalancerClass must be a label-style name with an optional domain before a slash, such as example.com/metallb",
        }],
    })
}

fn bgp_backend(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 64,
        "x-kubernetes-validations": [{
            "rule": "self in ['', 'native', 'frr', 'frr-k8s', 'frr-k8s-external']",
            "message": "bgpBackend must be native, frr, frr-k8s or frr-k8s-external, or be left out",
        }],
    })
}

fn cidrs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 1024,
        "items": {
            "type": "string",
            "maxLength": 128,
            "x-kubernetes-validations": [{
                "rule": is_cidr("self.trim()"),
                "message": "each entry of alwaysBlock must be a prefix in CIDR notation, such as 192.0.2.0/24 or 2001:db8::/64",
            }],
        },
    })
}

fn affinity(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Affinity::json_schema(generator).to_value();
    // The scheduler's range of weights, said at the place where it is exceeded. Not for podAntiAffinity, of which
    // metallb-operator admitted any: there the operator reports what the workload is refused for.
    for kind in ["nodeAffinity", "podAffinity"] {
        let weight = format!(
            "/properties/{kind}/properties/preferredDuringSchedulingIgnoredDuringExecution/items/properties/weight"
        );
        let weight = schema.pointer_mut(&weight).and_then(Value::as_object_mut);
        let weight = weight.expect("preferred terms have a weight");
        weight.insert("minimum".into(), 1.into());
        weight.insert("maximum".into(), 100.into());
    }
    Schema::try_from(schema).expect("a schema with a number more is a schema")
}

fn resources(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = ResourceRequirements::json_schema(generator).to_value();
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        for (field, what) in [
            ("limits", "The most that the container may use."),
            ("requests", "What is set aside for the container."),
        ] {
            fields.insert(
                field.into(),
                json!({
                    "description": what,
                    "type": "object",
                    // Bounded because a rule looks at each element.
                    "maxProperties": 64,
                    "additionalProperties": {
                        "description": "An amount, such as 100m (CPU) or 64Mi (memory).",
                        "x-kubernetes-int-or-string": true,
                        "maxLength": 64,
                        "x-kubernetes-validations": [{
                            "rule": "isQuantity(string(self))",
                            "message": "must be a quantity such as 100m, 0.5 or 64Mi",
                        }],
                    },
                }),
            );
        }
    }
    Schema::try_from(schema).expect("a schema with other properties is a schema")
}

fn with_rules(schema: Schema, rules: Value) -> Schema {
    let mut schema = schema;
    schema.insert("x-kubernetes-validations".into(), rules);
    schema
}
