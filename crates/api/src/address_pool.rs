//! `AddressPool`: a pool that carries its protocol, as manifests for MetalLB 0.9 to 0.13 have it.
//!
//! Both served versions have one schema, the union of the two: `v1alpha1` has `spec.name` besides.

use crate::{
    bgp_advertisement::{one_hundred_and_twenty_eight, thirty_two},
    ip_address_pool::yes,
    schema::{ConfigStatus, addresses, communities_of_at_most, is_false, is_zero},
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A pool of addresses, and how they are announced.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "AddressPool",
    plural = "addresspools",
    namespaced,
    status = "ConfigStatus",
    derive = "PartialEq",
    doc = "Deprecated: addresses that services may be given, and the protocol that announces them. Write an IPAddressPool, and an L2Advertisement or BGPAdvertisement, instead.",
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol"),
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses"),
    printcolumn(
        name = "Valid",
        type_ = "string",
        priority = 10,
        json_path = r#".status.conditions[?(@.type=="Valid")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.protocol != 'layer2' || !has(self.bgpAdvertisements) || self.bgpAdvertisements.size() == 0",
    "message": "bgpAdvertisements need protocol: bgp; a layer2 pool has none",
}]))]
pub struct AddressPoolSpec {
    /// Accepted because v1alpha1 has it; the pool's name is that of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,

    /// How the addresses are announced: layer2 (ARP and NDP) or bgp.
    pub protocol: Protocol,

    /// The addresses: each entry a prefix (192.0.2.0/24, 2001:db8::/120) or a range of one family (192.0.2.10-192.0.2.20).
    /// Entries may not overlap, here or with another pool.
    #[schemars(schema_with = "addresses")]
    pub addresses: Vec<String>,

    /// Whether services that ask for nothing in particular may be given addresses of this pool.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// Leave out IPv4 addresses that end in .0 or .255.
    #[serde(default, rename = "avoidBuggyIPs", skip_serializing_if = "is_false")]
    pub avoid_buggy_ips: bool,

    /// Announcements of a bgp pool. Empty: one prefix for each address, without attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 24))]
    pub bgp_advertisements: Vec<LegacyBgpAdvertisement>,
}

/// How the addresses of a pool are announced.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// ARP and NDP.
    Layer2,
    /// BGP.
    Bgp,
}

/// One announcement of a bgp pool.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LegacyBgpAdvertisement {
    /// Length of the announced IPv4 prefixes. Default: 32, one for each address.
    #[serde(default = "thirty_two", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub aggregation_length: Option<i32>,
    /// Length of the announced IPv6 prefixes. Default: 128, one for each address.
    #[serde(
        default = "one_hundred_and_twenty_eight",
        skip_serializing_if = "Option::is_none",
        rename = "aggregationLengthV6"
    )]
    #[schemars(range(max = 128))]
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF of the announcements; sent to internal peers only.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 4_294_967_295_u32))]
    pub local_pref: u32,
    /// BGP communities: 65000:100, large:65000:1:2, or the name of one in a Community object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "some_communities")]
    pub communities: Vec<String>,
}

fn some_communities(_: &mut SchemaGenerator) -> Schema {
    communities_of_at_most(64)
}
