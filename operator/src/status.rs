//! Whether the operands run, and how that is said in conditions.

use crate::{view::Pod, world::Standing};
use k8s_openapi::jiff::Timestamp;
use metallb_api::{
    condition::{NewCondition, Status},
    names::{GROUP, conditions as types, labels, objects},
};
use serde_json::Value;

/// Reason: the operator may not do what it should.
pub(crate) const MISSING_PERMISSION: &str = "MissingPermission";

/// How far a workload is, as its status tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// Pods that are wanted.
    pub(crate) desired: i64,
    /// Pods that are ready.
    pub(crate) ready: i64,
    /// Why the workload is not as wanted; `None` when it is.
    pub(crate) waits_for: Option<String>,
    /// Pods that the API server refused to take.
    pub(crate) refused: Option<String>,
    /// Whether fewer pods exist than are wanted.
    pub(crate) lacks_pods: bool,
}

/// Everything that the conditions of the ruling resource are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// `metadata.generation` of the resource.
    pub(crate) generation: Option<i64>,
    /// The spec cannot be read.
    pub(crate) spec_problem: Option<String>,
    /// What the operator may not do, each with what the API server said.
    pub(crate) lacking_rights: Vec<String>,
    /// Objects that could not be written for other reasons, each with the reason.
    pub(crate) write_problems: Vec<String>,
    /// Definitions of MetalLB's kinds that the API server does not have, as plurals.
    pub(crate) missing_definitions: Vec<&'static str>,
    /// The Deployment `controller`.
    pub(crate) controller: Rollout,
    /// The DaemonSet `speaker`.
    pub(crate) speakers: Rollout,
    /// Pods that will not run by themselves: reason in one word, sentence.
    pub(crate) pod_problems: Vec<(&'static str, String)>,
    /// Pods that are not ready, as `pod on node`.
    pub(crate) unready: Vec<String>,
    /// Settings without effect.
    pub(crate) notes: Vec<String>,
}

fn number(live: &Value, path: &str) -> i64 {
    live.pointer(path).and_then(Value::as_i64).unwrap_or(0)
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
    let waits_for = if number(live, "/status/observedGeneration") < number(live, "/metadata/generation") {
        Some(format!(
            "Deployment {name}: its newest version is not looked at yet"
        ))
    } else if updated < desired || ready < desired || total > updated {
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
        refused,
        lacks_pods: total < desired,
    }
}

/// A DaemonSet is as wanted when its controller has seen the newest spec, and each chosen node has a pod of it that is ready.
pub(crate) fn daemon_set(name: &str, live: Option<&Value>) -> Rollout {
    let Some(live) = live else {
        return missing("DaemonSet", name);
    };
    let desired = number(live, "/status/desiredNumberScheduled");
    let current = number(live, "/status/currentNumberScheduled");
    let updated = number(live, "/status/updatedNumberScheduled");
    let ready = number(live, "/status/numberReady");
    let waits_for = if number(live, "/status/observedGeneration") < number(live, "/metadata/generation") {
        Some(format!(
            "DaemonSet {name}: its newest version is not looked at yet"
        ))
    } else if desired != current || desired != ready || desired != updated {
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
        refused: None,
        lacks_pods: current < desired,
    }
}

fn missing(kind: &str, name: &str) -> Rollout {
    Rollout {
        waits_for: Some(format!("{kind} {name} does not exist yet")),
        lacks_pods: true,
        ..Default::default()
    }
}

/// Says what to do about pods that the API server refused.
pub(crate) fn refusal(namespace: &str, workload: &str, message: &str) -> (&'static str, String) {
    if message.contains("violates PodSecurity") {
        let text = format!(
            "namespace {namespace} admits no pods of {workload} (Pod Security: they use the node's network and raw sockets); \
             allow them with `kubectl label namespace {namespace} {}=privileged --overwrite`",
            labels::POD_SECURITY_ENFORCE
        );
        return ("PodSecurityRefusal", text);
    }
    (
        "PodsRefused",
        format!("{workload} can make no pods in namespace {namespace}: {message}"),
    )
}

/// Conditions of the resource that is obeyed.
pub(crate) fn conditions(facts: &Facts) -> Vec<NewCondition> {
    let condition = |type_, status: bool, reason, message: String| NewCondition {
        type_,
        status: Status::from(status),
        reason,
        message,
        observed_generation: facts.generation,
    };
    let waits: Vec<&str> = [&facts.controller, &facts.speakers]
        .iter()
        .filter_map(|rollout| rollout.waits_for.as_deref())
        .collect();
    let no_nodes = facts.speakers.waits_for.is_none() && facts.speakers.desired == 0;
    let problem = problem(facts, no_nodes);
    let ready = waits.is_empty()
        && !no_nodes
        && facts.spec_problem.is_none()
        && facts.lacking_rights.is_empty()
        && facts.write_problems.is_empty();

    let mut waiting = waits.join("; ");
    if !waits.is_empty() && !facts.unready.is_empty() {
        let unready: Vec<&str> = facts.unready.iter().map(String::as_str).collect();
        waiting = format!("{waiting}; not ready: {}", listed(&unready));
    }
    let available = if ready {
        let mut text = format!(
            "the controller and {} of {} speakers are ready",
            facts.speakers.ready, facts.speakers.desired
        );
        for note in &facts.notes {
            text = format!("{text}; {note}");
        }
        condition(types::AVAILABLE, true, "OperandsReady", text)
    } else {
        match &problem {
            Some((reason, text)) => condition(types::AVAILABLE, false, reason, text.clone()),
            None => condition(types::AVAILABLE, false, "OperandsNotReady", waiting.clone()),
        }
    };
    let progressing = if waits.is_empty() {
        condition(types::PROGRESSING, false, "RolloutComplete", String::new())
    } else {
        condition(types::PROGRESSING, true, "RollingOut", waiting)
    };
    let degraded = match &problem {
        Some((reason, text)) => condition(types::DEGRADED, true, reason, text.clone()),
        None => condition(types::DEGRADED, false, "NoProblem", String::new()),
    };
    // An upgrade in the middle of a rollout would hide which of the two broke something; one that is stuck may be cured by it.
    let upgradeable = match (waits.is_empty(), problem.is_some()) {
        (true, _) => condition(types::UPGRADEABLE, true, "NoRollout", String::new()),
        (false, true) => condition(types::UPGRADEABLE, true, "RolloutStuck", String::new()),
        (false, false) => condition(
            types::UPGRADEABLE,
            false,
            "RollingOut",
            "a rollout is under way".into(),
        ),
    };
    vec![available, progressing, degraded, upgradeable]
}

