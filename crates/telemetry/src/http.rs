//! The small HTTP server of every component: health, metrics, state. Paths are matched exactly, only GET and HEAD.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::Health;

/// A client that sends nothing for this long is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one server at a time; more wait, so that they cannot take the memory or all file descriptors.
const CONNECTIONS: usize = 64;

/// Status, content type, body.
pub(crate) type Answer = (StatusCode, &'static str, String);
type Handler = Arc<dyn Fn() -> Answer + Send + Sync>;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// Which paths a server answers.
#[derive(Clone, Default)]
pub struct Routes {
    paths: Vec<(&'static str, Handler)>,
}

impl Routes {
    /// No paths.
    pub fn new() -> Self {
        Self::default()
    }

    /// `/healthz` (the process serves requests) and `/readyz` (all of `health` holds; the body says what does not).
    #[must_use]
    pub fn health(self, health: &Health) -> Self {
        let health = health.clone();
        self.route("/healthz", || (StatusCode::OK, TEXT, "ok\n".into()))
            .route("/readyz", move || match health.check() {
                Ok(()) => (StatusCode::OK, TEXT, "ok\n".into()),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
            })
    }

    /// `/metrics` in the Prometheus text format.
    #[must_use]
    pub fn metrics(self, registry: &Registry) -> Self {
        let registry = registry.clone();
        self.route("/metrics", move || {
            let mut text = Vec::new();
            match TextEncoder::new().encode(&registry.gather(), &mut text) {
                Ok(()) => (
                    StatusCode::OK,
                    prometheus::TEXT_FORMAT,
                    String::from_utf8_lossy(&text).into_owned(),
                ),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            }
        })
    }

    /// A path answered with JSON text made on each request.
    #[must_use]
    pub fn json(self, path: &'static str, body: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.route(path, move || (StatusCode::OK, "application/json", body()))
    }

    fn route(mut self, path: &'static str, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        self.paths.push((path, Arc::new(answer)));
        self
    }

    pub(crate) fn knows(&self, path: &str) -> bool {
        self.paths.iter().any(|(known, _)| *known == path)
    }

    pub(crate) fn answer(&self, method: &Method, path: &str) -> Answer {
        let Some((_, handler)) = self.paths.iter().find(|(known, _)| *known == path) else {
            let known: Vec<&str> = self.paths.iter().map(|(path, _)| *path).collect();
            return (
                StatusCode::NOT_FOUND,
                TEXT,
                format!("no such path; there are: {}\n", known.join(" ")),
            );
        };
        if method == Method::GET || method == Method::HEAD {
            handler()
        } else {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into())
        }
    }
}

/// Listens on `address` and serves `routes` in the background of the current runtime. Returns the bound address.
///
/// # Errors
/// The address can't be bound; the message names it.
pub async fn serve(address: SocketAddr, routes: Routes) -> io::Result<SocketAddr> {
    let listener = Listener::bind(address).await?;
    let bound = listener.address;
    let routes = Arc::new(routes);
    tokio::spawn(listener.accept(move |stream| {
        let routes = routes.clone();
        connection(stream, move |request| {
            std::future::ready(routes.answer(request.method(), request.uri().path()))
        })
    }));
    Ok(bound)
}

/// A bound socket.
pub(crate) struct Listener {
    socket: TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))?;
        Ok(Self {
            address: socket.local_addr()?,
            socket,
        })
    }

    /// Serves each connection in a task of its own, for ever.
    pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
        self,
        serve: impl Fn(TcpStream) -> F,
    ) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let connection = serve(stream);
                    tokio::spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: leave time for some to be closed.
                    tracing::warn!(%error, address = %self.address, "accept failed");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// Serves one connection with `answer` until the client is done.
pub(crate) async fn connection<S, A>(stream: S, answer: impl Fn(Request<Incoming>) -> A)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async {
            let (status, kind, body) = answer.await;
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP client went away");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_over_a_socket() {
        let health = Health::waiting_for(&["pools"]);
        let registry = Registry::new();
        let gauge =
            prometheus::IntGauge::new("metallb_test_total", "a gauge whose name ends in _total").unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        gauge.set(3);
        let routes = Routes::new()
            .health(&health)
            .metrics(&registry)
            .json("/state", || "{}".into());
        let address = serve("127.0.0.1:0".parse().unwrap(), routes).await.unwrap();

        assert!(get(address, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        let unready = get(address, "GET /readyz").await;
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.contains("pools: not done yet"),
            "{unready}"
        );
        health.ready("pools");
        assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        assert!(
            get(address, "GET /metrics")
                .await
                .contains("metallb_test_total 3")
        );
        assert!(get(address, "GET /state").await.ends_with("{}"));
        assert!(get(address, "GET /nothing").await.starts_with("HTTP/1.1 404"));
        assert!(get(address, "POST /state").await.starts_with("HTTP/1.1 405"));
    }
}
