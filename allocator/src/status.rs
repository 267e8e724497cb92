//! What the status of a configuration object should say, and the patch that makes it say so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use metallb_alloc::Counters;
use metallb_api::condition::{self, NewCondition, Status, set_condition};
use metallb_api::names::{conditions, events};
use metallb_kubeio::ConfigObject;
use metallb_kubeio::EventKind;
use metallb_model::{Issue, Kind, Reason};
use serde_json::{Map, Value, json};

use crate::objects::Stored;

/// Kind, reason and message of an Event.
pub(crate) type Note = (EventKind, &'static str, String);

/// Warning: the object is not in force as written.
pub(crate) const INVALID: &str = events::CONFIGURATION_INVALID;
/// Normal: it is again.
pub(crate) const VALID: &str = events::CONFIGURATION_VALID;
/// Warning: the kind is deprecated; said once.
pub(crate) const DEPRECATED: &str = "DeprecatedConfiguration";

/// A write to the status of a configuration object, and what to tell its owner with it.
#[derive(Debug, PartialEq)]
pub(crate) struct StatusPatch {
    /// Merge patch of the status subresource, bound to the version it was made for.
    pub(crate) body: Value,
    /// Events, when validity changed.
    pub(crate) notes: Vec<Note>,
}

/// What the allocator knows of a pool in force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolFacts<'a> {
    pub(crate) counters: Counters,
    /// Remarks that change nothing of its validity.
    pub(crate) warnings: &'a [String],
}

/// The patch that the object needs; `None` when its status is as it should be. `issues` are those of this object,
/// `pool` what is known of it if it is a pool in force.
pub(crate) fn patch(
    stored: &Stored,
    issues: &[Issue],
    pool: Option<PoolFacts<'_>>,
    now: &Time,
) -> Option<StatusPatch> {
    let ConfigObject {
        object,
        resource_version,
        status,
        ..
    } = &stored.now;
    let mut conditions: Vec<Condition> = status
        .get("conditions")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    let was = condition::find(&conditions, conditions::VALID).cloned();
    let first_error = issues.iter().find(|issue| issue.is_error());
    let valid = first_error.is_none();
    // Another installation has judged the object, for it is in its namespace: two must not contradict each other for ever.
    let elsewhere = issues
        .iter()
        .any(|issue| issue.is_error() && issue.reason == Reason::WrongNamespace);
    if elsewhere
        && was
            .as_ref()
            .is_some_and(|was| was.reason != Reason::WrongNamespace.as_str())
    {
        return None;
    }
    let pool = pool.unwrap_or_default();
    let mut lines: Vec<String> = issues
        .iter()
        .filter(|issue| valid || issue.is_error())
        .map(ToString::to_string)
        .collect();
    lines.extend(pool.warnings.iter().cloned());
    let message = lines.join("\n");
    let new = NewCondition {
        type_: conditions::VALID,
        status: Status::from(valid),
        reason: first_error.map_or(conditions::REASON_ACCEPTED, |issue| issue.reason.as_str()),
        message: message.clone(),
        observed_generation: Some(object.generation),
    };
    let mut wanted = status.as_object().cloned().unwrap_or_default();
    if set_condition(&mut conditions, new, now) {
        wanted.insert("conditions".to_owned(), json!(conditions));
    }
    if object.kind == Kind::IpAddressPool {
        for (field, count) in [
            ("assignedIPv4", pool.counters.assigned_v4),
            ("assignedIPv6", pool.counters.assigned_v6),
            ("availableIPv4", pool.counters.available_v4()),
            ("availableIPv6", pool.counters.available_v6()),
        ] {
            wanted.insert(field.to_owned(), json!(count));
        }
    }
    if let Some(record) = stored.record().filter(|record| record.is_object()) {
        wanted.insert("lastValidSpec".to_owned(), record.clone());
    }
    let difference = difference(status, &Value::Object(wanted))?;
    let body = json!({
        "metadata": {"resourceVersion": resource_version},
        "status": difference,
    });
    let mut notes = Vec::new();
    let deprecated = issues
        .iter()
        .find(|issue| issue.reason == Reason::DeprecatedSource);
    if let (None, Some(deprecated)) = (&was, deprecated) {
        notes.push((EventKind::Warning, DEPRECATED, deprecated.to_string()));
    }
    let was_valid = was.as_ref().map(|condition| condition.status == "True");
    match (was_valid, valid) {
        (Some(false), true) => {
            let message = format!("{object} is valid and in force as written");
            notes.push((EventKind::Normal, VALID, message));
        }
        (_, false) if was.is_none_or(|was| was.status != "False" || was.message != message) => {
            notes.push((EventKind::Warning, INVALID, message));
        }
        _ => {}
    }
    Some(StatusPatch { body, notes })
}

