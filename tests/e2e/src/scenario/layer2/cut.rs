//! Cables: the owner's is cut, with and without an API server, and one that flaps.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Figures, STEADY,
    field::Field,
    soon_answered,
    watch::{DATAGRAMS, Outcome, Watch},
};
use crate::{
    Cluster,
    scenario::{install::wait_available, operator::configure, workload::SOON},
};

/// How long speakers may take to be replaced.
const ROLLOUT: Duration = Duration::from_secs(180);

/// How the owner's cable is cut, and plugged in again.
pub fn link_cut(cluster: &mut Cluster) -> Result<()> {
    let field = Field::lay(cluster, "link-cut")?;
    let mut figures = Figures::new("link-cut");
    let (cut, returned) = cut_and_return(cluster, &field)?;
    figures.outcomes("link_cut", &cut);
    figures.outcomes("link_return", &returned);

    // The same without the API server: it is on no path of this.
    cluster.apiserver_stop()?;
    let alone = cut_and_return(cluster, &field);
    cluster
        .apiserver_start()
        .context("the API server does not come back")?;
    let (alone, _) = alone.context("while the API server was away")?;
    figures.outcomes("link_cut_without_api", &alone);

    let flapped = flap(cluster, &field)?;
    figures.outcomes("link_flap", &flapped);
    figures.write()?;
    soon_answered("the owner's cable is cut", &cut)?;
    soon_answered("it is plugged in again", &returned)?;
    soon_answered("the owner's cable is cut while the API server is away", &alone)?;
    soon_answered("the owner's cable flaps", &flapped)?;
    cluster.wait_nodes_ready(Duration::from_secs(120))?;
    field.clear(cluster)
}

/// The owner's cable where every speaker's membership listens on all addresses, so that what it listens on tells peers nothing.
pub fn bind_address(cluster: &mut Cluster) -> Result<()> {
    listen_on(cluster, &json!("::"))?;
    let outcome = cut_once(cluster);
    listen_on(cluster, &Value::Null)?;
    outcome
}

fn listen_on(cluster: &Cluster, address: &Value) -> Result<()> {
    configure(cluster, &json!({"memberlist": {"bindAddress": address}}))?;
    wait_available(cluster, ROLLOUT)
}

fn cut_once(cluster: &mut Cluster) -> Result<()> {
    let field = Field::lay(cluster, "bind-address")?;
    let (cut, returned) = cut_and_return(cluster, &field)?;
    soon_answered("the owner's cable is cut", &cut)?;
    soon_answered("it is plugged in again", &returned)?;
    field.clear(cluster)
}

/// Cuts the cable of an owner until another answers, and plugs it in until it owns again.
fn cut_and_return(cluster: &Cluster, field: &Field) -> Result<(Vec<Outcome>, Vec<Outcome>)> {
    let target = field.target();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    let mark = watch.mark();
    cluster.link(&target.owner, false)?;
    let moved = watch.wait_flow(&mark, STEADY, SOON);
    let cut = watch.stop();
    let watch = moved.and_then(|()| Watch::start(cluster, target, DATAGRAMS));
    cluster.link(&target.owner, true)?;
    let watch = watch.with_context(|| format!("after the cable of {} was cut", target.owner))?;
    let mark = watch.mark();
    field
        .wait_as_laid(cluster)
        .with_context(|| format!("after the cable of {} was plugged in again", target.owner))?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    Ok((cut?, watch.stop()?))
}

/// Five short interruptions in a row.
fn flap(cluster: &Cluster, field: &Field) -> Result<Vec<Outcome>> {
    let target = field.target();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    for _ in 0..5 {
        cluster.link(&target.owner, false)?;
        std::thread::sleep(Duration::from_millis(150));
        cluster.link(&target.owner, true)?;
        std::thread::sleep(Duration::from_millis(150));
    }
    let mark = watch.mark();
    field.wait_as_laid(cluster).context("after the cable flapped")?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}
