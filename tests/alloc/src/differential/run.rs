//! Whole sequences: step, wait, compare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use metallb_e2e::{Progress, checkout};

use super::compare::{Moment, Outcome, Views, compare, views};
use super::drive::World;
use super::generate::{CLASS, Generator};
use super::shrink::{Shrinking, looks_like};
use super::steps::{ServiceSpec, Step};
use crate::controller::Binaries;
use crate::plane::{Flavour, Plane, Programs};

/// Nothing may change for this long before equal worlds count as settled.
const QUIET: Duration = Duration::from_millis(150);
/// Different worlds are given this long without any change before they count as different: longer than the back-off with
/// which Go's controller goes over its services again.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Something that goes on changing for this long is no state.
const RESTLESS: Duration = Duration::from_secs(30);

/// Steps of a failure that are printed; the file has them all.
const PRINTED: usize = 12;

/// What a sequence came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Steps carried out.
    pub steps: usize,
    /// How often each entry of the list was needed.
    pub known: BTreeMap<&'static str, usize>,
    /// Services seen after all steps, and how many of them had an address.
    pub seen: usize,
    /// See `seen`.
    pub assigned: usize,
    /// How often only the order of services or of equal pools differed.
    pub by_order: usize,
    /// Differences that nothing explains. The services concerned are deleted in both worlds, and the sequence goes on.
    pub failures: Vec<Failure>,
}

/// A difference that nothing explains.
#[derive(Debug)]
pub struct Failure {
    /// Which step.
    pub step: usize,
    /// The service; empty: the step itself.
    pub key: String,
    /// What differs.
    pub text: String,
}

/// The two worlds.
pub struct Pair {
    ours: World,
    go: World,
}

impl Pair {
    /// Starts both.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(programs: &Programs, binaries: &Binaries) -> Result<Self> {
        let ours = Plane::start("ours", programs, Flavour::Ours);
        let go = Plane::start("go", programs, Flavour::Go);
        let (ours, go) = futures::try_join!(ours, go)?;
        let (ours, go) = futures::try_join!(
            World::start(ours, Flavour::Ours, binaries.ours.clone()),
            World::start(go, Flavour::Go, binaries.go.clone()),
        )?;
        Ok(Self { ours, go })
    }

    /// Carries a sequence out, from empty worlds.
    ///
    /// # Errors
    /// The worlds themselves fail; a difference is in the report.
    pub async fn play(&mut self, class: Option<&str>, steps: &[Step], verbose: bool) -> Result<Report> {
        let class = class.unwrap_or_default();
        futures::try_join!(self.ours.reset(class), self.go.reset(class))?;
        let mut report = Report::default();
        let mut specs: BTreeMap<String, Vec<ServiceSpec>> = BTreeMap::new();
        let mut teams: BTreeMap<String, String> = BTreeMap::new();
        let mut before = Views::new();
        for (number, step) in steps.iter().enumerate() {
            let pools_before = self.ours.pools().clone();
            let answers = futures::try_join!(self.ours.apply(step), self.go.apply(step))?;
            report.steps += 1;
            if answers.0 != answers.1 {
                let text = format!(
                    "the API servers answer differently: ours {:?}, Go's {:?}",
                    answers.0, answers.1
                );
                let key = String::new();
                report.failures.push(Failure {
                    step: number,
                    key,
                    text,
                });
                return Ok(report);
            }
            match step {
                Step::Service(spec) if answers.0.is_ok() => {
                    let key = format!("{}/{}", spec.namespace, spec.name);
                    specs.entry(key).or_default().push(spec.clone());
                }
                Step::DeleteService { namespace, name } => {
                    specs.remove(&format!("{namespace}/{name}"));
                }
                Step::Namespace {
                    name,
                    team: Some(team),
                } => {
                    teams.insert(name.clone(), team.clone());
                }
                Step::Namespace { name, team: None } => {
                    teams.remove(name);
                }
                _ => {}
            }
            // Parting is a step of its own: what it frees may go to others, again in any order.
            loop {
                let pools = self.ours.pools().clone();
                let moment = Moment {
                    step,
                    specs: &specs,
                    pools_before: &pools_before,
                    pools: &pools,
                    teams: &teams,
                    before: &before,
                };
                let (outcome, ours) = self.settle(&moment).await?;
                if verbose {
                    eprintln!(
                        "{number:>3} {} -> {:?}",
                        serde_json::to_string(step)?,
                        answers.0.is_ok()
                    );
                    for (key, view) in &ours {
                        eprintln!("      {key}: {:?} {:?} {:?}", view.ips, view.pool, view.reasons);
                    }
                }
                for id in outcome.known {
                    *report.known.entry(id).or_default() += 1;
                }
                report.by_order += usize::from(outcome.by_order > 0);
                report.seen += ours.len();
                report.assigned += ours.values().filter(|view| !view.ips.is_empty()).count();
                let mut parting = outcome.part;
                for (key, text) in outcome.differences {
                    parting.insert(key.clone());
                    report.failures.push(Failure {
                        step: number,
                        key,
                        text,
                    });
                }
                before = ours;
                if parting.is_empty() {
                    break;
                }
                for key in &parting {
                    futures::try_join!(self.ours.delete(key), self.go.delete(key))?;
                    specs.remove(key);
                    before.remove(key);
                }
            }
        }
        Ok(report)
    }

    /// Waits until both controllers have worked everything off and agree, or have had their time.
    async fn settle(&mut self, moment: &Moment<'_>) -> Result<(Outcome, Views)> {
        futures::try_join!(self.ours.pass_marker(), self.go.pass_marker())?;
        let start = Instant::now();
        loop {
            let quiet = self.ours.observer.quiet_for().min(self.go.observer.quiet_for());
            let (ours, go) = (views(&self.ours), views(&self.go));
            let outcome = compare(moment, &ours, &go);
            let agreed = outcome.differences.is_empty() && outcome.part.is_empty();
            if (agreed && quiet >= QUIET) || quiet >= PATIENCE || start.elapsed() > RESTLESS {
                return Ok((outcome, ours));
            }
            let pause = if agreed { QUIET } else { PATIENCE }.saturating_sub(quiet);
            let pause = pause.max(Duration::from_millis(5));
            tokio::select! {
                () = self.ours.observer.wait(pause) => {}
                () = self.go.observer.wait(pause) => {}
            }
        }
    }

    /// Copies all logs.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn save_logs(&self) -> Result<PathBuf> {
        let dir = checkout::root().join("target/differential");
        self.ours.plane().save_logs(&dir.join("ours"))?;
        self.go.plane().save_logs(&dir.join("go"))?;
        Ok(dir)
    }
}

