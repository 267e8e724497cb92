//! `BGPPeer`: a router to hold a BGP session with.
//!
//! Both served versions have one schema, the union of the two, so that no conversion is needed: what a version lacks is
//! optional, and `peerPort: 0` stands for unset.

use crate::schema::{ConfigStatus, duration, is_false, is_zero};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
pub struct BGPPeerSpec {
    /// AS number of our side.
    #[serde(rename = "myASN")]
    #[schemars(range(max = 4_294_967_295_u32))]
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
    #[schemars(range(max = 4_294_967_295_u32))]
    pub local_asn: u32,
    /// Address of the router. Either this or interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer_address: String,
    /// Interface behind which the router is found by its link-local address (unnumbered BGP).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Own address to connect from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_address: String,
    /// TCP port of the router. Default: 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16384))]
    pub peer_port: Option<u16>,
    /// Hold time, such as 90s: 0s, or 3s and more (RFC 4271).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub hold_time: Option<String>,
    /// Keepalive time, such as 30s; not more than the hold time. Default: a third of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub keepalive_time: Option<String>,
    /// Time between attempts to connect, in whole seconds from 1s to 65535s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub connect_time: Option<String>,
    /// Router ID, written as an IPv4 address.
    #[serde(default, rename = "routerID", skip_serializing_if = "String::is_empty")]
    pub router_id: String,
    /// Nodes that hold the session, by label; one match is enough. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,
    /// Password of TCP-MD5 (RFC 2385). Either this or passwordSecret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Secret of type kubernetes.io/basic-auth, in the namespace of this object, whose key password is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,
    /// BFDProfile that guards the session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bfd_profile: String,
    /// Graceful restart (RFC 4724): the router keeps our routes while a speaker restarts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub enable_graceful_restart: bool,
    /// The router is more than one hop away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ebgp_multi_hop: bool,
    /// VRF that the session runs in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vrf: String,
    /// Deprecated, has no effect.
    #[serde(default, rename = "disableMP", skip_serializing_if = "is_false")]
    pub disable_mp: bool,
    /// Announce both address families over this session.
    #[serde(default, skip_serializing_if = "is_false")]
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
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}
