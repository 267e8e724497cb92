//! Speakers of Go `MetalLB` 0.16.1 and ours in one cluster, as during a migration: one answers for each address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Figures, STEADY,
    field::Field,
    soon_answered,
    watch::{DATAGRAMS, Watch},
};
use crate::{
    Cluster, Progress, peer,
    scenario::{
        install::{NAMESPACE, wait_available},
        operator::configure,
        workload::{SOON, wait_product_ready},
    },
    wait_for,
};

/// The label that says which speakers a node runs.
const LABEL: &str = "layer2-test/engine";
/// Names of Go's objects here: ours have the upstream names.
const GO: &str = "go-speaker";

/// Go's speaker, its account and its rights under names of their own, for the nodes that are labelled so.
fn go_objects(cluster: &Cluster) -> Result<Vec<Value>> {
    let all = peer::objects(cluster, &Progress::start())?;
    let mut mine = Vec::new();
    for mut object in all {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let wanted = matches!(
            (kind.as_str(), name.as_str()),
            ("ServiceAccount" | "DaemonSet", "speaker")
                | ("ClusterRole" | "ClusterRoleBinding", "metallb-system:speaker")
                | ("Role" | "RoleBinding", "pod-lister")
                | ("ConfigMap", _)
        );
        if !wanted {
            continue;
        }
        object["metadata"]["name"] = json!(GO);
        if !object["roleRef"].is_null() {
            object["roleRef"]["name"] = json!(GO);
            object["subjects"] = json!([{"kind": "ServiceAccount", "name": GO, "namespace": NAMESPACE}]);
        }
        if kind == "DaemonSet" {
            let pod = &mut object["spec"]["template"]["spec"];
            pod["serviceAccountName"] = json!(GO);
            pod["nodeSelector"] = json!({LABEL: "go"});
            let volumes = pod["volumes"]
                .as_array_mut()
                .context("Go's speaker has volumes")?;
            for volume in volumes {
                if volume["name"] == "metallb-excludel2" {
                    volume["configMap"]["name"] = json!(GO);
                }
            }
        }
        mine.push(object);
    }
    ensure!(
        mine.len() >= 5,
        "Go MetalLB's manifest is not as it was: {} objects",
        mine.len()
    );
    Ok(mine)
}

fn only_ours_on(cluster: &Cluster, selector: &Value) -> Result<()> {
    configure(cluster, &json!({"nodeSelector": selector}))?;
    wait_available(cluster, Duration::from_secs(120))?;
    wait_product_ready(cluster)
}

/// One node after the other runs Go's speaker instead of ours, and then ours again.
pub fn mixed_fleet(cluster: &mut Cluster) -> Result<()> {
    // Go's speaker mounts it; ours prefer it to the key of their own.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "memberlist", "namespace": NAMESPACE},
        "stringData": {"secretkey": "bWl4ZWQgZmxlZXQga2V5IQ"}});
    cluster.apply(&secret.to_string())?;
    let go = go_objects(cluster)?;
    let outcome = fleet(cluster, &go);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": go});
    let cleaned = cluster
        .delete(&list.to_string())
        .and_then(|_| only_ours_on(cluster, &json!(null)))
        .and_then(|()| cluster.kubectl(&["label", "nodes", "--all", &format!("{LABEL}-")]));
    outcome?;
    cleaned?;
    cluster
        .kubectl(&[
            "delete",
            "secret",
            "-n",
            NAMESPACE,
            "memberlist",
            "--ignore-not-found",
        ])
        .map(drop)
}

fn fleet(cluster: &Cluster, go: &[Value]) -> Result<()> {
    let mut figures = Figures::new("mixed-fleet");
    let label = |node: &str, engine: &str| {
        cluster.kubectl(&["label", "node", "--overwrite", node, &format!("{LABEL}={engine}")])
    };
    for node in cluster.nodes() {
        label(&node.name, "rust")?;
    }
    let field = Field::lay(cluster, "mixed-fleet")?;
    let target = field.target();
    only_ours_on(cluster, &json!({LABEL: "rust"}))?;
    peer::apply(cluster, go)?;

    // The first Go speaker owns everything, whatever the rank of its node: the others cannot see it in membership.
    let first = cluster
        .nodes()
        .into_iter()
        .map(|node| node.name)
        .find(|name| *name != target.owner)
        .context("several nodes")?;
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    label(&first, "go")?;
    wait_go(cluster, 1)?;
    field
        .wait_owners(cluster, SOON, |_| first.clone())
        .context("with one Go speaker")?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, SOON)?;
    let arrived = watch.stop()?;
    figures.outcomes("go_arrives", &arrived);

    // Two of them agree by the same rank that ours have.
    label(&target.owner, "go")?;
    wait_go(cluster, 2)?;
    let owners = wait_settled(cluster, &field)?;
    let pair = [&first, &target.owner];
    for target in &field.all {
        for address in target.addresses() {
            let owner = &owners[&address];
            let right = if pair.contains(&&target.owner) {
                *owner == target.owner
            } else {
                pair.contains(&owner)
            };
            ensure!(
                right,
                "with Go speakers on {pair:?} {owner} answers for {address}"
            );
        }
    }

    // The last Go speaker leaves: ours own again as they did.
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    label(&first, "rust")?;
    label(&target.owner, "rust")?;
    wait_go(cluster, 0)?;
    wait_product_ready(cluster)?;
    field
        .wait_as_laid(cluster)
        .context("after the last Go speaker left")?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, SOON)?;
    let left = watch.stop()?;
    figures.outcomes("go_leaves", &left);
    figures.write()?;
    soon_answered("the first Go speaker arrives", &arrived)?;
    soon_answered("the last Go speaker leaves", &left)?;
    field.clear(cluster)
}

/// Waits until so many Go speakers are Ready and no other is left.
fn wait_go(cluster: &Cluster, count: u64) -> Result<()> {
    wait_for(&format!("{count} Go speakers"), Duration::from_secs(120), || {
        let set = cluster.kubectl_json(&["get", "daemonset", "-n", NAMESPACE, GO])?;
        let status = &set["status"];
        let number = |name: &str| status[name].as_u64().unwrap_or_default();
        ensure!(
            number("desiredNumberScheduled") == count
                && number("numberReady") == count
                && number("currentNumberScheduled") == count
                && number("numberMisscheduled") == 0,
            "its status is {status}"
        );
        Ok(Some(()))
    })
}

/// Waits until one node answers for each address, and the same five seconds later: Go joins membership by and by.
fn wait_settled(cluster: &Cluster, field: &Field) -> Result<BTreeMap<IpAddr, String>> {
    let addresses = field.addresses();
    wait_for("owners that do not change", Duration::from_secs(120), || {
        let single = || super::field::wait_single(cluster, &addresses);
        let before = single()?;
        std::thread::sleep(Duration::from_secs(5));
        let after = single()?;
        Ok((before == after).then_some(after))
    })
}
