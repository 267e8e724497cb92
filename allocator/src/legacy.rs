//! The `ConfigMap` `config`: which of its entries are in force, and the record of that in its annotation.
//!
//! The record is a text of the same form, so that every component reads it in the same way. While the whole text is valid it is
//! that text; else it is the valid entries, and for the others what was last valid of the same name.

use std::collections::{BTreeMap, BTreeSet};

use metallb_kubeio::{EventKind, LAST_VALID_CONFIG};
use metallb_model::{Issue, Reason};
use serde_json::{Map, Value, json};

use crate::objects::Stored;
use crate::status::{DEPRECATED, INVALID, Note, VALID};

/// Annotations of one object may have 256 KiB in all.
const RECORD_MAX: usize = 200 * 1024;
/// Keys that name an entry of a list, first one first.
const NAMES: [&str; 2] = ["name", "peer-address"];

/// Which entries of a section are wrong.
#[derive(Default)]
struct Wrong {
    whole: bool,
    at: BTreeSet<usize>,
    keys: BTreeSet<String>,
}

/// What of the text is in force when these errors were found in it. `None`: nothing can be told of it, so nothing new is remembered.
pub(crate) fn in_force(present: &Value, last_valid: Option<&Value>, errors: &[&Issue]) -> Option<Value> {
    let present = present.as_object()?;
    let empty = Map::new();
    let before = last_valid.and_then(Value::as_object).unwrap_or(&empty);
    let mut wrong: BTreeMap<&str, Wrong> = BTreeMap::new();
    for issue in errors {
        let path = issue
            .field
            .strip_prefix("data.config")?
            .trim_start_matches([':', '.', ' ']);
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (section, rest) = path.split_at(end);
        if section.is_empty() {
            return None;
        }
        let wrong = wrong.entry(section).or_default();
        let word = rest.trim_start_matches(['.', '[']);
        let word = &word[..word.find(['.', ']', '[']).unwrap_or(word.len())];
        match (rest.chars().next(), word.parse::<usize>()) {
            (Some('['), Ok(index)) => {
                wrong.at.insert(index);
            }
            (Some('.'), _) if !word.is_empty() => {
                wrong.keys.insert(word.to_owned());
            }
            _ => wrong.whole = true,
        }
    }
    let mut result = Map::new();
    for (section, value) in present {
        let kept = match wrong.get(section.as_str()) {
            None => Some(value.clone()),
            Some(wrong) => kept(value, before.get(section), wrong),
        };
        if let Some(kept) = kept {
            result.insert(section.clone(), kept);
        }
    }
    (!result.is_empty()).then_some(Value::Object(result))
}

fn kept(present: &Value, before: Option<&Value>, wrong: &Wrong) -> Option<Value> {
    match present {
        _ if wrong.whole => before.cloned(),
        Value::Array(entries) => {
            let earlier = |entry: &Value| {
                let (key, name) = NAMES.iter().find_map(|key| Some((key, entry.get(key)?)))?;
                let before = before?.as_array()?;
                before.iter().find(|entry| entry.get(key) == Some(name)).cloned()
            };
            let kept = entries.iter().enumerate().filter_map(|(index, entry)| {
                if wrong.at.contains(&index) {
                    earlier(entry)
                } else {
                    Some(entry.clone())
                }
            });
            Some(Value::Array(kept.collect()))
        }
        Value::Object(entries) => {
            let mut kept = entries.clone();
            for key in &wrong.keys {
                match before.and_then(|before| before.get(key)) {
                    Some(earlier) => kept.insert(key.clone(), earlier.clone()),
                    None => kept.remove(key),
                };
            }
            Some(Value::Object(kept))
        }
        _ => before.cloned(),
    }
}

/// What the owner of the `ConfigMap` was told by this process: the object has no status that would remember it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    uid: String,
    problem: Option<String>,
    deprecated: bool,
}

/// What is to be told now.
pub(crate) fn notes(stored: &Stored, issues: &[Issue], told: &mut Told) -> Vec<Note> {
    let object = &stored.now.object;
    if told.uid != object.uid {
        *told = Told {
            uid: object.uid.clone(),
            ..Told::default()
        };
    }
    let mut notes = Vec::new();
    // The record is written with the first judgement: one that is there says that this was told.
    if !std::mem::replace(&mut told.deprecated, true)
        && stored.now.last_valid.is_none()
        && let Some(issue) = issues
            .iter()
            .find(|issue| issue.reason == Reason::DeprecatedSource)
    {
        notes.push((EventKind::Warning, DEPRECATED, issue.to_string()));
    }
    let errors: Vec<String> = issues
        .iter()
        .filter(|issue| issue.is_error())
        .map(ToString::to_string)
        .collect();
    let problem = (!errors.is_empty()).then(|| errors.join("\n"));
    if problem != told.problem {
        notes.push(match &problem {
            Some(problem) => (EventKind::Warning, INVALID, problem.clone()),
            None => (
                EventKind::Normal,
                VALID,
                format!("{object} is valid and in force as written"),
            ),
        });
        told.problem = problem;
    }
    notes
}

/// Merge patch that records what is in force; `None` when it is recorded.
pub(crate) fn patch(stored: &Stored) -> Option<Value> {
    let valid = stored.found_valid.as_ref()?;
    if stored.now.last_valid.as_ref() == Some(&valid.spec) {
        return None;
    }
    let text = valid.record.as_str()?;
    if text.len() > RECORD_MAX {
        tracing::warn!(
            object = %stored.now.object,
            bytes = text.len(),
            "the text is too long to be recorded in an annotation: after a restart a mistake in it would be in force at once; use IPAddressPool and L2Advertisement objects instead"
        );
        return None;
    }
    Some(json!({"metadata": {
        "resourceVersion": stored.now.resource_version,
        "annotations": {LAST_VALID_CONFIG: text},
    }}))
}

