//! The `ConfigurationState` named `controller`: whether the whole configuration is in force, in one object.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use metallb_api::condition::{NewCondition, Status, set_condition};
use metallb_api::names::{field_managers, labels, objects};
use metallb_api::{ConfigurationState, Raw};
use metallb_kubeio::lease::Fence;
use metallb_model::{Issue, Kind, Reason};
use serde_json::{Value, json};

/// Longest summary; the objects themselves carry their whole story.
const SUMMARY: usize = 4096;
/// Longest time for the requests of one write.
const REQUEST: Duration = Duration::from_secs(5);

/// What the `ConfigurationState` should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    result: &'static str,
    /// One line per problem or remark.
    summary: String,
    /// Type, status, reason and message.
    conditions: [(&'static str, Status, &'static str, String); 2],
}

/// Whether the configuration of this installation is not in force as written. An object in another namespace may belong
/// to another installation: it is named, but this one is not invalid for it.
pub(crate) fn is_ours(issue: &Issue) -> bool {
    issue.is_error() && issue.reason != Reason::WrongNamespace
}

/// Whether the issue is about what addresses come from.
fn is_about_pools(issue: &Issue) -> bool {
    matches!(issue.object.kind, Kind::IpAddressPool | Kind::AddressPool)
        || issue.object.kind == Kind::ConfigMap
            && !issue.field.contains("peers[")
            && !issue.field.contains("bfd-profiles[")
}

fn lines<'a>(issues: impl Iterator<Item = &'a Issue>) -> Vec<String> {
    issues.map(ToString::to_string).collect()
}

fn shortened(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    if text.len() > SUMMARY {
        let cut = (0..=SUMMARY)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
        text.push_str(" ...");
    }
    text
}

impl Report {
    /// From the findings; `empty`: there is no pool yet, so nothing can be assigned.
    pub(crate) fn new<'a>(issues: impl Iterator<Item = &'a Issue> + Clone, empty: bool) -> Self {
        const IDLE: &str =
            "no pool is configured: services get no address until there is a valid IPAddressPool";
        let condition = |type_, about: Vec<&Issue>, idle: bool| {
            let valid = !about.iter().any(|issue| is_ours(issue));
            let reason = if valid { "Reconciled" } else { "ConfigurationError" };
            let mut message = lines(about.into_iter());
            message.extend(idle.then(|| IDLE.to_owned()));
            (type_, Status::from(valid), reason, shortened(&message))
        };
        let mut summary = lines(issues.clone());
        summary.extend(empty.then(|| IDLE.to_owned()));
        Self {
            result: if issues.clone().any(is_ours) {
                "Invalid"
            } else {
                "Valid"
            },
            summary: shortened(&summary),
            conditions: [
                condition("configReconcilerValid", issues.clone().collect(), false),
                condition(
                    "poolReconcilerValid",
                    issues.filter(|issue| is_about_pools(issue)).collect(),
                    empty,
                ),
            ],
        }
    }

    /// While the configuration cannot be read.
    pub(crate) fn unknown(missing: &[&str]) -> Self {
        let summary = format!(
            "not read yet: {}; is the API server reachable, and may this ServiceAccount list them?",
            missing.join(", ")
        );
        let condition = |type_| (type_, Status::Unknown, "InfraError", summary.clone());
        Self {
            result: "Unknown",
            conditions: [
                condition("configReconcilerValid"),
                condition("poolReconcilerValid"),
            ],
            summary,
        }
    }

    /// Status as it should be, given the conditions that are there; `None` when it is so.
    fn status(&self, stored: &Value, now: &Time) -> Option<Value> {
        let mut conditions: Vec<Condition> = stored
            .get("conditions")
            .and_then(|list| serde_json::from_value(list.clone()).ok())
            .unwrap_or_default();
        for (type_, status, reason, message) in self.conditions.clone() {
            let new = NewCondition {
                type_,
                status,
                reason,
                message,
                observed_generation: None,
            };
            set_condition(&mut conditions, new, now);
        }
        let wanted = json!({"result": self.result, "errorSummary": self.summary, "conditions": conditions});
        let same = ["result", "conditions"]
            .iter()
            .all(|field| stored.get(*field) == wanted.get(*field))
            && stored.get("errorSummary").and_then(Value::as_str).unwrap_or("") == self.summary;
        (!same).then_some(wanted)
    }
}

/// What a write has to change: the object itself (labels, owner), its status, or both.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    object: Option<Value>,
    status: Option<Value>,
}

/// What the stored object (`None`: there is none) lacks; `None` when it says what it should.
pub(crate) fn difference(
    stored: Option<&Raw<ConfigurationState>>,
    report: &Report,
    owner: Option<&OwnerReference>,
    now: &Time,
) -> Option<Difference> {
    let labelled = stored.is_some_and(|stored| {
        let labels = stored.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(labels::COMPONENT_TYPE))
            .map(String::as_str)
            == Some(labels::COMPONENT_CONTROLLER)
    });
    let owned = owner.is_none_or(|owner| {
        stored.is_some_and(|stored| {
            let owners = stored.metadata.owner_references.iter().flatten();
            owners.into_iter().any(|known| known.uid == owner.uid)
        })
    });
    let object = (!labelled || !owned).then(|| {
        let mut metadata = json!({
            "name": objects::CONFIGURATION_STATE_CONTROLLER,
            "labels": {labels::COMPONENT_TYPE: labels::COMPONENT_CONTROLLER},
        });
        if let Some(owner) = owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState", "metadata": metadata})
    });
    let status = report.status(stored.map_or(&Value::Null, |stored| &stored.status), now);
    (object.is_some() || status.is_some()).then_some(Difference { object, status })
}

