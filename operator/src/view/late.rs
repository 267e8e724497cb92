//! Pods that should have been ready by now.

use super::Pod;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use metallb_api::names::labels;

/// A pod that runs and is not ready for so long is a problem, and so is one that its node has not taken on or not ended.
const READY_SECONDS: i64 = 60;
/// Containers may be waited for this long: images come over slow lines.
const STARTING_SECONDS: i64 = 600;

impl Pod {
    /// What kind of operand the pod is.
    pub(crate) fn component(&self) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels.get(labels::COMPONENT).map(String::as_str)
    }

    /// Whether its containers have ended and will not run again, as after an eviction. Its successor is another pod.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Failed" | "Succeeded")
    }

    /// How long it may still take until it is ready, or gone if it is being deleted; 0 when it is late. `None` for a pod that is
    /// ready, and for one whose times are not known.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> Option<i64> {
        let left = |since: &Time, limit: i64| (limit - (now.as_second() - since.0.as_second())).max(0);
        if let Some(ends) = &self.metadata.deletion_timestamp {
            // That is when the time is over which it was given to end.
            return Some(left(ends, READY_SECONDS));
        }
        if self.is_ready() {
            return None;
        }
        let limit = if self.is_starting() {
            STARTING_SECONDS
        } else {
            READY_SECONDS
        };
        // A clock that is ahead must not make it wait longer.
        Some(left(self.unready_since()?, limit).min(limit))
    }

    /// What to say about a pod that is late.
    pub(crate) fn late(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or("?");
        let Some(node) = &self.spec.node_name else {
            return format!("pod {name} was given no node: see `kubectl describe pod {name}`");
        };
        let pod = format!("pod {name} on node {node}");
        let look = format!("see `kubectl describe node {node}`");
        if self.metadata.deletion_timestamp.is_some() {
            return format!("{pod} should be gone and is not: the node may not answer, {look}");
        }
        let containers = &self.status.container_statuses;
        if containers.is_empty() {
            return format!("{pod} was not started: the node may not answer, {look}");
        }
        if containers.iter().all(|container| container.ready) {
            // So it looks when the control plane takes the pod's readiness away because nobody reports it any more.
            return format!(
                "{pod} is not ready, and its containers were when last heard of: the node does not answer, {look}"
            );
        }
        if let Some((container, waiting)) = containers
            .iter()
            .find_map(|container| Some((&container.name, container.state.waiting.as_ref()?)))
        {
            return format!(
                "{pod} does not start: container {container} waits ({}), see `kubectl describe pod {name}`",
                waiting.reason
            );
        }
        format!("{pod} runs and does not become ready: see `kubectl logs {name}`")
    }

    /// Whether its node has taken it on and is about to start it, the image being pulled perhaps.
    fn is_starting(&self) -> bool {
        self.status.container_statuses.iter().any(|container| {
            let waiting = container.state.waiting.as_ref();
            waiting.is_some_and(|w| matches!(w.reason.as_str(), "ContainerCreating" | "PodInitializing"))
        })
    }

    fn unready_since(&self) -> Option<&Time> {
        let mut conditions = self.status.conditions.iter();
        conditions
            .find(|condition| condition.type_ == "Ready")
            .and_then(|condition| condition.last_transition_time.as_ref())
            .or(self.metadata.creation_timestamp.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CREATED: &str = "2026-01-01T00:00:00Z";

    fn pod(conditions: &Value, containers: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "speaker-x", "creationTimestamp": CREATED},
            "spec": {"nodeName": "n1"}, "status": {"conditions": conditions, "containerStatuses": containers}}))
        .unwrap()
    }

    #[test]
    fn a_pod_is_late_when_it_was_not_ready_for_long() {
        let ready = |status: &str, since: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": since}]);
        let runs = json!([{"name": "speaker", "state": {"running": {}}}]);
        let reported = json!([{"name": "speaker", "ready": true, "state": {"running": {}}}]);
        let pulls = json!([{"name": "speaker", "state": {"waiting": {"reason": "ContainerCreating"}}}]);
        let (none, now) = (json!([]), "2026-01-01T00:01:30Z".parse().unwrap());
        let mut ending = pod(&ready("True", CREATED), &runs);
        ending.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:01:50Z")).unwrap());
        let mut stays = ending.clone();
        stays.metadata.deletion_timestamp = stays.metadata.creation_timestamp.clone();
        let mut nowhere = pod(&none, &none);
        nowhere.spec.node_name = None;
        let young = "2026-01-01T00:01:20Z";
        let cases = [
            (pod(&ready("True", CREATED), &runs), None, ""),
            (pod(&ready("False", young), &runs), Some(50), ""),
            (
                pod(&ready("False", CREATED), &runs),
                Some(0),
                "runs and does not become ready",
            ),
            (
                pod(&ready("False", CREATED), &reported),
                Some(0),
                "the node does not answer",
            ),
            (pod(&ready("False", CREATED), &pulls), Some(510), "does not start"),
            (pod(&none, &none), Some(0), "was not started"),
            (nowhere, Some(0), "was given no node"),
            (ending, Some(80), ""),
            (stays, Some(0), "should be gone"),
            (pod(&ready("False", "2027-01-01T00:00:00Z"), &runs), Some(60), ""),
        ];
        for (pod, left, words) in cases {
            assert_eq!(pod.seconds_left(now), left, "{pod:?}");
            assert!(pod.late().contains(words), "{}", pod.late());
        }
    }
}
