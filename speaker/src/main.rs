//! Makes addresses reachable from this node.
//!
//! Two threads. `wire` holds the sockets and the machine that decides who owns which address
//! ([`metallb_speaker_core::Engine`]); it needs no API server and allocates next to nothing. `ctl`, the main thread,
//! watches the API server, turns what it says into plans, and writes statuses, events and metrics.
//!
//! ```text
//! API server --watches--> ctl: Feed --> Planner --Directive--> wire: Engine <--> sockets
//!                          ^   statuses, events, metrics <--Change--'
//! ```

mod args;
mod ctl;
mod files;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::args::Args;
use crate::files::ExclusionFile;
use crate::wire::Wire;

/// How long to wait for a predecessor on this node to release the membership port.
const BIND_PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args = Args::parse_from(metallb_telemetry::flags::with_two_dashes(std::env::args()));
    metallb_telemetry::log::init(args.log_level);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the speaker stops");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider was installed before"))?;
    let ignored = args.ignored();
    if !ignored.is_empty() {
        tracing::info!(flags = ignored.join(", "), "these flags have no effect");
    }
    // Without membership nothing is sent or received; the engine has a socket that nobody reaches.
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let membership = args.membership()?;
    let socket = bind(membership.map_or(nobody, |membership| membership.listens_on))?;
    let exclusions = ExclusionFile::read();
    let wire = Wire::start(wire::Config {
        machine: machine_config(args, membership.map(|membership| membership.told))?,
        options: options(args),
        socket,
        exclusions: exclusions.in_force().clone(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ctl::run(args, wire, exclusions))
}

/// Binds the membership port. During a rolling update the old pod on this node may still hold it for a moment.
fn bind(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let deadline = std::time::Instant::now() + BIND_PATIENCE;
    loop {
        match UdpSocket::bind(address) {
            Ok(socket) => return Ok(socket),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && std::time::Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("membership cannot listen on UDP {address}"));
            }
        }
    }
}

fn options(args: &Args) -> metallb_speaker_core::Options {
    let layer2 = &args.layer2;
    metallb_speaker_core::Options {
        conflicts: layer2.conflict_policy,
        probing: layer2.probing,
        refresh: layer2.gratuitous_arp_interval,
        grace: layer2.restart_grace,
        non_preempt: layer2.non_preempt,
        strict: layer2.strict,
        ..metallb_speaker_core::Options::default()
    }
}

fn machine_config(
    args: &Args,
    told: Option<SocketAddr>,
) -> anyhow::Result<metallb_speaker_core::EngineConfig> {
    let random = SystemRandom::new();
    let (mut session, mut seed) = ([0; 16], [0; 8]);
    random
        .fill(&mut session)
        .and_then(|()| random.fill(&mut seed))
        .map_err(|_| anyhow!("the operating system gives no random numbers"))?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(metallb_speaker_core::EngineConfig {
        node: args.node_name.as_str().into(),
        address: told.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        generation: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        seed: u64::from_ne_bytes(seed),
        session,
        secret: match told {
            Some(_) => files::read_secret(&args.ml_secret_key_path),
            // Nothing is sent; a key of our own, or its absence would be reported.
            None => metallb_member::Secret::new(&session),
        },
        timing: metallb_member::Timing::default(),
    })
}
