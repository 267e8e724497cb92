//! How far the workloads are.

use serde_json::Value;

/// How far a workload is, as its status and its pods tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// Pods that are wanted.
    pub(crate) desired: i64,
    /// Pods that are ready.
    pub(crate) ready: i64,
    /// Why the workload is not as wanted; `None` when it is.
    pub(crate) waits_for: Option<String>,
    /// Whether pods of the present version are still to be made. Otherwise all are there, ready or not.
    pub(crate) rolling: bool,
    /// Pods of a former version that nobody but the user replaces.
    pub(crate) outdated: i64,
    /// Pods that should have been ready long ago.
    pub(crate) late: i64,
    /// Pods that the API server refused to take.
    pub(crate) refused: Option<String>,
    /// Whether fewer pods exist than are wanted.
    pub(crate) lacks_pods: bool,
}

impl Rollout {
    /// Whether it will soon be better by itself: a pod on a node that is switched off is not waited for.
    pub(crate) fn is_moving(&self) -> bool {
        self.waits_for.is_some() && (self.rolling || self.desired - self.ready > self.late)
    }

    /// What is left to the user.
    pub(crate) fn left_to_delete(&self) -> Option<String> {
        (self.outdated > 0).then(|| {
            format!(
                "{} of {} speakers are of a former version until their pods are deleted (spec.speakerUpdateStrategy is OnDelete)",
                self.outdated, self.desired
            )
        })
    }
}

