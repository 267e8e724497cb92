//! From what was measured to figures.

use metallb_e2e::figures::{Entry, percentile};

use super::measure::{Backlog, Measured};

/// The figures of both controllers. `backlogs`: of services that were there before the controller, first ours and then Go's.
/// `services` is in the names when it is not ten thousand: such figures are no results.
pub fn entries(ours: &Measured, go: Option<&Measured>, backlogs: &[Backlog], services: usize) -> Vec<Entry> {
    let size = if services == 10_000 {
        "10k".to_owned()
    } else {
        services.to_string()
    };
    let entry =
        |name: &str, unit, figure: &dyn Fn(&Measured) -> f64, runs, note: &dyn Fn(&Measured) -> String| {
            Entry {
                name: name.replace("10k", &size),
                unit: String::from(unit),
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
    let mut entries = vec![
        entry("assign_10k_seconds", "s", &|m| m.assign.as_secs_f64(), 1, &|m| {
            format!(
                "the last creation was accepted after {:.1} s",
                m.create.as_secs_f64()
            )
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
            "renumber_10k_seconds",
            "s",
            &|m| m.renumber.as_secs_f64(),
            1,
            &|_| {
                "the pool gets another range, until the last status: the controller alone, without the creation of services".into()
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
    ];
    if let Some(Backlog { create, assign }) = backlogs.first() {
        entries.push(Entry {
            name: "backlog_10k_seconds".replace("10k", &size),
            unit: "s".into(),
            ours: assign.as_secs_f64(),
            peer: backlogs.get(1).map(|go| go.assign.as_secs_f64()),
            runs: 1,
            note: "the services are there before the controller: from the start of its process until the last address"
                .into(),
        });
        entries.push(Entry {
            name: "create_10k_seconds".replace("10k", &size),
            unit: "s".into(),
            ours: create.as_secs_f64(),
            peer: None,
            runs: 1,
            note: "without any controller: the floor of assign_10k_seconds, which the API server's own allocation of cluster \
                   addresses sets"
                .into(),
        });
    }
    entries
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
