//! The thread `wire`: sockets and time around the engine.
//!
//! The loop is that of [`metallb_sansio::Machine`]: whatever arrived first, then the timers, then what they want sent. It
//! never waits for the other thread: commands come through a bounded queue, changes go into a set that the other thread
//! empties when it can.

mod changes;
mod clock;
mod groups;
mod links;
mod report;

use std::io;
use std::net::{IpAddr, UdpSocket as StdUdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metallb_l2::ForeignClaim;
use metallb_net::{Exclusions, InterfaceMonitor};
use metallb_sansio::Machine as _;
use metallb_speaker_core::{Engine, EngineConfig, Input, Options, Output};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::changes::{Changes, Conflict, News};
pub(crate) use self::clock::Clock;
pub(crate) use self::links::LinkReport;
pub(crate) use self::report::{Counts, Reporter, Snapshot};

use self::groups::Groups;
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
    pub(crate) options: Options,
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
    /// Say goodbye, go on answering until the others do, and say when that is so.
    Leave(oneshot::Sender<()>),
    /// Answer no more and end.
    End,
}

/// The thread, seen from `ctl`.
pub(crate) struct Wire {
    clock: Clock,
    commands: mpsc::Sender<Command>,
    wants: Option<mpsc::UnboundedReceiver<(IpAddr, bool)>>,
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
        let (want, wants) = mpsc::unbounded_channel();
        let clock = Clock::start();
        let thread_changes = Arc::clone(&changes);
        std::thread::Builder::new().name("wire".into()).spawn(move || {
            let why = match block_on(config, clock, inbox, want, &thread_changes) {
                Ok(()) => "the queue from the other thread is closed".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            if end.send(why).is_err() {
                tracing::debug!("the other thread ended first");
            }
        })?;
        Ok(Self {
            clock,
            commands,
            wants: Some(wants),
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

    /// The clock of the thread's machines.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// For telling from anywhere.
    pub(crate) fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// In strict mode, which addresses this node wants to answer for, or no longer. Once.
    pub(crate) const fn wants(&mut self) -> Option<mpsc::UnboundedReceiver<(IpAddr, bool)>> {
        self.wants.take()
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

fn block_on(
    config: Config,
    clock: Clock,
    inbox: mpsc::Receiver<Command>,
    wants: mpsc::UnboundedSender<(IpAddr, bool)>,
    changes: &Changes,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let thread = Thread {
            engine: Engine::with_options(clock.now(), config.machine, config.options),
            clock,
            wants,
            socket: UdpSocket::from_std(config.socket)?,
            links: Links::new(config.exclusions),
            groups: Groups::default(),
            leaving: None,
            changes,
            inbox,
            datagram: vec![0; DATAGRAM_MAX],
            send_failures: 0,
        };
        thread.run().await
    })
}

struct Thread<'a> {
    engine: Engine,
    clock: Clock,
    wants: mpsc::UnboundedSender<(IpAddr, bool)>,
    socket: UdpSocket,
    links: Links,
    groups: Groups,
    /// Who waits for our goodbye.
    leaving: Option<oneshot::Sender<()>>,
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
            let timer = pin!(self.clock.until(self.engine.poll_timeout()));
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
                    Some(Command::End) | None => return Ok(()),
                    Some(command) => self.command(command),
                },
                () = timer => {}
                _ = retry.tick() => {
                    let inputs = self.links.retry();
                    self.links_changed(inputs);
                    self.groups.retry();
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
            if let Input::LinkDown(interface) = input {
                self.groups.interface_gone(interface);
            }
            self.engine.handle(now, input);
            // In order: a group is joined on an interface that returned after those of its former life were left.
            self.flush();
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Input(input) => {
                if matches!(input, Input::Tenure(_) | Input::Granted(..)) {
                    // What may be answered for, and so what is announced.
                    self.changes.touch();
                }
                self.engine.handle(now, input);
            }
            Command::Exclusions(exclusions) => {
                let inputs = self.links.exclude(exclusions);
                self.links_changed(inputs);
            }
            Command::Report(request) => report::answer(now, &self.engine, &self.links, request),
            // The loop ends with it.
            Command::End => {}
            Command::Leave(done) => {
                self.leaving = Some(done);
                self.engine.handle(now, Input::Leave);
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
                // That somebody has it was told as a claim.
                Output::Probed { address, taken_by } => {
                    tracing::debug!(%address, ?taken_by, "probed for an address that nobody announced before");
                }
                Output::ForeignClaim(claim) => self.conflict(&claim),
                Output::Join(interface, group) => self.groups.join(interface, group),
                Output::Part(interface, group) => self.groups.part(interface, group),
                Output::Want(address, wanted) => {
                    if self.wants.send((address, wanted)).is_err() {
                        tracing::error!(%address, "nobody keeps the Leases");
                    }
                }
                Output::Left => {
                    if let Some(Err(())) = self.leaving.take().map(|done| done.send(())) {
                        tracing::debug!("nobody waits for the goodbye");
                    }
                }
            }
        }
    }

    /// A station outside the cluster has an address of ours.
    fn conflict(&self, claim: &ForeignClaim) {
        let link = self.engine.announcer().links().get(&claim.interface);
        let interface = link.map_or_else(|| Arc::from(""), |link| Arc::clone(&link.name));
        tracing::debug!(address = %claim.address, mac = %claim.mac, interface = &*interface, "claimed by another station");
        let mac = claim.mac;
        self.changes.conflict(claim.address, Conflict { mac, interface });
    }
}
