//! What others check before they take a bundle, done here on the files alone: the validators of `operator-sdk bundle validate`,
//! the static checks of the OperatorHub pipelines, the scorecard. Where they warn, this complains too.
//!
//! The real tools run in the end-to-end tests; these tell within a second, and each is shown to find what it is for.

#[cfg(test)]
mod cases;
mod catalog;
mod hub;
mod olm;
mod optional;
mod scorecard;
mod sdk;
#[cfg(test)]
mod submission;

pub(crate) use catalog::complaints as of_catalog;

use crate::bundle::Contents;
use serde_json::Value;

/// One check: a name, and what it finds in a bundle (one sentence each).
pub(crate) struct Check {
    /// The name, where there is one that of the tool's own check.
    pub(crate) name: &'static str,
    find: fn(&Contents) -> Vec<String>,
}

const fn check(name: &'static str, find: fn(&Contents) -> Vec<String>) -> Check {
    Check { name, find }
}

fn all() -> impl Iterator<Item = &'static Check> {
    sdk::CHECKS
        .iter()
        .chain(optional::CHECKS)
        .chain(hub::CHECKS)
        .chain(scorecard::CHECKS)
        .chain(olm::CHECKS)
}

/// How many checks there are.
pub(crate) fn count() -> usize {
    all().count()
}

/// What the checks find in a bundle, each finding with the name of its check.
pub(crate) fn bundle(contents: &Contents) -> Vec<String> {
    all()
        .flat_map(|check| {
            (check.find)(contents)
                .into_iter()
                .map(|finding| format!("{}: {finding}", check.name))
        })
        .collect()
}

/// One finding if a condition does not hold.
fn unless(holds: bool, finding: impl Into<String>) -> Vec<String> {
    if holds { Vec::new() } else { vec![finding.into()] }
}

/// Text of a field; empty if it is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether nothing is said: no value, blank text, an empty list or object.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
