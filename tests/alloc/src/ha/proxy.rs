//! A TCP proxy before the API server, one for each replica, that can be cut.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the end of a connection travels.
const LINGER: Duration = Duration::from_secs(1);

/// State of the way to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything passes.
    Open,
    /// Nothing passes, and nobody is told: what was sent arrives when the way is open again, as after a lost cable.
    Silent,
    /// What replicas send is held back like that, what they are told passes: they go on deciding from fresh news.
    Muted,
    /// Connections are reset, new ones refused.
    Refusing,
}

/// A running proxy; it ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("listen on loopback")?;
        let address = listener.local_addr().context("listen on loopback")?;
        let (way, seen) = watch::channel(Way::Open);
        let task = tokio::spawn(accept(listener, target, seen));
        Ok(Self { address, way, task })
    }

    /// Where replicas connect.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Opens or cuts the way.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, way: watch::Receiver<Way>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            continue;
        };
        let way = way.clone();
        tokio::spawn(connect(near, target, way));
    }
}

/// Ends without a word when the proxy does: its replica is ended too.
async fn connect(near: TcpStream, target: SocketAddr, mut way: watch::Receiver<Way>) {
    if *way.borrow() == Way::Refusing || way.wait_for(|way| *way == Way::Open).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let mut cut = way.clone();
    tokio::select! {
        () = pump(near_read, far_write, way.clone(), &[Way::Open]) => {}
        () = pump(far_read, near_write, way, &[Way::Open, Way::Muted]) => {}
        _ = cut.wait_for(|way| *way == Way::Refusing) => {}
    }
}

/// Copies until one side ends, while the way is one of these.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    passes: &[Way],
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if way.wait_for(|way| passes.contains(way)).await.is_err() {
            return;
        }
        if length == 0 {
            // Data of a connection that was given up long ago is worked on before the end of it is seen.
            tokio::time::sleep(LINGER).await;
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_into_silence_arrives_afterwards() {
        let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        let proxy = Proxy::start(target).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let mut answer = [0; 4];
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        proxy.set(Way::Silent);
        stream.write_all(b"late").await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await;
        assert!(waiting.is_err(), "nothing passes");
        proxy.set(Way::Open);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"late");
        proxy.set(Way::Muted);
        stream.write_all(b"mute").await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await;
        assert!(waiting.is_err(), "nothing is sent, so nothing comes back");
        proxy.set(Way::Refusing);
        assert_eq!(
            stream.read(&mut answer).await.unwrap_or(0),
            0,
            "the connection is gone"
        );
    }
}
