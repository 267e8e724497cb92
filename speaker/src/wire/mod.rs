//! The thread `wire`: sockets and time around the engine.
//!
//! The loop is that of [`metallb_sansio::Machine`]: whatever arrived first, then the timers, then what they want sent. It
//! never waits for the other thread: commands come through a bounded queue, changes go into a set that the other thread
//! empties when it can.

mod changes;
mod links;
mod report;

use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metallb_net::{Exclusions, InterfaceMonitor};
use metallb_sansio::{Instant, Machine as _};
use metallb_speaker_core::{Engine, EngineConfig, Input, Output};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::changes::{Changes, Pending};
pub(crate) use self::links::LinkReport;
pub(crate) use self::report::{Counts, Reporter, Snapshot};

use self::links::Links;
use self::report::Request;

/// Commands that may wait; a burst of plans beyond that makes `ctl` wait, never `wire`.
const QUEUE: usize = 256;
/// Largest membership datagram.
const DATAGRAM_MAX: usize = 2_048;
/// Datagrams and frames taken in one turn before timers get theirs.
const BURST: usize = 256;
/// How often interfaces that could not be opened are tried again.
const RETRY_LINKS: Duration = Duration::from_secs(2);

/// What the thread is made of.
pub(crate) struct Config {
    pub(crate) machine: EngineConfig,
    pub(crate) socket: StdUdpSocket,
    pub(crate) exclusions: Exclusions,
}

/// What `ctl` asks of `wire`.
pub(crate) enum Command {
    /// Something for the engine.
    Input(Input),
    /// Interface names not to use.
    Exclusions(Exclusions),
    /// A page of the state.
    Report(Request),
    /// Say goodbye, and say when that is done.
    Leave(oneshot::Sender<()>),
}

/// The thread, seen from `ctl`.
pub(crate) struct Wire {
    commands: mpsc::Sender<Command>,
    changes: Arc<Changes>,
    /// Resolves when the thread ends, which it does only by a fault.
    ended: oneshot::Receiver<String>,
}

impl Wire {
    /// Starts the thread.
    pub(crate) fn start(config: Config) -> anyhow::Result<Self> {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let changes = Arc::new(Changes::default());
        let (end, ended) = oneshot::channel();
        let thread_changes = Arc::clone(&changes);
        std::thread::Builder::new().name("wire".into()).spawn(move || {
            let why = match block_on(config, inbox, &thread_changes) {
                Ok(()) => "the queue from the other thread is closed".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            if end.send(why).is_err() {
                tracing::debug!("the other thread ended first");
            }
        })?;
        Ok(Self {
            commands,
            changes,
            ended,
        })
    }

    /// Hands over a command; waits when the queue is full.
    pub(crate) async fn send(&self, command: Command) -> anyhow::Result<()> {
        self.commands
            .send(command)
            .await
            .ok()
            .context("the wire thread has ended")
    }

    /// What changed since the last time.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// For asking from anywhere.
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter::new(self.commands.clone())
    }

    /// Resolves with the reason when the thread has ended.
    pub(crate) async fn ended(&mut self) -> String {
        (&mut self.ended)
            .await
            .unwrap_or_else(|_| "the wire thread panicked".to_owned())
    }
}

fn block_on(config: Config, inbox: mpsc::Receiver<Command>, changes: &Changes) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let clock = Clock::start();
        let thread = Thread {
            engine: Engine::new(clock.now(), config.machine),
            clock,
            socket: UdpSocket::from_std(config.socket)?,
            links: Links::new(config.exclusions),
            changes,
            inbox,
            datagram: vec![0; DATAGRAM_MAX],
            send_failures: 0,
        };
        thread.run().await
    })
}

/// The machine's clock over the operating system's.
#[derive(Clone, Copy)]
struct Clock(tokio::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    fn now(self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn at(self, instant: Instant) -> tokio::time::Instant {
        self.0 + Duration::from_nanos(instant.as_nanos())
    }
}

struct Thread<'a> {
    engine: Engine,
    clock: Clock,
    socket: UdpSocket,
    links: Links,
    changes: &'a Changes,
    inbox: mpsc::Receiver<Command>,
    datagram: Vec<u8>,
    send_failures: u64,
}

