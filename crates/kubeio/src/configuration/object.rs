//! The lenient view of any configuration object.

use std::borrow::Cow;

use kube::{
    Resource,
    api::{ApiResource, ObjectMeta},
};
use serde::Deserialize;
use serde_json::Value;

use super::CONFIG;

/// Metadata, and the parts of an object that may matter, as they are stored. One type for all kinds: the kind is a value.
#[derive(Deserialize, Clone, Debug, Default)]
pub(super) struct Stored {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Value,
    #[serde(default)]
    pub(super) status: Value,
    #[serde(default)]
    data: Value,
}

impl Stored {
    /// The text under `data.config` of a `ConfigMap`.
    pub(super) fn config_text(&self) -> Option<&str> {
        self.data.get(CONFIG)?.as_str()
    }
}

impl Resource for Stored {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