/// Now, for [`difference`].
pub(crate) fn now() -> Time {
    Time(Timestamp::now())
}

/// Makes the change; returns the object as it is then, `None` when nothing was sent.
pub(crate) async fn write(
    client: Client,
    namespace: String,
    fence: Fence,
    change: Difference,
) -> Result<Option<Raw<ConfigurationState>>, String> {
    let api: Api<Raw<ConfigurationState>> = Api::namespaced(client, &namespace);
    let name = objects::CONFIGURATION_STATE_CONTROLLER;
    let attempt = async {
        let mut after = None;
        if let Some(object) = change.object {
            if !fence.is_open() {
                return Ok(after);
            }
            let parameters = PatchParams::apply(field_managers::CONTROLLER).force();
            after = Some(api.patch(name, &parameters, &Patch::Apply(object)).await?);
        }
        if let Some(status) = change.status {
            if !fence.is_open() {
                return Ok(after);
            }
            let parameters = PatchParams {
                field_manager: Some(field_managers::CONTROLLER.into()),
                ..PatchParams::default()
            };
            let body = Patch::Merge(json!({"status": status}));
            after = Some(api.patch_status(name, &parameters, &body).await?);
        }
        Ok(after)
    };
    match tokio::time::timeout(REQUEST, attempt).await {
        Ok(answer) => answer.map_err(|error: kube::Error| error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST:?}")),
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;
    use metallb_model::{Effect, ObjectRef};

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a time"))
    }

    fn issue(kind: Kind, reason: Reason, effect: Effect) -> Issue {
        Issue {
            object: ObjectRef {
                kind,
                namespace: "metallb-system".into(),
                name: "x".into(),
                uid: String::new(),
                created: 0,
                generation: 1,
            },
            field: "spec".into(),
            reason,
            message: format!("{reason:?}"),
            effect,
        }
    }

    #[test]
    fn says_once_what_is_so() {
        let report = Report::new([].iter(), true);
        assert!(report.result == "Valid" && report.summary.contains("no pool is configured"));
        let status = report.status(&Value::Null, &at(100)).expect("a first write");
        assert_eq!(status["result"], "Valid");
        assert_eq!(report.status(&status, &at(200)), None);
        let quiet = Report::new([].iter(), false);
        let status = quiet.status(&status, &at(200)).expect("the remark goes");
        assert_eq!(status["errorSummary"], "");
        assert_eq!(
            status["conditions"][0]["lastTransitionTime"],
            json!(at(100)),
            "it was valid all the time"
        );
        let as_stored = json!({"result": "Valid", "conditions": status["conditions"]});
        assert_eq!(
            quiet.status(&as_stored, &at(200)),
            None,
            "an absent summary is an empty one"
        );
    }

    #[test]
    fn each_condition_is_about_its_own() {
        // (issue, result, configReconcilerValid, poolReconcilerValid)
        for (kind, reason, effect, expected) in [
            (
                Kind::IpAddressPool,
                Reason::InvalidAddress,
                Effect::LeftOut,
                ("Invalid", "False", "False"),
            ),
            (
                Kind::L2Advertisement,
                Reason::InvalidSelector,
                Effect::LastValid,
                ("Invalid", "False", "True"),
            ),
            (
                Kind::AddressPool,
                Reason::DeprecatedSource,
                Effect::Warning,
                ("Valid", "True", "True"),
            ),
            (
                Kind::IpAddressPool,
                Reason::WrongNamespace,
                Effect::LeftOut,
                ("Valid", "True", "True"),
            ),
        ] {
            let issue = issue(kind, reason, effect);
            let report = Report::new([issue].iter(), false);
            let status = report.status(&Value::Null, &at(1)).expect("a write");
            let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            let found = (
                word(&status["result"]),
                word(&status["conditions"][0]["status"]),
                word(&status["conditions"][1]["status"]),
            );
            assert_eq!(
                (found.0.as_str(), found.1.as_str(), found.2.as_str()),
                expected,
                "{reason:?}"
            );
            assert!(
                word(&status["errorSummary"]).contains(&format!("{reason:?}")),
                "it is named"
            );
        }
        let unknown = Report::unknown(&["bgppeers"])
            .status(&Value::Null, &at(1))
            .expect("a write");
        assert_eq!(
            (
                unknown["result"].as_str(),
                unknown["conditions"][0]["status"].as_str()
            ),
            (Some("Unknown"), Some("Unknown"))
        );
    }

    #[test]
    fn object_and_owner_are_repaired_and_else_left_alone() {
        let report = Report::new([].iter(), false);
        let owner = OwnerReference {
            kind: "Deployment".into(),
            uid: "u1".into(),
            ..OwnerReference::default()
        };
        let first = difference(None, &report, Some(&owner), &at(1)).expect("nothing is there");
        let object = first.object.expect("an object");
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u1");
        let metadata: ObjectMeta = serde_json::from_value(object["metadata"].clone()).expect("metadata");
        let stored = Raw::new(metadata.clone(), Value::Null, first.status.expect("a status"));
        assert_eq!(difference(Some(&stored), &report, Some(&owner), &at(2)), None);
        let unowned = ObjectMeta {
            owner_references: None,
            ..metadata
        };
        let stored = Raw::new(unowned, Value::Null, stored.status);
        let change = difference(Some(&stored), &report, Some(&owner), &at(2)).expect("the owner is missing");
        assert!(change.object.is_some() && change.status.is_none());
        assert_eq!(difference(Some(&stored), &report, None, &at(2)), None);
    }
}
