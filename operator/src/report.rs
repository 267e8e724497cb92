//! Says in the status of every `MetalLB` resource how it stands, and in Events when that turns.

mod notes;
mod refusals;

use crate::{
    api,
    plan::Desired,
    reconcile::Operator,
    status::{self, Facts},
    throttle::News,
    world::Standing,
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::Resource as _;
use metallb_api::{
    MetalLB, MetalLBStatus, Raw,
    condition::{self, NewCondition, Status, is_true},
    names::{conditions as types, objects},
};
use metallb_kubeio::EventKind;
use metallb_render::Kind;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Pause after a status that could not be written.
const RETRY: Duration = Duration::from_secs(2);

/// Writes each status that has changed. Returns when to try again if one could not be written.
pub(crate) async fn write(
    operator: &mut Operator,
    desired: Option<&Desired>,
    spec_problem: Option<String>,
) -> Option<Instant> {
    let now = Time(Timestamp::now());
    let (facts, look_again) = facts(operator, desired, spec_problem, now.0);
    let mut due = Vec::new();
    for (key, metallb) in operator.world.metallbs.iter() {
        let standing = operator.world.standing(key, metallb);
        let generation = metallb.metadata.generation;
        let old: MetalLBStatus = metallb.parse_status().unwrap_or_default();
        let new = match status::bystander(&standing, &key.0, &key.1, generation) {
            Some(conditions) => merged(&old, conditions, String::new(), String::new(), &now),
            None if standing == Standing::Deleting => continue,
            None => {
                let speakers = format!("{}/{}", facts.speakers.ready, facts.speakers.desired);
                let facts = Facts {
                    generation,
                    ..facts.clone()
                };
                let version = operator.settings.version.clone();
                merged(&old, status::conditions(&facts), version, speakers, &now)
            }
        };
        if standing == Standing::Rules {
            let metrics = &operator.metrics;
            for (gauge, type_) in [
                (&metrics.available, types::AVAILABLE),
                (&metrics.degraded, types::DEGRADED),
            ] {
                gauge.set(is_true(&new.conditions, type_).into());
            }
            metrics.speakers_ready.set(facts.speakers.ready);
            metrics.speakers_desired.set(facts.speakers.desired);
        }
        if new != old {
            due.push((metallb.clone(), old, new));
        }
    }
    if operator.world.ruler().is_none() {
        let metrics = &operator.metrics;
        for gauge in [
            &metrics.available,
            &metrics.degraded,
            &metrics.speakers_ready,
            &metrics.speakers_desired,
        ] {
            gauge.set(0);
        }
    }

    let again = look_again.map(|seconds| Instant::now() + Duration::from_secs(seconds.unsigned_abs()));
    send(operator, due, again).await
}

/// While the operator may not look at something it must know, it does nothing; the resource that waits for it says why.
pub(crate) async fn write_forbidden(operator: &mut Operator) -> Option<Instant> {
    let forbidden = operator.world.forbidden();
    if forbidden.is_empty() || !operator.world.metallbs.is_synced() {
        return None;
    }
    let now = Time(Timestamp::now());
    let (_, metallb) = operator.world.ruler()?;
    let old: MetalLBStatus = metallb.parse_status().unwrap_or_default();
    let message = status::lacking(&may_not_look(&forbidden));
    let mut new = old.clone();
    let mut say = |type_, status| {
        let condition = NewCondition {
            type_,
            status,
            reason: status::MISSING_PERMISSION,
            message: message.clone(),
            observed_generation: metallb.metadata.generation,
        };
        condition::set_condition(&mut new.conditions, condition, &now);
    };
    say(types::DEGRADED, Status::True);
    // What was seen last stands; of a resource that was never looked at nothing is known.
    if condition::find(&old.conditions, types::AVAILABLE).is_none() {
        say(types::AVAILABLE, Status::Unknown);
    }
    if new == old {
        return None;
    }
    let due = vec![(metallb.clone(), old, new)];
    send(operator, due, None).await
}

fn may_not_look(watches: &[&str]) -> Vec<String> {
    watches
        .iter()
        .map(|watch| format!("it may not list and watch {watch} in all namespaces"))
        .collect()
}

async fn send(
    operator: &mut Operator,
    due: Vec<(Raw<MetalLB>, MetalLBStatus, MetalLBStatus)>,
    mut again: Option<Instant>,
) -> Option<Instant> {
    for (metallb, old, new) in due {
        if !operator.fence.is_open() {
            return Some(Instant::now() + RETRY);
        }
        // In a merge patch only `null` removes what a former status had.
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let body = json!({
            "conditions": new.conditions,
            "version": text(&new.version),
            "speakers": text(&new.speakers),
        });
        match api::write_status(&operator.client, &metallb, body).await {
            Ok(written) => {
                operator.metrics.status_writes.inc();
                announce(operator, &metallb, &old, &new);
                // The answer may show what somebody has changed meanwhile; its event is no news then.
                if operator.world.metallbs.put(written) == News::Change {
                    again = Some(Instant::now());
                }
            }
            Err(error) => {
                tracing::warn!(object = metallb.describe(), %error, "its status could not be written, trying again");
                again = Some(Instant::now() + RETRY);
            }
        }
    }
    again
}

fn merged(
    old: &MetalLBStatus,
    conditions: Vec<NewCondition>,
    version: String,
    speakers: String,
    now: &Time,
) -> MetalLBStatus {
    let mut all = old.conditions.clone();
    for new in conditions {
        condition::set_condition(&mut all, new, now);
    }
    MetalLBStatus {
        conditions: all,
        version,
        speakers,
    }
}

fn facts(
    operator: &Operator,
    desired: Option<&Desired>,
    spec_problem: Option<String>,
    now: Timestamp,
) -> (Facts, Option<i64>) {
    let Some(((namespace, _), ruler)) = operator.world.ruler() else {
        return (Facts::default(), None);
    };
    let said: MetalLBStatus = ruler.parse_status().unwrap_or_default();
    let controller = operator.workload(Kind::Deployment, namespace);
    let speakers = operator.workload(Kind::DaemonSet, namespace);
    let (mut lacking_rights, write_problems) = operator.write_problems();
    lacking_rights.extend(may_not_look(&operator.world.forbidden()));
    let mut facts = Facts {
        generation: None,
        spec_problem,
        lacking_rights,
        write_problems,
        missing_definitions: operator.world.missing_definitions(),
        controller: status::deployment(objects::CONTROLLER, controller.as_ref()),
        speakers: status::daemon_set(objects::SPEAKER, speakers.as_ref()),
        notes: desired
            .map(|desired| notes::notes(desired, &operator.world))
            .unwrap_or_default(),
        postponed: operator.postponed,
        available_generation: condition::find(&said.conditions, types::AVAILABLE)
            .and_then(|available| available.observed_generation),
        ..Default::default()
    };
    let pods = status::pods(namespace, now, operator.world.pods.iter().map(|(_, pod)| pod));
    let look_again = pods.look_again;
    facts.add_pods(pods);
    if let Some(message) = &facts.controller.refused {
        facts
            .pod_problems
            .insert(0, status::refusal(namespace, refusals::CONTROLLER, message));
    }
    if let (true, Some(speakers)) = (facts.speakers.lacks_pods, &speakers)
        && let uid = speakers["metadata"]["uid"].as_str()
        && let Some(message) = refusals::of_speakers(&operator.world, namespace, uid, &said)
    {
        facts
            .pod_problems
            .insert(0, status::refusal(namespace, refusals::SPEAKERS, &message));
    }
    (facts, look_again)
}

fn announce(operator: &Operator, metallb: &Raw<MetalLB>, old: &MetalLBStatus, new: &MetalLBStatus) {
    for (kind, condition) in news(&old.conditions, &new.conditions) {
        let text = if condition.message.is_empty() {
            "what was degraded is well again".into()
        } else {
            condition.message.clone()
        };
        operator
            .events
            .publish(metallb.object_ref(&()), kind, condition.reason.clone(), text);
    }
}

/// Conditions that are worth an Event: the resource became available, or degraded, or degraded for another reason than before,
/// or is degraded no longer.
fn news<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<(EventKind, &'a Condition)> {
    let available = holding(new, types::AVAILABLE).filter(|_| !is_true(old, types::AVAILABLE));
    let before = holding(old, types::DEGRADED).map(|degraded| &degraded.reason);
    let degraded = holding(new, types::DEGRADED).filter(|degraded| before != Some(&degraded.reason));
    let well = condition::find(new, types::DEGRADED).filter(|now| before.is_some() && now.status == "False");
    // That it became available says as much.
    let normal = available.or(well).map(|condition| (EventKind::Normal, condition));
    let degraded = degraded.map(|condition| (EventKind::Warning, condition));
    normal.into_iter().chain(degraded).collect()
}

fn holding<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    condition::find(list, type_).filter(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn an_event_goes_out_when_something_turns_and_when_the_reason_does() {
        let says = |available: &str, degraded: &str, reason: &str| {
            vec![
                condition("Available", available, "OperandsReady"),
                condition("Degraded", degraded, reason),
            ]
        };
        let well = says("True", "False", "NoProblem");
        let cases = [
            (vec![], well.clone(), vec!["OperandsReady"]),
            (well.clone(), well.clone(), vec![]),
            (well.clone(), says("False", "True", "A"), vec!["A"]),
            (vec![], says("False", "True", "A"), vec!["A"]),
            (says("False", "True", "A"), says("False", "True", "A"), vec![]),
            (says("False", "True", "A"), says("False", "True", "B"), vec!["B"]),
            (
                says("False", "True", "A"),
                says("False", "False", "NoProblem"),
                vec!["NoProblem"],
            ),
            (says("True", "True", "A"), well.clone(), vec!["NoProblem"]),
            (says("False", "True", "A"), well, vec!["OperandsReady"]),
            (
                says("False", "True", "A"),
                says("True", "True", "B"),
                vec!["OperandsReady", "B"],
            ),
        ];
        for (old, new, wanted) in cases {
            let reasons: Vec<&str> = news(&old, &new).iter().map(|(_, c)| c.reason.as_str()).collect();
            assert_eq!(reasons, wanted, "{old:?} {new:?}");
        }
    }
}
