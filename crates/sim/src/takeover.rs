//! How long a take-over lasts, and how long a pause the others bear.

use metallb_sansio::{Duration, Instant};

use crate::{Cluster, NodeNumber, Setup};

/// How an owner fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its link is cut behind the switch, so that it does not notice.
    LinkCut,
    /// The whole node is switched off.
    PowerOff,
    /// Its speaker is killed.
    Kill,
    /// Its speaker stops cleanly.
    Stop,
    /// It is not scheduled for this long.
    Pause(Duration),
}

/// The island with the client that is asked.
const ISLAND: usize = 0;
/// By then everything is settled that started at once.
const SETTLED: Duration = Duration::from_secs(4);
/// How often the client asks.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What a client saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interruption {
    /// Longest time without an answer that leads to a node that forwards, as a client sees it that forgets what it knows
    /// and asks 200 times a second.
    pub longest: Duration,
    /// When the client's neighbour cache first named another node than at the start, and that node.
    pub moved: Option<(Duration, NodeNumber)>,
    /// When it last came to name another node, and that node. Between the two times both may answer.
    pub settled: Option<(Duration, NodeNumber)>,
    /// Longest time with answers from more than one node.
    pub double: Duration,
}

/// Makes the owner of service 0 fail as told and looks on for `watched`. A speaker that ended starts again after
/// `restart`, if given.
///
/// # Panics
/// When nobody owns the service after the start.
pub fn interrupt(setup: &Setup, loss: Loss, restart: Option<Duration>, watched: Duration) -> Interruption {
    let (mut cluster, owner) = settled(setup);
    let after = match loss {
        Loss::Pause(length) => Some(length),
        _ => restart,
    };
    let failed = cluster.now();
    match loss {
        Loss::LinkCut => cluster.isolate(owner),
        Loss::PowerOff => cluster.power_off(owner),
        Loss::Kill => cluster.kill(owner),
        Loss::Stop => cluster.stop(owner),
        Loss::Pause(_) => cluster.pause(owner),
    }
    watch(&mut cluster, owner, watched, |cluster, now| {
        if after.is_some_and(|after| now - failed >= after) {
            cluster.resume(owner);
            cluster.start(owner);
        }
    })
}

/// A cluster that has settled, and the owner of service 0.
///
/// # Panics
/// When nobody owns the service after the start.
pub fn settled(setup: &Setup) -> (Cluster, NodeNumber) {
    let mut cluster = Cluster::new(setup.clone());
    (0..setup.nodes).for_each(|node| cluster.start(node));
    cluster.ask();
    // The phase of the failure among everybody's periods is as random as everything else.
    cluster.run(SETTLED + setup.api_delay + Duration::from_micros(setup.seed % 1_000_000));
    let (mac, _) = cluster
        .neighbour(ISLAND, 0)
        .cached
        .expect("somebody owns service 0 after the start");
    let owner = cluster.node_of(mac).expect("a node owns it");
    (cluster, owner)
}

/// Looks on as a client for service 0, which `owner` owns; `act` is called before each question.
pub fn watch(
    cluster: &mut Cluster,
    owner: NodeNumber,
    watched: Duration,
    mut act: impl FnMut(&mut Cluster, Instant),
) -> Interruption {
    let started = cluster.now();
    let (mut answered, mut single) = (started, started);
    let mut seen = Interruption::default();
    let mut cached = owner;
    while cluster.now() - started < watched {
        act(cluster, cluster.now());
        cluster.ask();
        cluster.run(ASK_EVERY);
        let now = cluster.now();
        let neighbour = cluster.neighbour(ISLAND, 0);
        let answers = neighbour
            .answered_by
            .iter()
            .filter_map(|mac| cluster.node_of(*mac));
        let answers = answers.filter(|node| cluster.forwards(*node, ISLAND)).count();
        if answers > 0 {
            answered = now;
        }
        if answers < 2 {
            single = now;
        }
        seen.longest = seen.longest.max(now - answered);
        seen.double = seen.double.max(now - single);
        let names = neighbour
            .cached
            .and_then(|(mac, since)| Some((cluster.node_of(mac)?, since)));
        if let Some((node, since)) = names.filter(|(node, _)| *node != cached) {
            cached = node;
            seen.settled = Some((since - started, node));
            seen.moved.get_or_insert((since - started, node));
        }
    }
    seen
}

/// The `percent`th percentile of what is sorted; zero of nothing.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}
