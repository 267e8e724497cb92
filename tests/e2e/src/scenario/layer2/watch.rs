//! Streams of several clients to one service, in both families.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::field::{PORT, Target};
use crate::{
    Cluster, StreamHandle, StreamSpec, cluster::CLIENT, flush::FLUSHING, scenario::workload::SOON,
    stream::StreamReport, wait::wait_every,
};

/// How a client treats its neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// UDP; it keeps the entry as long as its kernel does.
    Keeps,
    /// UDP; it forgets the entry every 100 ms.
    Flushes,
    /// One TCP connection.
    Connected,
}

/// The two UDP clients.
pub const DATAGRAMS: &[Client] = &[Client::Keeps, Client::Flushes];
/// All three.
pub const ALL_CLIENTS: &[Client] = &[Client::Keeps, Client::Flushes, Client::Connected];

/// What came of one client's stream.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its behaviour.
    pub client: Client,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// What it saw.
    pub report: StreamReport,
}

impl Outcome {
    /// A word for names of figures: `v4_keeps`.
    pub fn label(&self) -> String {
        let family = if self.v6 { "v6" } else { "v4" };
        let client = match self.client {
            Client::Keeps => "keeps",
            Client::Flushes => "flushes",
            Client::Connected => "tcp",
        };
        format!("{family}_{client}")
    }
}

/// Streams under way.
pub struct Watch {
    streams: Vec<(Client, bool, StreamHandle)>,
}

impl Watch {
    /// Starts them, and returns when all are answered. What is not reachable yet is no loss, so they begin when it is.
    ///
    /// # Errors
    /// A stream that cannot be started, or is not answered.
    pub fn start(cluster: &Cluster, target: &Target, clients: &[Client]) -> Result<Self> {
        let mut streams = Vec::new();
        for client in clients {
            for address in [target.v4, target.v6] {
                let address = SocketAddr::new(address, PORT);
                let (place, spec) = match client {
                    Client::Keeps => (CLIENT, StreamSpec::udp(address)),
                    Client::Flushes => (FLUSHING, StreamSpec::udp(address)),
                    Client::Connected => (CLIENT, StreamSpec::tcp(address)),
                };
                cluster.wait_echo(place, spec, SOON)?;
                streams.push((*client, address.is_ipv6(), cluster.stream_from(place, spec)?));
            }
        }
        let watch = Self { streams };
        watch.wait_flow(&watch.mark(), Duration::from_millis(300), SOON)?;
        Ok(watch)
    }

    /// This moment, for [`Self::wait_flow`].
    pub fn mark(&self) -> Vec<Duration> {
        self.streams
            .iter()
            .map(|(_, _, stream)| stream.elapsed())
            .collect()
    }

    /// Waits until every stream has been answered without a pause for `time`, after the mark.
    ///
    /// # Errors
    /// The clients that have no answers.
    pub fn wait_flow(&self, mark: &[Duration], time: Duration, deadline: Duration) -> Result<()> {
        wait_every(
            "all streams to be answered",
            Duration::from_millis(20),
            deadline,
            || {
                let silent: Vec<_> = self
                    .streams
                    .iter()
                    .zip(mark)
                    .filter(|((_, _, stream), mark)| !stream.flows_since(**mark, time))
                    .map(|((client, v6, _), _)| format!("{client:?} {}", if *v6 { "IPv6" } else { "IPv4" }))
                    .collect();
                if silent.is_empty() {
                    return Ok(Some(()));
                }
                bail!("no steady answers for: {}", silent.join(", "))
            },
        )
    }

    /// Ends them.
    ///
    /// # Errors
    /// A thread that panicked.
    pub fn stop(self) -> Result<Vec<Outcome>> {
        // All are asked to end before the first is waited for.
        self.streams
            .iter()
            .for_each(|(_, _, stream)| stream.ask_to_stop());
        self.streams
            .into_iter()
            .map(|(client, v6, stream)| {
                Ok(Outcome {
                    client,
                    v6,
                    report: stream.stop()?,
                })
            })
            .collect()
    }
}
