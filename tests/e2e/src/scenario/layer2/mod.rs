//! Layer 2 under everything that happens to nodes, speakers and cables, seen by three clients on the LAN: one keeps its
//! neighbour entry, one forgets it every 100 ms, one holds a TCP connection. Both families, 200 messages a second.
//!
//! Each scenario writes its figures to `target/e2e/NAME.json`. What it asserts holds on a busy machine too: nothing lost where
//! nothing may be lost, and [`GENEROUS`] where something takes time; the figures say how much.

pub mod cut;
pub mod field;
pub mod foreign;
pub mod many;
pub mod mixed;
pub mod moves;
pub mod node;
pub mod partition;
pub mod restart;
pub mod starved;
pub mod strict;
pub mod watch;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    checkout::root,
    figures::{self, Entry},
    flush::ASKS_AGAIN,
};
use watch::{Client, Outcome};

/// Longest time without an answer that is put up with when an owner fails, on a machine that is busy with other things: below
/// what Go `MetalLB` takes on an idle one (5.2 s). On an idle machine it is half a second.
pub const GENEROUS: Duration = Duration::from_secs(4);

/// Answers in a row for so long mean that an outage is over.
pub const STEADY: Duration = Duration::from_secs(1);

/// The figures of one scenario.
pub struct Figures {
    scenario: &'static str,
    entries: Vec<Entry>,
}

impl Figures {
    /// None yet.
    pub fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            entries: Vec::new(),
        }
    }

    /// Adds one.
    pub fn add(&mut self, name: &str, unit: &str, ours: f64, note: &str) {
        let note = format!("{note}; {}", figures::load());
        println!("  {name}: {ours:.0} {unit} ({note})");
        self.entries.push(Entry {
            name: name.to_owned(),
            unit: unit.to_owned(),
            ours,
            peer: None,
            runs: 1,
            note,
        });
    }

    /// Adds the longest time without an answer and what was lost, for each client.
    pub fn outcomes(&mut self, name: &str, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let (label, report) = (outcome.label(), &outcome.report);
            let gap = report.longest.length.as_secs_f64() * 1e3;
            self.add(
                &format!("{name}_{label}_longest_gap_ms"),
                "ms",
                gap,
                &report.to_string(),
            );
            self.entries.push(Entry {
                name: format!("{name}_{label}_lost"),
                unit: "messages".to_owned(),
                ours: report.lost() as f64,
                peer: None,
                runs: 1,
                note: String::new(),
            });
        }
    }

    /// Writes them to `target/e2e/NAME.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<()> {
        figures::write(
            &root().join(format!("target/e2e/{}.json", self.scenario)),
            &self.entries,
        )
    }
}

/// Nothing was lost and no connection broke; for the flushing client, that every question was answered. That one must have been
/// patient ([`field::Field::patient`]). A single message of it may be missing: the kernel drops one that has found the neighbour
/// entry at the very moment when it is flushed.
///
/// # Errors
/// The first client that lost something.
pub fn lossless(what: &str, outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes {
        let report = &outcome.report;
        let allowed = u64::from(outcome.client == Client::Flushes);
        ensure!(
            report.lost_in_a_row <= allowed && report.broken.is_none(),
            "{what}: the client {} lost something: {report}",
            outcome.label()
        );
        ensure!(
            outcome.client != Client::Flushes || report.longest.length < ASKS_AGAIN,
            "{what}: nobody has answered the client {} when it asked who has the address: {report}",
            outcome.label()
        );
    }
    Ok(())
}

/// No client was without an answer for longer than [`GENEROUS`].
///
/// # Errors
/// The first that was.
pub fn soon_answered(what: &str, outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes {
        ensure!(
            outcome.report.answered > 0 && outcome.report.longest.length <= GENEROUS,
            "{what}: the client {} was without an answer for longer than {GENEROUS:?}: {}",
            outcome.label(),
            outcome.report
        );
    }
    Ok(())
}
