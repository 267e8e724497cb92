//! The thread `wire`: sockets and time around the engine.
//!
//! The loop is that of [`metallb_sansio::Machine`]: whatever arrived first, then the timers, then what they want sent. It
//! never waits for the other thread: commands come through a bounded queue, changes go into a set that the other thread
//! empties when it can.
//!
//! Most of the time the thread sleeps. What wakes it is a frame or datagram that it must look at, or its one alarm, which rings
//! when the engine wants; nothing is polled, and nothing tells that what was sent has left.

mod alarm;
mod changes;
mod clock;
mod groups;
mod links;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metallb_l2::{ForeignClaim, InterfaceIndex};
use metallb_net::{DatagramSocket, Exclusions, InterfaceMonitor};
use metallb_sansio::{Instant, Machine as _};
use metallb_speaker_core::{Engine, EngineConfig, Input, Options, Output};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::changes::{Changes, Conflict, News};
pub(crate) use self::clock::Clock;
pub(crate) use self::links::LinkReport;
pub(crate) use self::report::{Counts, Reporter, Snapshot};

use self::alarm::Alarm;
use self::groups::Groups;
use self::links::Links;
use self::report::Request;

/// Commands that may wait; a burst of plans beyond that makes `ctl` wait, never `wire`.
const QUEUE: usize = 256;
/// Largest membership datagram.
const DATAGRAM_MAX: usize = 2_048;
/// Datagrams and frames taken in one turn before timers get theirs.
const BURST: usize = 256;
/// How long after a refusal of the kernel interfaces and groups are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What the thread is made of.
pub(crate) struct Config {
    pub(crate) machine: EngineConfig,
    pub(crate) options: Options,
    pub(crate) socket: UdpSocket,
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
    // No timers of the runtime: the alarm is the only one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let thread = Thread {
            engine: Engine::with_options(clock.now(), config.machine, config.options),
            clock,
            wants,
            socket: DatagramSocket::new(config.socket)?,
            links: Links::new(config.exclusions),
            groups: Groups::default(),
            leaving: None,
            changes,
            inbox,
            datagram: vec![0; DATAGRAM_MAX],
            send_failures: 0,
            again: None,
        };
        thread.run().await
    })
}

struct Thread<'a> {
    engine: Engine,
    clock: Clock,
    wants: mpsc::UnboundedSender<(IpAddr, bool)>,
    socket: DatagramSocket,
    links: Links,
    groups: Groups,
    /// Who waits for our goodbye.
    leaving: Option<oneshot::Sender<()>>,
    changes: &'a Changes,
    inbox: mpsc::Receiver<Command>,
    datagram: Vec<u8>,
    send_failures: u64,
    /// When what the kernel refused is tried again.
    again: Option<Instant>,
}

impl Thread<'_> {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut monitor = InterfaceMonitor::open().context("route netlink cannot be opened")?;
        let mut alarm = Alarm::new(self.clock).context("the kernel gives no timer")?;
        loop {
            let now = self.clock.now();
            if self.engine.poll_timeout().is_some_and(|at| at <= now) {
                // Evidence comes before timers.
                self.receive_datagrams(DatagramSocket::receive_now);
                self.engine.handle_timeout(self.clock.now());
            }
            self.flush();
            if self.engine.take_clear_notice() {
                tracing::warn!(
                    "there is no membership secret, datagrams go in the clear; create Secret memberlist with the key \
                     secretkey"
                );
            }
            let again = self.retry_at();
            let next = self.engine.poll_timeout().into_iter().chain(again).min();
            alarm.set(next).context("the timer cannot be set")?;
            // In no order: whoever floods one of these does not keep the others waiting.
            tokio::select! {
                received = self.socket.receive(&mut self.datagram) => {
                    self.received(received);
                    self.receive_datagrams(DatagramSocket::try_receive);
                }
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
                rang = alarm.rings() => rang.context("the timer is broken")?,
            }
            self.retry();
        }
    }

    /// When what the kernel refused is tried again; never when it refused nothing.
    fn retry_at(&mut self) -> Option<Instant> {
        if self.links.failed() || self.groups.failed() {
            let at = self.clock.now() + RETRY;
            Some(*self.again.get_or_insert(at))
        } else {
            self.again = None;
            None
        }
    }

    /// Tries again what the kernel refused, when it is time.
    fn retry(&mut self) {
        let now = self.clock.now();
        if self.again.take_if(|at| *at <= now).is_some() {
            let inputs = self.links.retry();
            self.links_changed(inputs);
            self.groups.retry();
        }
    }

    /// Takes what waits in the membership socket.
    fn receive_datagrams(
        &mut self,
        receive: impl Fn(&DatagramSocket, &mut [u8]) -> io::Result<(usize, SocketAddr)>,
    ) {
        for _ in 0..BURST {
            match receive(&self.socket, &mut self.datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                received => self.received(received),
            }
        }
    }

    /// Takes one datagram, which stands at the beginning of the buffer.
    fn received(&mut self, received: io::Result<(usize, SocketAddr)>) {
        match received {
            Ok((length, from)) => {
                let datagram = self.datagram[..length].to_vec();
                let now = self.clock.now();
                self.engine.handle(now, Input::Datagram { from, datagram });
            }
            // An earlier datagram of ours was refused (ICMP port unreachable): a speaker is not there yet.
            Err(error) => tracing::debug!(%error, "membership receives"),
        }
    }

    fn links_changed(&mut self, inputs: Vec<Input>) {
        let now = self.clock.now();
        if !inputs.is_empty() {
            // Whether an owner can answer at all may have changed.
            self.changes.touch();
        }
        let mut fresh = BTreeSet::new();
        for input in inputs {
            match &input {
                Input::LinkDown(interface) => self.groups.interface_gone(*interface),
                Input::LinkUp(interface, _) if !self.engine.announcer().links().contains_key(interface) => {
                    fresh.insert(*interface);
                }
                _ => {}
            }
            self.engine.handle(now, input);
            // In order: a group is joined on an interface that returned after those of its former life were left.
            self.flush();
        }
        if !fresh.is_empty() {
            self.tell_unresolved(&fresh);
        }
    }

    /// Whom the kernel waits for on interfaces that have become usable. Announcements have left by now.
    fn tell_unresolved(&mut self, fresh: &BTreeSet<InterfaceIndex>) {
        let mut waiting: BTreeMap<InterfaceIndex, Vec<IpAddr>> = BTreeMap::new();
        match metallb_net::unresolved() {
            Ok(all) => {
                for (interface, address) in all.into_iter().filter(|(on, _)| fresh.contains(on)) {
                    waiting.entry(interface).or_default().push(address);
                }
            }
            Err(error) => tracing::warn!(%error, "the kernel's neighbour table cannot be read"),
        }
        let now = self.clock.now();
        for (interface, addresses) in waiting {
            self.engine.handle(now, Input::Unresolved(interface, addresses));
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
                    if let Err(error) = self.socket.send(&datagram, to) {
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
        // After the conflicts, which say why.
        self.changes.turned(self.engine.take_turned());
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
