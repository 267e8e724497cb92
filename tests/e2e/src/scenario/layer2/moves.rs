//! Moves on purpose: a drained node, one that is out of service, a preference. Nothing is lost.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Figures, STEADY,
    field::{Field, advertise},
    lossless,
    watch::{DATAGRAMS, Outcome, Watch},
};
use crate::{Cluster, scenario::workload::SOON, wait_for};

/// The label that takes a node out of load balancing.
pub const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The taint by which an administrator says that a node is down for good.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Drains the owner and pulls its cable afterwards, then takes it out of service and back, then moves the address by preference
/// and back.
pub fn planned_moves(cluster: &mut Cluster) -> Result<()> {
    let field = Field::lay(cluster, "planned-moves")?;
    field.patient(true);
    let mut figures = Figures::new("planned-moves");
    let drained = drain(cluster, &field);
    cluster.link(&field.target().owner, true)?;
    cluster.kubectl(&["label", "node", &field.target().owner, &format!("{EXCLUDE}-")])?;
    let drained = drained?;
    figures.outcomes("drain", &drained);

    // Back again, which is a move on purpose as well.
    let watch = Watch::start(cluster, field.target(), DATAGRAMS)?;
    field
        .wait_as_laid(cluster)
        .context("after the drained node is back")?;
    drop(watch);
    cluster.wait_nodes_ready(Duration::from_secs(120))?;

    let tainted = out_of_service(cluster, &field)?;
    figures.outcomes("out_of_service", &tainted);
    let preferred = prefer(cluster, &field)?;
    figures.outcomes("preference", &preferred);
    figures.write()?;
    lossless("drain, and the cable of the drained node pulled", &drained)?;
    lossless(
        "the taint of a node that is out of service, and its removal",
        &tainted,
    )?;
    lossless("a move by preference and back", &preferred)?;
    field.clear(cluster)
}

/// Waits until another node than this owns the target, alone, for both families.
///
/// # Errors
/// Those who answer.
pub fn wait_left(cluster: &Cluster, field: &Field, node: &str) -> Result<()> {
    let addresses = field.target().addresses();
    wait_for(&format!("another node than {node} to answer alone"), SOON, || {
        let heard = cluster.owners(&addresses)?;
        let left = |nodes: &std::collections::BTreeSet<String>| nodes.len() == 1 && !nodes.contains(node);
        anyhow::ensure!(heard.values().all(left), "those who answer are {heard:?}");
        Ok(Some(()))
    })
}

fn drain(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let target = field.target();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    cluster.kubectl(&["label", "node", &target.owner, &format!("{EXCLUDE}=")])?;
    wait_left(cluster, field, &target.owner)?;
    // Two seconds after the drain is done the machine may be switched off.
    std::thread::sleep(Duration::from_secs(2));
    let mark = watch.mark();
    cluster.link(&target.owner, false)?;
    watch.wait_flow(&mark, Duration::from_secs(3), SOON)?;
    watch.stop()
}

/// Taints the owner as out of service, and takes the taint away. The effect is the one that leaves
/// the node's pods, its speaker among them, where they are.
fn out_of_service(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let target = field.target();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    let taint = format!("{OUT_OF_SERVICE}=nodeshutdown:NoSchedule");
    cluster.kubectl(&["taint", "node", &target.owner, &taint])?;
    let left = wait_left(cluster, field, &target.owner).context("after the taint");
    cluster.kubectl(&["taint", "node", &target.owner, &format!("{OUT_OF_SERVICE}-")])?;
    left?;
    field
        .wait_as_laid(cluster)
        .context("after the taint was taken away")?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}

/// Prefers another node, and takes the wish back.
fn prefer(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let target = field.target();
    let other = cluster
        .nodes()
        .into_iter()
        .find(|node| node.name != target.owner)
        .context("a cluster has several nodes")?
        .name;
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    advertise(
        cluster,
        &json!({"preferredNodeSelectors": [{"weight": 100, "preference": {"matchLabels": {"kubernetes.io/hostname": other}}}]}),
    )?;
    field
        .wait_owners(cluster, SOON, |_| other.clone())
        .context("after a preference")?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, SOON)?;
    advertise(cluster, &json!({"preferredNodeSelectors": []}))?;
    field
        .wait_as_laid(cluster)
        .context("after the preference was taken back")?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}
