//! Start and stop of the process: what it watches, serves and waits for.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use metallb_alloc::{ClassPolicy, Policy, Reuse};
use metallb_api::names::{events::SOURCE_CONTROLLER, objects};
use metallb_kubeio::lease::{Candidate, Election};
use metallb_kubeio::{EventSink, WatchConfig, connect_with, watch, watch_configuration};
use metallb_model::Kind;
use metallb_telemetry::Health;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::app::{App, Surroundings, TELL_AGAIN};
use crate::args::Args;
use crate::happening::Happening;
use crate::metrics::Metrics;
use crate::writer::{self, Writer};
use crate::{key, owner, serve};

/// Things that happened at once are taken in together before anything is decided.
const BURST: usize = 64;
/// How long writes under way may go on after the process was asked to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the last Events may take after that.
const FLUSH: Duration = Duration::from_secs(2);

/// Watches, as they are named in log lines and by /readyz. Those of the configuration go by their kinds.
pub(crate) const SERVICES: &str = "services";
pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const NODES: &str = "nodes";

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    for flag in args.accepted.given() {
        tracing::info!(flag, "this flag is accepted for compatibility and has no effect");
    }
    if args.lb_class_and_classless && args.lb_class.is_empty() {
        bail!("--lb-class-and-classless needs --lb-class");
    }
    let namespace = own_namespace(args.namespace.as_deref())?;
    // As many connections stay open as there are writes at a time: a new one for each costs more than the write.
    let client = connect_with(writer::CONCURRENT).await?;
    let identity = identity(&args);
    let metrics = Metrics::new()?;
    let mut waiting = vec![SERVICES, NAMESPACES, NODES];
    waiting.extend(Kind::ALL.map(Kind::as_str));
    let health = Health::waiting_for(&waiting);
    serve::start(&args, &client, &metrics, &health).await?;
    let (tell, told) = mpsc::unbounded_channel();
    stop_on_signal(&tell)?;
    if !args.ml_secret_name.is_empty() {
        let place = key::Place {
            namespace: namespace.clone(),
            secret: args.ml_secret_name.clone(),
            deployment: args.deployment.clone(),
            daemon_set: args.daemonset.clone(),
        };
        tokio::spawn(key::keep(client.clone(), place));
    }
    let owner = owner::deployment(client.clone(), &namespace, &args.deployment).await;
    let candidate = Candidate {
        namespace: namespace.clone(),
        lease: objects::CONTROLLER_LEASE.into(),
        identity: identity.clone(),
        owner: owner.clone(),
        work: "assigns addresses",
    };
    let leading = tell.clone();
    let election = Election::start(client.clone(), candidate, move |leads| {
        if leading.send(Happening::Leading(leads)).is_err() {
            tracing::debug!("nobody listens to the election any more");
        }
    });
    let policy = Policy {
        classes: ClassPolicy {
            class: Some(args.lb_class).filter(|class| !class.is_empty()),
            classless_too: args.lb_class_and_classless,
        },
        reuse: if args.fair_reuse {
            Reuse::LeastRecentlyReleased
        } else {
            Reuse::LowestFree
        },
    };
    let instance = if args.pod_name.is_empty() {
        identity
    } else {
        args.pod_name
    };
    let writer = Writer::new(client.clone(), election.fence(), tell.clone());
    let events = EventSink::start(client.clone(), SOURCE_CONTROLLER, &instance);
    let mut happenings = happenings(&client, &namespace, told).ready_chunks(BURST);
    let mut app = App::new(
        Surroundings {
            client: client.clone(),
            namespace,
            owner,
            writer,
            events: events.clone(),
            fence: election.fence(),
            tell,
            metrics,
            health,
        },
        policy,
    );
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
    // The successor starts at once; what is still to be told is told meanwhile.
    election.stop().await;
    let told = async {
        while app.tell() {
            tokio::time::sleep(TELL_AGAIN).await;
        }
        events.flush(FLUSH).await
    };
    if !tokio::time::timeout(FLUSH, told).await.unwrap_or(false) {
        tracing::warn!("some Events were not written when the process stopped");
    }
    Ok(())
}

/// All that can happen, in one stream.
fn happenings(
    client: &Client,
    namespace: &str,
    told: UnboundedReceiver<Happening>,
) -> BoxStream<'static, Happening> {
    let all = || WatchConfig::default();
    let api = || client.clone();
    let told = stream::unfold(told, |mut told| async move {
        let happening = told.recv().await?;
        Some((happening, told))
    });
    let own_state = all().fields(&format!(
        "metadata.name={}",
        objects::CONFIGURATION_STATE_CONTROLLER
    ));
    stream::select_all([
        told.boxed(),
        watch(SERVICES, Api::all(api()), all())
            .map(Happening::Service)
            .boxed(),
        watch(NAMESPACES, Api::all(api()), all())
            .map(Happening::Namespace)
            .boxed(),
        watch(NODES, Api::all(api()), all()).map(Happening::Node).boxed(),
        watch_configuration(api(), namespace)
            .map(Happening::Config)
            .boxed(),
        watch(
            "configurationstates",
            Api::namespaced(api(), namespace),
            own_state,
        )
        .map(Happening::Report)
        .boxed(),
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
