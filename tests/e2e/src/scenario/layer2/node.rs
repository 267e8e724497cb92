//! A power cut of the owner.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    Figures, STEADY,
    field::Field,
    soon_answered,
    watch::{DATAGRAMS, Watch},
};
use crate::{
    Cluster,
    scenario::workload::{SOON, wait_product_ready},
};

/// All processes of the owner and its link at once; then it boots.
pub fn node_kill(cluster: &mut Cluster) -> Result<()> {
    let field = Field::lay(cluster, "node-kill")?;
    let mut figures = Figures::new("node-kill");
    let target = field.target();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    let mark = watch.mark();
    cluster.node_kill(&target.owner)?;
    let moved = watch.wait_flow(&mark, STEADY, SOON);
    let killed = watch.stop();
    let watch = moved.and_then(|()| Watch::start(cluster, target, DATAGRAMS));
    cluster.node_start(&target.owner)?;
    let watch = watch.with_context(|| format!("after the power cut of {}", target.owner))?;
    cluster.wait_nodes_ready(Duration::from_secs(120))?;
    wait_product_ready(cluster)?;
    field
        .wait_as_laid(cluster)
        .with_context(|| format!("after the return of {}", target.owner))?;
    let mark = watch.mark();
    watch.wait_flow(&mark, STEADY, SOON)?;
    let returned = watch.stop()?;
    let killed = killed?;
    figures.outcomes("node_kill", &killed);
    figures.outcomes("node_return", &returned);
    figures.write()?;
    soon_answered("the owner has lost its power", &killed)?;
    soon_answered("it is back", &returned)?;
    field.clear(cluster)
}
