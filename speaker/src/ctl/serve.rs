//! What the process serves: health and `/state` on the loopback, metrics over TLS for those whom the API server knows.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use kube::Client;
use metallb_kubeio::review::{self, Verdict};
use metallb_speaker_core::Planner;
use metallb_telemetry::{Access, Guard, Health, Routes, Tls, http, secure};

use super::metrics::Metrics;
use super::state;
use crate::args::Args;
use crate::wire::Wire;

/// Starts both servers.
pub(super) async fn start(
    args: &Args,
    client: &Client,
    health: &Health,
    metrics: &Metrics,
    planner: &Arc<Mutex<Planner>>,
    wire: &Wire,
) -> anyhow::Result<()> {
    if args.health_probe_port != 0 {
        let (node, planner, reporter) = (args.node_name.clone(), Arc::clone(planner), wire.reporter());
        let local = Routes::new()
            .health(health)
            .metrics(metrics.registry())
            .json("/state", move || state::page(&node, &planner, &reporter));
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, args.health_probe_port));
        http::serve(loopback, local)
            .await
            .with_context(|| format!("health cannot be served on {loopback}"))?;
    }
    if args.port == 0 {
        return Ok(());
    }
    let routes = Routes::new().metrics(metrics.registry());
    if args.metrics_plain {
        return everywhere(args.port, |address| http::serve(address, routes.clone())).await;
    }
    let tls = Tls::new(&args.tls.options(), &args.node_name)
        .context("TLS of /metrics; --metrics-plain serves without")?;
    let guard = guard(client.clone());
    everywhere(args.port, |address| {
        secure::serve(address, routes.clone(), tls.clone(), guard.clone())
    })
    .await
}

/// Lets in whom the API server knows and grants `get` on the path.
fn guard(client: Client) -> Guard {
    Guard::new(move |token, path| {
        let client = client.clone();
        Box::pin(async move {
            match review::may_get(client, token, path).await {
                Ok(Verdict::Granted) => Ok(Access::Granted),
                Ok(Verdict::Unauthenticated) => Ok(Access::Unauthenticated),
                Ok(Verdict::Forbidden(user)) => Ok(Access::Forbidden(user)),
                Err(error) => Err(error.to_string()),
            }
        })
    })
}

/// On all addresses of both families, where the kernel has IPv6.
async fn everywhere<F>(port: u16, serve: impl Fn(SocketAddr) -> F) -> anyhow::Result<()>
where
    F: Future<Output = io::Result<SocketAddr>>,
{
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    if let Err(error) = serve(both).await {
        tracing::debug!(%error, "no IPv6 listener, trying IPv4 alone");
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        serve(address)
            .await
            .with_context(|| format!("metrics cannot be served on {address}"))?;
    }
    Ok(())
}
