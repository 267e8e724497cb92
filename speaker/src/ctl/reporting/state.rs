//! What a `ConfigurationState` should say, and what has to be written for that. No I/O.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use metallb_api::condition::{NewCondition, set_condition};
use metallb_api::names::labels;
use metallb_api::{ConfigurationState, Raw};
use metallb_model::Issue;
use serde_json::{Value, json};

use crate::ctl::configuration::is_ours;

/// Longest summary in bytes; the objects themselves carry their whole story.
const SUMMARY_MAX: usize = 4096;
/// Longest label value that Kubernetes takes.
const LABEL_MAX: usize = 63;
/// Said while there is nothing to do.
pub(super) const IDLE: &str =
    "no pool is configured: nothing is announced until there is a valid IPAddressPool with an advertisement";

/// Who writes.
#[derive(Clone, Debug)]
pub(in super::super) struct Author {
    pub(in super::super) node: String,
    pub(in super::super) pod: String,
    /// Empty: unknown, the object belongs to nobody.
    pub(in super::super) pod_uid: String,
}

/// What it should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Report {
    valid: bool,
    /// A line for each issue.
    summary: String,
}

impl Report {
    /// From the issues; `idle`: there is no pool.
    pub(in super::super) fn new(issues: &[Issue], idle: bool) -> Self {
        let mut lines: Vec<String> = issues.iter().map(ToString::to_string).collect();
        lines.extend(idle.then(|| IDLE.to_owned()));
        Self {
            valid: !issues.iter().any(is_ours),
            summary: shortened(lines.join("\n")),
        }
    }

    /// The status, given the conditions that are there; `None` when it is so.
    fn status(&self, stored: &Value, now: &Time) -> Option<Value> {
        let conditions = stored.get("conditions").cloned().unwrap_or_default();
        let mut conditions: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
        let changed = set_condition(
            &mut conditions,
            NewCondition {
                type_: "configReconcilerValid",
                status: self.valid.into(),
                reason: if self.valid {
                    "Reconciled"
                } else {
                    "ConfigurationError"
                },
                message: self.summary.clone(),
                observed_generation: None,
            },
            now,
        );
        let result = if self.valid { "Valid" } else { "Invalid" };
        let text = |field: &str| stored.get(field).and_then(Value::as_str).unwrap_or_default();
        let same = !changed && text("result") == result && text("errorSummary") == self.summary;
        (!same).then(|| json!({"result": result, "errorSummary": self.summary, "conditions": conditions}))
    }
}

fn shortened(mut text: String) -> String {
    const MORE: &str = " ...";
    if text.len() > SUMMARY_MAX {
        let cut = (0..=SUMMARY_MAX - MORE.len())
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push_str(MORE);
    }
    text
}

/// What a write has to change.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    /// The object without its status, to be applied.
    pub(super) object: Option<Value>,
    pub(super) status: Option<Value>,
}

/// What the stored object (`None`: there is none) lacks; `None` when it is as it should be.
pub(super) fn difference(
    stored: Option<&Raw<ConfigurationState>>,
    name: &str,
    report: &Report,
    author: &Author,
) -> Option<Difference> {
    difference_at(stored, name, report, author, &Time(Timestamp::now()))
}

fn difference_at(
    stored: Option<&Raw<ConfigurationState>>,
    name: &str,
    report: &Report,
    author: &Author,
    now: &Time,
) -> Option<Difference> {
    let wanted_labels = [
        (labels::COMPONENT_TYPE, labels::COMPONENT_SPEAKER),
        (labels::NODE_NAME, author.node.as_str()),
    ];
    let fitting = || {
        wanted_labels
            .into_iter()
            .filter(|(_, value)| value.len() <= LABEL_MAX)
    };
    let labelled = stored
        .and_then(|object| object.metadata.labels.as_ref())
        .is_some_and(|known| {
            fitting().all(|(label, value)| known.get(label).is_some_and(|known| known == value))
        });
    let owned = author.pod_uid.is_empty()
        || stored.is_some_and(|object| {
            let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
            owners.len() == 1 && owners[0].uid == author.pod_uid
        });
    let object = (!labelled || !owned).then(|| {
        let labels: serde_json::Map<String, Value> = fitting()
            .map(|(label, value)| (label.into(), value.into()))
            .collect();
        let mut metadata = json!({"name": name, "labels": labels});
        if !author.pod_uid.is_empty() {
            metadata["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Pod", "name": author.pod, "uid": author.pod_uid}]);
        }
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState", "metadata": metadata})
    });
    let status = report.status(stored.map_or(&Value::Null, |object| &object.status), now);
    (object.is_some() || status.is_some()).then_some(Difference { object, status })
}

