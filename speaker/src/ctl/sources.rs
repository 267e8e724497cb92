//! Stored configuration objects as the sources of the one configuration.

use metallb_api::Raw;
use metallb_model::{Kind, ObjectRef, Source};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The source that a stored object is.
pub(super) fn source<K, T>(kind: Kind, object: Raw<K>) -> Source<T>
where
    K: kube::Resource<DynamicType = ()>,
    T: DeserializeOwned,
{
    let metadata = object.metadata;
    let reference = ObjectRef {
        kind,
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
        generation: metadata.generation.unwrap_or_default(),
    };
    let spec = if object.spec.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        object.spec
    };
    let last_valid = object
        .status
        .get("lastValidSpec")
        .filter(|value| !value.is_null())
        .cloned();
    Source::from_json(reference, metadata.labels.unwrap_or_default(), spec, last_valid)
}

#[cfg(test)]
mod tests {
    use metallb_api::IPAddressPool;
    use metallb_model::PoolSpec;

    use super::*;

    #[test]
    fn a_bad_spec_keeps_what_was_last_valid() {
        let object: Raw<IPAddressPool> = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "metallb-system", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"addresses": 7},
            "status": {"lastValidSpec": {"addresses": ["192.0.2.0/24"]}},
        }))
        .expect("any object of the kind");
        let source: Source<PoolSpec> = source(Kind::IpAddressPool, object);
        assert!(source.spec.is_err());
        assert!(source.last_valid.is_some());
        assert_eq!(source.object.created, 1_767_323_045);
    }
}