/// The sequence of a seed, and the class that the controllers serve: every fourth seed has one.
pub fn sequence(seed: u64, steps: usize) -> (Option<&'static str>, Vec<Step>) {
    let class = seed.is_multiple_of(4).then_some(CLASS);
    let mut generator = Generator::new(seed, class);
    (class, (0..steps).map(|_| generator.step()).collect())
}

/// Plays the sequences of these seeds on one pair of API servers.
///
/// # Errors
/// The worlds fail, or differ in a way that nothing explains; the message holds the seed and the steps.
pub async fn run(
    programs: &Programs,
    binaries: &Binaries,
    seeds: impl IntoIterator<Item = u64>,
    settings: &Settings,
    progress: &Progress,
) -> Result<()> {
    let mut pair = Pair::start(programs, binaries).await?;
    progress.line("two API servers with their controllers are up");
    let mut failed = BTreeSet::new();
    let mut totals: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in seeds {
        let (class, steps) = sequence(seed, settings.steps);
        let report = pair.play(class, &steps, settings.verbose).await?;
        let mut line = format!(
            "seed {seed}: {} steps, {} % of services with an address, {} matters of order",
            report.steps,
            report.assigned * 100 / report.seen.max(1),
            report.by_order
        );
        for (id, count) in &report.known {
            *totals.entry(id).or_default() += count;
            write!(line, ", {id} {count}").context("write to memory")?;
        }
        progress.line(&line);
        if let Some(first) = report.failures.first() {
            failed.insert(seed);
            let dir = pair.save_logs()?;
            for failure in &report.failures {
                progress.line(&describe(failure, &steps));
            }
            let mut minimal = steps[..=first.step].to_vec();
            if settings.shrink > 0 {
                let mut shrinking = Shrinking {
                    pair: &mut pair,
                    class,
                    looks_like: looks_like(first),
                    left: settings.shrink,
                };
                minimal = shrinking.run(minimal, progress).await?;
            }
            let file = dir.join(format!("seed-{seed}.json"));
            let text = serde_json::to_string_pretty(&minimal).context("write steps down")?;
            std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            eprintln!(
                "seed {seed}, class served: {}; the last of {} steps:",
                class.unwrap_or("none"),
                minimal.len()
            );
            for step in &minimal[minimal.len().saturating_sub(PRINTED)..] {
                eprintln!("  {}", serde_json::to_string(step).context("print a step")?);
            }
            eprintln!(
                "again: alloc-lab differential --replay {} --class '{}'",
                file.display(),
                class.unwrap_or("")
            );
        }
    }
    for entry in super::known::KNOWN {
        let count = totals.get(entry.id).copied().unwrap_or(0);
        progress.line(&format!(
            "known difference {} ({count} times): {}",
            entry.id, entry.why
        ));
    }
    anyhow::ensure!(
        failed.is_empty(),
        "ours and Go's differ without a reason for seeds {failed:?}"
    );
    Ok(())
}

fn describe(failure: &Failure, steps: &[Step]) -> String {
    let step = serde_json::to_string(&steps[failure.step]).unwrap_or_default();
    format!(
        "  DIFFERENT after step {}: {}: {}\n      step: {step}",
        failure.step, failure.key, failure.text
    )
}

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Steps of a sequence.
    pub steps: usize,
    /// Plays that shrinking may take.
    pub shrink: usize,
    /// Print every step with its outcome.
    pub verbose: bool,
}
