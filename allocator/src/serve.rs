//! What the process serves: health, and metrics over TLS for those whom the API server knows.

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
        http::serve_everywhere(args.health_probe_port, routes).await?;
    }
    if args.port == 0 {
        return Ok(());
    }
    let routes = Routes::new().metrics(&metrics.registry);
    if args.metrics_plain {
        http::serve_everywhere(args.port, routes).await?;
        return Ok(());
    }
    let host = if args.pod_name.is_empty() {
        "controller"
    } else {
        &args.pod_name
    };
    let tls = Tls::new(&args.tls, host).context("TLS of /metrics; --metrics-plain serves without")?;
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
