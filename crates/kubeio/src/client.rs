//! The API client: kube's, over a TCP connector that notices a dead API server.

use std::time::Duration;

use crate::outage;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _, DynBody, retry::RetryPolicy},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _, retry::RetryLayer, util::BoxService};

/// How long a connection may stay without an acknowledgement before the kernel gives it up. A watch over a connection
/// whose other end vanished would otherwise look healthy until kube's watch timeout of 290 s has passed.
const DEAD_CONNECTION: Duration = Duration::from_secs(30);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// Short, so that a returning machine, which answers none of the packets sent before, is tried again soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the head of a response may take. Above the API server's queues (15 s) and admission webhooks (30 s); a watch
/// is answered at once.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(40);
/// Attempts after "too many requests" or "not now". Few and soon: watches and writers have their own patience. kube's default,
/// 15 doubling pauses or as long as `Retry-After` says (5 s from an API server whose CRDs are not loaded yet), hides from
/// them that it is back.
const RETRIES: u32 = 3;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Idle connections kept by [`connect`]: they cost memory in every speaker, two cover bursts of writes.
const IDLE_CONNECTIONS: usize = 2;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a service account in the pod nor a usable kubeconfig was found.
    #[error(
        "no cluster configuration: run inside a pod with a service account or set KUBECONFIG to a readable file ({0})"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// This process does not run in a pod, or its service account is not mounted.
    #[error(transparent)]
    Pod(#[from] crate::pod::PodError),
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
    connect_with(IDLE_CONNECTIONS).await
}

/// [`connect`] for a component that keeps up to `idle_connections` requests under way at once.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(idle_connections: usize) -> Result<Client, ConnectError> {
    let mut config = Config::infer()
        .await
        .map_err(|e| ConnectError::Config(Box::new(e)))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    build(&config, idle_connections).map_err(|e| ConnectError::Client(Box::new(e)))
}

/// A client for an explicit configuration.
///
/// # Errors
/// kube's error when TLS material or credentials are unusable.
pub fn from_config(config: &Config) -> Result<Client, kube::Error> {
    build(config, IDLE_CONNECTIONS)
}

/// Connects with the pod's service account and nothing else: a binary that only does this holds none of the code that
/// reads kubeconfigs and runs their credential plugins, which is a tenth of its size. No request is sent yet.
///
/// A `rustls` provider must have been installed by `main` before.
///
/// # Errors
/// [`ConnectError::Pod`] when the service account is not there or cannot be used.
pub fn connect_in_pod() -> Result<Client, ConnectError> {
    let account = crate::pod::Account::load()?;
    let mut config = Config::new(account.url());
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(account.tls())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp(&config));
    let token = account.token();
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Body>| {
            token.authorize(request.headers_mut());
            request
        })
        .service(transport(tls, IDLE_CONNECTIONS));
    Ok(assemble(&config, service, account.namespace()))
}

fn build(config: &Config, idle_connections: usize) -> Result<Client, kube::Error> {
    let tls = config.rustls_https_connector_with_connector(tcp(config))?;
    let service = ServiceBuilder::new()
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(transport(tls, idle_connections));
    let namespace = config.default_namespace.clone();
    Ok(assemble(config, service, namespace))
}

fn tcp(config: &Config) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(DEAD_CONNECTION));
    tcp
}

/// Sends requests, for so long at most, and notes whether they are answered.
fn transport(
    tls: HttpsConnector<HttpConnector>,
    idle_connections: usize,
) -> impl Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ use<> {
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(idle_connections)
        .build(tls);
    ServiceBuilder::new()
        .then(noted)
        .timeout(RESPONSE_TIMEOUT)
        .service(http)
}

/// The client over a service that authorizes requests.
fn assemble<S>(config: &Config, service: S, namespace: impl Into<String>) -> Client
where
    S: Service<Request<Body>, Response = Response<Incoming>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(retries).flatten().map(RetryLayer::new))
        .map_err(Into::into)
        .service(service);
    let service = service
        .map_response(|response| response.map(|body| Box::new(body.map_err(BoxError::from)) as Box<DynBody>));
    ClientBuilder::new(BoxService::new(service), namespace).build()
}

/// The policy; `None` never happens, the constants are valid (there is a test).
fn retries() -> Option<RetryPolicy> {
    RetryPolicy::new(RETRY_FIRST, RETRY_MAX, RETRIES, false).ok()
}

/// Notes for all watches of the process whether the API server answers.
async fn noted(result: Result<Response<Incoming>, BoxError>) -> Result<Response<Incoming>, BoxError> {
    match &result {
        Ok(response) if serves(response.status()) => outage::answered(),
        _ => outage::unanswered(),
    }
    result
}

/// Whether a response with this status comes from an API server that does its work.
fn serves(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_make_a_policy() {
        assert!(retries().is_some());
    }

    #[test]
    fn a_refusal_is_an_answer_and_not_now_is_none() {
        for (code, answer) in [
            (200, true),
            (403, true),
            (404, true),
            (410, true),
            (429, false),
            (503, false),
            (500, false),
        ] {
            assert_eq!(
                serves(StatusCode::from_u16(code).expect("a status")),
                answer,
                "{code}"
            );
        }
    }
}
