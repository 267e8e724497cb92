//! What the process serves: health, `/state` and metrics on the loopback; metrics to the network, over TLS for those whom the
//! API server knows.

use std::net::{Ipv4Addr, SocketAddr};
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
        http::serve_everywhere(args.port, routes).await?;
        return Ok(());
    }
    let tls =
        Tls::new(&args.tls, &args.node_name).context("TLS of /metrics; --metrics-plain serves without")?;
    secure::serve_everywhere(args.port, routes, tls, guard(client.clone())).await?;
    Ok(())
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
