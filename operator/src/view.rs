//! The parts of pods and events that say why a pod does not run.

mod late;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Resource, api::ObjectMeta};
use serde::Deserialize;

/// So many restarts are a pattern.
const CRASHES: i32 = 2;
/// A pod that fits no node for this long is a problem; before, it may be waiting for its predecessor's ports.
pub(crate) const UNSCHEDULABLE_SECONDS: i64 = 10;
/// Longest quotation of a container's last words, in characters.
const LONGEST_LINE: usize = 300;

/// A pod, as far as its health goes.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = core::Pod)]
pub(crate) struct Pod {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    pub(crate) conditions: Vec<PodCondition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<Time>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) ready: bool,
    pub(crate) restart_count: i32,
    pub(crate) state: ContainerState,
    pub(crate) last_state: ContainerState,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerState {
    pub(crate) waiting: Option<Waiting>,
    pub(crate) terminated: Option<Terminated>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// An event about a workload that may make no pods.
#[derive(Resource, Deserialize, Clone, Debug, Default)]
#[resource(inherit = core::Event)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) involved_object: Involved,
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// When it happened last: an Event that is repeated is counted on, not made anew.
    #[serde(default)]
    pub(crate) last_timestamp: Option<Time>,
}

impl Refusal {
    /// When it happened last.
    pub(crate) fn at(&self) -> Option<&Time> {
        self.last_timestamp
            .as_ref()
            .or(self.metadata.creation_timestamp.as_ref())
    }
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Involved {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Pod {
    /// Why this pod does not run and will not soon, as (reason in one word, sentence). `None` for a pod that runs, or that is
    /// merely on its way.
    pub(crate) fn problem(&self, now: Timestamp) -> Option<(&'static str, String)> {
        let name = self.metadata.name.as_deref().unwrap_or("?");
        let place = self
            .spec
            .node_name
            .as_ref()
            .map(|node| format!(" on node {node}"))
            .unwrap_or_default();
        for container in &self.status.container_statuses {
            if let Some((reason, why)) = container.problem() {
                let hint = match reason {
                    "PodCrashLooping" => format!("; see `kubectl logs --previous {name}`"),
                    _ => String::new(),
                };
                return Some((
                    reason,
                    format!("pod {name}{place}: container {}: {why}{hint}", container.name),
                ));
            }
        }
        let refused = self.unscheduled()?;
        let since = refused
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::MIN, |time| time.0);
        (now.as_second() - since.as_second() >= UNSCHEDULABLE_SECONDS).then(|| {
            (
                "PodUnschedulable",
                format!("pod {name} fits no node: {}", refused.message),
            )
        })
    }

    /// The scheduler's verdict, if it found no node.
    pub(crate) fn unscheduled(&self) -> Option<&PodCondition> {
        let conditions = &self.status.conditions;
        conditions
            .iter()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False" && c.reason == "Unschedulable")
    }

    /// Whether the pod is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }
}

impl ContainerStatus {
    /// The sentence stays the same while the problem does, whatever phase of its back-off the container is in: each change
    /// would be a write.
    fn problem(&self) -> Option<(&'static str, String)> {
        let waiting = self.state.waiting.as_ref();
        if let Some(end) = self
            .last_state
            .terminated
            .as_ref()
            .filter(|end| end.exit_code != 0)
            && !self.ready
            && (self.restart_count >= CRASHES || waiting.is_some_and(|w| w.reason == "CrashLoopBackOff"))
        {
            let mut why = format!(
                "it crashes; it last ended with exit code {} ({})",
                end.exit_code, end.reason
            );
            if let Some(line) = last_words(&end.message) {
                why.push_str(": ");
                why.extend(line.chars().take(LONGEST_LINE));
            }
            return Some(("PodCrashLooping", why));
        }
        let waiting = waiting?;
        // `Back-off pulling image "x": ErrImagePull: why` and `why` take turns.
        let why = waiting.message.split("ErrImagePull: ").last().unwrap_or_default();
        let (reason, what) = match waiting.reason.as_str() {
            "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" => (
                "ImagePullFailed",
                format!("the image {} cannot be pulled", self.image),
            ),
            "InvalidImageName" => (
                "ImagePullFailed",
                format!("the image name {:?} is invalid", self.image),
            ),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                ("ContainerCreateFailed", waiting.reason.clone())
            }
            _ => return None,
        };
        Some((
            reason,
            if why.is_empty() {
                what
            } else {
                format!("{what}: {why}")
            },
        ))
    }
}

/// The line of a log's end that tells most: the one that calls itself an error, else the last.
fn last_words(log: &str) -> Option<&str> {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| {
        line.get(..5)
            .is_some_and(|word| word.eq_ignore_ascii_case("error"))
    });
    error.or_else(|| lines.next_back())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "speaker-x"}, "spec": {"nodeName": "n1"}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn problems_name_the_pod_the_reason_and_what_to_look_at() {
        let pulling = |reason: &str, message: &str| {
            json!({"containerStatuses": [{"name": "speaker", "image": "r/x:1", "state": {"waiting":
                {"reason": reason, "message": message}}}]})
        };
        let crashing = |state: Value, restarts: i32| {
            json!({"containerStatuses": [{"name": "speaker", "ready": false, "restartCount": restarts, "state": state,
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "started\nerror: no key\n\nTry --help.\n"}}}]})
        };
        let not_pulled = Some((
            "ImagePullFailed",
            "pod speaker-x on node n1: container speaker: the image r/x:1 cannot be pulled: not found",
        ));
        let crashes = Some((
            "PodCrashLooping",
            "pod speaker-x on node n1: container speaker: it crashes; it last ended with exit code 1 (Error): error: no key; see `kubectl logs --previous speaker-x`",
        ));
        let cases = [
            (pulling("ErrImagePull", "not found"), not_pulled),
            (
                pulling(
                    "ImagePullBackOff",
                    "Back-off pulling image \"r/x:1\": ErrImagePull: not found",
                ),
                not_pulled,
            ),
            (
                crashing(
                    json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}),
                    1,
                ),
                crashes,
            ),
            (crashing(json!({"running": {}}), 5), crashes),
            (crashing(json!({"running": {}}), 1), None),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available"}]}),
                Some((
                    "PodUnschedulable",
                    "pod speaker-x fits no node: 0/3 nodes are available",
                )),
            ),
            (
                json!({"containerStatuses": [{"name": "speaker", "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                None,
            ),
            (
                json!({"containerStatuses": [{"name": "speaker", "state": {"running": {}}}]}),
                None,
            ),
            (json!({}), None),
        ];
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        for (status, wanted) in cases {
            let problem = pod(&status);
            let problem = problem.problem(now);
            assert_eq!(
                problem.as_ref().map(|(reason, text)| (*reason, text.as_str())),
                wanted
            );
        }
    }
}
