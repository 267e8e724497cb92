//! Settings of an installation that metallb-operator does not have.
//!
//! The rules on them may be strict: no stored object can have these fields before this operator has served them.

use crate::schema::duration_with;
use k8s_openapi::{api::core::v1::TopologySpreadConstraint, apimachinery::pkg::util::intstr::IntOrString};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// How speakers are replaced when something changes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// RollingUpdate replaces them node by node; OnDelete waits until somebody deletes a pod. Default: RollingUpdate.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<UpdateStrategyType>,
    /// Settings of RollingUpdate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Whether speakers are replaced by themselves.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateStrategyType {
    /// Node by node.
    #[default]
    RollingUpdate,
    /// When somebody deletes a pod.
    OnDelete,
}

/// Settings of a rolling update.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// How many nodes may be without a ready speaker at a time: a number or a percentage. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "max_unavailable")]
    pub max_unavailable: Option<IntOrString>,
}

/// How speakers know of each other.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemberlistConfig {
    /// Whether speakers watch each other over the network. Without it a failed node keeps its addresses until its Node object
    /// is gone, or is labelled or tainted so that it may not announce. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Address that every speaker listens on, instead of its node's: 0.0.0.0, or :: for both families. For nodes whose
    /// address is translated on the way to them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "bind_address")]
    pub bind_address: String,
    /// UDP port, the same on all nodes. Default: 7946.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub bind_port: Option<u16>,
}

/// How addresses are announced by ARP and NDP.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Layer2Config {
    /// How often the owner of an address announces it again, such as 30s: for switches that forget silent stations. At least
    /// 1s; 0s for never. Default: 0s.
    #[serde(
        default,
        rename = "gratuitousARPInterval",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(schema_with = "refresh")]
    pub gratuitous_arp_interval: String,
    /// What happens when a station outside the cluster has one of the addresses. Warn announces it all the same and says so;
    /// Block leaves it alone while the other has it; Defend announces it again when the other does, at most every 10 s.
    /// Default: Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict_policy: Option<ConflictPolicy>,
    /// How an address that no node announced before is looked for on the network first. Fast takes 0.3 s, Full the times of
    /// RFC 5227 (4 to 7 s), None announces at once. Default: Fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// How long the speaker of a node that is up may be away (restart, upgrade, crash) before its addresses move; another node
    /// answers in its name meanwhile. With strict 5 s at most. Default: 30s.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "duration")]
    pub restart_grace: String,
    /// Rank nodes that are cordoned or not ready after all others.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub unready_last: bool,
    /// Leave an address where it is when a node of higher rank returns.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub non_preempt: bool,
    /// Answer only while the node holds its Lease: no address is ever answered for by two nodes; a failed node is followed after
    /// 10 s, and nobody answers when the API server has been away for 9 s.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub strict: bool,
}

/// What happens when a station outside the cluster has one of the addresses.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// Announce it all the same, and say so.
    #[default]
    Warn,
    /// Leave it alone while the other has it.
    Block,
    /// Announce it again when the other does, at most every 10 s.
    Defend,
}

impl ConflictPolicy {
    /// The word of the flag `--l2-conflict-policy`.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictPolicy::Warn => "warn",
            ConflictPolicy::Block => "block",
            ConflictPolicy::Defend => "defend",
        }
    }
}

/// How an address that no node announced before is looked for on the network first.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Three probes in 0.3 s.
    #[default]
    Fast,
    /// The times of RFC 5227.
    Full,
    /// Not at all.
    None,
}

impl Probe {
    /// The word of the flag `--l2-probe`.
    pub fn as_str(self) -> &'static str {
        match self {
            Probe::Fast => "fast",
            Probe::Full => "full",
            Probe::None => "none",
        }
    }
}

/// Metrics, and what Prometheus is told about them.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.monitor) || self.monitor != 'PodMonitor' || has(self.tokenSecret) || (has(self.plain) && self.plain)",
    "message": "a PodMonitor cannot use the account of Prometheus: name a Secret with a token in tokenSecret, set plain, or choose ServiceMonitor",
}]))]
pub struct MetricsConfig {
    /// Whether controller and speakers serve /metrics to the network; speakers do on their node's loopback in any case, without
    /// TLS. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Port of /metrics; speakers listen on it on their nodes. Default: 9120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Serve /metrics without TLS and to everybody, as MetalLB did before 0.16. Default: over TLS, to those whom the API server
    /// lets read it.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub plain: bool,
    /// Mark the pods with the annotations prometheus.io/scrape, scheme, port and path.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub scrape_annotations: bool,
    /// Which object of the Prometheus operator tells it where the metrics are. Default: None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
    /// Further labels of the monitors and of the alerts, by which a Prometheus chooses them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "further_labels")]
    pub monitor_labels: BTreeMap<String, String>,
    /// How often the monitors have Prometheus ask, such as 30s. Default: as Prometheus is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "interval")]
    pub interval: String,
    /// Where a PodMonitor finds the token that the metrics are read with, in the namespace of this resource. Its account needs
    /// the right to get the URL /metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<TokenSecret>,
    /// The account that Prometheus runs with: it is given the rights to find the pods and to read their metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusAccount>,
    /// Alert rules, as a PrometheusRule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertsConfig>,
}

