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
    condition::{self, NewCondition, is_true},
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
            operator
                .metrics
                .available
                .set(is_true(&new.conditions, types::AVAILABLE).into());
        }
        if new != old {
            due.push((metallb.clone(), old, new));
        }
    }
    if operator.world.ruler().is_none() {
        operator.metrics.available.set(0);
    }

    let mut again =
        look_again.then(|| Instant::now() + Duration::from_secs(UNSCHEDULABLE_SECONDS.unsigned_abs()));
    for (metallb, old, new) in due {
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
                tracing::warn!(object = metallb.describe(), error = %format!("{error:#}"), "its status could not be written, trying again");
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
    let mut facts = Facts {
        generation: None,
        spec_problem,
        write_problems: operator.write_problems(),
        controller: status::deployment(objects::CONTROLLER, controller.as_ref()),
        speakers: status::daemon_set(objects::SPEAKER, speakers.as_ref()),
        notes: desired.map(notes).unwrap_or_default(),
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
fn notes(desired: &Desired) -> Vec<String> {
    let Some(config) = &desired.spec.frrk8s_config else {
        return Vec::new();
    };
    let mut notes = Vec::new();
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