/// The JSON merge patch (RFC 7386) that makes `new` of `old`; `None` when they are equal. Lists are replaced whole.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        if let Some(change) = difference(old.get(key).unwrap_or(&Value::Null), value) {
            patch.insert(key.clone(), change);
        }
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use metallb_model::Config;

    use super::*;
    use crate::objects::tests::{object, pool};
    use crate::objects::{Objects, by_object};

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a time"))
    }

    /// RFC 7386 section 2.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in patch {
            if value.is_null() {
                target.as_object_mut().map(|target| target.remove(key));
            } else {
                merge(&mut target[key], value);
            }
        }
    }

    /// Judges the one object there is.
    fn judge(objects: &mut Objects, namespace: &str) -> Vec<Issue> {
        let (_, issues) = Config::from_sources(&objects.sources(), namespace);
        let issues = by_object(issues);
        objects.judged(&issues, true);
        issues.into_values().flatten().collect()
    }

    /// Runs one object through judgement and patch; returns the status after, and the Event.
    fn round(spec: Value, status: &Value, second: i64) -> Option<(Value, Option<(EventKind, String)>)> {
        let mut objects = Objects::default();
        objects.apply(pool("a", 7, spec, status.clone()));
        let issues = judge(&mut objects, "metallb-system");
        let key = objects.keys().next().expect("one object").clone();
        let stored = objects.get(&key).expect("stored");
        let facts = PoolFacts {
            counters: Counters {
                assigned_v4: 3,
                total_v4: 256,
                ..Counters::default()
            },
            warnings: &[],
        };
        let patch = patch(stored, &issues, Some(facts), &at(second))?;
        assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
        let mut after = status.clone();
        merge(&mut after, &patch.body["status"]);
        assert!(patch.notes.len() < 2);
        let event = patch.notes.into_iter().next();
        Some((
            after,
            event.map(|(kind, reason, message)| (kind, format!("{reason}: {message}"))),
        ))
    }

    #[test]
    fn a_remark_about_a_pool_is_no_fault_of_it() {
        let mut objects = Objects::default();
        let spec = json!({"addresses": ["10.0.0.0/24"]});
        objects.apply(pool("a", 7, spec.clone(), Value::Null));
        let issues = judge(&mut objects, "metallb-system");
        let key = objects.keys().next().expect("one object").clone();
        let warnings = ["10.0.0.1 is the address of node n1".to_owned()];
        let facts = PoolFacts {
            warnings: &warnings,
            ..PoolFacts::default()
        };
        let first = patch(objects.get(&key).expect("stored"), &issues, Some(facts), &at(1)).expect("a write");
        let condition = &first.body["status"]["conditions"][0];
        assert_eq!(
            (condition["status"].as_str(), condition["message"].as_str()),
            (Some("True"), Some(&*warnings[0]))
        );
        assert_eq!(first.notes, []);
        objects.apply(pool("a", 8, spec, first.body["status"].clone()));
        let stored = objects.get(&key).expect("stored");
        assert_eq!(patch(stored, &issues, Some(facts), &at(2)), None);
        let gone = patch(stored, &issues, None, &at(3)).expect("the remark goes");
        assert_eq!(gone.notes, []);
    }

    #[test]
    fn a_deprecated_kind_is_told_once() {
        let spec = json!({"protocol": "layer2", "addresses": ["10.0.0.0/24"]});
        let mut objects = Objects::default();
        objects.apply(object(Kind::AddressPool, "old", 3, spec.clone(), Value::Null));
        let issues = judge(&mut objects, "metallb-system");
        let key = objects.keys().next().expect("one object").clone();
        let first = patch(objects.get(&key).expect("stored"), &issues, None, &at(1)).expect("a write");
        let reasons: Vec<_> = first.notes.iter().map(|note| note.1).collect();
        assert_eq!(reasons, [DEPRECATED]);
        assert!(first.notes[0].2.contains("IPAddressPool"), "{}", first.notes[0].2);
        assert_eq!(first.body["status"]["conditions"][0]["status"], "True");
        assert_eq!(first.body["status"]["lastValidSpec"], spec);
        let status = first.body["status"].clone();
        let edited = json!({"protocol": "layer2", "addresses": ["10.0.1.0/24"]});
        objects.apply(object(Kind::AddressPool, "old", 4, edited, status));
        let issues = judge(&mut objects, "metallb-system");
        let second = patch(objects.get(&key).expect("stored"), &issues, None, &at(2)).expect("a write");
        assert_eq!(second.notes, []);
    }

    #[test]
    fn a_valid_pool_is_recorded_once_and_then_left_alone() {
        let spec = json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": {"priority": 5}});
        let (status, event) = round(spec.clone(), &Value::Null, 100).expect("a first write");
        assert_eq!(event, None);
        assert_eq!(status["lastValidSpec"], spec);
        assert_eq!(
            (status["assignedIPv4"].as_i64(), status["availableIPv4"].as_i64()),
            (Some(3), Some(253))
        );
        assert_eq!(status["conditions"][0]["status"], "True");
        assert_eq!(status["conditions"][0]["reason"], "Accepted");
        assert_eq!(round(spec, &status, 200), None);
        let shorter = json!({"addresses": ["10.0.0.0/24"]});
        let (after, _) = round(shorter.clone(), &status, 300).expect("the spec changed");
        assert_eq!(
            after["lastValidSpec"], shorter,
            "removed fields go from the record too"
        );
        assert_eq!(
            after["conditions"][0]["lastTransitionTime"],
            status["conditions"][0]["lastTransitionTime"]
        );
    }

    #[test]
    fn two_installations_do_not_contradict_each_other() {
        let spec = json!({"addresses": ["10.0.0.0/33"]});
        let judge = |namespace: &str, status: &Value| {
            let mut objects = Objects::default();
            objects.apply(pool("a", 7, spec.clone(), status.clone()));
            let issues = super::tests::judge(&mut objects, namespace);
            let key = objects.keys().next().expect("one object").clone();
            let patch = patch(objects.get(&key).expect("stored"), &issues, None, &at(1))?;
            let mut after = status.clone();
            merge(&mut after, &patch.body["status"]);
            Some(after)
        };
        let foreign = judge("elsewhere", &Value::Null).expect("nobody has judged it");
        assert_eq!(foreign["conditions"][0]["reason"], "WrongNamespace");
        let own = judge("metallb-system", &foreign).expect("its own installation knows better");
        assert_eq!(own["conditions"][0]["reason"], "InvalidAddress");
        assert_eq!(judge("elsewhere", &own), None);
        assert_eq!(judge("metallb-system", &own), None);
    }

    #[test]
    fn a_bad_pool_is_named_and_its_record_stays() {
        let good = json!({"addresses": ["10.0.0.0/24"]});
        let (status, _) = round(good.clone(), &Value::Null, 100).expect("a first write");
        let bad = json!({"addresses": ["10.0.0.0/33"]});
        let (status, event) = round(bad.clone(), &status, 200).expect("validity changed");
        assert_eq!(status["lastValidSpec"], good);
        assert_eq!(status["conditions"][0]["reason"], "InvalidAddress");
        let (kind, text) = event.expect("an Event");
        assert_eq!(kind, EventKind::Warning);
        for part in [
            "ConfigurationInvalid",
            "IPAddressPool metallb-system/a",
            "spec.addresses[0]",
            "10.0.0.0/33",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(round(bad, &status, 300), None, "said once");
        let (_, event) = round(good, &status, 400).expect("valid again");
        assert_eq!(event.map(|(kind, _)| kind), Some(EventKind::Normal));
    }
}