/// Which object of the Prometheus operator tells it where the metrics are.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Monitor {
    /// None.
    #[default]
    None,
    /// ServiceMonitors, and a headless Service for each.
    ServiceMonitor,
    /// PodMonitors.
    PodMonitor,
}

/// The ServiceAccount of a Prometheus.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusAccount {
    /// Name of the ServiceAccount, such as prometheus-k8s.
    #[schemars(length(min = 1, max = 253))]
    pub service_account: String,
    /// Its namespace, such as monitoring.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// One key of a Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in it. Default: token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub key: String,
}

/// Alert rules.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AlertsConfig {
    /// Whether there are any. Default: false.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub enabled: bool,
    /// Regular expression of pools that may be full without an alert.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "pattern")]
    pub exclude_pools: String,
}

/// What may reach the controller, and what it may reach. Speakers use their nodes' network, which policies do not concern.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPoliciesConfig {
    /// Whether there is a policy that lets through what the controller needs and nothing else. Default: false.
    #[serde(default, skip_serializing_if = "crate::schema::is_false")]
    pub enabled: bool,
    /// TCP port of the API server's endpoints (kubectl get endpointslices kubernetes). Default: 6443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub api_port: Option<u16>,
}

pub(super) fn pull_secrets(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "description": "A Secret of type kubernetes.io/dockerconfigjson.",
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"description": "Name of the Secret.", "type": "string", "minLength": 1, "maxLength": 253}},
        },
    })
}

pub(super) fn topology_spread(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": TopologySpreadConstraint::json_schema(generator),
    })
}

pub(super) fn interfaces(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 128,
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 128,
            "x-kubernetes-validations": [is_pattern("a regular expression of interface names, such as ^veth.*")],
        },
    })
}

/// Labels beside those that select pods and that the operator finds its objects by.
pub(super) fn further_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"description": "The value.", "type": "string", "maxLength": 63},
        "x-kubernetes-validations": [{
            "rule": "self.all(key, !(key in ['app', 'component', 'app.kubernetes.io/managed-by']) && !key.startsWith('metallb.io/'))",
            "message": "the labels app, component, app.kubernetes.io/managed-by and those of metallb.io/ belong to the operator",
        }],
    })
}

fn max_unavailable(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 4,
        "x-kubernetes-validations": [{
            "rule": "string(self).matches('^([1-9][0-9]{0,3}|(100|[1-9]?[0-9])%)$') && string(self) != '0%'",
            "message": "maxUnavailable must be a number from 1 or a percentage such as 10%",
        }],
    })
}

fn bind_address(_: &mut SchemaGenerator) -> Schema {
    // The same on all nodes: with any other address at most one of them would be heard.
    json_schema!({"type": "string", "enum": ["", "0.0.0.0", "::"]})
}

/// What Prometheus reads.
fn interval(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "self == '' || self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$')",
            "message": "interval must be a duration such as 30s or 1m",
        }],
    })
}

fn duration(_: &mut SchemaGenerator) -> Schema {
    bounded(duration_with(&[json!({
        "rule": "!self.startsWith('-')",
        "message": "must not be negative",
    })]))
}

pub(super) fn refresh(_: &mut SchemaGenerator) -> Schema {
    bounded(duration_with(&[json!({
        "rule": "duration(self) == duration('0s') || duration(self) >= duration('1s')",
        "message": "the interval must be at least 1s, or 0s for never",
    })]))
}

fn bounded(mut schema: Schema) -> Schema {
    schema.insert("maxLength".into(), 32.into());
    schema
}

fn pattern(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 512,
        "x-kubernetes-validations": [is_pattern("a regular expression, such as lab-.*")],
    })
}

/// A pattern that does not compile makes the rule fail, which refuses the object as well.
fn is_pattern(what: &str) -> serde_json::Value {
    json!({
        "rule": "''.matches(self) || !''.matches(self)",
        "message": format!("must be {what}"),
    })
}
