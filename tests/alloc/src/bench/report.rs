//! The table that people read and the file that others read.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::measure::Measured;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// Ours.
    pub ours: f64,
    /// Go's, where there is one.
    pub peer: Option<f64>,
    /// How many runs it is of.
    pub runs: usize,
    /// What else there is to say.
    pub note: String,
}

/// The figures of both controllers. `services` is in the names when it is not ten thousand: such figures are no results.
pub fn entries(ours: &Measured, go: Option<&Measured>, services: usize) -> Vec<Entry> {
    let size = if services == 10_000 {
        "10k".to_owned()
    } else {
        services.to_string()
    };
    let entry =
        |name: &str, unit, figure: &dyn Fn(&Measured) -> f64, runs, note: &dyn Fn(&Measured) -> String| {
            Entry {
                name: name.replace("10k", &size),
                unit,
                ours: figure(ours),
                peer: go.map(figure),
                runs,
                note: match go {
                    Some(go) => format!("ours: {}; Go: {}", note(ours), note(go)),
                    None => note(ours),
                },
            }
        };
    let per_service = |count: u64| count as f64 / services as f64;
    vec![
        entry("assign_10k_seconds", "s", &|m| m.assign.as_secs_f64(), 1, &|m| {
            format!("creation alone took {:.1} s", m.create.as_secs_f64())
        }),
        entry(
            "assign_10k_cpu_seconds",
            "s",
            &|m| m.usage.cpu_seconds,
            1,
            &|_| "user and system".into(),
        ),
        entry(
            "assign_10k_peak_rss_bytes",
            "bytes",
            &|m| m.usage.peak_rss as f64,
            1,
            &|m| {
                let (rss, again) = (m.usage.rss, m.restart_usage.peak_rss);
                format!(
                    "at rest {:.1} MiB, peak of a restart {:.1} MiB",
                    mib(rss),
                    mib(again)
                )
            },
        ),
        entry(
            "assign_10k_requests_per_service",
            "requests",
            &|m| per_service(m.requests.total() - m.requests.events - m.requests.leases),
            1,
            &|m| {
                let r = &m.requests;
                format!(
                    "without Events and Leases; status writes {:.3}, Events {:.3} a service, other writes {:?}",
                    per_service(r.service_status),
                    per_service(r.events),
                    r.other_writes
                )
            },
        ),
        entry(
            "restart_10k_ready_seconds",
            "s",
            &|m| m.restart.as_secs_f64(),
            1,
            &|m| {
                format!(
                    "after SIGKILL, until a service made meanwhile has its address; /readyz after {:.2} s, {:.1} s of CPU",
                    m.restart_readyz.as_secs_f64(),
                    m.restart_usage.cpu_seconds
                )
            },
        ),
        entry(
            "restart_10k_writes",
            "writes",
            &|m| m.restart_requests.writes() as f64,
            1,
            &|m| {
                let r = &m.restart_requests;
                format!(
                    "status writes {}, Events {}, others {:?}",
                    r.service_status, r.events, r.other_writes
                )
            },
        ),
        entry(
            "assign_one_among_10k_p50_ms",
            "ms",
            &|m| percentile(&m.singles, 50),
            ours.singles.len(),
            &|_| "request to watch".into(),
        ),
        entry(
            "assign_one_among_10k_p99_ms",
            "ms",
            &|m| percentile(&m.singles, 99),
            ours.singles.len(),
            &|_| "request to watch".into(),
        ),
    ]
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Milliseconds below which so many of a hundred are; the times are ascending.
fn percentile(times: &[Duration], hundredth: usize) -> f64 {
    let rank = (times.len() * hundredth).div_ceil(100).max(1) - 1;
    times.get(rank).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// The table.
pub fn table(entries: &[Value]) -> String {
    let mut text = format!(
        "\n{:<38} {:>14} {:>14} {:>8}  unit\n",
        "", "ours", "Go 0.16.1", "Go/ours"
    );
    for entry in entries {
        let (name, unit) = (
            entry["name"].as_str().unwrap_or_default(),
            entry["unit"].as_str().unwrap_or_default(),
        );
        let ours = entry["ours"].as_f64();
        let peer = entry["peer"].as_f64();
        let show = |number: Option<f64>| match number {
            None => "-".to_owned(),
            Some(number) if unit == "bytes" => format!("{:.1} MiB", number / f64::from(1 << 20)),
            Some(number) if number.abs() >= 1000.0 => format!("{number:.0}"),
            Some(number) => format!("{number:.2}"),
        };
        let ratio = match (ours, peer) {
            (Some(ours), Some(peer)) if ours > 0.0 => format!("{:.1}", peer / ours),
            _ => "-".to_owned(),
        };
        writeln!(
            text,
            "{name:<38} {:>14} {:>14} {ratio:>8}  {unit}",
            show(ours),
            show(peer)
        )
        .ok();
    }
    text
}

/// Writes the flat list.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, entries: &[Value]) -> Result<()> {
    let text = serde_json::to_string_pretty(entries).context("write figures down")?;
    let parent = path.parent().context("a file has a directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        for (hundredth, expected) in [(50, 50.0), (99, 99.0), (100, 100.0)] {
            assert!((percentile(&times, hundredth) - expected).abs() < 1e-9);
        }
        assert!((percentile(&times[..1], 99) - 1.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }
}
