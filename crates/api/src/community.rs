//! `Community`: names for BGP communities.

use crate::schema::ConfigStatus;
use kube::CustomResource;
use schemars::JsonSchema;
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
    doc = "Names for BGP communities, to be used in BGPAdvertisement objects."
)]
#[serde(rename_all = "camelCase")]
pub struct CommunitySpec {
    /// The names and their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
