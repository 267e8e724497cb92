//! What the process serves: health, and metrics over TLS for those whom the API server knows.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use kube::Client;
use metallb_kubeio::review::{self, Verdict};
use metallb_telemetry::{Access, Guard, Health, Routes, Tls, http, secure};

use crate::args::Args;
use crate::metrics::Metrics;

/// Starts both servers, on all interfaces.
pub(crate) async fn start(
    args: &Args,
    client: &Client,
    metrics: &Metrics,
    health: &Health,
) -> anyhow::Result<()> {
    if args.health_probe_port != 0 {
        let routes = Routes::new().health(health);
        listen(args.health_probe_port, |address| {
            http::serve(address, routes.clone())
        })
        .await?;
    }
    if args.port == 0 {
        return Ok(());
    }
    let routes = Routes::new().metrics(&metrics.registry);
    if args.metrics_plain {
        return listen(args.port, |address| http::serve(address, routes.clone())).await;
    }
    let host = if args.pod_name.is_empty() {
        "controller"
    } else {
        &args.pod_name
    };
    let tls =
        Tls::new(&args.tls.options(), host).context("TLS of /metrics; --metrics-plain serves without")?;
    let guard = guard(client.clone());
    listen(args.port, |address| {
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

/// Both families where the kernel has IPv6.
async fn listen<F>(port: u16, serve: impl Fn(SocketAddr) -> F) -> anyhow::Result<()>
where
    F: Future<Output = io::Result<SocketAddr>>,
{
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    if let Err(error) = serve(both).await {
        tracing::debug!(%error, "no IPv6 listener, trying IPv4 alone");
        serve(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
    }
    Ok(())
}
