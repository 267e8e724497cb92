//! The LAN falls into two halves, and they meet again: for how long two answer then.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{
    Figures, GENEROUS, STEADY,
    field::Field,
    watch::{DATAGRAMS, Outcome, Watch},
};
use crate::{
    Cluster, pcap,
    scenario::{evidence_dir, workload::SOON},
    wait_for,
    wire::OBSERVER,
};

/// Somebody who says nothing for so long has stopped answering; the addresses are asked for every 10 ms.
pub const QUIET: Duration = Duration::from_millis(200);

/// First the owner is on the other side, then another node is.
pub fn partition(cluster: &mut Cluster) -> Result<()> {
    let field = Field::lay(cluster, "partition")?;
    let mut figures = Figures::new("partition");
    let owner = field.target().owner.clone();
    let other = cluster
        .nodes()
        .into_iter()
        .map(|node| node.name)
        .find(|name| *name != owner && *name != field.server)
        .context("three nodes")?;

    let (lost, overlap) = part_and_heal(cluster, &field, &owner, &other)?;
    figures.outcomes("owner_parted", &lost);
    figures.add(
        "owner_returned_two_answer_ms",
        "ms",
        ms(overlap),
        "after healing, from a capture",
    );
    let (kept, second) = part_and_heal(cluster, &field, &other, &owner)?;
    figures.outcomes("other_parted", &kept);
    figures.add(
        "other_returned_two_answer_ms",
        "ms",
        ms(second),
        "after healing, from a capture",
    );
    figures.write()?;
    for overlap in [overlap, second] {
        ensure!(
            overlap <= GENEROUS,
            "two nodes answered for one address for {overlap:?} after the halves met again"
        );
    }
    super::soon_answered("the owner is cut off together with others", &lost)?;
    super::soon_answered("another node is cut off", &kept)?;
    cluster.wait_nodes_ready(Duration::from_secs(120))?;
    field.clear(cluster)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Parts one node from everybody else until `answering` answers on the client's side and, as far as can be told, the parted
/// one on its own; then joins the halves. What the clients saw, and for how long two answered for one address.
fn part_and_heal(
    cluster: &Cluster,
    field: &Field,
    apart: &str,
    answering: &str,
) -> Result<(Vec<Outcome>, Duration)> {
    let target = field.target();
    let file: PathBuf = evidence_dir("partition").join(format!("{apart}.pcap"));
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    cluster.partition(&[apart])?;
    let parted = wait_for("somebody to answer on the client's side", SOON, || {
        let heard = cluster.owners(&target.addresses())?;
        let mine = |nodes: &std::collections::BTreeSet<String>| nodes.len() == 1 && !nodes.contains(apart);
        Ok(heard.values().all(mine).then_some(()))
    });
    // The half without the client has to make up its mind as well; nobody there can be asked.
    std::thread::sleep(Duration::from_secs(2));
    let capture = cluster.capture(OBSERVER, "eth0", "arp or icmp6", &file);
    let asking = cluster
        .observer(false)
        .map(|wire| wire.keep_asking(field.addresses(), Duration::from_millis(10)));
    cluster.heal(&[apart])?;
    parted.with_context(|| format!("{apart} was parted from the others, {answering} is there"))?;
    let (capture, asking) = (capture?, asking?);
    let mark = watch.mark();
    field
        .wait_as_laid(cluster)
        .context("after the halves met again")?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    drop(asking);
    let outcomes = watch.stop()?;
    let claims = pcap::claims(&pcap::read(&capture.stop()?)?);
    let overlaps = claims
        .iter()
        .map(|(address, claims)| (pcap::longest_overlap(claims, QUIET), *address));
    let (longest, address) = overlaps.max().context("nobody answered at all")?;
    println!("  {apart} parted and back: two answered for {address} for {longest:?}");
    Ok((outcomes, longest))
}