fn number(live: &Value, path: &str) -> i64 {
    live.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn is_unseen(live: &Value) -> bool {
    number(live, "/status/observedGeneration") < number(live, "/metadata/generation")
}

/// A Deployment is as wanted when its controller has seen the newest spec, and all replicas are of it and ready.
pub(crate) fn deployment(name: &str, live: Option<&Value>) -> Rollout {
    let Some(live) = live else {
        return missing("Deployment", name);
    };
    let desired = live
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    let updated = number(live, "/status/updatedReplicas");
    let ready = number(live, "/status/readyReplicas");
    let total = number(live, "/status/replicas");
    let rolling = is_unseen(live) || updated < desired || total > updated;
    let waits_for = if is_unseen(live) {
        Some(format!(
            "Deployment {name}: its newest version is not looked at yet"
        ))
    } else if rolling || ready < desired {
        Some(format!(
            "Deployment {name}: {updated} of {desired} replicas are updated, {ready} are ready"
        ))
    } else {
        None
    };
    let refused = live
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True")
        .map(|condition| condition["message"].as_str().unwrap_or_default().to_owned());
    Rollout {
        desired,
        ready,
        waits_for,
        rolling,
        refused,
        lacks_pods: total < desired,
        ..Default::default()
    }
}

/// A DaemonSet is as wanted when its controller has seen the newest spec, and each chosen node has a pod of it that is ready.
/// With the strategy `OnDelete` the pod may be of a former version: the user says when it is replaced.
pub(crate) fn daemon_set(name: &str, live: Option<&Value>) -> Rollout {
    let Some(live) = live else {
        return missing("DaemonSet", name);
    };
    let desired = number(live, "/status/desiredNumberScheduled");
    let current = number(live, "/status/currentNumberScheduled");
    let updated = number(live, "/status/updatedNumberScheduled");
    let ready = number(live, "/status/numberReady");
    let by_hand = live.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete");
    let rolling = is_unseen(live) || desired != current || (desired != updated && !by_hand);
    let waits_for = if is_unseen(live) {
        Some(format!(
            "DaemonSet {name}: its newest version is not looked at yet"
        ))
    } else if rolling || desired != ready {
        Some(format!(
            "DaemonSet {name}: of {desired} nodes {current} have a pod, {updated} an updated one, {ready} a ready one"
        ))
    } else {
        None
    };
    Rollout {
        desired,
        ready,
        waits_for,
        rolling,
        outdated: if by_hand && !rolling { desired - updated } else { 0 },
        lacks_pods: current < desired,
        ..Default::default()
    }
}

fn missing(kind: &str, name: &str) -> Rollout {
    Rollout {
        waits_for: Some(format!("{kind} {name} does not exist yet")),
        rolling: true,
        lacks_pods: true,
        ..Default::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn ds(generation: i64, observed: i64, counts: [i64; 4]) -> Value {
        let [desired, current, updated, ready] = counts;
        json!({"metadata": {"generation": generation}, "status": {"observedGeneration": observed,
            "desiredNumberScheduled": desired, "currentNumberScheduled": current, "updatedNumberScheduled": updated,
            "numberReady": ready}})
    }

    pub(crate) fn by_hand(mut live: Value) -> Value {
        live["spec"]["updateStrategy"]["type"] = "OnDelete".into();
        live
    }

    pub(crate) fn deploy(generation: i64, observed: i64, counts: [i64; 4]) -> Value {
        let [replicas, total, updated, ready] = counts;
        json!({"metadata": {"generation": generation}, "spec": {"replicas": replicas}, "status":
            {"observedGeneration": observed, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready}})
    }

    #[test]
    fn a_daemon_set_is_ready_when_each_node_has_a_new_and_ready_pod() {
        // Ready, rolling, pods of a former version.
        let cases = [
            (ds(1, 1, [3, 3, 3, 3]), true, false, 0),
            (ds(2, 1, [3, 3, 3, 3]), false, true, 0),
            (ds(1, 1, [3, 2, 3, 3]), false, true, 0),
            (ds(1, 1, [3, 3, 2, 3]), false, true, 0),
            (ds(1, 1, [3, 3, 3, 2]), false, false, 0),
            (ds(1, 1, [0, 0, 0, 0]), true, false, 0),
            (json!({"metadata": {"generation": 1}}), false, true, 0),
            (by_hand(ds(1, 1, [3, 3, 1, 3])), true, false, 2),
            (by_hand(ds(1, 1, [3, 3, 1, 2])), false, false, 2),
            (by_hand(ds(1, 1, [3, 2, 1, 2])), false, true, 0),
            (by_hand(ds(2, 1, [3, 3, 3, 3])), false, true, 0),
        ];
        for (live, ready, rolling, outdated) in cases {
            let rollout = daemon_set("speaker", Some(&live));
            assert_eq!(
                (rollout.waits_for.is_none(), rollout.rolling, rollout.outdated),
                (ready, rolling, outdated),
                "{live}"
            );
        }
        assert_eq!(
            daemon_set("speaker", None).waits_for.as_deref(),
            Some("DaemonSet speaker does not exist yet")
        );
    }

    #[test]
    fn a_deployment_is_ready_when_all_replicas_are_new_and_ready_and_the_old_are_gone() {
        let cases = [
            (deploy(1, 1, [1, 1, 1, 1]), true, false),
            (deploy(2, 1, [1, 1, 1, 1]), false, true),
            (deploy(1, 1, [2, 2, 1, 2]), false, true),
            (deploy(1, 1, [1, 1, 1, 0]), false, false),
            (deploy(1, 1, [1, 2, 1, 1]), false, true),
            (
                json!({"metadata": {"generation": 1}, "spec": {"replicas": 1}}),
                false,
                true,
            ),
        ];
        for (live, ready, rolling) in cases {
            let rollout = deployment("controller", Some(&live));
            assert_eq!(
                (rollout.waits_for.is_none(), rollout.rolling),
                (ready, rolling),
                "{live}"
            );
        }
    }

    #[test]
    fn pods_that_are_late_are_not_waited_for() {
        let unready = |late| Rollout {
            late,
            ..daemon_set("speaker", Some(&ds(1, 1, [3, 3, 3, 1])))
        };
        assert!(unready(0).is_moving());
        assert!(unready(1).is_moving(), "the other one may just start");
        assert!(!unready(2).is_moving());
    }
}
