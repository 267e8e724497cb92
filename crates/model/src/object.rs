//! Where a piece of configuration came from.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Labels;

/// Kinds that configure `MetalLB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ipaddresspools.metallb.io`
    IpAddressPool,
    /// `l2advertisements.metallb.io`
    L2Advertisement,
}

impl Kind {
    /// Kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpAddressPool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
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
        Self {
            object,
            labels,
            spec: serde_path_to_error::deserialize(spec).map_err(|error| {
                let path = error.path().to_string();
                let field = if path == "." {
                    "spec".to_owned()
                } else {
                    format!("spec.{path}")
                };
                Unreadable {
                    field,
                    message: error.into_inner().to_string(),
                }
            }),
            last_valid: last_valid.and_then(|value| serde_json::from_value(value).ok()),
        }
    }
}
