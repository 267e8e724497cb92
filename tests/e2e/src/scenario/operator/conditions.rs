//! What the `MetalLB` resource says when something is wrong, and that it says so once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    super::{
        install::{NAMESPACE, condition, conditions_text, push_image, wait_available},
        workload::{SOON, fresh_namespace, remove_namespace},
    },
    configure, metallb, settled,
};
use crate::{Cluster, checkout::root, wait_for};

const OPERATOR: &str = "deployment/metallb-operator-controller-manager";
/// Pods are told to be broken by Kubernetes' own pace: a scheduler's verdict is believed after 10 s, a crash after the second.
const WHILE: Duration = Duration::from_secs(120);

/// One trouble after the other: the condition names what is wrong and what to do, and is gone with the trouble.
pub fn conditions(cluster: &mut Cluster) -> Result<()> {
    let cluster: &Cluster = cluster;
    settled(cluster)?;
    let before = told(cluster)?;
    bystanders(cluster)?;

    configure(cluster, &json!({"nodeSelector": {"no": "node"}}))?;
    degraded(cluster, "NoMatchingNode", &["spec.nodeSelector"])?;
    configure(cluster, &json!({"nodeSelector": null}))?;
    wait_available(cluster, WHILE)?;

    configure(cluster, &json!({"controllerNodeSelector": {"no": "node"}}))?;
    degraded(cluster, "PodUnschedulable", &["pod controller-", "fits no node"])?;
    configure(cluster, &json!({"controllerNodeSelector": null}))?;
    wait_available(cluster, WHILE)?;

    with_image(cluster, "CONTROLLER_IMAGE", "quay.io/metallb-rs/none:v0", || {
        degraded(
            cluster,
            "ImagePullFailed",
            &["pod controller-", "quay.io/metallb-rs/none:v0"],
        )
    })?;
    // A speaker in the controller's place ends at once: it is told no node.
    let speaker = push_image(cluster, "speaker")?;
    with_image(cluster, "CONTROLLER_IMAGE", &speaker, || {
        degraded(
            cluster,
            "PodCrashLooping",
            &["pod controller-", "exit code", "kubectl logs --previous"],
        )
    })?;

    pod_security(cluster)?;
    missing_right(cluster)?;
    missing_definition(cluster)?;

    // Each trouble was told once when it came.
    let told = told_since(cluster, &before)?;
    for reason in [
        "NoMatchingNode",
        "PodUnschedulable",
        "ImagePullFailed",
        "PodCrashLooping",
        "PodSecurityRefusal",
        "MissingPermission",
        "DefinitionMissing",
    ] {
        let count: u64 = told
            .iter()
            .filter(|(r, _)| r == reason)
            .map(|(_, count)| count)
            .sum();
        ensure!(
            (1..=2).contains(&count),
            "{count} events {reason} about one trouble: {told:?}"
        );
    }
    wait_available(cluster, WHILE)
}

/// The events about the resource: reason and count of each, by its name.
fn told(cluster: &Cluster) -> Result<BTreeMap<String, (String, u64)>> {
    let about = "involvedObject.kind=MetalLB";
    let list = cluster.kubectl_json(&["get", "events", "-n", NAMESPACE, "--field-selector", about])?;
    let all = list["items"].as_array().into_iter().flatten();
    Ok(all
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let count = event["count"].as_u64().unwrap_or(1);
            (text(&event["metadata"]["name"]), (text(&event["reason"]), count))
        })
        .collect())
}

/// Reason and count of what was told since then. A trouble that an earlier scenario had in the same words is counted in the Event
/// of that time.
fn told_since(cluster: &Cluster, before: &BTreeMap<String, (String, u64)>) -> Result<Vec<(String, u64)>> {
    let more = told(cluster)?.into_iter().filter_map(|(name, (reason, count))| {
        let earlier = before.get(&name).map_or(0, |(_, count)| *count);
        (count > earlier).then(|| (reason, count - earlier))
    });
    Ok(more.collect())
}

/// Resources that are not obeyed say so, and which one is.
fn bystanders(cluster: &Cluster) -> Result<()> {
    let ns = "second-metallb";
    fresh_namespace(cluster, ns)?;
    cluster.apply(&format!(
        "{{apiVersion: metallb.io/v1beta1, kind: MetalLB, metadata: {{name: metallb, namespace: {ns}}}}}"
    ))?;
    let wrong =
        "{apiVersion: metallb.io/v1beta1, kind: MetalLB, metadata: {name: other, namespace: metallb-system}}";
    cluster.apply(wrong)?;
    for (namespace, name, reason, words) in [
        (ns, "metallb", "AnotherMetalLBRules", "metallb-system/metallb"),
        (
            NAMESPACE,
            "other",
            "IncorrectMetalLBResourceName",
            "named 'metallb'",
        ),
    ] {
        wait_for(&format!("{namespace}/{name} to say {reason}"), SOON, || {
            let object = cluster.kubectl_json(&["get", "metallb", "-n", namespace, name])?;
            says(&object, reason, &[words])
        })?;
    }
    cluster.delete(wrong)?;
    remove_namespace(cluster, ns)?;
    wait_available(cluster, WHILE)
}