#[cfg(test)]
mod tests {
    use metallb_model::{Effect, Kind};

    use super::*;
    use crate::objects::tests::object;
    use crate::objects::{ObjectKey, Objects, by_object};

    fn issue(field: &str, reason: Reason, effect: Effect) -> Issue {
        Issue {
            object: config(1, Value::Null, None).object,
            field: field.to_owned(),
            reason,
            message: "is wrong".to_owned(),
            effect,
        }
    }

    fn error(field: &str) -> Issue {
        issue(field, Reason::InvalidAddress, Effect::LeftOut)
    }

    fn config(version: u64, spec: Value, last_valid: Option<Value>) -> metallb_kubeio::ConfigObject {
        let mut config = object(Kind::ConfigMap, "config", version, spec, Value::Null);
        config.raw_spec = Value::String(format!("text {version}"));
        config.last_valid = last_valid;
        config
    }

    #[test]
    fn entries_stand_alone() {
        let present = json!({
            "address-pools": [{"name": "a", "v": 2}, {"name": "b", "v": 2}, {"name": "c", "v": 2}],
            "peers": [{"peer-address": "10.0.0.1", "v": 2}],
            "bgp-communities": {"x": "1:2", "y": "junk", "z": "junk"},
            "unknown": 1,
        });
        let before = json!({
            "address-pools": [{"name": "b", "v": 1}, {"name": "gone", "v": 1}],
            "peers": [{"peer-address": "10.0.0.1", "v": 1}],
            "bgp-communities": {"y": "3:4"},
        });
        let errors = [
            error("data.config: address-pools[1].addresses[0]"),
            error("data.config: address-pools[2]"),
            error("data.config: peers[0].my-asn"),
            error("data.config: bgp-communities.y"),
            error("data.config: bgp-communities.z"),
            error("data.config: unknown"),
        ];
        let expected = json!({
            "address-pools": [{"name": "a", "v": 2}, {"name": "b", "v": 1}],
            "peers": [{"peer-address": "10.0.0.1", "v": 1}],
            "bgp-communities": {"x": "1:2", "y": "3:4"},
        });
        let errors: Vec<&Issue> = errors.iter().collect();
        let found = in_force(&present, Some(&before), &errors).expect("something");
        assert_eq!(found, expected);
        assert_eq!(
            in_force(&present, Some(&found), &errors),
            Some(expected),
            "it stays so"
        );
        assert_eq!(in_force(&json!([1]), Some(&before), &errors), None);
        let all = error("data.config");
        assert_eq!(in_force(&present, Some(&before), &[&all]), None);
        let only = json!({"unknown": 1});
        assert_eq!(in_force(&only, None, &[errors[5]]), None, "nothing is in force");
    }

    #[test]
    fn the_record_follows_and_the_owner_is_told_once() {
        let mut objects = Objects::default();
        let mut told = Told::default();
        let deprecated = issue("data.config", Reason::DeprecatedSource, Effect::Warning);
        let good = json!({"address-pools": [{"name": "a"}]});
        let mixed = json!({"address-pools": [{"name": "a", "v": 2}, {"name": "junk"}]});
        let bad = error("data.config: address-pools[1].addresses[0]");
        let key = ObjectKey::of(&config(1, Value::Null, None).object);
        let mut step = |object, issues: Vec<Issue>| {
            objects.apply(object);
            objects.judged(&by_object(issues.clone()), true);
            let stored = objects.get(&key).expect("there");
            let reasons: Vec<_> = notes(stored, &issues, &mut told)
                .into_iter()
                .map(|note| note.1)
                .collect();
            let text = patch(stored).map(|patch| {
                patch["metadata"]["annotations"][LAST_VALID_CONFIG]
                    .as_str()
                    .unwrap_or("?")
                    .to_owned()
            });
            (reasons, text)
        };
        assert_eq!(
            step(config(1, good.clone(), None), vec![deprecated.clone()]),
            (vec![DEPRECATED], Some("text 1".to_owned()))
        );
        assert_eq!(
            step(
                config(2, good.clone(), Some(good.clone())),
                vec![deprecated.clone()]
            ),
            (vec![], None)
        );
        let found = json!({"address-pools": [{"name": "a", "v": 2}]});
        assert_eq!(
            step(
                config(3, mixed.clone(), Some(good)),
                vec![deprecated.clone(), bad.clone()]
            ),
            (vec![INVALID], Some(found.to_string()))
        );
        assert_eq!(
            step(
                config(4, mixed, Some(found.clone())),
                vec![deprecated.clone(), bad]
            ),
            (vec![], None)
        );
        // No YAML any more: what is recorded stays.
        let mut broken = config(5, Value::Null, Some(found));
        broken.spec = Err(metallb_model::Unreadable {
            field: "data.config".into(),
            message: "no YAML".into(),
        });
        assert_eq!(step(broken, vec![error("data.config")]), (vec![INVALID], None));
        let good = json!({"address-pools": [{"name": "b"}]});
        assert_eq!(
            step(config(6, good, None), vec![deprecated]),
            (vec![VALID], Some("text 6".to_owned()))
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_not_recorded() {
        let mut objects = Objects::default();
        let mut long = config(1, json!({"a": 1}), None);
        long.raw_spec = Value::String("x".repeat(RECORD_MAX + 1));
        let key = ObjectKey::of(&long.object);
        objects.apply(long);
        objects.judged(&by_object(vec![]), true);
        assert_eq!(patch(objects.get(&key).expect("there")), None);
    }
}
