//! Tables of the model: one file per subject.

mod accepted;
mod advertisements;
mod bad_input;
mod bgp;
mod config_map;
mod labels;
mod pools;
mod random;
mod ranges;
mod references;
mod scale;
mod sources;

use crate::{Config, Effect, Issue, Kind, Labels, ObjectRef, SecretFacts, Source, Sources};
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

/// Adds an object of our namespace without labels.
pub(crate) fn add(sources: &mut Sources, kind: Kind, name: &str, created: i64, spec: Value) {
    sources.add(object(kind, OWN, name, created), Labels::new(), Ok(spec), None);
}

/// The same with what it last validly said.
pub(crate) fn add_with_last(
    sources: &mut Sources,
    kind: Kind,
    name: &str,
    created: i64,
    spec: Value,
    last_valid: Value,
) {
    let object = object(kind, OWN, name, created);
    sources.add(object, Labels::new(), Ok(spec), Some(last_valid));
}

/// Sources with the Secrets `good`, `opaque` (of the wrong type) and `keyless`.
pub(crate) fn with_secrets() -> Sources {
    let secret = |name: &str, type_: &str, has_password| {
        let type_ = type_.to_owned();
        (name.to_owned(), SecretFacts { type_, has_password })
    };
    Sources {
        secrets: [
            secret("good", "kubernetes.io/basic-auth", true),
            secret("opaque", "Opaque", true),
            secret("keyless", "kubernetes.io/basic-auth", false),
        ]
        .into(),
        secrets_known: true,
        ..Sources::default()
    }
}

/// Issues that are more than hints.
pub(crate) fn errors(issues: &[Issue]) -> Vec<&Issue> {
    issues.iter().filter(|issue| issue.is_error()).collect()
}

/// `name:field:reason:effect` of every issue but the two that say what kind of object it is.
pub(crate) fn found(issues: &[Issue]) -> Vec<String> {
    let line = |i: &Issue| format!("{}:{}:{}:{:?}", i.object.name, i.field, i.reason, i.effect);
    issues
        .iter()
        .filter(|issue| {
            issue.effect != Effect::Warning
                || !matches!(
                    issue.reason,
                    crate::Reason::NotImplemented | crate::Reason::DeprecatedSource
                )
        })
        .map(line)
        .collect()
}
