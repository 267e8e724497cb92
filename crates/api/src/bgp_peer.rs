//! `BGPPeer`: a router to hold a BGP session with.
//!
//! Both served versions have one schema, the union of the two, so that no conversion is needed: what a version lacks is
//! optional, and `peerPort: 0` stands for unset.

use crate::schema::{ConfigStatus, duration_with, ip_or_empty, is_zero, selectors};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A router to hold BGP sessions with, and how.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta2",
    kind = "BGPPeer",
    plural = "bgppeers",
    namespaced,
    status = "ConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A router that the nodes hold BGP sessions with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop"),
    printcolumn(
        name = "Valid",
        type_ = "string",
        priority = 10,
        json_path = r#".status.conditions[?(@.type=="Valid")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.peerASN) && self.peerASN != 0) != has(self.dynamicASN)",
        "message": "set one of peerASN and dynamicASN: the router's AS number, or where it is taken from",
    },
    {
        "rule": "(has(self.peerAddress) && self.peerAddress != '') != (has(self.interface) && self.interface != '')",
        "message": "set one of peerAddress and interface: the router's address, or the link it is on",
    },
    {
        "rule": "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN) || self.peerASN != self.myASN",
        "message": "ebgpMultiHop is for routers of another AS: leave it out where peerASN equals myASN",
    },
    {
        "rule": "!has(self.holdTime) || !has(self.keepaliveTime) || duration(self.keepaliveTime) <= duration(self.holdTime)",
        "message": "keepaliveTime must not be longer than holdTime",
    },
    {
        "rule": "has(self.holdTime) || !has(self.keepaliveTime) || (duration(self.keepaliveTime) + duration(self.keepaliveTime) + duration(self.keepaliveTime)).getSeconds() == 0 || (duration(self.keepaliveTime) + duration(self.keepaliveTime) + duration(self.keepaliveTime)).getSeconds() >= 3",
        "message": "without holdTime it is three times keepaliveTime, which must be 0s or 3s at least: keepaliveTime must be 0s or 1s at least",
    },
]))]
pub struct BGPPeerSpec {
    /// AS number of our side.
    #[serde(rename = "myASN")]
    #[schemars(range(max = 4_294_967_295_u32), extend("x-kubernetes-validations" = [{
        "rule": "self != 0",
        "message": "myASN must be the AS number of this side, from 1 to 4294967295",
    }]))]
    pub my_asn: u32,
    /// AS number of the router. Either this or dynamicASN.
    #[serde(default, rename = "peerASN", skip_serializing_if = "is_zero")]
    #[schemars(range(max = 4_294_967_295_u32))]
    pub peer_asn: u32,
    /// Take the router's AS number from its OPEN: internal (it must be ours) or external (it must differ).
    #[serde(default, rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    pub dynamic_asn: Option<DynamicAsn>,
    /// AS number shown to this router in place of myASN.
    #[serde(default, rename = "localASN", skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "local_asn")]
    pub local_asn: u32,
    /// Address of the router. Either this or interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "peer_address")]
    pub peer_address: String,
    /// Interface behind which the router is found by its link-local address (unnumbered BGP).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Own address to connect from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "source_address")]
    pub source_address: String,
    /// TCP port of the router. Default: 179, which 0 stands for too.
    #[serde(default = "bgp_port", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16384))]
    pub peer_port: Option<u16>,
    /// Hold time, such as 90s: 0s, or 3s and more (RFC 4271).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "hold_time")]
    pub hold_time: Option<String>,
    /// Keepalive time, such as 30s; not more than the hold time. Default: a third of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "keepalive_time")]
    pub keepalive_time: Option<String>,
    /// Time between attempts to connect, in whole seconds from 1s to 65535s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "connect_time")]
    pub connect_time: Option<String>,
    /// Router ID, written as an IPv4 address.
    #[serde(default, rename = "routerID", skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "router_id")]
    pub router_id: String,
    /// Nodes that hold the session, by label; one match is enough. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub node_selectors: Vec<LabelSelector>,
    /// Password of TCP-MD5 (RFC 2385). Either this or passwordSecret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Secret of type kubernetes.io/basic-auth, in the namespace of this object, whose key password is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "secret_reference")]
    pub password_secret: Option<SecretReference>,
    /// BFDProfile that guards the session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bfd_profile: String,
    /// Graceful restart (RFC 4724): the router keeps our routes while a speaker restarts. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "enableGracefulRestart cannot be changed: delete the BGPPeer and create it anew",
    }]))]
    pub enable_graceful_restart: Option<bool>,
    /// The router is more than one hop away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,
    /// VRF that the session runs in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vrf: String,
    /// Deprecated, has no effect.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,
    /// Announce both address families over this session.
    #[serde(default)]
    pub dual_stack_address_family: bool,
}

/// How the router's AS number is taken from its OPEN.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DynamicAsn {
    /// It must be ours.
    Internal,
    /// It must differ from ours.
    External,
}

/// A Secret by name.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the Secret; it is looked for in the namespace of the BGPPeer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn bgp_port() -> Option<u16> {
    Some(179)
}

fn local_asn(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 1, "maximum": u32::MAX})
}

fn peer_address(_: &mut SchemaGenerator) -> Schema {
    ip_or_empty("peerAddress", "192.0.2.1 or 2001:db8::1")
}

fn source_address(_: &mut SchemaGenerator) -> Schema {
    ip_or_empty("sourceAddress", "192.0.2.10 or 2001:db8::10")
}

fn router_id(_: &mut SchemaGenerator) -> Schema {
    ip_or_empty("routerID", "192.0.2.10")
}

fn hold_time(_: &mut SchemaGenerator) -> Schema {
    duration_with(&[json!({
        "rule": "duration(self).getSeconds() == 0 || duration(self).getSeconds() >= 3",
        "message": "holdTime must be 0s (no keepalives) or 3s at least (RFC 4271)",
    })])
}

fn keepalive_time(_: &mut SchemaGenerator) -> Schema {
    duration_with(&[])
}

fn connect_time(_: &mut SchemaGenerator) -> Schema {
    duration_with(&[
        json!({
            "rule": "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535",
            "message": "connectTime must be from 1s to 65535s",
        }),
        json!({
            "rule": "duration(self).getMilliseconds() % 1000 == 0",
            "message": "connectTime must be a whole number of seconds",
        }),
    ])
}

fn secret_reference(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = SecretReference::json_schema(generator);
    schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    schema
}
