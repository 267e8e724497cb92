//! `Community`: names for BGP communities.

use crate::schema::{COMMUNITY, ConfigStatus, is_community};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Names for BGP communities, to be used in advertisements.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "Community",
    plural = "communities",
    namespaced,
    status = "ConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Names for BGP communities, to be used in BGPAdvertisement objects.",
    printcolumn(
        name = "Valid",
        type_ = "string",
        priority = 10,
        json_path = r#".status.conditions[?(@.type=="Valid")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CommunitySpec {
    /// The names and their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "aliases")]
    pub communities: Vec<CommunityAlias>,
}

/// A name for a community.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CommunityAlias {
    /// The name; unique among all Community objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The value: 65000:100, or large:65000:1:2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

fn aliases(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 2048,
        "items": {
            "description": "A name for a community.",
            "type": "object",
            "properties": {
                "name": {
                    "description": "The name; unique among all Community objects.",
                    "type": "string",
                },
                "value": {
                    "description": "The value: 65000:100, or large:65000:1:2.",
                    "type": "string",
                    "maxLength": 128,
                },
            },
            "x-kubernetes-validations": [{
                "rule": format!("has(self.value) && ({})", is_community("self.value")),
                "message": format!("value: {COMMUNITY}"),
            }],
        },
    })
}
