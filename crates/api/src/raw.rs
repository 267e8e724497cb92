//! The lenient view of a kind.
//!
//! A watch of typed objects ends with an error as soon as one stored object does not fit the type (written under an older
//! schema, or past it); every good object would be lost with it. [`Raw`] takes any object of the kind and leaves the
//! judgement to [`Raw::parse`], object by object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// An object of kind `K` as it is stored: metadata, and `spec` and `status` as they came.
#[derive(Serialize, Deserialize)]
#[serde(bound = "", rename_all = "camelCase")]
pub struct Raw<K> {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The spec as stored; `Null` when there is none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub spec: Value,
    /// The status as stored; `Null` when there is none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub status: Value,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// A stored object that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// `Kind namespace/name`.
    pub object: String,
    /// `spec` or `status`.
    pub part: &'static str,
    /// What is wrong, with the field where it is known.
    pub problem: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} cannot be read: {}",
            self.object, self.part, self.problem
        )
    }
}

impl std::error::Error for ParseError {}

impl<K: Resource<DynamicType = ()>> Raw<K> {
    /// A raw object from its parts.
    pub fn new(metadata: ObjectMeta, spec: Value, status: Value) -> Self {
        Raw {
            metadata,
            spec,
            status,
            kind: PhantomData,
        }
    }

    /// The typed object without its status. A missing spec reads as an empty one.
    pub fn parse(&self) -> Result<K, ParseError>
    where
        K: DeserializeOwned,
    {
        let typed = |spec: Value| -> Result<K, serde_json::Error> {
            serde_json::from_value(serde_json::json!({
                "apiVersion": K::api_version(&()),
                "kind": K::kind(&()),
                "metadata": {},
                "spec": spec,
            }))
        };
        let mut typed = read(&self.spec, typed).map_err(|problem| self.error("spec", problem))?;
        *typed.meta_mut() = self.metadata.clone();
        Ok(typed)
    }

    /// The spec alone, read as `S`. A missing spec reads as an empty one.
    pub fn parse_spec<S: DeserializeOwned>(&self) -> Result<S, ParseError> {
        read(&self.spec, serde_json::from_value).map_err(|problem| self.error("spec", problem))
    }

    /// The status read as `S`; its default when there is none.
    pub fn parse_status<S: DeserializeOwned + Default>(&self) -> Result<S, ParseError> {
        if self.status.is_null() {
            return Ok(S::default());
        }
        read(&self.status, serde_json::from_value).map_err(|problem| self.error("status", problem))
    }

    /// `Kind namespace/name`, for messages.
    pub fn describe(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or("?");
        match &self.metadata.namespace {
            Some(namespace) => format!("{} {namespace}/{name}", K::kind(&())),
            None => format!("{} {name}", K::kind(&())),
        }
    }

    fn error(&self, part: &'static str, problem: String) -> ParseError {
        ParseError {
            object: self.describe(),
            part,
            problem,
        }
    }
}

/// Reads a part of an object; a missing one reads as an empty one. The error names the field, which serde's does not: it is
/// the one without which there would be another error, or none.
fn read<T>(part: &Value, parse: impl Fn(Value) -> Result<T, serde_json::Error>) -> Result<T, String> {
    let whole = if part.is_null() {
        Value::Object(Map::new())
    } else {
        part.clone()
    };
    parse(whole).map_err(|error| {
        let error = error.to_string();
        let fields = part.as_object().into_iter().flat_map(Map::keys);
        let culprit = fields.into_iter().find(|field| {
            let mut rest = part.clone();
            rest.as_object_mut()
                .is_some_and(|fields| fields.remove(*field).is_some())
                && parse(rest).err().is_none_or(|other| other.to_string() != error)
        });
        match culprit {
            Some(field) => format!("{field}: {error}"),
            None => error,
        }
    })
}

impl<K: Resource<DynamicType = ()>> Resource for Raw<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

// Derived implementations would ask the same of `K`, which is only a name here.
impl<K> Clone for Raw<K> {
    fn clone(&self) -> Self {
        Raw {
            metadata: self.metadata.clone(),
            spec: self.spec.clone(),
            status: self.status.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Raw<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("metadata", &self.metadata)
            .field("spec", &self.spec)
            .field("status", &self.status)
            .finish()
    }
}

impl<K> PartialEq for Raw<K> {
    fn eq(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.spec == other.spec && self.status == other.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigStatus, IPAddressPool, L2Advertisement};
    use serde_json::json;

    fn raw<K>(object: Value) -> Raw<K> {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn anything_stored_is_taken_and_judged_object_by_object() {
        let bad: Raw<IPAddressPool> = raw(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": "p", "namespace": "ns"}, "spec": {"addresses": "not a list"}, "status": 7,
        }));
        let error = bad.parse().unwrap_err().to_string();
        assert!(
            error.starts_with("IPAddressPool ns/p: spec cannot be read: "),
            "{error}"
        );
        assert!(bad.parse_status::<ConfigStatus>().is_err());

        let good: Raw<IPAddressPool> =
            raw(json!({"metadata": {"name": "p"}, "spec": {"addresses": ["192.0.2.0/24"], "newer": true}}));
        assert_eq!(good.parse().unwrap().spec.addresses, ["192.0.2.0/24"]);
    }

    #[test]
    fn the_field_that_cannot_be_read_is_named() {
        let metallb: Raw<crate::MetalLB> = raw(json!({"metadata": {"name": "metallb"},
            "spec": {"bgpBackend": "frr", "logLevel": "verbose", "nodeSelector": {"a": "b"}}}));
        let error = metallb.parse_spec::<crate::MetalLBSpec>().unwrap_err();
        assert!(
            error.problem.starts_with("logLevel: unknown variant `verbose`"),
            "{error}"
        );
        let pool: Raw<IPAddressPool> = raw(json!({"metadata": {"name": "p"}, "spec": {"autoAssign": true}}));
        assert!(
            pool.parse()
                .unwrap_err()
                .problem
                .starts_with("missing field `addresses`")
        );
    }

    #[test]
    fn a_missing_spec_reads_as_an_empty_one() {
        let ad: Raw<L2Advertisement> = raw(json!({"metadata": {"name": "a"}}));
        assert_eq!(ad.parse().unwrap().spec, crate::L2AdvertisementSpec::default());
        assert_eq!(
            ad.parse_status::<ConfigStatus>().unwrap(),
            ConfigStatus::default()
        );
    }

    #[test]
    fn the_url_is_that_of_the_kind() {
        assert_eq!(
            Raw::<IPAddressPool>::url_path(&(), Some("ns")),
            "/apis/metallb.io/v1beta1/namespaces/ns/ipaddresspools"
        );
    }
}
