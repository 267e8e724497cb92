//! `IPAddressPool`: addresses that services may be given.

use crate::schema::{addresses, any_object, conditions, selectors};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A pool of addresses, and who may draw from it.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    namespaced,
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Addresses that services of type LoadBalancer may be given. An advertisement (L2Advertisement, BGPAdvertisement) makes them reachable.",
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(
        name = "Avoid Buggy IPs",
        type_ = "boolean",
        json_path = ".spec.avoidBuggyIPs"
    ),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses"),
    printcolumn(
        name = "Valid",
        type_ = "string",
        priority = 10,
        json_path = r#".status.conditions[?(@.type=="Valid")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// The addresses: each entry a prefix (192.0.2.0/24, 2001:db8::/120) or a range of one family (192.0.2.10-192.0.2.20).
    /// Entries may not overlap, here or with another pool.
    #[schemars(schema_with = "addresses")]
    pub addresses: Vec<String>,

    /// Whether services that ask for nothing in particular may be given addresses of this pool. With false only those that
    /// name the pool or an address of it get one.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// Leave out IPv4 addresses that end in .0 or .255, which some old equipment takes for network or broadcast addresses.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,

    /// Which services may draw from this pool, and how soon it is tried. Left out: all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// Which services may draw from a pool: those that match a namespace or a namespace selector, and a service selector. An
/// empty list does not restrict.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// Pools with a lower number are tried first; 0 is the last. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero_i64")]
    #[schemars(schema_with = "integer")]
    pub priority: i64,
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Namespaces by label; one match is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label; one match is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors")]
    pub service_selectors: Vec<LabelSelector>,
}

/// How full the pool is, and whether it is in force as written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolStatus {
    /// IPv4 addresses that services have.
    #[serde(default, rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses that services have.
    #[serde(default, rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// IPv4 addresses that are free.
    #[serde(default, rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// IPv6 addresses that are free; 9223372036854775807 stands for that many or more.
    #[serde(default, rename = "availableIPv6")]
    pub available_ipv6: i64,
    /// Whether the object is in force as written: type `Valid`, with a reason and a sentence that says what to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The spec that was last valid. It stays in force while the present one is not, so that a mistake in an edit takes no
    /// address away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub last_valid_spec: Option<Value>,
}

pub(crate) fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero_i64(value: &i64) -> bool {
    *value == 0
}

fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer"})
}

impl IPAddressPoolSpec {
    /// A pool of these addresses with everything else as the API server defaults it.
    pub fn of(addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        IPAddressPoolSpec {
            addresses: addresses.into_iter().map(Into::into).collect(),
            auto_assign: true,
            ..Default::default()
        }
    }
}
