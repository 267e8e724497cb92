//! `metallb-allocator`: gives services of type LoadBalancer their addresses. What the Deployment `controller` runs.
//!
//! Watches go into [`metallb_alloc::World`], which decides; what it asks for is written by one process at a time, the
//! holder of the Lease. This crate is the shell: it converts objects ([`service`], [`objects`]), carries writes out
//! ([`writer`], [`status`], [`configuration`]) and serves metrics and health ([`serve`]).

use clap::Parser as _;

mod app;
mod args;
mod configuration;
mod happening;
mod key;
mod legacy;
mod metrics;
mod objects;
mod owner;
mod run;
mod secrets;
mod serve;
mod service;
mod status;
mod telling;
mod writer;

fn main() -> anyhow::Result<()> {
    let args = args::Args::parse_from(metallb_telemetry::flags::with_two_dashes(std::env::args()));
    metallb_telemetry::log::init(args.log_level);
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    // One thread: the work is small, and every further thread costs memory of its own.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run::run(args))
}
