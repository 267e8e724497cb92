//! Cuts and kills, each undone before the next.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{
    LONG, Settings,
    engine::Engine,
    store::{Sample, Store},
};
use crate::{
    Cluster, Progress, figures,
    scenario::{
        layer2::{
            STEADY,
            field::{Field, Target},
            restart::{pids_on, wait_new_speaker},
            watch::{DATAGRAMS, Outcome, Watch},
        },
        workload::kill_9,
    },
};

/// The samples of a round.
pub(super) fn samples(engine: Engine, part: &str, round: usize, outcomes: &[Outcome]) -> Vec<Sample> {
    let one = |outcome: &Outcome| Sample {
        engine,
        part: part.to_owned(),
        round,
        client: outcome.label(),
        longest_ms: outcome.report.longest.length.as_secs_f64() * 1e3,
        lost: outcome.report.lost(),
        load: figures::load(),
    };
    outcomes.iter().map(one).collect()
}

/// All rounds that are wanted and not there yet.
pub(super) fn run(
    cluster: &mut Cluster,
    field: &Field,
    engine: Engine,
    settings: &Settings,
    store: &mut Store,
    progress: &Progress,
) -> Result<()> {
    let targets = by_owner(field);
    for part in ["link-cut", "node-kill", "speaker-kill"] {
        if !settings.wants(part) {
            continue;
        }
        for round in store.rounds(engine, part)..settings.rounds_of(engine) {
            let target = targets[round % targets.len()];
            let mut pace = Pace::new();
            let outcomes = one(cluster, field, target, engine, part, &mut pace)
                .with_context(|| format!("{part}, round {round}, {} owns {}", target.owner, target.v4))?;
            let worst = outcomes
                .iter()
                .map(|o| o.report.longest.length)
                .max()
                .unwrap_or_default();
            progress.line(&format!(
                "{engine} {part} {}/{}: {} ms at most, {} ({pace})",
                round + 1,
                settings.rounds_of(engine),
                worst.as_millis(),
                figures::load()
            ));
            store.add(samples(engine, part, round, &outcomes))?;
        }
    }
    Ok(())
}

/// Where the time of a round goes.
struct Pace {
    last: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Pace {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            steps: Vec::new(),
        }
    }

    /// The step that ends now.
    fn step(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps
            .push((name, now.duration_since(std::mem::replace(&mut self.last, now))));
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Duration = self.steps.iter().map(|(_, time)| *time).sum();
        write!(f, "{:.1} s", all.as_secs_f64())?;
        for (name, time) in &self.steps {
            write!(f, ", {name} {:.1}", time.as_secs_f64())?;
        }
        Ok(())
    }
}

/// One target of each owner, so that the nodes take turns.
fn by_owner(field: &Field) -> Vec<&Target> {
    let mut targets: Vec<&Target> = Vec::new();
    for target in &field.targets {
        if targets.iter().all(|other| other.owner != target.owner) {
            targets.push(target);
        }
    }
    targets
}

fn one(
    cluster: &mut Cluster,
    field: &Field,
    target: &Target,
    engine: Engine,
    part: &str,
    pace: &mut Pace,
) -> Result<Vec<Outcome>> {
    let owner = target.owner.as_str();
    let watch = Watch::start(cluster, target, DATAGRAMS)?;
    pace.step("streams");
    let mark = watch.mark();
    let old = pids_on(cluster, owner, engine.binary())?;
    match part {
        "link-cut" => cluster.link(owner, false)?,
        "node-kill" => cluster.node_kill(owner)?,
        _ => kill_9(&old)?,
    }
    let answered = watch.wait_flow(&mark, STEADY, LONG);
    let outcomes = watch.stop();
    pace.step("outage");
    match part {
        "link-cut" => {
            cluster.link(owner, true)?;
            if engine == Engine::Go {
                engine.renew(cluster, owner)?;
            }
        }
        "node-kill" => {
            cluster.node_start(owner)?;
            cluster.wait_nodes_ready(LONG)?;
            wait_new_speaker(cluster, owner, engine.binary(), &old)?;
        }
        // Its pod is made anew whether or not the killed container is back by now.
        _ => engine.renew(cluster, owner)?,
    }
    pace.step("repair");
    answered?;
    field.wait_as_laid(cluster).context("after the round")?;
    pace.step("as before");
    // Announcements of the return are over: nothing of it is left for the next round.
    std::thread::sleep(Duration::from_millis(500));
    outcomes
}
