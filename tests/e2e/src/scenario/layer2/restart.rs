//! Speakers that end, stand still and are upgraded while their node is up: no address moves.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{
    Figures, STEADY,
    field::Field,
    lossless, soon_answered,
    watch::{ALL_CLIENTS, Client, Outcome, Watch},
};
use crate::{
    Cluster,
    cgroup::signal,
    scenario::workload::{SOON, kill_9, on_node, pids_of, restart_speakers, speaker_pods},
    wait_for,
};

/// Name of our speaker's program.
pub const SPEAKER: &str = "metallb-speaker";

/// The processes of a binary on one node.
///
/// # Errors
/// /proc can't be read.
pub fn pids_on(cluster: &Cluster, node: &str, binary: &str) -> Result<Vec<i32>> {
    let group = format!("/{}/{node}/", cluster.plan().cgroup());
    let on = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(&group))
    };
    Ok(pids_of(cluster, binary)?.into_iter().filter(on).collect())
}

/// Waits until the speaker of a node is another process than these, and its pod Ready.
///
/// # Errors
/// The processes that there are.
pub fn wait_new_speaker(cluster: &Cluster, node: &str, binary: &str, old: &[i32]) -> Result<()> {
    let what = format!("a new {binary} on {node}");
    wait_for(&what, Duration::from_secs(120), || {
        let now = pids_on(cluster, node, binary)?;
        ensure!(
            !now.is_empty() && now.iter().all(|pid| !old.contains(pid)),
            "the processes are {now:?}, they were {old:?}"
        );
        Ok(Some(()))
    })?;
    wait_for(&format!("the speaker's pod on {node} to be Ready"), SOON, || {
        let field = on_node(node);
        let pods = cluster.kubectl_json(&[&["get"], &speaker_pods(&field)[..]].concat())?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let ready = |pod: &serde_json::Value| {
            let conditions = pod["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions
                    .iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        if pods.len() == 1 && pods.iter().all(ready) {
            Ok(Some(()))
        } else {
            bail!("there are {} of them", pods.len())
        }
    })
}

/// SIGKILL, a standstill of five seconds, and a rolling restart of all.
pub fn speaker_restart(cluster: &mut Cluster) -> Result<()> {
    let field = Field::lay(cluster, "speaker-restart")?;
    let mut figures = Figures::new("speaker-restart");

    let killed = kill(cluster, &field)?;
    figures.outcomes("speaker_kill", &killed);
    let frozen = standstill(cluster, &field)?;
    figures.outcomes("speaker_standstill", &frozen);
    field.patient(true);
    let rolled = rolling(cluster, &field)?;
    figures.outcomes("rolling_restart", &rolled);
    figures.write()?;

    soon_answered("kill -9 of the owner's speaker", &killed)?;
    soon_answered("a standstill of the owner's speaker", &frozen)?;
    // Who has the neighbour entry, and every connection, notices nothing of either.
    let others = |outcomes: &[Outcome]| -> Vec<Outcome> {
        let of = |o: &&Outcome| o.client != Client::Flushes;
        outcomes.iter().filter(of).cloned().collect()
    };
    lossless("kill -9 of the owner's speaker", &others(&killed))?;
    lossless("a standstill of the owner's speaker", &others(&frozen))?;
    lossless("a rolling restart of the speakers", &rolled)?;
    field.clear(cluster)
}

fn kill(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let target = field.target();
    let watch = Watch::start(cluster, target, ALL_CLIENTS)?;
    let mark = watch.mark();
    let old = pids_on(cluster, &target.owner, SPEAKER)?;
    kill_9(&old).with_context(|| format!("the speaker of {}", target.owner))?;
    wait_new_speaker(cluster, &target.owner, SPEAKER, &old)?;
    field
        .wait_as_laid(cluster)
        .context("after kill -9 of a speaker")?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}

fn standstill(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let target = field.target();
    let watch = Watch::start(cluster, target, ALL_CLIENTS)?;
    let pids = pids_on(cluster, &target.owner, SPEAKER)?;
    let all = |what: Signal| pids.iter().try_for_each(|pid| signal(*pid, what));
    all(Signal::SIGSTOP)?;
    // Not a wait for something to happen: the standstill itself lasts this long.
    std::thread::sleep(Duration::from_secs(5));
    let during = cluster.owners(&target.addresses());
    all(Signal::SIGCONT)?;
    let mark = watch.mark();
    for (address, nodes) in during? {
        ensure!(
            nodes.len() == 1 && nodes.contains(&target.owner),
            "{address} is answered for by {nodes:?} while the speaker of {} stands still: the address has moved",
            target.owner
        );
    }
    field
        .wait_as_laid(cluster)
        .context("after the standstill of a speaker")?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}

fn rolling(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let watch = Watch::start(cluster, field.target(), ALL_CLIENTS)?;
    restart_speakers(cluster)?;
    let mark = watch.mark();
    field.wait_as_laid(cluster).context("after a rolling restart")?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}