impl Thread<'_> {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut monitor = InterfaceMonitor::open().context("route netlink cannot be opened")?;
        let mut retry = tokio::time::interval(RETRY_LINKS);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.receive_datagrams();
            let now = self.clock.now();
            if self.engine.poll_timeout().is_some_and(|at| at <= now) {
                self.engine.handle_timeout(now);
            }
            self.flush();
            if self.engine.take_clear_notice() {
                tracing::warn!(
                    "there is no membership secret, datagrams go in the clear; create Secret memberlist with the key \
                     secretkey"
                );
            }
            let deadline = self.engine.poll_timeout().map(|at| self.clock.at(at));
            let timer = pin!(async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            });
            tokio::select! {
                biased;
                ready = self.socket.readable() => ready.context("the membership socket is broken")?,
                received = self.links.receive() => {
                    let (interface, frame) = received;
                    let now = self.clock.now();
                    self.engine.handle_frame(now, interface, frame);
                    self.links.drain(interface, BURST, |frame| self.engine.handle_frame(now, interface, frame));
                }
                events = monitor.next() => {
                    let inputs = self.links.apply(events.context("route netlink is broken")?);
                    self.links_changed(inputs);
                }
                command = self.inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => return Ok(()),
                },
                () = timer => {}
                _ = retry.tick() => {
                    let inputs = self.links.retry();
                    self.links_changed(inputs);
                }
            }
        }
    }

    /// Takes what waits in the membership socket: evidence comes before timers.
    fn receive_datagrams(&mut self) {
        let now = self.clock.now();
        for _ in 0..BURST {
            match self.socket.try_recv_from(&mut self.datagram) {
                Ok((length, from)) => {
                    let datagram = self.datagram[..length].to_vec();
                    self.engine.handle(now, Input::Datagram { from, datagram });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An earlier datagram of ours was refused (ICMP port unreachable): a speaker is not there yet.
                Err(error) => tracing::debug!(%error, "membership receives"),
            }
        }
    }

    fn links_changed(&mut self, inputs: Vec<Input>) {
        let now = self.clock.now();
        if !inputs.is_empty() {
            // Whether an owner can answer at all may have changed.
            self.changes.touch();
        }
        for input in inputs {
            self.engine.handle(now, input);
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Input(input) => self.engine.handle(now, input),
            Command::Exclusions(exclusions) => {
                let inputs = self.links.exclude(exclusions);
                self.links_changed(inputs);
            }
            Command::Report(request) => report::answer(&self.engine, &self.links, request),
            Command::Leave(done) => {
                self.engine.handle(now, Input::Leave);
                self.flush();
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the goodbye");
                }
            }
        }
    }

    fn flush(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Datagram { to, datagram } => {
                    if let Err(error) = self.socket.try_send_to(&datagram, to) {
                        // Membership repeats itself; a cut cable fails every send, so say it rarely.
                        self.send_failures += 1;
                        if self.send_failures.is_power_of_two() {
                            tracing::debug!(%error, %to, failures = self.send_failures, "membership sends");
                        }
                    }
                }
                Output::Frame { interface, frame } => self.links.send(interface, &frame),
                Output::Change(change) => {
                    tracing::info!(
                        service = change.service.as_str(),
                        from = change.from.as_deref().unwrap_or("nobody"),
                        to = change.to.as_deref().unwrap_or("nobody"),
                        cause = ?change.cause,
                        "owner changed"
                    );
                    self.changes.owner(change);
                }
                Output::Liveness { node, live } => {
                    let state = self.engine.member().state(&node);
                    tracing::info!(node = &*node, live, ?state, "membership changed");
                    self.changes.touch();
                }
                Output::Rejoined => {
                    tracing::warn!("the other speakers had declared this one dead; announcing again");
                }
                Output::Probed { address, taken_by } => {
                    if let Some(mac) = taken_by {
                        tracing::warn!(%address, %mac, "another station has this address already");
                    }
                }
                // The packet sockets hear all groups already; joining them makes switches with MLD snooping forward them.
                Output::Join(..) | Output::Part(..) => {}
                Output::Left => tracing::info!("the other speakers answer from now on"),
                Output::ForeignClaim(claim) => {
                    tracing::debug!(
                        address = %claim.address,
                        mac = %claim.mac,
                        interface = claim.interface,
                        "another station claims an address of ours"
                    );
                }
            }
        }
    }
}
