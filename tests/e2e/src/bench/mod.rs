//! `lab bench-l2`: ours beside Go `MetalLB` on the same cluster in one run. What is measured is kept after each round, so
//! that a run that was stopped goes on where it was.

mod engine;
mod moves;
mod report;
mod rounds;
mod steady;
mod store;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{
    Cluster, Progress,
    checkout::root,
    figures,
    scenario::{
        layer2::{field::Field, moves::EXCLUDE},
        workload::fresh_namespace,
    },
};
use engine::Engine;
use store::Store;

/// Nodes of the benchmark's cluster: three that may own, and one for the server.
const NODES: u8 = 4;

/// The parts, in their order, with about how long a round of ours and of Go's takes on two cores, in seconds.
const PARTS: [(&str, f64, f64); 7] = [
    ("link-cut", 4.5, 21.0),
    ("node-kill", 9.0, 26.0),
    ("speaker-kill", 12.0, 15.0),
    ("moves", 10.0, 20.0),
    ("resources", 4.0, 5.0),
    ("status", 2.0, 2.0),
    ("replies", 1.0, 1.0),
];

/// What is measured and how often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Cuts and kills of each kind.
    pub rounds: usize,
    /// The same of Go's.
    pub peer_rounds: usize,
    /// Names of the parts; empty for all.
    pub parts: Vec<String>,
    /// Go's figures as well.
    pub peer: bool,
    /// Forget what earlier runs measured.
    pub fresh: bool,
}

/// Measures, prints the table and writes `target/bench/l2.json`.
///
/// # Errors
/// A part that there is none of; what does not get ready.
pub fn run(name: &str, settings: &Settings, progress: &Progress) -> Result<()> {
    if let Some(unknown) = settings
        .parts
        .iter()
        .find(|part| PARTS.iter().all(|(known, ..)| known != part))
    {
        let known: Vec<_> = PARTS.iter().map(|(name, ..)| *name).collect();
        bail!("there is no part {unknown}; there are: {}", known.join(", "));
    }
    let mut store = Store::open(&root().join("target/bench/l2-rounds.json"), settings.fresh)?;
    let engines = if settings.peer {
        &[Engine::Ours, Engine::Go][..]
    } else {
        &[Engine::Ours]
    };
    progress.line(&format!("this takes about {}", estimate(settings, engines)));
    // Whatever a run that was stopped has left installed would be in the way.
    Cluster::down(name, progress)?;
    let (mut cluster, _) = Cluster::up(name, NODES, progress)?;
    for engine in engines {
        let version = engine.version()?;
        engine.install(&cluster, progress)?;
        ensure!(
            engine.version()? == version,
            "the images of {engine} were built anew while they were being installed; start again"
        );
        store.version(*engine, &version)?;
        let measured = measure(&mut cluster, *engine, settings, &mut store, progress);
        // A failure leaves the cluster to be looked at; what was measured is kept.
        measured.with_context(|| format!("measuring {engine}"))?;
        if settings.peer {
            engine.remove(&cluster, progress)?;
        }
    }
    let entries = report::entries(&store);
    if entries.is_empty() {
        progress.line(
            "nothing of ours is measured yet: the rounds are kept, a run with L2_ROUNDS makes the table",
        );
    } else {
        let file = root().join("target/bench/l2.json");
        figures::write(&file, &entries)?;
        println!("{}", figures::table(&entries));
        progress.line(&format!("{} has the figures with notes", file.display()));
    }
    Cluster::down(name, progress).map(drop)
}

fn estimate(settings: &Settings, engines: &[Engine]) -> String {
    let mut seconds = 60.0;
    for (part, ours, go) in PARTS {
        if settings.wants(part) {
            for engine in engines {
                let each = if *engine == Engine::Ours { ours } else { go };
                seconds += each * settings.rounds_of(*engine) as f64;
            }
        }
    }
    format!(
        "{:.0} minutes if nothing of it is measured already (L2_ROUNDS={}, L2_PEER_ROUNDS={}; L2_PARTS chooses parts)",
        seconds / 60.0,
        settings.rounds,
        settings.peer_rounds
    )
}

impl Settings {
    fn rounds_of(&self, engine: Engine) -> usize {
        match engine {
            Engine::Ours => self.rounds,
            Engine::Go => self.peer_rounds,
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|name| name == part)
    }
}

fn measure(
    cluster: &mut Cluster,
    engine: Engine,
    settings: &Settings,
    store: &mut Store,
    progress: &Progress,
) -> Result<()> {
    let server = cluster.nodes().pop().context("a cluster has nodes")?.name;
    // The server's node owns nothing, so that nothing happens to it.
    cluster.kubectl(&["label", "node", "--overwrite", &server, &format!("{EXCLUDE}=")])?;
    if ["link-cut", "node-kill", "speaker-kill", "moves"]
        .iter()
        .any(|part| settings.wants(part))
    {
        let field = Field::lay(cluster, "bench")?;
        rounds::run(cluster, &field, engine, settings, store, progress)?;
        if settings.wants("moves") {
            moves::run(cluster, &field, engine, settings, store, progress)?;
        }
        field.clear(cluster)?;
    }
    if settings.wants("resources") || settings.wants("status") || settings.wants("replies") {
        fresh_namespace(cluster, steady::NS)?;
        steady::run(cluster, &server, engine, settings, store, progress)?;
    }
    Ok(())
}

/// How long something that needs the API and a kubelet may take on a busy machine.
const LONG: Duration = Duration::from_secs(180);
