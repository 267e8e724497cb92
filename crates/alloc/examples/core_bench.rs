//! How long one decision takes: `cargo run --release -p metallb-alloc --example core_bench [-- --json FILE]`.
//!
//! One decision is all that happens between the news of a service without an address and the status to write for it:
//! taking the news in, deciding, and asking for the write. Between two decisions a random service is deleted, which is
//! not measured. The table is printed; the file is a list of `{"name", "unit", "ours", "peer", "runs", "note"}`.

use std::error::Error;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metallb_alloc::{
    FamilyPolicy, Input, Policy, Port, Protocol, Request, Reuse, Service, ServiceId, Sharing, World,
};
use metallb_model::{Config, Kind, Labels, ObjectRef, Sources};
use metallb_sansio::SeededRng;
use serde_json::{Value, json};

/// Decisions a measurement.
const DECISIONS: usize = 100_000;
/// Services of the measurement of memory.
const SERVICES: usize = 10_000;

struct Entry {
    name: &'static str,
    unit: &'static str,
    ours: f64,
    runs: usize,
    note: String,
}

fn config(addresses: &Value) -> Arc<Config> {
    let object = ObjectRef {
        kind: Kind::IpAddressPool,
        namespace: "metallb-system".to_owned(),
        name: "pool".to_owned(),
        uid: String::new(),
        created: 0,
        generation: 1,
    };
    let mut sources = Sources::default();
    sources.add(object, Labels::new(), Ok(json!({"addresses": addresses})), None);
    let (config, issues) = Config::from_sources(&sources, "metallb-system");
    assert!(issues.is_empty(), "{issues:?}");
    Arc::new(config)
}

/// A service as clusters have them: three labels, two ports, a UID.
fn service(number: usize, version: u64, v6: bool) -> Service {
    let labels = [
        ("app.kubernetes.io/name", format!("application-{number}")),
        ("app.kubernetes.io/managed-by", "Helm".to_owned()),
        ("tier", "frontend".to_owned()),
    ];
    let cluster_ip: IpAddr = if v6 { "fd00::1" } else { "10.96.0.1" }
        .parse()
        .expect("an address");
    Service {
        uid: format!("7c2f0a3e-5d1b-4c8a-9e6f-{number:012x}").into(),
        created: i64::try_from(number).unwrap_or(0),
        resource_version: version.to_string().into(),
        load_balancer: true,
        class: None,
        request: Request {
            id: ServiceId::new("production", &format!("application-{number}")),
            labels: labels
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            cluster_ips: vec![cluster_ip],
            policy: FamilyPolicy::SingleStack,
            prefers_v6: false,
            wanted_ips: Ok(Vec::new()),
            wanted_pool: None,
            sharing: Sharing {
                ports: [80, 443]
                    .map(|number| Port {
                        protocol: Protocol::Tcp,
                        number,
                    })
                    .to_vec(),
                ..Sharing::default()
            },
        },
        ingress: Vec::new(),
        other_ingress: false,
        recorded_pool: None,
        deprecated_record: false,
        deprecated_annotations: String::new(),
    }
}

struct Bench {
    world: World,
    version: u64,
    v6: bool,
    present: Vec<usize>,
    made: usize,
}

impl Bench {
    fn new(reuse: Reuse, addresses: &Value, v6: bool) -> Self {
        let policy = Policy {
            reuse,
            ..Policy::default()
        };
        let mut world = World::new(policy);
        for input in [
            Input::ListStarted,
            Input::ListDone,
            Input::Config(config(addresses)),
            Input::Synced,
            Input::Leading(true),
        ] {
            world.handle(input);
        }
        world.drain();
        Self {
            world,
            version: 0,
            v6,
            present: Vec::new(),
            made: 0,
        }
    }

    /// A new service comes, and its status is written; returns how long the decision took.
    fn create(&mut self) -> Duration {
        self.version += 2;
        let number = self.made;
        self.made += 1;
        let made = service(number, self.version, self.v6);
        let id = made.request.id.clone();
        let mut written = made.clone();
        let input = Input::Applied(Box::new(made));
        let start = Instant::now();
        self.world.handle(input);
        let outputs = self.world.drain();
        let write = self.world.status_write(&id);
        let took = start.elapsed();
        drop(outputs);
        let write = write.expect("an address is free");
        assert_eq!(write.ips.len(), 1);
        written.ingress = write.ips;
        written.recorded_pool = write.pool;
        written.resource_version = (self.version + 1).to_string().into();
        self.world.handle(Input::Applied(Box::new(written)));
        self.world.drain();
        self.present.push(number);
        took
    }

    fn delete(&mut self, index: usize) {
        let number = self.present.swap_remove(index);
        let gone = service(number, 0, self.v6);
        self.world.handle(Input::Gone {
            service: gone.request.id,
            uid: gone.uid,
        });
        self.world.drain();
    }

