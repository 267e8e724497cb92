//! The main thread: what the API server says goes to the planner, plans go to `wire`, what `wire` decides becomes
//! statuses, events and metrics.

mod assigned;
mod configuration;
mod conflicts;
mod endpoints;
mod feed;
mod friends;
mod lone;
mod metrics;
mod reporting;
mod serve;
mod state;
mod statuses;
mod tenure;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use futures::{Stream, StreamExt as _, stream};
use kube::{Api, Client};
use metallb_api::names::{events, labels};
use metallb_election::Rules;
use metallb_kubeio::{EventSink, WatchConfig, thin, watch, watch_own_configuration};
use metallb_member::{PeerState, Secret};
use metallb_model::{Issue, Kind};
use metallb_speaker_core::{Input, LINGER, MemberReport, Planner};
use metallb_telemetry::Health;
use tokio::signal::unix::{SignalKind, signal};

use self::assigned::Assigned;
use self::conflicts::Conflicts;
use self::feed::{Feed, Seen};
use self::friends::Friends;
use self::metrics::Metrics;
use self::reporting::{Author, Report, Reporting};
use self::statuses::{Statuses, Writer};
use self::tenure::Tenure;
use crate::args::Args;
use crate::files::{self, ExclusionFile};
use crate::wire::{Command, News, Reporter, Wire};

/// How often mounted files are looked at.
const FILES_EVERY: Duration = Duration::from_secs(5);
/// Watch events taken in one turn before plans are worked out.
const BATCH: usize = 256;
/// How long the last events may take when the process stops.
const FLUSH: Duration = Duration::from_secs(1);

/// How often is asked whether the other speakers were met.
const MEETING: Duration = Duration::from_millis(50);

type Watches = Pin<Box<dyn Stream<Item = Seen>>>;

