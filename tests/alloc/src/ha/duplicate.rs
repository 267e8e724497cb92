//! The worst that a deposed leader can do: a write that it was still allowed to send travels for so long that another leads by the
//! time it arrives, and has given the address away.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http::Method;
use metallb_e2e::Progress;
use serde_json::{Value, json};

use super::judge::{DUPLICATE, Judge};
use super::proxy::Way;
use super::replicas::{Replicas, SERVICES, TAKE_OVER};
use crate::api::{self, send};
use crate::controller::{self, Build};
use crate::plane::Programs;
use crate::wait;

fn service(name: &str, kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": SERVICES, "annotations": {"metallb.io/address-pool": "single"}},
        "spec": {"type": kind, "ports": [{"port": 80}]}})
}

/// Makes a duplicate and sees it repaired.
///
/// # Errors
/// There is none, or it stays, or the wrong service keeps the address.
pub async fn duplicate(programs: &Programs, progress: &Progress) -> Result<()> {
    let program = controller::ours(Build::Dev, progress)?;
    let mut replicas = Replicas::start(programs, &program, 2).await?;
    let outcome = course(&mut replicas, progress).await;
    if outcome.is_err() {
        replicas.save_logs(progress)?;
    }
    outcome
}

async fn course(replicas: &mut Replicas, progress: &Progress) -> Result<()> {
    let pool = json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "single", "namespace": crate::plane::NAMESPACE},
        "spec": {"addresses": ["192.0.2.1/32"], "autoAssign": false}});
    replicas.post(&api::pool(""), &pool).await?;
    let all = api::service(SERVICES, "");
    replicas.post(&all, &service("older", "ClusterIP")).await?;
    // Creation times are whole seconds, and the older is to be older.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let first = replicas.leader().await?;
    let all_before = replicas.observer.services().len();
    replicas.way(first, Way::Muted);
    replicas.post(&all, &service("younger", "LoadBalancer")).await?;
    wait::until(
        "the younger service to be seen",
        Duration::from_secs(20),
        async || Ok((replicas.observer.services().len() > all_before).then_some(())),
    )
    .await?;
    progress.line("what the leader sends is held back");
    // For the new leader it comes first.
    let to_load_balancer = json!({"spec": {"type": "LoadBalancer"}});
    let patched = send(
        replicas.plane().client(),
        Method::PATCH,
        &api::service(SERVICES, "older"),
        Some(&to_load_balancer),
    )
    .await?;
    ensure!(
        patched.is_ok(),
        "the API server refuses a change of type: {patched:?}"
    );
    let has =
        |replicas: &Replicas, name: &str| replicas.service(name).is_some_and(|seen| !seen.ips.is_empty());
    wait::until(
        "the new leader to serve the older service",
        TAKE_OVER,
        async || Ok(has(replicas, "older").then_some(())),
    )
    .await?;
    ensure!(
        replicas.leader().await? != first,
        "the one that nobody hears leads"
    );
    progress
        .line("another leads and has given the address to the older service; now the late write may arrive");
    replicas.way(first, Way::Open);
    let mut judge = Judge::default();
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        replicas.check()?;
        judge.look(Instant::now(), &replicas.observer.services());
        if judge.count > 0 && !has(replicas, "younger") {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the late write did not arrive, or stayed: {:?}",
            judge.verdict(Instant::now())
        );
        replicas.observer.wait(Duration::from_millis(20)).await;
    }
    judge.look(Instant::now(), &replicas.observer.services());
    let faults = judge.verdict(Instant::now());
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(has(replicas, "older"), "the older service lost the address");
    progress.line(&format!(
        "the duplicate lasted {:?} (at most {DUPLICATE:?}); the older service keeps the address",
        judge.longest
    ));
    Ok(())
}
