//! Start and stop of the process: what it watches, serves and waits for.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use metallb_alloc::ClassPolicy;
use metallb_api::names::events::SOURCE_CONTROLLER;
use metallb_kubeio::{EventSink, WatchConfig, watch};
use metallb_telemetry::{Health, Routes, http};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::app::{App, Surroundings};
use crate::args::Args;
use crate::happening::Happening;
use crate::key;
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::writer::Writer;

/// Things that happened at once are taken in together before anything is decided.
const BURST: usize = 64;
/// How long writes under way may go on after the process was asked to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Watches, as they are named in log lines and by /readyz.
pub(crate) const SERVICES: &str = "services";
pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const POOLS: &str = "ipaddresspools";
pub(crate) const L2: &str = "l2advertisements";

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    for flag in args.accepted.given() {
        tracing::info!(flag, "this flag is accepted for compatibility and has no effect");
    }
    if args.lb_class_and_classless && args.lb_class.is_empty() {
        bail!("--lb-class-and-classless needs --lb-class");
    }
    let namespace = own_namespace(args.namespace.as_deref())?;
    let client = metallb_kubeio::connect().await?;
    let identity = identity(&args);
    let metrics = Metrics::new()?;
    let health = Health::waiting_for(&[SERVICES, NAMESPACES, POOLS, L2]);
    if args.port != 0 {
        listen(args.port, Routes::new().metrics(&metrics.registry)).await?;
    }
    if args.health_probe_port != 0 {
        listen(args.health_probe_port, Routes::new().health(&health)).await?;
    }
    let (tell, told) = mpsc::unbounded_channel();
    stop_on_signal(&tell)?;
    if !args.ml_secret_name.is_empty() {
        tokio::spawn(key::ensure(
            client.clone(),
            namespace.clone(),
            args.ml_secret_name.clone(),
        ));
    }
    let election = Election::start(client.clone(), &namespace, &identity, tell.clone());
    let classes = ClassPolicy {
        class: Some(args.lb_class).filter(|class| !class.is_empty()),
        classless_too: args.lb_class_and_classless,
    };
    let instance = if args.pod_name.is_empty() {
        identity
    } else {
        args.pod_name
    };
    let writer = Writer::new(client.clone(), election.fence(), tell.clone());
    let events = EventSink::start(client.clone(), SOURCE_CONTROLLER, &instance);
    let mut app = App::new(
        Surroundings {
            client: client.clone(),
            namespace,
            writer,
            events,
            fence: election.fence(),
            tell,
            metrics,
            health,
        },
        classes,
    );
    let mut happenings = happenings(&client, told).ready_chunks(BURST);
    tracing::info!("started");
    while let Some(batch) = happenings.next().await {
        let stop = batch.iter().any(|happening| matches!(happening, Happening::Stop));
        for happening in batch {
            app.take_in(happening);
        }
        app.act();
        if stop {
            break;
        }
    }
    tracing::info!("stopping");
    app.stop();
    let drained = async {
        while !app.is_idle() {
            let Some(batch) = happenings.next().await else {
                return;
            };
            for happening in batch {
                app.take_in(happening);
            }
        }
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some writes had not ended when the process stopped; their outcome is unknown");
    }
    election.stop().await;
    Ok(())
}

/// All that can happen, in one stream.
fn happenings(client: &Client, told: UnboundedReceiver<Happening>) -> BoxStream<'static, Happening> {
    let all = || WatchConfig::default();
    let api = || client.clone();
    let told = stream::unfold(told, |mut told| async move {
        let happening = told.recv().await?;
        Some((happening, told))
    });
    stream::select_all([
        told.boxed(),
        watch(SERVICES, Api::all(api()), all())
            .map(Happening::Service)
            .boxed(),
        watch(NAMESPACES, Api::all(api()), all())
            .map(Happening::Namespace)
            .boxed(),
        watch("nodes", Api::all(api()), all())
            .map(Happening::Node)
            .boxed(),
        watch(POOLS, Api::all(api()), all()).map(Happening::Pool).boxed(),
        watch(L2, Api::all(api()), all()).map(Happening::L2).boxed(),
    ])
    .boxed()
}

fn stop_on_signal(tell: &UnboundedSender<Happening>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    let tell = tell.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if tell.send(Happening::Stop).is_err() {
            tracing::debug!("the process ends already");
        }
    });
    Ok(())
}

/// All interfaces, both families where the kernel has IPv6.
async fn listen(port: u16, routes: Routes) -> anyhow::Result<()> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    if let Err(error) = http::serve(both, routes.clone()).await {
        tracing::debug!(%error, "no IPv6 listener, trying IPv4 alone");
        http::serve(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), routes).await?;
    }
    Ok(())
}

/// Names this process among the replicas: the pod's UID, so that a restarted container continues its lease.
fn identity(args: &Args) -> String {
    if !args.pod_uid.is_empty() {
        return args.pod_uid.clone();
    }
    let pod = if args.pod_name.is_empty() {
        "allocator"
    } else {
        &args.pod_name
    };
    format!(
        "{pod}-{}-{}",
        std::process::id(),
        Timestamp::now().as_millisecond()
    )
}

fn own_namespace(flag: Option<&str>) -> anyhow::Result<String> {
    const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    if let Some(namespace) = flag.filter(|namespace| !namespace.is_empty()) {
        return Ok(namespace.to_owned());
    }
    let text = std::fs::read_to_string(ACCOUNT).with_context(|| {
        format!("no namespace: set --namespace or METALLB_NAMESPACE (outside a pod there is no {ACCOUNT})")
    })?;
    Ok(text.trim().to_owned())
}