/// Runs until SIGTERM or SIGINT, or a fault of the other thread.
pub(crate) async fn run(args: &Args, mut wire: Wire, exclusions: ExclusionFile) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = metallb_kubeio::connect_in_pod()?;
    let namespace = args.own_namespace();
    let health = Health::waiting_for(&[&feed::WATCHES[..], &[feed::MEMBERSHIP]].concat());
    let metrics = Metrics::new(&args.node_name, wire.reporter())?;
    let planner = Arc::new(Mutex::new(Planner::with_rules(Rules {
        ignore_exclude_label: args.ignore_exclude_lb,
        shun: args.layer2.unready_last,
    })));
    serve::start(args, &client, &health, &metrics, &planner, &wire).await?;
    let membership = args.membership()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = args.node_name,
        namespace,
        membership = membership.map_or_else(|| "off".to_owned(), |membership| membership.told.to_string()),
        "the speaker starts"
    );
    if membership.is_none() {
        tracing::warn!(
            "membership is off (METALLB_ML_BIND_ADDR is not set): a node that dies keeps its addresses until its Node \
             object is gone or is labelled; give this node's address by fieldRef status.podIP"
        );
    }

    let sink = EventSink::start(client.clone(), events::SOURCE_SPEAKER, &args.node_name);
    let author = Author {
        node: args.node_name.clone(),
        pod: args.pod_name.clone(),
        pod_uid: args.pod_uid.clone(),
    };
    let writer = Writer {
        client: client.clone(),
        namespace: namespace.clone(),
        node: args.node_name.clone(),
        pod: args.pod_name.clone(),
        pod_uid: args.pod_uid.clone(),
        events: sink.clone(),
    };
    let tenure = wire.wants().filter(|_| args.layer2.strict).map(|wants| {
        let (clock, commands) = (wire.clock(), wire.commands());
        Tenure::start(
            client.clone(),
            &namespace,
            &args.node_name,
            &args.layer2.lease_owner,
            clock,
            wants,
            commands,
        )
    });
    let mut control = Control {
        feed: Feed::new(
            Arc::clone(&planner),
            &namespace,
            &args.pod_name,
            &args.lb_class,
            membership.map(|membership| membership.told.port()),
        ),
        assigned: Assigned::new(&args.node_name, metrics.clone()),
        statuses: Statuses::start(writer),
        reporting: Reporting::start(client.clone(), &namespace, author),
        conflicts: Conflicts::new(&args.node_name, args.layer2.conflict_policy),
        friends: Friends::default(),
        tenure,
        events: sink.clone(),
        idle: None,
        secret: files::read_secret(&args.ml_secret_key_path),
        secret_path: args.ml_secret_key_path.clone(),
        secret_missed: false,
        exclusions,
        namespace: namespace.clone(),
        synced: false,
        health,
        metrics,
        wire,
    };
    if control.exclusions.issue(&namespace).is_some() {
        control.complain_of_exclusions();
    }
    let mut watches = watches(&client, &namespace, args).ready_chunks(BATCH);
    let mut look = tokio::time::interval(FILES_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let changes = Arc::clone(control.wire.changes());
    loop {
        tokio::select! {
            Some(seen) = watches.next() => control.seen(seen).await?,
            news = changes.take() => control.changed(&news).await?,
            _ = look.tick() => {
                control.look_at_files().await?;
                control.look_around().await?;
            }
            why = control.wire.ended() => anyhow::bail!("the wire thread ended: {why}"),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    control.leave(&sink).await
}

/// Ready is a speaker that has met the others, or found out that they are not there: a rolling restart goes on to the next when this
/// one is, and the next is followed only by who knows it.
async fn ready_once_met(reporter: Reporter, health: Health) {
    loop {
        match reporter.members().await {
            Ok(members) => {
                let unmet = |member: &MemberReport| member.state == Some(PeerState::Presumed);
                if !members.iter().any(unmet) {
                    return health.ready(feed::MEMBERSHIP);
                }
            }
            // The process ends with it.
            Err(error) => return tracing::debug!(error = format!("{error:#}"), "asking for members"),
        }
        tokio::time::sleep(MEETING).await;
    }
}

/// Goes on answering until the other speakers do.
async fn goodbye(wire: &Wire) -> anyhow::Result<()> {
    let (done, said) = tokio::sync::oneshot::channel();
    wire.send(Command::Leave(done)).await?;
    match tokio::time::timeout(LINGER, said).await {
        Ok(said) => said.context("the wire thread ended before the goodbye was said"),
        Err(_) => anyhow::bail!("the goodbye took longer than {LINGER:?}"),
    }
}

struct Control {
    feed: Feed,
    assigned: Assigned,
    statuses: Statuses,
    reporting: Reporting,
    conflicts: Conflicts,
    friends: Friends,
    /// In strict mode.
    tenure: Option<Tenure>,
    events: EventSink,
    /// Whether nothing was configured the last time.
    idle: Option<bool>,
    secret: Secret,
    secret_path: PathBuf,
    secret_missed: bool,
    exclusions: ExclusionFile,
    /// Our own.
    namespace: String,
    synced: bool,
    health: Health,
    metrics: Metrics,
    wire: Wire,
}

impl Control {
    /// Takes a batch of watch events and hands over what follows from them.
    async fn seen(&mut self, batch: Vec<Seen>) -> anyhow::Result<()> {
        self.metrics.updates(batch.len());
        for seen in batch {
            if let Some(synced) = self.feed.take(seen) {
                self.health.ready(synced);
            }
        }
        if let Some(uid) = self.feed.own_pod_uid(self.statuses.pod())
            && self.statuses.pod_uid(uid)
        {
            self.reporting.pod_uid(uid);
        }
        if !self.feed.synced() {
            self.health_of_configuration();
            return Ok(());
        }
        // Membership is silent until it knows its peers. A speaker that made itself heard long before it knew any service would
        // be handed its addresses by the others, and nobody would answer for them; one that knew services before it knew
        // its peers would think itself alone and announce everything.
        if let Some(peers) = self.feed.peers() {
            self.wire.send(Command::Input(Input::Peers(peers))).await?;
        }
        let (directives, reread) = self.feed.settle();
        if reread {
            self.report();
        }
        for directive in directives {
            self.wire
                .send(Command::Input(Input::Directive(directive)))
                .await?;
        }
        if !self.synced {
            self.refresh().await?;
            self.synced = true;
            self.statuses.begin();
            tokio::spawn(ready_once_met(self.wire.reporter(), self.health.clone()));
            tracing::info!("everything is listed once; statuses follow ownership from now on");
        }
        Ok(())
    }

    /// Says which kinds are still waited for.
    fn health_of_configuration(&self) {
        let missing: Vec<&str> = self.feed.configuration().unlisted().map(Kind::as_str).collect();
        if !missing.is_empty() {
            self.health.not_ready(
                feed::CONFIGURATION,
                format!("not listed yet: {}", missing.join(", ")),
            );
        }
    }

    /// Says how the configuration is, by metric, `ConfigurationState` and log.
    fn report(&mut self) {
        let configuration = self.feed.configuration();
        let exclusions = self.exclusions.issue(&self.namespace);
        self.metrics
            .configuration(configuration.stale() || exclusions.is_some());
        let idle = configuration.idle();
        let issues: Vec<Issue> = configuration.issues().iter().cloned().chain(exclusions).collect();
        self.reporting.want(Report::new(&issues, idle));
        if self.idle.replace(idle) != Some(idle) {
            if idle {
                tracing::info!(
                    "no pool is configured: idle until there is a valid IPAddressPool with an advertisement"
                );
            } else {
                tracing::info!("pools are configured");
            }
        }
    }

    /// Takes what `wire` decided.
    async fn changed(&mut self, news: &News) -> anyhow::Result<()> {
        /// Beyond that many services, asking for all is cheaper.
        const FEW: usize = 16;
        if !self.synced {
            return Ok(());
        }
        let mut keys = self.assigned.having_any(&news.turned);
        keys.extend(news.owners.keys().cloned());
        if news.touched || keys.len() > FEW {
            self.refresh().await?;
        } else {
            for (key, change) in &news.owners {
                tracing::debug!(service = key.as_str(), from = ?change.from, to = ?change.last.to, "owner settled");
            }
            let reporter = self.wire.reporter();
            for key in &keys {
                let report = reporter.service(key).await?;
                if let Some(assignment) = self.assigned.update(key, report.as_ref(), self.feed.uid(key)) {
                    self.statuses.assign(key.clone(), assignment);
                }
            }
        }
        for (address, conflict) in &news.conflicts {
            let services = self.assigned.having(*address);
            self.conflicts.tell(&self.events, *address, conflict, services);
            let now = std::time::Instant::now();
            if !self.conflicts.names(now, *address, conflict.mac) {
                continue;
            }
            for (key, assignment) in self.assigned.conflict(*address, Some(conflict)) {
                self.statuses.assign(key, assignment);
            }
        }
        Ok(())
    }

    /// Compares everything that this node owns with what was known.
    async fn refresh(&mut self) -> anyhow::Result<()> {
        let services = self.wire.reporter().all_services().await?;
        let feed = &self.feed;
        for (key, assignment) in self.assigned.replace(&services, |key| feed.uid(key)) {
            self.statuses.assign(key, assignment);
        }
        Ok(())
    }

    /// Finds nodes that membership does not know, and conflicts that are over.
    async fn look_around(&mut self) -> anyhow::Result<()> {
        for address in self.conflicts.over() {
            for (key, assignment) in self.assigned.conflict(address, None) {
                self.statuses.assign(key, assignment);
            }
        }
        if self.synced
            && let Some(macs) = self.friends.look(&self.feed.strangers())
        {
            self.wire.send(Command::Input(Input::Friends(macs))).await?;
        }
        Ok(())
    }

    async fn look_at_files(&mut self) -> anyhow::Result<()> {
        let secret = files::read_secret(&self.secret_path);
        if secret.is_none() && !self.secret.is_none() {
            // A deleted Secret must not open a running cluster to everybody on its network.
            if !std::mem::replace(&mut self.secret_missed, true) {
                tracing::warn!(
                    "the membership secret is gone; the last one stays in use until there is another"
                );
            }
        } else if secret != self.secret {
            tracing::info!("the membership secret changed");
            self.secret_missed = false;
            self.secret = secret.clone();
            self.wire.send(Command::Input(Input::Secret(secret))).await?;
        }
        let looked = self.exclusions.look();
        if looked.excludes {
            tracing::info!("the interface exclusions changed");
            let exclusions = self.exclusions.in_force().clone();
            self.wire.send(Command::Exclusions(exclusions)).await?;
        }
        if looked.defect {
            self.complain_of_exclusions();
            if self.synced {
                self.report();
            }
        }
        Ok(())
    }

    /// Says what is wrong with the list of interfaces, or that nothing is any more.
    fn complain_of_exclusions(&self) {
        if let Some(issue) = self.exclusions.issue(&self.namespace) {
            tracing::warn!("{issue}");
        } else {
            tracing::info!("the interface exclusions are valid again");
        }
    }

    async fn leave(self, events: &EventSink) -> anyhow::Result<()> {
        tracing::info!("leaving; the other speakers take over");
        let (left, _) = tokio::join!(goodbye(&self.wire), events.flush(FLUSH));
        if let Some(tenure) = self.tenure {
            // Nobody else may answer before this node has ended.
            let mut wire = self.wire;
            wire.send(Command::End).await?;
            tracing::debug!(why = wire.ended().await, "the wire thread has ended");
            tenure.stop().await;
        }
        left
    }
}

fn watches(client: &Client, namespace: &str, args: &Args) -> Watches {
    let all = WatchConfig::default;
    let named = |labels: &str| all().labels(labels);
    let pods: Api<thin::Pod> = Api::namespaced(client.clone(), namespace);
    // Slices without the label belong to no service.
    let slices = all().labels(labels::SLICE_SERVICE_NAME);
    Box::pin(stream::select_all([
        watch(feed::SERVICES, Api::all(client.clone()), all())
            .map(Seen::Service)
            .boxed_local(),
        watch(feed::SLICES, Api::all(client.clone()), slices)
            .map(Seen::Slice)
            .boxed_local(),
        watch(feed::NODES, Api::all(client.clone()), all())
            .map(Seen::Node)
            .boxed_local(),
        watch(feed::PODS, pods, named(&args.ml_labels))
            .map(Seen::Pod)
            .boxed_local(),
        watch_own_configuration(client.clone(), namespace)
            .map(Seen::Configuration)
            .boxed_local(),
    ]))
}
