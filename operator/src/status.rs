//! Whether the operands run, and how that is said in conditions.

mod pods;
mod rollout;

pub(crate) use pods::pods;
pub(crate) use rollout::{Rollout, daemon_set, deployment};

use crate::world::Standing;
use metallb_api::{
    condition::{NewCondition, Status},
    names::{GROUP, conditions as types, labels, objects},
};

/// Reason: the operator may not do what it should.
pub(crate) const MISSING_PERMISSION: &str = "MissingPermission";
/// Reason: Pod Security admits no pods.
pub(crate) const POD_SECURITY_REFUSAL: &str = "PodSecurityRefusal";
/// Reason: the API server takes no pods, for another reason than Pod Security.
pub(crate) const PODS_REFUSED: &str = "PodsRefused";

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
    /// Something that should be written is put off, because somebody else keeps changing it back.
    pub(crate) postponed: bool,
    /// The generation that Available spoke of last: while a write is put off, the present one is not known to run.
    pub(crate) available_generation: Option<i64>,
}

/// Says what to do about pods that the API server refused.
pub(crate) fn refusal(namespace: &str, workload: &str, message: &str) -> (&'static str, String) {
    if message.contains("violates PodSecurity") {
        let text = format!(
            "namespace {namespace} admits no pods of {workload} (Pod Security: they use the node's network and raw sockets); \
             allow them with `kubectl label namespace {namespace} {}=privileged --overwrite`",
            labels::POD_SECURITY_ENFORCE
        );
        return (POD_SECURITY_REFUSAL, text);
    }
    (
        PODS_REFUSED,
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
    let writes = facts.lacking_rights.is_empty() && facts.write_problems.is_empty();
    // A write that failed is put off as well, and is told as what it is.
    let postponed = facts.postponed && writes;
    let ready = waits.is_empty() && !no_nodes && facts.spec_problem.is_none() && writes;

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
        for note in facts.speakers.left_to_delete().iter().chain(&facts.notes) {
            text = format!("{text}; {note}");
        }
        let mut available = condition(types::AVAILABLE, true, "OperandsReady", text);
        if postponed {
            // What runs is ready, but it may still be what a former generation asked for.
            available.observed_generation = facts.available_generation;
        }
        available
    } else {
        match &problem {
            Some((reason, text)) => condition(types::AVAILABLE, false, reason, text.clone()),
            None => condition(types::AVAILABLE, false, "OperandsNotReady", waiting.clone()),
        }
    };
    let rollouts = [&facts.controller, &facts.speakers];
    let moving = rollouts.iter().any(|rollout| rollout.is_moving());
    let progressing = if postponed {
        condition(types::PROGRESSING, true, "Postponed", contest(&waiting))
    } else if moving {
        let rolling = rollouts.iter().any(|rollout| rollout.rolling);
        let reason = if rolling { "RollingOut" } else { "PodsStarting" };
        condition(types::PROGRESSING, true, reason, waiting)
    } else {
        let text = facts.speakers.left_to_delete().unwrap_or_default();
        condition(types::PROGRESSING, false, "RolloutComplete", text)
    };
    let degraded = match &problem {
        Some((reason, text)) => condition(types::DEGRADED, true, reason, text.clone()),
        None => condition(types::DEGRADED, false, "NoProblem", String::new()),
    };
    // An upgrade in the middle of a rollout would hide which of the two broke something; one that is stuck may be cured by it.
    let upgradeable = match (moving, problem.is_some()) {
        (false, _) => condition(types::UPGRADEABLE, true, "NoRollout", String::new()),
        (true, true) => condition(types::UPGRADEABLE, true, "RolloutStuck", String::new()),
        (true, false) => condition(
            types::UPGRADEABLE,
            false,
            "RollingOut",
            "a rollout is under way".into(),
        ),
    };
    vec![available, progressing, degraded, upgradeable]
}

/// Says why what should run is not written now.
fn contest(waiting: &str) -> String {
    let text = "somebody else keeps changing what the operator writes, so it waits before it writes again: see the Events \
                DriftRepaired of this resource";
    if waiting.is_empty() {
        text.to_owned()
    } else {
        format!("{text}; {waiting}")
    }
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
        "the operator lacks rights that its release grants (in the ClusterRole {}; installed through OLM, in the \
         clusterPermissions of its ClusterServiceVersion): {}",
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

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
