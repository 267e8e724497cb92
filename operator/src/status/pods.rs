//! What the pods of the operands add to the picture.

use super::{Facts, labels};
use crate::view::{Pod, UNSCHEDULABLE_SECONDS};
use k8s_openapi::jiff::Timestamp;

/// What the pods of the operands tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PodReport {
    /// Reason in one word, sentence.
    pub(crate) problems: Vec<(&'static str, String)>,
    /// Pods that are not ready, as `pod on node`.
    pub(crate) unready: Vec<String>,
    /// Controllers that should have been ready long ago.
    pub(crate) controllers: Late,
    /// Speakers that should have been ready long ago.
    pub(crate) speakers: Late,
    /// In so many seconds the same pods may tell something else.
    pub(crate) look_again: Option<i64>,
}

/// Pods that should have been ready long ago.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Late {
    /// How many there are.
    pub(crate) count: i64,
    /// A sentence on each of them that has no other problem.
    pub(crate) sentences: Vec<String>,
}

/// Looks at the pods that belong to the operands in `namespace`.
pub(crate) fn pods<'a>(namespace: &str, now: Timestamp, pods: impl Iterator<Item = &'a Pod>) -> PodReport {
    let mut report = PodReport::default();
    for pod in pods {
        if pod.metadata.namespace.as_deref() != Some(namespace) || pod.is_finished() {
            continue;
        }
        let late = match pod.component() {
            Some(labels::COMPONENT_CONTROLLER) => &mut report.controllers,
            Some(labels::COMPONENT_SPEAKER) => &mut report.speakers,
            _ => continue,
        };
        let leaves = pod.metadata.deletion_timestamp.is_some();
        let problem = if leaves { None } else { pod.problem(now) };
        let mut look = |seconds: i64| {
            report.look_again = Some(report.look_again.map_or(seconds, |other| other.min(seconds)));
        };
        match pod.seconds_left(now) {
            Some(0) => {
                late.count += 1;
                if problem.is_none() {
                    late.sentences.push(pod.late());
                }
            }
            Some(seconds) => look(seconds),
            None => {}
        }
        if problem.is_none() && pod.unscheduled().is_some() {
            look(UNSCHEDULABLE_SECONDS);
        }
        report.problems.extend(problem);
        if !leaves && !pod.is_ready() {
            let name = pod.metadata.name.as_deref().unwrap_or("?");
            match &pod.spec.node_name {
                Some(node) => report.unready.push(format!("{name} on {node}")),
                None => report.unready.push(name.to_owned()),
            }
        }
    }
    report
}

impl Facts {
    /// Adds what the pods tell.
    pub(crate) fn add_pods(&mut self, report: PodReport) {
        self.pod_problems.extend(report.problems);
        self.unready = report.unready;
        for (rollout, late, reason) in [
            (&mut self.controller, report.controllers, "ControllerNotReady"),
            (&mut self.speakers, report.speakers, "SpeakerNotReady"),
        ] {
            // One too many that does not end, or that is on a node which is no longer chosen, is missed by nobody.
            if rollout.ready < rollout.desired {
                rollout.late = late.count;
                self.pod_problems
                    .extend(late.sentences.into_iter().map(|text| (reason, text)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::rollout::{daemon_set, tests::ds};
    use serde_json::{Value, json};

    fn pod(namespace: &str, component: &str, name: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "metallb", "component": component}},
            "spec": {"nodeName": "n1"},
            "status": status,
        }))
        .unwrap()
    }

    fn unscheduled(namespace: &str, component: &str, name: &str, since: &str) -> Pod {
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "lastTransitionTime": since, "message": "no ports"}, {"type": "Ready", "status": "False",
            "lastTransitionTime": since}]});
        pod(namespace, component, name, &status)
    }

    fn unready(component: &str, name: &str, since: &str) -> Pod {
        let status = json!({"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": since}],
            "containerStatuses": [{"name": component, "state": {"running": {}}}]});
        pod("ns", component, name, &status)
    }

    #[test]
    fn only_the_operands_own_pods_are_looked_at() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let (old, young) = ("2026-01-01T00:00:30Z", "2026-01-01T00:00:59Z");
        let mut finished = unscheduled("ns", "speaker", "speaker-e", old);
        finished.status.phase = "Failed".into();
        let all = [
            unscheduled("ns", "speaker", "speaker-a", old),
            unscheduled("ns", "speaker", "speaker-b", young),
            unscheduled("elsewhere", "speaker", "speaker-c", old),
            unscheduled("ns", "other", "other-d", old),
            finished,
        ];
        let report = pods("ns", now, all.iter());
        assert_eq!(
            report.problems,
            [(
                "PodUnschedulable",
                "pod speaker-a fits no node: no ports".to_owned()
            )]
        );
        assert_eq!(report.unready, ["speaker-a on n1", "speaker-b on n1"]);
        assert_eq!(
            report.look_again,
            Some(UNSCHEDULABLE_SECONDS),
            "speaker-b may become a problem without another message"
        );
        assert_eq!(pods("ns", now, all[..1].iter()).look_again, Some(30));
    }

    #[test]
    fn late_pods_are_counted_with_their_workload_and_looked_at_when_they_are_due() {
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        let all = [
            unready("controller", "controller-a", "2026-01-01T00:01:10Z"),
            unready("speaker", "speaker-a", "2026-01-01T00:01:00Z"),
            unready("speaker", "speaker-b", "2026-01-01T00:01:40Z"),
            unscheduled("ns", "speaker", "speaker-c", "2026-01-01T00:00:00Z"),
        ];
        let report = pods("ns", now, all.iter());
        assert_eq!(report.controllers, Late::default());
        assert_eq!(
            (report.speakers.count, report.speakers.sentences.len()),
            (2, 1),
            "speaker-c is said to fit no node"
        );
        assert!(report.speakers.sentences[0].starts_with("pod speaker-a on node n1"));
        assert_eq!(report.look_again, Some(10));
    }

    #[test]
    fn late_pods_are_a_problem_when_their_workload_lacks_them() {
        let add = |live: Value| {
            let mut facts = Facts {
                speakers: daemon_set("speaker", Some(&live)),
                ..Default::default()
            };
            facts.add_pods(PodReport {
                speakers: Late {
                    count: 1,
                    sentences: vec!["late".into()],
                },
                ..Default::default()
            });
            (facts.speakers.late, facts.pod_problems)
        };
        assert_eq!(
            add(ds(1, 1, [3, 3, 3, 2])),
            (1, vec![("SpeakerNotReady", "late".to_owned())])
        );
        assert_eq!(add(ds(1, 1, [3, 3, 3, 3])), (0, vec![]));
    }
}
