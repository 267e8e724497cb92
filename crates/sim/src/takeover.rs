//! How long a take-over lasts, and how long a pause the others bear.

use metallb_sansio::{Duration, Instant};

use crate::{Cluster, NodeNumber, Setup};

/// How an owner fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its link is cut behind the switch, so that it does not notice.
    LinkCut,
    /// It is killed.
    Kill,
    /// It stops cleanly.
    Stop,
    /// It is not scheduled for this long.
    Pause(Duration),
}

/// The island with the client that is asked.
const ISLAND: usize = 0;
/// By then everything is settled that started at once.
const SETTLED: Duration = Duration::from_secs(4);
/// No take-over takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the owner of service 0 fail as told and says how long it took until the client's neighbour cache named another
/// node, and that node; `None` when that did not happen within ten seconds.
///
/// # Panics
/// When nobody owns the service after the start.
pub fn takeover(setup: &Setup, loss: Loss) -> Option<(Duration, NodeNumber)> {
    let mut cluster = Cluster::new(setup.clone());
    (0..setup.nodes).for_each(|node| cluster.start(node));
    cluster.ask();
    // The phase of the failure among everybody's periods is as random as everything else.
    cluster.run(SETTLED + setup.api_delay + Duration::from_micros(setup.seed % 1_000_000));
    let (owner_mac, _) = cluster
        .neighbour(ISLAND, 0)
        .cached
        .expect("somebody owns service 0 after the start");
    let owner = cluster.node_of(owner_mac).expect("a node owns it");
    let failed = cluster.now();
    match loss {
        Loss::LinkCut => cluster.isolate(owner),
        Loss::Kill => cluster.kill(owner),
        Loss::Stop => cluster.stop(owner),
        Loss::Pause(_) => cluster.pause(owner),
    }
    let changed = |cluster: &Cluster| -> Option<(Instant, NodeNumber)> {
        let (mac, since) = cluster
            .neighbour(ISLAND, 0)
            .cached
            .filter(|(_, since)| *since > failed)?;
        Some((since, cluster.node_of(mac)?))
    };
    let mut resumes = if let Loss::Pause(length) = loss {
        Some(failed + length)
    } else {
        None
    };
    while let Some(next) = cluster.next_event().into_iter().chain(resumes).min()
        && next - failed < PATIENCE
    {
        cluster.advance(next);
        if resumes.is_some_and(|at| at <= next) {
            resumes = None;
            cluster.resume(owner);
        }
        if let Some((since, by)) = changed(&cluster) {
            return Some((since - failed, by));
        }
    }
    None
}

/// The `percent`th percentile of what is sorted; zero of nothing.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}
