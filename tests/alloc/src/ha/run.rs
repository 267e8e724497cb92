//! Random faults from a seed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use http::Method;
use metallb_e2e::Progress;
use metallb_sansio::SeededRng;
use nix::sys::signal::Signal;
use serde_json::json;

use super::judge::Judge;
use super::proxy::Way;
use super::replicas::{Replicas, SERVICES, TAKE_OVER};
use crate::api::{self, send};
use crate::controller::{self, Build};
use crate::plane::Programs;

/// Pause between two things that users do.
const PACE: Duration = Duration::from_millis(150);
/// Addresses of the pool; fewer services than that.
const SERVICES_MAX: usize = 20;

/// What happens to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
    Silence,
    Refuse,
}

/// A fault under way.
struct Ailing {
    replica: usize,
    fault: Fault,
    until: Instant,
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Replicas.
    pub replicas: usize,
    /// Time with faults; healing comes on top.
    pub time: Duration,
}

/// One run.
///
/// # Errors
/// An invariant is broken; the message names the seed.
pub async fn run(programs: &Programs, seed: u64, settings: Settings, progress: &Progress) -> Result<()> {
    let program = controller::ours(Build::Dev, progress)?;
    let mut replicas = Replicas::start(programs, &program, settings.replicas).await?;
    let outcome = course(&mut replicas, seed, settings, progress).await;
    if outcome.is_err() {
        replicas.save_logs(progress)?;
    }
    outcome.map_err(|error| error.context(format!("seed {seed}")))
}

async fn course(replicas: &mut Replicas, seed: u64, settings: Settings, progress: &Progress) -> Result<()> {
    let mut random = SeededRng::new(seed);
    let mut judge = Judge::default();
    let mut services: Vec<String> = Vec::new();
    let mut made = 0;
    let pool = json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "pool", "namespace": crate::plane::NAMESPACE}, "spec": {"addresses": ["192.0.2.0/27"]}});
    replicas.post(&api::pool(""), &pool).await?;
    let end = Instant::now() + settings.time;
    let mut ailing: Option<Ailing> = None;
    // The first fault comes early and hits the leader.
    let mut next_fault = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        if ailing
            .as_ref()
            .is_some_and(|ailing| ailing.until <= Instant::now())
            && let Some(over) = ailing.take()
        {
            heal(replicas, &over)?;
            progress.line(&format!("  {} is well again", over.replica));
            next_fault = Instant::now() + Duration::from_secs(2 + random.below(5));
        }
        if ailing.is_none() && Instant::now() >= next_fault {
            let leader = replicas.leader().await?;
            let other = random.below(replicas.count() as u64) as usize;
            let replica = if random.percent(75) { leader } else { other };
            let (fault, seconds) = match random.below(5) {
                0 => (Fault::Kill, random.below(4)),
                1 | 2 => (Fault::Freeze, 12 + random.below(16)),
                3 => (Fault::Silence, 5 + random.below(22)),
                _ => (Fault::Refuse, 3 + random.below(22)),
            };
            strike(replicas, replica, fault)?;
            let role = if replica == leader {
                "the leader"
            } else {
                "a standby"
            };
            progress.line(&format!(
                "  {fault:?} of {replica}, {role}, for {seconds} s; {} services",
                services.len()
            ));
            let until = Instant::now() + Duration::from_secs(seconds);
            ailing = Some(Ailing {
                replica,
                fault,
                until,
            });
        }
        if services.len() < SERVICES_MAX / 2 || (services.len() < SERVICES_MAX && random.percent(55)) {
            let name = format!("s{made}");
            made += 1;
            create(replicas, &name).await?;
            services.push(name);
        } else {
            let name = services.swap_remove(random.below(services.len() as u64) as usize);
            send(
                replicas.plane().client(),
                Method::DELETE,
                &api::service(SERVICES, &name),
                None,
            )
            .await?
            .ok();
        }
        watch_for(replicas, &mut judge, PACE).await?;
    }
    if let Some(over) = ailing.take() {
        heal(replicas, &over)?;
    }
    progress.line(&format!(
        "  all are well; {} services of {made} are left",
        services.len()
    ));
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        watch_for(replicas, &mut judge, PACE).await?;
        let has = |name: &String| replicas.service(name).is_some_and(|seen| !seen.ips.is_empty());
        let waiting: Vec<&String> = services.iter().filter(|name| !has(name)).collect();
        if waiting.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("{TAKE_OVER:?} after the last fault these have no address: {waiting:?}");
        }
    }
    // A thawed replica may still write.
    watch_for(replicas, &mut judge, Duration::from_secs(2)).await?;
    progress.line(&format!(
        "seed {seed}: {made} services, {} duplicates, the longest for {:?}",
        judge.count, judge.longest
    ));
    Ok(())
}

fn strike(replicas: &mut Replicas, replica: usize, fault: Fault) -> Result<()> {
    match fault {
        Fault::Kill => replicas.kill(replica),
        Fault::Freeze => replicas.signal(replica, Signal::SIGSTOP),
        Fault::Silence => {
            replicas.way(replica, Way::Silent);
            Ok(())
        }
        Fault::Refuse => {
            replicas.way(replica, Way::Refusing);
            Ok(())
        }
    }
}

fn heal(replicas: &mut Replicas, over: &Ailing) -> Result<()> {
    match over.fault {
        Fault::Kill => replicas.run(over.replica),
        Fault::Freeze => replicas.signal(over.replica, Signal::SIGCONT),
        Fault::Silence | Fault::Refuse => {
            replicas.way(over.replica, Way::Open);
            Ok(())
        }
    }
}

async fn create(replicas: &Replicas, name: &str) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": SERVICES},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}});
    replicas.post(&api::service(SERVICES, ""), &service).await
}

/// Judges every change for a while.
async fn watch_for(replicas: &mut Replicas, judge: &mut Judge, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        let now = Instant::now();
        judge.look(now, &replicas.observer.services());
        let faults = judge.verdict(now);
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        replicas.check()?;
        if now >= end {
            return Ok(());
        }
        replicas
            .observer
            .wait(end.saturating_duration_since(now).min(Duration::from_millis(50)))
            .await;
    }
}
