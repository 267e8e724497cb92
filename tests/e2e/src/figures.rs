//! Measured figures: a flat list in a file for programs, a table for people.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Ours.
    pub ours: f64,
    /// Go `MetalLB`'s, where there is one.
    pub peer: Option<f64>,
    /// How many runs it is of.
    pub runs: usize,
    /// What else there is to say.
    pub note: String,
}

/// Milliseconds below which so many of a hundred are (nearest rank); not a number for none.
pub fn percentile(times: &[Duration], hundredth: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * hundredth).div_ceil(100).max(1) - 1;
    times.get(rank).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// The table.
pub fn table(entries: &[Entry]) -> String {
    let mut text = format!(
        "\n{:<38} {:>14} {:>14} {:>8}  unit\n",
        "", "ours", "Go 0.16.1", "Go/ours"
    );
    for entry in entries {
        let show = |number: Option<f64>| match number {
            None => "-".to_owned(),
            Some(number) if entry.unit == "bytes" => format!("{:.1} MiB", number / f64::from(1 << 20)),
            Some(number) if number.abs() >= 1000.0 => format!("{number:.0}"),
            Some(number) => format!("{number:.2}"),
        };
        let ratio = match entry.peer {
            Some(peer) if entry.ours > 0.0 => format!("{:.1}", peer / entry.ours),
            _ => "-".to_owned(),
        };
        writeln!(
            text,
            "{:<38} {:>14} {:>14} {ratio:>8}  {}",
            entry.name,
            show(Some(entry.ours)),
            show(entry.peer),
            entry.unit
        )
        .ok();
    }
    text
}

/// Writes the flat list.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, entries: &[Entry]) -> Result<()> {
    let text = serde_json::to_string_pretty(entries).context("write figures down")?;
    let parent = path.parent().context("a file has a directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

/// How busy the machine was in the last minute: measured times depend on it.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", text.split(' ').next().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        for (hundredth, expected) in [(50, 50.0), (99, 99.0), (100, 100.0)] {
            assert!((percentile(&times, hundredth) - expected).abs() < 1e-9);
        }
        assert!((percentile(&times[..1], 99) - 100.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn the_table_shows_bytes_in_mebibytes_and_the_ratio() {
        let entry = Entry {
            name: "rss".into(),
            unit: "bytes".into(),
            ours: f64::from(2 << 20),
            peer: Some(f64::from(6 << 20)),
            runs: 1,
            note: String::new(),
        };
        let table = table(&[entry]);
        assert!(table.contains("2.0 MiB") && table.contains("3.0"), "{table}");
    }
}
