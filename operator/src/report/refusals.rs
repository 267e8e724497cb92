//! Whether the API server still refuses the pods of the speakers.
//!
//! An Event says so, and it stays for an hour after the refusal is over. While the refusal lasts the Event is repeated, at first
//! every few seconds and later every quarter of an hour. So its age alone tells nothing: what has happened since then does.

use crate::{
    status::{POD_SECURITY_REFUSAL, PODS_REFUSED},
    view::Pod,
    world::World,
};
use k8s_openapi::jiff::Timestamp;
use metallb_api::{
    MetalLBStatus,
    condition::find,
    names::{conditions as types, labels, objects},
};
use metallb_render::Kind;

/// How the controller's workload is called in what is said about it.
pub(super) const CONTROLLER: &str = "Deployment controller";
/// How the speakers' workload is called in what is said about it.
pub(super) const SPEAKERS: &str = "DaemonSet speaker";
/// The clocks that Events and conditions are stamped by may differ by so much.
const SLACK_SECONDS: i64 = 30;

/// What the present refusal says, given the UID of the DaemonSet, which lacks pods, and the status that was written last.
pub(super) fn of_speakers(
    world: &World,
    namespace: &str,
    uid: Option<&str>,
    said: &MetalLBStatus,
) -> Option<String> {
    let of_speakers = world.refusals.iter().filter(|((of, _), refusal)| {
        of == namespace
            && refusal.involved_object.kind == Kind::DaemonSet.name()
            && refusal.involved_object.name == objects::SPEAKER
            && uid == Some(refusal.involved_object.uid.as_str())
    });
    let (_, newest) = of_speakers.max_by_key(|(_, refusal)| refusal.at().cloned())?;
    let event = newest.at().map_or(Timestamp::MIN, |time| time.0);
    let pods = world.pods.iter().filter(|((of, _), _)| of == namespace);
    let since = Since {
        newest_pod: newest_of(pods.map(|(_, pod)| pod)),
        told: is_told(said),
        complete: find(&said.conditions, types::AVAILABLE).map(|condition| condition.last_transition_time.0),
    };
    since.leaves(event).then(|| newest.message.clone()).flatten()
}

/// What is known of the time since the refusal.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    /// When the newest pod of the workload was made.
    newest_pod: Option<Timestamp>,
    /// The refusal was said when the status was written last, and pods lack still.
    told: bool,
    /// When the installation became available or ceased to be. Just then all pods existed.
    complete: Option<Timestamp>,
}

impl Since {
    /// Whether a refusal of that time is still to be reckoned with.
    fn leaves(self, event: Timestamp) -> bool {
        // What was admitted later shows that it is over. If it is not, the Event is repeated, and newer than the pod.
        let admitted = self.newest_pod.is_some_and(|made| made > event);
        let complete_later = self
            .complete
            .is_some_and(|at| at.as_second() > event.as_second().saturating_add(SLACK_SECONDS));
        !admitted && (self.told || !complete_later)
    }
}

fn newest_of<'a>(pods: impl Iterator<Item = &'a Pod>) -> Option<Timestamp> {
    pods.filter(|pod| pod.component() == Some(labels::COMPONENT_SPEAKER))
        .filter_map(|pod| pod.metadata.creation_timestamp.as_ref())
        .map(|time| time.0)
        .max()
}

fn is_told(said: &MetalLBStatus) -> bool {
    find(&said.conditions, types::DEGRADED).is_some_and(|degraded| {
        degraded.status == "True"
            && [POD_SECURITY_REFUSAL, PODS_REFUSED].contains(&degraded.reason.as_str())
            && degraded.message.contains(SPEAKERS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{status::refusal, world::Input};
    use metallb_kubeio::Event;
    use serde_json::{Value, json};

    #[test]
    fn a_refusal_counts_until_something_later_shows_that_it_is_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (pod, none) = (|second| Some(at(second)), None);
        // Newest pod, whether it was told, when all was complete; the Event is of second 1000.
        let cases = [
            ("nothing else is known", none, false, none, true),
            ("a pod was made later", pod(1001), false, none, false),
            ("also if it was told", pod(1001), true, none, false),
            ("a pod of the same second", pod(1000), false, none, true),
            ("older pods", pod(900), false, pod(990), true),
            ("complete since", none, false, pod(2000), false),
            (
                "seen late, while the operator was away",
                none,
                true,
                pod(2000),
                true,
            ),
            ("seen at once, by another clock", none, false, pod(1020), true),
            (
                "a long refusal, the Event of a quarter of an hour ago",
                pod(500),
                true,
                pod(600),
                true,
            ),
        ];
        for (what, newest_pod, told, complete, wanted) in cases {
            let since = Since {
                newest_pod,
                told,
                complete,
            };
            assert_eq!(since.leaves(at(1000)), wanted, "{what}");
        }
    }

    fn world(pods: &[(&str, &str)]) -> World {
        let mut world = World::default();
        let event = |name: &str, uid: &str, last: &str, message: &str| {
            serde_json::from_value(json!({
                "metadata": {"namespace": "ns", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "involvedObject": {"kind": "DaemonSet", "name": "speaker", "uid": uid},
                "lastTimestamp": last, "message": message,
            }))
            .unwrap()
        };
        for refusal in [
            event("a", "u", "2026-01-01T00:10:00Z", "quota"),
            event("b", "u", "2026-01-01T00:05:00Z", "older"),
            event("c", "former", "2026-01-01T00:20:00Z", "another's"),
        ] {
            world.take(Input::Refusal(Event::Apply(refusal)));
        }
        for (component, created) in pods {
            let pod = json!({"metadata": {"namespace": "ns", "name": format!("{component}-x"),
                "labels": {"component": component}, "creationTimestamp": created}});
            world.take(Input::Pod(Event::Apply(serde_json::from_value(pod).unwrap())));
        }
        world
    }

    #[test]
    fn the_newest_refusal_of_this_very_workload_is_judged_by_its_own_pods() {
        let said = MetalLBStatus::default();
        let find = |pods: &[(&str, &str)]| of_speakers(&world(pods), "ns", Some("u"), &said);
        assert_eq!(find(&[]).as_deref(), Some("quota"));
        let later = "2026-01-01T00:10:01Z";
        assert_eq!(find(&[("controller", later)]).as_deref(), Some("quota"));
        assert_eq!(find(&[("speaker", later)]), None);
    }

    #[test]
    fn what_was_told_is_known_again() {
        let status = |condition: Value| -> MetalLBStatus {
            serde_json::from_value(json!({"conditions": [condition]})).unwrap()
        };
        for (workload, text, wanted) in [
            (SPEAKERS, "violates PodSecurity", true),
            (SPEAKERS, "exceeded quota", true),
            (CONTROLLER, "exceeded quota", false),
        ] {
            let (reason, message) = refusal("ns", workload, text);
            let said = |status_: &str| {
                status(
                    json!({"type": "Degraded", "status": status_, "reason": reason, "message": message,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}),
                )
            };
            assert_eq!(is_told(&said("True")), wanted, "{workload}: {text}");
            assert!(!is_told(&said("False")));
        }
    }
}