/// Whether Degraded is True for this reason with these words.
fn says(object: &Value, reason: &str, words: &[&str]) -> Result<Option<()>> {
    let found = condition(object, "Degraded").is_some_and(|c| {
        let message = c["message"].as_str().unwrap_or_default();
        c["status"] == "True" && c["reason"] == reason && words.iter().all(|word| message.contains(word))
    });
    if found {
        return Ok(Some(()));
    }
    bail!("its conditions are {}", conditions_text(object))
}

fn degraded(cluster: &Cluster, reason: &str, words: &[&str]) -> Result<()> {
    wait_for(
        &format!("Degraded for {reason} that says {words:?}"),
        WHILE,
        || says(&metallb(cluster)?, reason, words),
    )
}

/// Has the operator roll out another image while `work` looks on.
fn with_image(
    cluster: &Cluster,
    variable: &str,
    image: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let deployment = cluster.kubectl_json(&["get", OPERATOR, "-n", NAMESPACE])?;
    let all = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    let right = all
        .into_iter()
        .flatten()
        .find(|v| v["name"] == variable)
        .and_then(|v| v["value"].as_str())
        .with_context(|| format!("the operator has no {variable}"))?;
    let set = |image: &str| {
        let pair = format!("{variable}={image}");
        cluster.kubectl(&["set", "env", "-n", NAMESPACE, OPERATOR, &pair])?;
        cluster.kubectl(&["rollout", "status", "-n", NAMESPACE, OPERATOR, "--timeout=120s"])
    };
    set(image)?;
    work()?;
    set(right)?;
    wait_available(cluster, WHILE)
}

/// A namespace that admits no speaker: the label to set is in the condition, and setting it is all there is to do.
fn pod_security(cluster: &Cluster) -> Result<()> {
    let label = |level: &str| {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        cluster.kubectl(&["label", "namespace", NAMESPACE, &label, "--overwrite"])
    };
    label("restricted")?;
    cluster.kubectl(&[
        "delete",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app=metallb,component=speaker",
        "--wait=false",
    ])?;
    let words = ["kubectl label namespace metallb-system pod-security.kubernetes.io/enforce=privileged"];
    let said = degraded(cluster, "PodSecurityRefusal", &words);
    label("privileged")?;
    said?;
    wait_available(cluster, WHILE)
}

/// The operator's role loses the right to write `DaemonSets`.
fn missing_right(cluster: &Cluster) -> Result<()> {
    let name = "metallb-operator";
    let mut role = cluster.kubectl_json(&["get", "clusterrole", name])?;
    let right = role.clone();
    for rule in role["rules"].as_array_mut().into_iter().flatten() {
        if let Some(resources) = rule["resources"].as_array_mut() {
            resources.retain(|resource| resource != "daemonsets");
        }
    }
    let replace = |role: &Value| {
        let patch = json!([{"op": "replace", "path": "/rules", "value": role["rules"]}]).to_string();
        cluster.kubectl(&["patch", "clusterrole", name, "--type=json", "-p", &patch])
    };
    let rules = role["rules"].as_array_mut().context("rules")?;
    rules.retain(|rule| {
        rule["resources"]
            .as_array()
            .is_none_or(|resources| !resources.is_empty())
    });
    replace(&role)?;
    // Something to do, for which the right is missing.
    configure(
        cluster,
        &json!({"speakerConfig": {"annotations": {"example.org/by": "the-test"}}}),
    )?;
    let said = degraded(
        cluster,
        "MissingPermission",
        &["daemonsets", "ClusterRole metallb-operator"],
    );
    replace(&right)?;
    configure(cluster, &json!({"speakerConfig": null}))?;
    said?;
    wait_available(cluster, WHILE)
}

/// A definition is deleted, which nobody uses here, and applied again.
fn missing_definition(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "crd", "communities.metallb.io"])?;
    let said = degraded(cluster, "DefinitionMissing", &["communities.metallb.io"]);
    let file = root().join("config/crd/metallb.io_communities.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    cluster.apply(&text)?;
    said?;
    wait_available(cluster, WHILE)
}
