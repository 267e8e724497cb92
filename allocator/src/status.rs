//! What the status of a configuration object should say, and the patch that makes it say so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use metallb_alloc::Counters;
use metallb_api::condition::{self, NewCondition, Status, set_condition};
use metallb_api::names::{conditions, events};
use metallb_kubeio::EventKind;
use metallb_model::{Issue, Kind, Reason};
use serde_json::{Map, Value, json};

use crate::objects::{Snapshot, Stored};

/// A write to the status of a configuration object, and what to tell its owner with it.
#[derive(Debug, PartialEq)]
pub(crate) struct StatusPatch {
    /// Merge patch of the status subresource, bound to the version it was made for.
    pub(crate) body: Value,
    /// Kind, reason and message of an Event, when validity changed.
    pub(crate) event: Option<(EventKind, &'static str, String)>,
}

/// The patch that the object needs; `None` when its status is as it should be. `issues` are those of this object,
/// `counters` those of the pool if it is one in force.
pub(crate) fn patch(
    stored: &Stored,
    issues: &[&Issue],
    counters: Option<Counters>,
    now: &Time,
) -> Option<StatusPatch> {
    let Snapshot {
        object,
        resource_version,
        spec,
        status,
        ..
    } = &stored.now;
    let mut conditions: Vec<Condition> = status
        .get("conditions")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    let was = condition::find(&conditions, conditions::VALID).cloned();
    let errors: Vec<&Issue> = issues.iter().filter(|issue| issue.is_error()).copied().collect();
    let valid = errors.is_empty();
    // Another installation has judged the object, for it is in its namespace: two must not contradict each other for ever.
    let elsewhere = errors.iter().any(|issue| issue.reason == Reason::WrongNamespace);
    if elsewhere
        && was
            .as_ref()
            .is_some_and(|was| was.reason != Reason::WrongNamespace.as_str())
    {
        return None;
    }
    let shown = if valid { issues } else { &errors };
    let message = shown
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    let new = NewCondition {
        type_: conditions::VALID,
        status: Status::from(valid),
        reason: errors
            .first()
            .map_or(conditions::REASON_ACCEPTED, |issue| issue.reason.as_str()),
        message: message.clone(),
        observed_generation: Some(object.generation),
    };
    let mut wanted = status.as_object().cloned().unwrap_or_default();
    if set_condition(&mut conditions, new, now) {
        wanted.insert("conditions".to_owned(), json!(conditions));
    }
    if object.kind == Kind::IpAddressPool {
        let counters = counters.unwrap_or_default();
        for (field, count) in [
            ("assignedIPv4", counters.assigned_v4),
            ("assignedIPv6", counters.assigned_v6),
            ("availableIPv4", counters.available_v4()),
            ("availableIPv6", counters.available_v6()),
        ] {
            wanted.insert(field.to_owned(), json!(count));
        }
    }
    if valid {
        wanted.insert("lastValidSpec".to_owned(), spec.clone());
    } else if let Some(last_valid) = stored.last_valid() {
        wanted.insert("lastValidSpec".to_owned(), last_valid.clone());
    }
    let difference = difference(status, &Value::Object(wanted))?;
    let body = json!({
        "metadata": {"resourceVersion": resource_version},
        "status": difference,
    });
    let was_valid = was.as_ref().map(|condition| condition.status == "True");
    let event = match (was_valid, valid) {
        (Some(false), true) => {
            let message = format!("{object} is valid and in force as written");
            Some((EventKind::Normal, events::CONFIGURATION_VALID, message))
        }
        (_, false) if was.is_none_or(|was| was.status != "False" || was.message != message) => {
            Some((EventKind::Warning, events::CONFIGURATION_INVALID, message))
        }
        _ => None,
    };
    Some(StatusPatch { body, event })
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
    use crate::objects::Objects;
    use crate::objects::tests::pool;

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

    /// Runs one object through judgement and patch; returns the status after, and the Event.
    fn round(spec: Value, status: &Value, second: i64) -> Option<(Value, Option<(EventKind, String)>)> {
        let mut objects = Objects::default();
        objects.apply(pool("a", 7, spec, status.clone()));
        let (_, issues) = Config::from_sources(&objects.sources(), "metallb-system");
        let key = objects.keys().next().expect("one object").clone();
        let stored = objects.get(&key).expect("stored");
        let counters = Counters {
            assigned_v4: 3,
            total_v4: 256,
            ..Counters::default()
        };
        let issues: Vec<&Issue> = issues.iter().collect();
        let patch = patch(stored, &issues, Some(counters), &at(second))?;
        assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
        let mut after = status.clone();
        merge(&mut after, &patch.body["status"]);
        Some((
            after,
            patch
                .event
                .map(|(kind, reason, message)| (kind, format!("{reason}: {message}"))),
        ))
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
            let (_, issues) = Config::from_sources(&objects.sources(), namespace);
            let key = objects.keys().next().expect("one object").clone();
            let issues: Vec<&Issue> = issues.iter().collect();
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
