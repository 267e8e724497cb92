//! The same course for either controller.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metallb_e2e::Progress;

use super::load::{Assigned, create, create_many, move_pool, prepare};
use crate::audit::{Audit, Requests};
use crate::controller::{Controller, Options};
use crate::plane::{Flavour, Plane, Programs};
use crate::wait;
use metallb_e2e::usage::Usage;

/// No write for this long: the controller has come to rest.
const REST: Duration = Duration::from_secs(3);
/// Longest time that one service may take.
const ONE: Duration = Duration::from_secs(600);

/// What was measured of one controller.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From the first creation until the last service has an address.
    pub assign: Duration,
    /// From the first creation until the last was accepted: what the API server and the driver need by themselves.
    pub create: Duration,
    /// What the controller had used by then.
    pub usage: Usage,
    /// What it had asked of the API server by then.
    pub requests: Requests,
    /// From the request to the status as a watch shows it, for single services among the many; ascending.
    pub singles: Vec<Duration>,
    /// From an edit of the pool that moves every service to another range until the last write of a status: the controller
    /// alone, without the creation of services.
    pub renumber: Duration,
    /// From the start of the process until a service that was made while it was down has an address.
    pub restart: Duration,
    /// From the start of the process until `/readyz` says yes.
    pub restart_readyz: Duration,
    /// What it asked for after a restart that nothing was changed during, until it came to rest.
    pub restart_requests: Requests,
    /// What it had used by then.
    pub restart_usage: Usage,
}

/// Runs the course with `services` services and `singles` single ones.
///
/// # Errors
/// A part does not start, ends or is stuck.
pub async fn measure(
    programs: &Programs,
    flavour: Flavour,
    program: &Path,
    services: usize,
    singles: usize,
    progress: &Progress,
) -> Result<Measured> {
    let plane = Plane::start("bench", programs, flavour).await?;
    let client = plane.client().clone();
    prepare(&client).await?;
    let assigned = Assigned::watch(&client);
    let start = |plane: &Plane| Controller::start(plane, flavour, program, &Options::default());
    let mut controller = start(&plane)?;
    controller.wait_ready().await?;
    // The first one waits for leadership and first lists; that is no part of the figures.
    create(&client, "first").await?;
    assigned.wait_one("first", ONE).await?;
    let mut audit = Audit::new(plane.audit_log());
    rest(&mut audit).await?;
    let (requests_before, usage_before) = (audit.count()?, controller.child().usage()?);

    progress.line(&format!("{flavour:?}: {services} services"));
    let begin = Instant::now();
    let creating = async {
        create_many(&client, services).await?;
        anyhow::Ok(begin.elapsed())
    };
    let (create_time, ()) = futures::try_join!(creating, assigned.wait_many(services + 1, progress))?;
    let assign = begin.elapsed();
    controller.check()?;
    // Work that it has put off counts too: Events, counters of the pool.
    rest(&mut audit).await?;
    let mut usage = controller.child().usage()?;
    usage.cpu_seconds -= usage_before.cpu_seconds;
    let requests = audit.count()?.since(&requests_before);
    ensure!(
        requests.service_status > 0,
        "the audit log of {} shows no writes",
        plane.name()
    );

    progress.line(&format!("{flavour:?}: {singles} single services among them"));
    let mut times = Vec::new();
    for number in 0..singles {
        let name = format!("single{number}");
        let begin = Instant::now();
        create(&client, &name).await?;
        times.push(
            assigned
                .wait_one(&name, ONE)
                .await?
                .saturating_duration_since(begin),
        );
    }
    times.sort();

    progress.line(&format!(
        "{flavour:?}: every service gets an address of another range"
    ));
    let before = audit.count()?.service_status;
    let begin = Instant::now();
    move_pool(&client).await?;
    wait::until("the first new address", ONE, async || {
        let written = audit.count()?.service_status > before;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(written.then_some(()))
    })
    .await?;
    let renumber = rest(&mut audit).await?.saturating_duration_since(begin);
    let written = audit.count()?.service_status - before;
    ensure!(
        written >= services as u64,
        "only {written} of {services} services were written after the pool moved"
    );
    controller.check()?;

    progress.line(&format!("{flavour:?}: restart"));
    // As a pod is stopped that has no time left: nothing is handed over.
    // What is still to be written now is no consequence of the restart.
    rest(&mut audit).await?;
    controller.into_child().kill()?;
    let requests_before = audit.count()?;
    let mut controller = start(&plane)?;
    controller.wait_ready().await?;
    rest(&mut audit).await?;
    let restart_requests = audit.count()?.since(&requests_before);
    let restart_usage = controller.child().usage()?;

    // Once more, with something to do at once.
    controller.into_child().kill()?;
    create(&client, "meanwhile").await?;
    let begin = Instant::now();
    let mut controller = start(&plane)?;
    controller.wait_ready().await?;
    let restart_readyz = begin.elapsed();
    let restart = assigned
        .wait_one("meanwhile", ONE)
        .await?
        .saturating_duration_since(begin);
    Ok(Measured {
        assign,
        create: create_time,
        usage,
        requests,
        singles: times,
        renumber,
        restart,
        restart_readyz,
        restart_requests,
        restart_usage,
    })
}

/// Waits until the controller has written nothing for a while; returns when its last write of a service's status was seen, at
/// most half a second late.
async fn rest(audit: &mut Audit) -> Result<Instant> {
    let (mut writes, mut statuses) = ((u64::MAX, Instant::now()), (u64::MAX, Instant::now()));
    wait::until("the controller to come to rest", ONE, async || {
        let requests = audit.count()?;
        for (last, count) in [
            (&mut writes, requests.writes() + requests.events),
            (&mut statuses, requests.service_status),
        ] {
            if count != last.0 {
                *last = (count, Instant::now());
            }
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok((writes.1.elapsed() > REST).then_some(statuses.1))
    })
    .await
}

/// Services that were there before the controller.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// How long the API server and the driver needed to create them when there was no controller at all.
    pub create: Duration,
    /// From the start of the controller's process until the last of them had an address.
    pub assign: Duration,
}

/// Makes the services first, and then starts the controller.
///
/// # Errors
/// A part does not start, ends or is stuck.
pub async fn backlog(
    programs: &Programs,
    flavour: Flavour,
    program: &Path,
    services: usize,
    progress: &Progress,
) -> Result<Backlog> {
    let plane = Plane::start("bench", programs, flavour).await?;
    let client = plane.client().clone();
    prepare(&client).await?;
    let assigned = Assigned::watch(&client);
    create(&client, "first").await?;
    progress.line(&format!("{flavour:?}: {services} services before the controller"));
    let begin = Instant::now();
    create_many(&client, services).await?;
    let create = begin.elapsed();
    let begin = Instant::now();
    let mut controller = Controller::start(&plane, flavour, program, &Options::default())?;
    controller.wait_ready().await?;
    assigned.wait_many(services + 1, progress).await?;
    let assign = begin.elapsed();
    controller.check()?;
    Ok(Backlog { create, assign })
}