/// The most telling problem: reason in one word, and all sentences of that kind.
fn problem(facts: &Facts, no_nodes: bool) -> Option<(&'static str, String)> {
    if let Some(text) = &facts.spec_problem {
        return Some(("InvalidSpec", format!("{text}; what ran before goes on running")));
    }
    if !facts.lacking_rights.is_empty() {
        return Some((MISSING_PERMISSION, lacking(&facts.lacking_rights)));
    }
    if !facts.write_problems.is_empty() {
        let texts: Vec<&str> = facts.write_problems.iter().map(String::as_str).collect();
        return Some(("ApplyFailed", listed(&texts)));
    }
    if !facts.missing_definitions.is_empty() {
        let names: Vec<String> = facts
            .missing_definitions
            .iter()
            .map(|plural| format!("{plural}.{GROUP}"))
            .collect();
        return Some((
            "DefinitionMissing",
            format!(
                "the CustomResourceDefinition {} is not there, and with it went the objects of the kind: apply the operator's \
                 definitions again",
                names.join(", ")
            ),
        ));
    }
    if let Some((reason, _)) = facts.pod_problems.first() {
        let texts: Vec<&str> = facts.pod_problems.iter().map(|(_, text)| text.as_str()).collect();
        return Some((reason, listed(&texts)));
    }
    no_nodes.then(|| {
        (
            "NoMatchingNode",
            "no node has the labels of spec.nodeSelector, so no speaker runs and no address is announced"
                .into(),
        )
    })
}

/// Says who lacks what, and where it comes from.
pub(crate) fn lacking(texts: &[String]) -> String {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    format!(
        "the operator lacks rights, which the ClusterRole {} of its release grants: {}",
        objects::OPERATOR_ACCOUNT,
        listed(&texts)
    )
}

/// The first few, and how many more there are: a cluster of 500 nodes has 500 pods with one and the same problem.
fn listed(texts: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut all = texts[..texts.len().min(SHOWN)].join("; ");
    if texts.len() > SHOWN {
        all = format!("{all}; and {} more", texts.len() - SHOWN);
    }
    all
}

/// Conditions of a resource that is not obeyed, or `None` for one that is or that is being deleted.
pub(crate) fn bystander(
    standing: &Standing,
    namespace: &str,
    name: &str,
    generation: Option<i64>,
) -> Option<Vec<NewCondition>> {
    let (reason, message) = match standing {
        Standing::Rules | Standing::Deleting => return None,
        Standing::WrongName => (
            "IncorrectMetalLBResourceName",
            format!(
                "only a MetalLB resource named 'metallb' is obeyed, and this one is named '{name}': \
                 create it again as 'metallb' and delete this one"
            ),
        ),
        Standing::Second { ruler } => (
            "AnotherMetalLBRules",
            format!(
                "a cluster has one MetalLB, and {ruler}/metallb is the older one: delete this one ({namespace}/{name}), \
                 or delete {ruler}/metallb to have this one take over"
            ),
        ),
    };
    let condition = |type_, status: bool, reason, message: &str| NewCondition {
        type_,
        status: Status::from(status),
        reason,
        message: message.to_owned(),
        observed_generation: generation,
    };
    Some(vec![
        condition(types::AVAILABLE, false, reason, &message),
        condition(types::PROGRESSING, false, "NotObeyed", ""),
        condition(types::DEGRADED, true, reason, &message),
        condition(types::UPGRADEABLE, true, "NotObeyed", ""),
    ])
}

/// What the pods of the operands tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PodReport {
    /// Reason in one word, sentence.
    pub(crate) problems: Vec<(&'static str, String)>,
    /// Pods that are not ready, as `pod on node`.
    pub(crate) unready: Vec<String>,
    /// Some pod fits no node yet: look again in [`UNSCHEDULABLE_SECONDS`].
    pub(crate) look_again: bool,
}

/// Looks at the pods that belong to the operands in `namespace`.
pub(crate) fn pods<'a>(namespace: &str, now: Timestamp, pods: impl Iterator<Item = &'a Pod>) -> PodReport {
    let mut report = PodReport::default();
    for pod in pods {
        let component = pod
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(labels::COMPONENT));
        let ours =
            component.is_some_and(|c| c == labels::COMPONENT_CONTROLLER || c == labels::COMPONENT_SPEAKER);
        if !ours
            || pod.metadata.namespace.as_deref() != Some(namespace)
            || pod.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        match pod.problem(now) {
            Some(problem) => report.problems.push(problem),
            None => report.look_again |= pod.unscheduled().is_some(),
        }
        if !pod.is_ready() {
            let name = pod.metadata.name.as_deref().unwrap_or("?");
            match &pod.spec.node_name {
                Some(node) => report.unready.push(format!("{name} on {node}")),
                None => report.unready.push(name.to_owned()),
            }
        }
    }
    report
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
