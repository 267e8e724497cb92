//! The `ConfigurationState` named `controller`: whether the whole configuration is in force, in one object.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use metallb_api::condition::{NewCondition, Status, set_condition};
use metallb_api::names::{field_managers, labels, objects};
use metallb_api::{ConfigurationState, Raw};
use metallb_model::{Issue, Reason};
use serde_json::{Value, json};

use crate::lease::Fence;

/// Longest summary; the objects themselves carry their whole story.
const SUMMARY: usize = 4096;
/// Longest time for the requests of one write.
const REQUEST: Duration = Duration::from_secs(5);

/// What the `ConfigurationState` should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Nothing is wrong.
    pub(crate) valid: bool,
    /// One line per problem or remark.
    pub(crate) summary: String,
}

/// Whether the configuration of this installation is not in force as written. An object in another namespace may belong
/// to another installation: it is named, but this one is not invalid for it.
pub(crate) fn is_ours(issue: &Issue) -> bool {
    issue.is_error() && issue.reason != Reason::WrongNamespace
}

impl Report {
    /// From the findings; `empty`: there is no pool yet, so nothing can be assigned.
    pub(crate) fn new(issues: &[Issue], empty: bool) -> Self {
        let mut lines: Vec<String> = issues.iter().map(ToString::to_string).collect();
        if empty {
            lines.push("no valid IPAddressPool: services get no address until there is one".to_owned());
        }
        let mut summary = lines.join("\n");
        if summary.len() > SUMMARY {
            let cut = (0..=SUMMARY)
                .rev()
                .find(|at| summary.is_char_boundary(*at))
                .unwrap_or(0);
            summary.truncate(cut);
            summary.push_str(" ...");
        }
        Self {
            valid: !issues.iter().any(Issue::is_error),
            summary,
        }
    }

    /// Status as it should be, given the conditions that are there; `None` when it is so.
    fn status(&self, stored: &Value, now: &Time) -> Option<Value> {
        let mut conditions: Vec<Condition> = stored
            .get("conditions")
            .and_then(|list| serde_json::from_value(list.clone()).ok())
            .unwrap_or_default();
        for type_ in ["configReconcilerValid", "poolReconcilerValid"] {
            let new = NewCondition {
                type_,
                status: Status::from(self.valid),
                reason: if self.valid {
                    "Reconciled"
                } else {
                    "ConfigurationError"
                },
                message: self.summary.clone(),
                observed_generation: None,
            };
            set_condition(&mut conditions, new, now);
        }
        let result = if self.valid { "Valid" } else { "Invalid" };
        let wanted = json!({"result": result, "errorSummary": self.summary, "conditions": conditions});
        let same = ["result", "conditions"]
            .iter()
            .all(|field| stored.get(*field) == wanted.get(*field))
            && stored.get("errorSummary").and_then(Value::as_str).unwrap_or("") == self.summary;
        (!same).then_some(wanted)
    }
}

/// Brings the object to what the report says; writes nothing when it says so already.
pub(crate) async fn write(
    client: Client,
    namespace: String,
    fence: Fence,
    report: Report,
) -> Result<(), String> {
    let api: Api<Raw<ConfigurationState>> = Api::namespaced(client, &namespace);
    let attempt = async {
        let name = objects::CONFIGURATION_STATE_CONTROLLER;
        let parameters = PatchParams::apply(field_managers::CONTROLLER).force();
        let known = api.get_opt(name).await?;
        if !fence.is_open() {
            return Ok(());
        }
        if known.is_none() {
            let object = json!({
                "apiVersion": "metallb.io/v1beta1",
                "kind": "ConfigurationState",
                "metadata": {"name": name, "labels": {labels::COMPONENT_TYPE: labels::COMPONENT_CONTROLLER}},
            });
            api.patch(name, &parameters, &Patch::Apply(object)).await?;
        }
        let stored = known.map_or(Value::Null, |object| object.status);
        if let Some(status) = report.status(&stored, &Time(Timestamp::now())) {
            let parameters = PatchParams {
                field_manager: Some(field_managers::CONTROLLER.into()),
                ..PatchParams::default()
            };
            api.patch_status(name, &parameters, &Patch::Merge(json!({"status": status})))
                .await?;
        }
        Ok(())
    };
    match tokio::time::timeout(REQUEST, attempt).await {
        Ok(answer) => answer.map_err(|error: kube::Error| error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_once_what_is_so() {
        let now = Time(Timestamp::from_second(100).expect("a time"));
        let report = Report::new(&[], true);
        assert!(report.valid && report.summary.contains("no valid IPAddressPool"));
        let status = report.status(&Value::Null, &now).expect("a first write");
        assert_eq!(status["result"], "Valid");
        let later = Time(Timestamp::from_second(200).expect("a time"));
        assert_eq!(report.status(&status, &later), None);
        let quiet = Report::new(&[], false);
        let status = quiet.status(&status, &later).expect("the remark goes");
        assert_eq!(status["errorSummary"], "");
        let as_stored = json!({"result": "Valid", "conditions": status["conditions"]});
        assert_eq!(
            quiet.status(&as_stored, &later),
            None,
            "an absent summary is an empty one"
        );
    }
}
