//! The API client: kube's, over a TCP connector that notices a dead API server.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _, DynBody, retry::RetryPolicy},
};
use tower::{BoxError, ServiceBuilder, ServiceExt as _, retry::RetryLayer, util::BoxService};

/// How long a connection may stay without an acknowledgement before the kernel gives it up. A watch over a connection
/// whose other end vanished would otherwise look healthy until kube's watch timeout of 290 s has passed.
const DEAD_CONNECTION: Duration = Duration::from_secs(30);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a service account in the pod nor a usable kubeconfig was found.
    #[error(
        "no cluster configuration: run inside a pod with a service account or set KUBECONFIG to a readable file ({0})"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration names certificates or credentials that can't be used.
    #[error("the cluster configuration can't be used: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// Connects with the pod's service account, or with `KUBECONFIG` outside a cluster. No request is sent yet.
///
/// A `rustls` provider must have been installed by `main` before.
///
/// # Errors
/// [`ConnectError`] when there is no configuration, or it can't be turned into a client.
pub async fn connect() -> Result<Client, ConnectError> {
    let mut config = Config::infer()
        .await
        .map_err(|e| ConnectError::Config(Box::new(e)))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    from_config(config).map_err(|e| ConnectError::Client(Box::new(e)))
}

/// A client for an explicit configuration.
///
/// # Errors
/// kube's error when TLS material or credentials are unusable.
pub fn from_config(config: Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(DEAD_CONNECTION));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    // Idle connections cost memory in every speaker; two cover bursts of writes.
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(2)
        .build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(
            config
                .default_retry
                .then(|| RetryLayer::new(RetryPolicy::server_retry())),
        )
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let service = service
        .map_response(|response| response.map(|body| Box::new(body.map_err(BoxError::from)) as Box<DynBody>));
    Ok(ClientBuilder::new(BoxService::new(service), config.default_namespace).build())
}
