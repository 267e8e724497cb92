//! Where a piece of configuration came from.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Labels;

/// Kinds that configure `MetalLB`. Of two objects that are otherwise equal the one of the earlier kind wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ipaddresspools.metallb.io`
    IpAddressPool,
    /// `l2advertisements.metallb.io`
    L2Advertisement,
    /// `bgpadvertisements.metallb.io`
    BgpAdvertisement,
    /// `bgppeers.metallb.io`
    BgpPeer,
    /// `bfdprofiles.metallb.io`
    BfdProfile,
    /// `communities.metallb.io`
    Community,
    /// `addresspools.metallb.io`, deprecated: the pool carries its protocol.
    AddressPool,
    /// The `ConfigMap` `config` of our namespace, deprecated: the whole configuration of v0.3 to v0.12 as one text.
    ConfigMap,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::IpAddressPool,
        Self::L2Advertisement,
        Self::BgpAdvertisement,
        Self::BgpPeer,
        Self::BfdProfile,
        Self::Community,
        Self::AddressPool,
        Self::ConfigMap,
    ];

    /// Kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpAddressPool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::BgpAdvertisement => "BGPAdvertisement",
            Self::BgpPeer => "BGPPeer",
            Self::BfdProfile => "BFDProfile",
            Self::Community => "Community",
            Self::AddressPool => "AddressPool",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One stored object. Orders by kind, namespace and name, so that reports come in a stable order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace that holds it.
    pub namespace: String,
    /// Name within the namespace.
    pub name: String,
    /// `metadata.uid`, empty when unknown.
    pub uid: String,
    /// `metadata.creationTimestamp` in seconds since the Unix epoch, 0 when unknown.
    pub created: i64,
    /// `metadata.generation`, 0 when unknown.
    pub generation: i64,
}

impl fmt::Display for ObjectRef {
    /// `IPAddressPool metallb-system/first-pool`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Why a spec cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Path of the field, such as `spec.autoAssign`; `spec` when it is the whole.
    pub field: String,
    /// What is wrong with it, such as `invalid type: string "perhaps", expected a boolean`.
    pub message: String,
}

/// One object as it is stored: what it says now, and what it last validly said.
#[derive(Clone, Debug, PartialEq)]
pub struct Source<T> {
    /// The object.
    pub object: ObjectRef,
    /// `metadata.labels`: pools are selected by them. Labels are taken as they are now; only the spec can be invalid.
    pub labels: Labels,
    /// Present spec, or why it cannot be read at all.
    pub spec: Result<T, Unreadable>,
    /// `status.lastValidSpec`: what the allocator last found valid; in force while `spec` is not.
    pub last_valid: Option<T>,
}

impl<T: DeserializeOwned> Source<T> {
    /// Reads both specs leniently: an unreadable `spec` becomes a value, an unreadable `lastValidSpec` counts as none.
    pub fn from_json(object: ObjectRef, labels: Labels, spec: Value, last_valid: Option<Value>) -> Self {
        Self::from_result(object, labels, Ok(spec), last_valid)
    }

    /// The same for a spec of which it may be known already that it cannot be read.
    pub fn from_result(
        object: ObjectRef,
        labels: Labels,
        spec: Result<Value, Unreadable>,
        last_valid: Option<Value>,
    ) -> Self {
        Self {
            object,
            labels,
            spec: spec.and_then(read),
            last_valid: last_valid.and_then(|value| read(value).ok()),
        }
    }
}

/// Reads a spec; the error names the field.
pub(crate) fn read<T: DeserializeOwned>(spec: Value) -> Result<T, Unreadable> {
    // A stored object without a spec says the same as one with an empty spec.
    let spec = if spec.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        spec
    };
    if !spec.is_object() {
        // serde would take a list for the fields in order.
        return Err(Unreadable {
            field: "spec".to_owned(),
            message: "it is not an object".to_owned(),
        });
    }
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        Unreadable {
            field: if path == "." {
                "spec".to_owned()
            } else {
                format!("spec.{path}")
            },
            message: error.into_inner().to_string(),
        }
    })
}
