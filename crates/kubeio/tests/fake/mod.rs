//! As much of an API server as a watch needs, on the loopback: streaming lists, refusals, outages.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Nothing in these tests takes that long; a hang ends here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a request is answered with.
pub(crate) enum Reply {
    /// A status and no more.
    Refuse(u16),
    /// These watch events; the connection stays open.
    Watch(Vec<Value>),
    /// This object.
    Object(Value),
}

/// The server.
pub(crate) struct Fake {
    pub(crate) client: Client,
    away: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
    cut: watch::Sender<u32>,
}

impl Fake {
    /// `answer` is asked for each request, with path and query.
    pub(crate) async fn start(answer: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Self {
        // Another test of this process may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
        let fake = Self {
            client: metallb_kubeio::client::from_config(&config).expect("a client"),
            away: Arc::default(),
            attempts: Arc::default(),
            cut: watch::Sender::new(0),
        };
        let (away, attempts, cut) = (
            Arc::clone(&fake.away),
            Arc::clone(&fake.attempts),
            fake.cut.clone(),
        );
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                if away.load(Ordering::SeqCst) {
                    attempts.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let (answer, mut cut) = (Arc::clone(&answer), cut.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        // An error is a client that went away.
                        _ = serve(stream, &*answer) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        fake
    }

    /// Drops all connections, and every new one at once.
    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::SeqCst);
        self.cut.send_modify(|cut| *cut += 1);
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    /// Connections refused so far.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&str, &str) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let length = |line: &str| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        };
        let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match answer(path, query) {
            Reply::Refuse(code) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "refused",
                    "reason": "Refused", "code": code});
                stream.write_all(whole(code, &status).as_bytes()).await?;
            }
            Reply::Object(object) => stream.write_all(whole(200, &object).as_bytes()).await?,
            Reply::Watch(events) => {
                let head =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                for event in events {
                    let line = format!("{event}\n");
                    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                    stream.write_all(chunk.as_bytes()).await?;
                }
                std::future::pending::<()>().await;
            }
        }
    }
}

fn whole(code: u16, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {code} Some\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// The events of a streaming list.
pub(crate) fn listed(objects: &[Value]) -> Reply {
    let added = objects
        .iter()
        .map(|object| json!({"type": "ADDED", "object": object}));
    let end = json!({"type": "BOOKMARK", "object": {"kind": "Any", "apiVersion": "v1", "metadata": {
        "resourceVersion": "100", "annotations": {"k8s.io/initial-events-end": "true"}}}});
    Reply::Watch(added.chain([end]).collect())
}

/// What a restarted API server says to whoever wants to go on.
pub(crate) fn expired() -> Reply {
    Reply::Watch(vec![
        json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410}}),
    ])
}
