//! `L2Advertisement`: addresses answered for by ARP and NDP.

use crate::schema::{ConfigStatus, selector, selectors};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which addresses are answered for by ARP and NDP, from which nodes and interfaces. Empty: all pools, all nodes, all
/// interfaces.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    plural = "l2advertisements",
    namespaced,
    status = "ConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Makes addresses of pools reachable on the local network: one node at a time answers ARP (IPv4) and NDP (IPv6) for each.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
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
pub struct L2AdvertisementSpec {
    /// Pools by name. Neither these nor selectors: all pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,
    /// Pools by label; one match is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may answer, by label; one match is enough. Empty: all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces to answer on, by exact name. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Services by label; one match is enough. Empty: all services. A service that shares its address
    /// (metallb.io/allow-shared-ip) cannot be selected this way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes that should rather answer than others: weights of all matching terms are summed, the highest sum wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 512))]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,
}

/// A wish about the node that answers.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNodeSelector {
    /// Weight, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// Nodes that this wish is for, by label.
    #[schemars(schema_with = "selector")]
    pub preference: LabelSelector,
}
