//! `metallb-operator`: runs what a `MetalLB` resource asks for.
//!
//! [`watches`] feed [`world`]; [`plan`] decides from it what to write, [`status`] what to say; [`reconcile`] and [`report`]
//! write it through [`api`]. The deciding modules know no client and no clock.

mod api;
mod cache;
mod config;
mod drift;
mod fields;
mod foreign;
mod keys;
mod metrics;
mod pace;
mod plan;
mod reconcile;
mod repair;
mod report;
mod status;
mod throttle;
mod view;
mod watches;
mod world;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use config::{Args, Settings};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use metallb_api::names::{events, objects};
use metallb_kubeio::{
    EventSink,
    lease::{Candidate, Election},
};
use metallb_telemetry::{Health, Routes, http, log};
use metrics::Metrics;
use prometheus::Registry;
use reconcile::Operator;
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use throttle::{News, Throttle};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::Instant,
};

/// Messages that arrive together are looked at together: a rollout sends dozens a second.
const GATHER: Duration = Duration::from_millis(50);
const BATCH: usize = 256;
/// The one readiness check.
const WATCHES: &str = "watches";

fn main() -> anyhow::Result<()> {
    let settings = Settings::from_args(Args::parse())?;
    log::init(settings.log_level);
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("another TLS provider is installed already"))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?
        .block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let client = metallb_kubeio::connect().await?;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).context("metrics")?;
    let health = Health::waiting_for(&[WATCHES]);
    serve(
        settings.health_port,
        Routes::new().health(&health).metrics(&registry),
    )
    .await?;
    tracing::info!(
        version = settings.version,
        namespace = settings.namespace,
        controller = settings.images.controller,
        speaker = settings.images.speaker,
        "started"
    );

    let events = EventSink::start(client.clone(), events::SOURCE_OPERATOR, &settings.pod_name);
    let mut inputs = watches::inputs(&client).ready_chunks(BATCH);
    let (tell, mut leads) = watch::channel(false);
    let election = Election::start(
        client.clone(),
        Candidate {
            namespace: settings.namespace.clone(),
            lease: objects::OPERATOR_LEASE.into(),
            identity: settings.identity.clone(),
            owner: owner(&client, &settings.namespace).await,
            work: "reconciles MetalLB resources",
        },
        move |leading| {
            tell.send_replace(leading);
        },
    );
    let mut operator = Operator::new(client, settings, events, metrics, election.fence());
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut again: Option<Instant> = None;
    let mut throttle = Throttle::new(Instant::now());
    // What there is to look at, and when that may be at the earliest.
    let (mut news, mut allowed) = (News::Nothing, None);
    let mut leads_already = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            batch = inputs.next() => {
                let mut batch = batch.context("the watches ended")?;
                tokio::time::sleep(GATHER).await;
                if let Some(Some(more)) = futures::FutureExt::now_or_never(inputs.next()) {
                    batch.extend(more);
                }
                for input in batch {
                    news = news.max(operator.world.take(input));
                }
            }
            () = sleep_until(again) => {
                again = None;
                news = News::Change;
            }
            () = sleep_until(allowed) => {}
            Ok(()) = leads.changed() => {}
        }
        let leading = *leads.borrow_and_update();
        if !std::mem::replace(&mut leads_already, leading) && leading {
            news = News::Change;
        }
        operator.metrics.leading.set(leading.into());
        let unsynced = operator.world.unsynced();
        if unsynced.is_empty() {
            health.ready(WATCHES);
        } else {
            health.not_ready(WATCHES, format!("not listed yet: {}", unsynced.join(", ")));
        }
        allowed = None;
        if !leading {
            // The others look on, so that they know everything when it is their turn.
            again = None;
        } else if news > News::Nothing {
            match throttle.take(Instant::now(), news) {
                Ok(()) => {
                    news = News::Nothing;
                    again = if unsynced.is_empty() {
                        operator.pass().await
                    } else {
                        operator.complain().await
                    };
                }
                Err(at) => allowed = Some(at),
            }
        }
    }
    election.stop().await;
    // The data plane goes on without the operator.
    tracing::info!("stopped");
    Ok(())
}

/// What the Lease belongs to; without it the Lease stays when the operator goes, and harms nobody.
async fn owner(client: &Client, namespace: &str) -> Option<OwnerReference> {
    api::own_deployment(client, namespace)
        .await
        .unwrap_or_else(|error| {
            tracing::info!(%error, "the own Deployment cannot be read: the Lease gets no owner");
            None
        })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// On all addresses of both families, or of IPv4 where the kernel has no IPv6.
async fn serve(port: u16, routes: Routes) -> anyhow::Result<()> {
    let any = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    ];
    if http::serve(any[0], routes.clone()).await.is_err() {
        http::serve(any[1], routes).await.context("health and metrics")?;
    }
    Ok(())
}
