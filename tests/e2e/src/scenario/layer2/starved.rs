//! Two busy loops a core: an owner that is slow but alive keeps its addresses.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Figures, field::Field};
use crate::{Cluster, pcap, scenario::evidence_dir, wire::OBSERVER};

/// How long, in seconds, if not half an hour.
const VARIABLE: &str = "L2_STARVED_SECONDS";

/// Busy loops, until dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Result<Self> {
        let cores = std::thread::available_parallelism()
            .context("count the processors")?
            .get();
        let mut busy = Self(Vec::new());
        for _ in 0..2 * cores {
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("start a busy loop")?;
            busy.0.push(child);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                eprintln!("end the busy loop {}: {error}", child.id());
            }
        }
    }
}

/// No address is taken over while its owner's link is up.
pub fn starved(cluster: &mut Cluster) -> Result<()> {
    let seconds = match std::env::var(VARIABLE) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{VARIABLE}={text}: write a number of seconds"))?,
        Err(_) => 1800,
    };
    let time = Duration::from_secs(seconds);
    let field = Field::lay(cluster, "starved")?;
    let file = evidence_dir("starved").join("observer.pcap");
    let capture = cluster.capture(OBSERVER, "eth0", "arp or icmp6", &file)?;
    let asking = cluster
        .observer(false)?
        .keep_asking(field.addresses(), Duration::from_millis(100));
    let busy = Busy::start()?;
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::sleep(Duration::from_secs(60).min(time.saturating_sub(start.elapsed())));
        println!(
            "  starved for {:.0} of {seconds} s",
            start.elapsed().as_secs_f64()
        );
    }
    drop(busy);
    drop(asking);
    let claims = pcap::claims(&pcap::read(&capture.stop()?)?);

    // Whoever answers with another hardware address than the owner's has taken over; a stand-in gives the owner's own.
    let (mut taken, mut silence) = (Vec::new(), Duration::ZERO);
    for target in &field.all {
        for address in target.addresses() {
            let claims = claims.get(&address).context("nobody answered at all")?;
            let mut before = target.owner.clone();
            let pauses = claims.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0));
            silence = silence.max(pauses.max().unwrap_or(time));
            for (at, mac) in claims {
                let node = cluster.node_by_mac(&mac.to_string()).unwrap_or(mac.to_string());
                if node != before {
                    taken.push(format!(
                        "{address} went from {before} to {node} at {:.3}",
                        at.as_secs_f64()
                    ));
                    before = node;
                }
            }
        }
    }
    let mut figures = Figures::new("starved");
    figures.add(
        "false_take_overs",
        "changes",
        taken.len() as f64,
        &format!(
            "{} addresses, {seconds} s, two busy loops a core",
            field.addresses().len()
        ),
    );
    figures.add(
        "starved_longest_without_answer_ms",
        "ms",
        silence.as_secs_f64() * 1e3,
        "to questions every 100 ms",
    );
    figures.write()?;
    ensure!(
        taken.is_empty(),
        "addresses moved without cause: {}",
        taken.join("; ")
    );
    field.clear(cluster)
}
