//! Says in the status of every `MetalLB` resource how it stands, and in Events when that turns.

use crate::{
    api,
    plan::Desired,
    reconcile::Operator,
    status::{self, Facts},
    view::UNSCHEDULABLE_SECONDS,
    world::{Standing, World},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Resource as _;
use metallb_api::{
    MetalLB, MetalLBStatus, Raw,
    condition::{self, NewCondition, Status, is_true},
    names::{conditions as types, objects},
};
use metallb_kubeio::EventKind;
use metallb_render::{Kind, Object, operands};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
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

    let again =
        look_again.then(|| Instant::now() + Duration::from_secs(UNSCHEDULABLE_SECONDS.unsigned_abs()));
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
                operator.world.metallbs.put(written);
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
) -> (Facts, bool) {
    let Some(namespace) = operator
        .world
        .ruler()
        .map(|((namespace, _), _)| namespace.clone())
    else {
        return (Facts::default(), false);
    };
    let controller = operator.workload(Kind::Deployment, &namespace);
    let speakers = operator.workload(Kind::DaemonSet, &namespace);
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
            .map(|desired| notes(desired, &operator.world))
            .unwrap_or_default(),
        ..Default::default()
    };
    let pods = status::pods(&namespace, now, operator.world.pods.iter().map(|(_, pod)| pod));
    facts.pod_problems = pods.problems;
    facts.unready = pods.unready;
    if let Some(message) = &facts.controller.refused {
        facts
            .pod_problems
            .insert(0, status::refusal(&namespace, "Deployment controller", message));
    }
    if let (true, Some(speakers)) = (facts.speakers.lacks_pods, &speakers)
        && let Some(message) = refusal_of(&operator.world, &namespace, speakers["metadata"]["uid"].as_str())
    {
        facts
            .pod_problems
            .insert(0, status::refusal(&namespace, "DaemonSet speaker", &message));
    }
    (facts, pods.look_again)
}

/// The newest Event that says why the DaemonSet of this UID could make no pod.
fn refusal_of(world: &World, namespace: &str, uid: Option<&str>) -> Option<String> {
    world
        .refusals
        .iter()
        .filter(|((of, _), refusal)| {
            of == namespace
                && refusal.involved_object.kind == Kind::DaemonSet.name()
                && refusal.involved_object.name == objects::SPEAKER
                && uid == Some(refusal.involved_object.uid.as_str())
        })
        .max_by_key(|(_, refusal)| refusal.metadata.creation_timestamp.clone())
        .and_then(|(_, refusal)| refusal.message.clone())
}

/// Settings that are accepted and have nothing to act on.
fn notes(desired: &Desired, world: &World) -> Vec<String> {
    let mut notes = Vec::new();
    let unknown: BTreeSet<&str> = operands(&desired.spec, &desired.installation)
        .iter()
        .map(Object::kind)
        .filter(|kind| kind.is_optional() && !world.is_served(*kind))
        .map(Kind::name)
        .collect();
    for kind in unknown {
        notes.push(format!(
            "there is no {kind} yet because the cluster does not know the kind: it comes with the Prometheus operator"
        ));
    }
    let Some(config) = &desired.spec.frrk8s_config else {
        return notes;
    };
    for (set, field) in [
        (!config.namespace.is_empty(), "namespace"),
        (config.secret_passthrough, "secretPassthrough"),
        (!config.always_block.is_empty(), "alwaysBlock"),
    ] {
        if set {
            notes.push(format!(
                "spec.frrk8sConfig.{field} has no effect: speakers run BGP themselves and accept no routes"
            ));
        }
    }
    notes
}

/// An Event when the resource becomes available or degraded, or stops to be.
fn announce(operator: &Operator, metallb: &Raw<MetalLB>, old: &MetalLBStatus, new: &MetalLBStatus) {
    let publish = |kind, type_: &str| {
        if let Some(condition) = condition::find(&new.conditions, type_) {
            operator.events.publish(
                metallb.object_ref(&()),
                kind,
                condition.reason.clone(),
                condition.message.clone(),
            );
        }
    };
    if is_true(&new.conditions, types::AVAILABLE) && !is_true(&old.conditions, types::AVAILABLE) {
        publish(EventKind::Normal, types::AVAILABLE);
    }
    if is_true(&new.conditions, types::DEGRADED) && !is_true(&old.conditions, types::DEGRADED) {
        publish(EventKind::Warning, types::DEGRADED);
    }
}
