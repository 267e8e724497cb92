//! `BGPAdvertisement`: addresses announced to BGP peers.

use crate::schema::{ConfigStatus, communities, is_zero, selectors};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which addresses are announced to which BGP peers, and with which attributes. Empty: all pools, all peers, all nodes, one
/// prefix for each address.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    namespaced,
    status = "ConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes addresses of pools reachable through BGP.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        priority = 10,
        json_path = ".spec.nodeSelectors"
    ),
    printcolumn(
        name = "Valid",
        type_ = "string",
        priority = 10,
        json_path = r#".status.conditions[?(@.type=="Valid")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || ((!has(self.aggregationLength) || self.aggregationLength == 32) && (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",
    "message": "serviceSelectors need one prefix for each address: leave aggregationLength and aggregationLengthV6 at 32 and 128",
}]))]
pub struct BGPAdvertisementSpec {
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
    #[schemars(schema_with = "communities")]
    pub communities: Vec<String>,
    /// Pools by name. Neither these nor selectors: all pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,
    /// Pools by label; one match is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that announce, by label; one match is enough. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub node_selectors: Vec<LabelSelector>,
    /// Services by label; one match is enough. Empty: all services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub service_selectors: Vec<LabelSelector>,
    /// BGPPeer objects by name. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
pub(crate) fn thirty_two() -> Option<i32> {
    Some(32)
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
pub(crate) fn one_hundred_and_twenty_eight() -> Option<i32> {
    Some(128)
}
