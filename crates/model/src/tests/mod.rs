//! Tables of the model: one file per subject.

mod advertisements;
mod labels;
mod pools;
mod ranges;

use crate::{Config, Issue, Kind, Labels, ObjectRef, Source, Sources};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) const OWN: &str = "metallb-system";

pub(crate) fn object(kind: Kind, namespace: &str, name: &str, created: i64) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        created,
        generation: 1,
    }
}

/// An object of our namespace from JSON, without labels.
pub(crate) fn source<T: DeserializeOwned>(
    kind: Kind,
    name: &str,
    created: i64,
    spec: Value,
    last_valid: Option<Value>,
) -> Source<T> {
    Source::from_json(object(kind, OWN, name, created), Labels::new(), spec, last_valid)
}

pub(crate) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) fn build(sources: &Sources) -> (Config, Vec<Issue>) {
    Config::from_sources(sources, OWN)
}