    fn delete_any(&mut self, rng: &mut SeededRng) {
        let count = self.present.len() as u64;
        self.delete(usize::try_from(rng.below(count)).expect("small"));
    }

    /// Decisions, each after a random deletion, sorted by time.
    fn measure(&mut self) -> Vec<Duration> {
        let mut rng = SeededRng::new(1);
        let mut times: Vec<Duration> = (0..DECISIONS)
            .map(|_| {
                self.delete_any(&mut rng);
                self.create()
            })
            .collect();
        times.sort_unstable();
        times
    }
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6
}

/// Resident memory of this process in bytes, where the kernel tells.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}

fn entry(name: &'static str, unit: &'static str, ours: f64, runs: usize, note: &str) -> Entry {
    Entry {
        name,
        unit,
        ours,
        runs,
        note: note.to_owned(),
    }
}

fn measure_all() -> Vec<Entry> {
    let mut entries = Vec::new();
    // First, before freed memory of other measurements is used again.
    let before = resident();
    let mut bench = Bench::new(Reuse::LowestFree, &json!(["10.0.0.0/16"]), false);
    for _ in 0..SERVICES {
        bench.create();
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = after.saturating_sub(before) as f64 / SERVICES as f64;
        let note = "resident memory of the decision core, 10,000 assigned services with 3 labels and 2 ports";
        entries.push(entry("core_bytes_per_service", "bytes", each, 1, note));
    }
    drop(bench);

    let mut slash_16 = Bench::new(Reuse::LowestFree, &json!(["10.0.0.0/16"]), false);
    for _ in 0..65_536 * 95 / 100 {
        slash_16.create();
    }
    let times = slash_16.measure();
    let total: Duration = times.iter().sum();
    let note = "news of a service to the status to write; /16, 95 % full, one deletion before each";
    let per_second = times.len() as f64 / total.as_secs_f64();
    entries.push(entry(
        "core_decide_p99_us",
        "us",
        percentile(&times, 99),
        DECISIONS,
        note,
    ));
    entries.push(entry(
        "core_decide_p50_us",
        "us",
        percentile(&times, 50),
        DECISIONS,
        note,
    ));
    entries.push(entry(
        "core_decisions_per_second",
        "1/s",
        per_second,
        DECISIONS,
        note,
    ));
    drop(slash_16);

    let mut fair = Bench::new(Reuse::LeastRecentlyReleased, &json!(["10.0.0.0/16"]), false);
    for _ in 0..65_536 * 95 / 100 {
        fair.create();
    }
    let note = "the same with fair reuse";
    entries.push(entry(
        "core_decide_fair_p99_us",
        "us",
        percentile(&fair.measure(), 99),
        DECISIONS,
        note,
    ));
    drop(fair);

    let mut v6 = Bench::new(Reuse::LowestFree, &json!(["2001:db8::/64"]), true);
    for _ in 0..10_000 {
        v6.create();
    }
    let note = "a /64 with 10,000 services";
    entries.push(entry(
        "core_decide_v6_p99_us",
        "us",
        percentile(&v6.measure(), 99),
        DECISIONS,
        note,
    ));
    drop(v6);

    let mut holes = Bench::new(Reuse::LowestFree, &json!(["10.0.0.0-10.0.15.255"]), false);
    for _ in 0..4_096 {
        holes.create();
    }
    for hole in 0..1_000 {
        // Every fourth address, so that no two holes touch. The last service moves into the place of the deleted one.
        let index = holes.present.iter().position(|number| *number == hole * 4);
        holes.delete(index.expect("present"));
    }
    let note = "4,096 addresses, 1,000 holes of one address";
    entries.push(entry(
        "core_decide_holes_p99_us",
        "us",
        percentile(&holes.measure(), 99),
        DECISIONS,
        note,
    ));
    entries
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => None,
        (Some("--json"), Some(file)) => Some(file),
        _ => return Err("usage: core_bench [--json FILE]".into()),
    };
    let entries = measure_all();
    let mut table = String::new();
    for Entry {
        name,
        unit,
        ours,
        note,
        ..
    } in &entries
    {
        writeln!(table, "{name:28} {ours:12.2} {unit:6} {note}")?;
    }
    print!("{table}");
    if let Some(file) = file {
        let list: Vec<Value> = entries
            .iter()
            .map(|entry| {
                json!({"name": entry.name, "unit": entry.unit, "ours": entry.ours, "peer": Value::Null,
                    "runs": entry.runs, "note": entry.note})
            })
            .collect();
        std::fs::write(file, serde_json::to_string_pretty(&list)?)?;
    }
    Ok(())
}