#[cfg(test)]
mod tests {
    use metallb_model::{Effect, Kind, Reason};

    use super::*;
    use crate::ctl::configuration::tests::object;

    fn issue(effect: Effect, reason: Reason) -> Issue {
        Issue {
            object: object(Kind::IpAddressPool, "p", Value::Null).object,
            field: "spec.addresses[0]".into(),
            reason,
            message: "what is wrong".into(),
            effect,
        }
    }

    fn author(pod_uid: &str) -> Author {
        Author {
            node: "n1".into(),
            pod: "speaker-x".into(),
            pod_uid: pod_uid.into(),
        }
    }

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a time"))
    }

    /// The object after a write.
    fn written(before: Option<&Raw<ConfigurationState>>, difference: Difference) -> Raw<ConfigurationState> {
        let mut whole = match before {
            Some(object) => serde_json::to_value(object).expect("JSON"),
            None => json!({}),
        };
        if let Some(object) = difference.object {
            whole["metadata"] = object["metadata"].clone();
        }
        if let Some(status) = difference.status {
            whole["status"] = status;
        }
        serde_json::from_value(whole).expect("an object")
    }

    #[test]
    fn it_is_written_once_and_again_only_when_something_differs() {
        let quiet = Report::new(&[], false);
        let (me, name) = (author("u1"), "speaker-n1");
        let first = difference_at(None, name, &quiet, &me, &at(100)).expect("there is none");
        let stored = written(None, first);
        assert_eq!(
            stored.metadata.labels.as_ref().expect("labels")[labels::NODE_NAME],
            "n1"
        );
        assert_eq!(
            stored.metadata.owner_references.as_ref().expect("owner")[0].uid,
            "u1"
        );
        assert_eq!(stored.status["result"], "Valid");
        assert_eq!(difference_at(Some(&stored), name, &quiet, &me, &at(200)), None);
        // The API server leaves an empty summary out.
        let mut bare = stored.clone();
        bare.status
            .as_object_mut()
            .expect("status")
            .remove("errorSummary");
        assert_eq!(difference_at(Some(&bare), name, &quiet, &me, &at(200)), None);
        // Another pod on the same node takes it over and leaves the status alone.
        let next =
            difference_at(Some(&stored), name, &quiet, &author("u2"), &at(300)).expect("another owner");
        assert_eq!(next.status, None);
        assert_eq!(
            next.object.expect("owner")["metadata"]["ownerReferences"][0]["uid"],
            "u2"
        );
        // A typo, and its correction.
        let wrong = Report::new(&[issue(Effect::LastValid, Reason::InvalidAddress)], false);
        let change = difference_at(Some(&stored), name, &wrong, &me, &at(400)).expect("invalid now");
        assert_eq!(change.object, None);
        let stored = written(Some(&stored), change);
        assert_eq!(stored.status["result"], "Invalid");
        assert_eq!(stored.status["conditions"][0]["reason"], "ConfigurationError");
        assert_eq!(
            stored.status["conditions"][0]["lastTransitionTime"],
            json!(at(400))
        );
        let summary = stored.status["errorSummary"].as_str().expect("text");
        assert!(
            summary.contains("IPAddressPool m/p: spec.addresses[0]: what is wrong"),
            "{summary}"
        );
    }

    #[test]
    fn hints_and_idleness_are_told_without_being_errors() {
        let report = Report::new(&[issue(Effect::Warning, Reason::DeprecatedSource)], true);
        let status = report.status(&Value::Null, &at(1)).expect("a first write");
        assert_eq!(
            (&status["result"], &status["conditions"][0]["status"]),
            (&json!("Valid"), &json!("True"))
        );
        let summary = status["errorSummary"].as_str().expect("text");
        assert!(
            summary.contains("what is wrong") && summary.ends_with(IDLE),
            "{summary}"
        );
    }

    #[test]
    fn long_summaries_and_names_fit() {
        let many: Vec<Issue> = (0..1000)
            .map(|_| issue(Effect::LeftOut, Reason::InvalidAddress))
            .collect();
        let report = Report::new(&many, false);
        assert!(report.summary.len() <= SUMMARY_MAX && report.summary.ends_with(" ..."));
        let mut long = author("");
        long.node = "n".repeat(80);
        let object = difference_at(None, "x", &report, &long, &at(1))
            .expect("new")
            .object
            .expect("new");
        assert_eq!(object["metadata"]["labels"][labels::NODE_NAME], Value::Null);
        assert_eq!(object["metadata"].get("ownerReferences"), None);
    }
}
