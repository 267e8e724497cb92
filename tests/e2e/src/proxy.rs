//! The way from the host to the API server: listens on the host's loopback, connects inside the lab. The bytes pass
//! unread, so TLS is between the client and the API server.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns;
use crate::plan::{API_PORT, Plan, control};
use crate::process::{self, Room, SELF_EXE, Spec};
use crate::state::{ClusterRecord, State};

/// Process name of the proxy.
pub const ID: &str = "api-proxy";

/// Picks a free TCP port on 127.0.0.1: the cluster's preferred one if it is free.
pub fn pick_port(plan: &Plan) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", plan.preferred_port()))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("find a free TCP port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Starts the proxy as a process of the cluster.
pub fn start(state: &State, record: &ClusterRecord) -> Result<()> {
    let plan = &record.plan;
    let listen = format!("127.0.0.1:{}", record.port);
    let target = format!("{}:{API_PORT}", control().v4);
    let spec = Spec {
        id: ID.to_owned(),
        program: SELF_EXE.into(),
        args: [
            "internal",
            "proxy",
            &listen,
            &plan.netns(crate::control_plane::PART),
            &target,
        ]
        .into_iter()
        .map(str::to_owned)
        .collect(),
        env: Vec::new(),
        room: Room::Host,
        cgroup: format!("{}/host", plan.cgroup()),
        log: plan.log_dir().join(format!("{ID}.log")),
    };
    process::start(state, &spec).map(drop)
}

/// The proxy itself; runs until it is killed.
pub fn serve(listen: SocketAddr, netns_name: &str, target: SocketAddr) -> Result<()> {
    loop {
        let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
        accept_while_reachable(&listener, netns_name, target);
        // Nobody listens while the API server is away, so clients are refused as by a server that is down; an accepted and
        // closed connection would make them try again for many seconds.
        drop(listener);
        while connect(netns_name, target).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Accepts connections until the target cannot be reached.
fn accept_while_reachable(listener: &TcpListener, netns_name: &str, target: SocketAddr) {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of descriptors or a connection that is gone again: the next one may do better.
                eprintln!("accept: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let server = match connect(netns_name, target) {
            Ok(server) => server,
            Err(error) => {
                eprintln!("{error:#}");
                return;
            }
        };
        std::thread::spawn(move || {
            if let Err(error) = relay(&client, &server) {
                eprintln!("connection to {target}: {error}");
            }
        });
    }
}

/// Connects from inside the lab; the calling thread stays where it is.
fn connect(netns_name: &str, target: SocketAddr) -> Result<TcpStream> {
    netns::within(netns_name, || {
        TcpStream::connect_timeout(&target, Duration::from_secs(2))
            .with_context(|| format!("connect to {target}"))
    })
}

fn relay(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let upward = std::thread::spawn(move || pump(&mut from, &mut to));
    let downward = pump(&mut &*server, &mut &*client);
    let upward = upward
        .join()
        .map_err(|_| io::Error::other("relay thread panicked"))?;
    downward.and(upward)
}

fn pump(from: &mut (impl io::Read + AsStream), to: &mut (impl io::Write + AsStream)) -> io::Result<()> {
    let copied = io::copy(from, to);
    // Both ends learn that this direction is over; the other direction ends by itself or by this.
    for (stream, how) in [(from.stream(), Shutdown::Read), (to.stream(), Shutdown::Write)] {
        match stream.shutdown(how) {
            Err(e) if e.kind() != io::ErrorKind::NotConnected => return Err(e),
            _ => {}
        }
    }
    match copied {
        // Resets are how many clients end a connection.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            to.stream().shutdown(Shutdown::Both).or(Ok(()))
        }
        other => other.map(drop),
    }
}

trait AsStream {
    fn stream(&self) -> &TcpStream;
}

impl AsStream for TcpStream {
    fn stream(&self) -> &TcpStream {
        self
    }
}

impl AsStream for &TcpStream {
    fn stream(&self) -> &TcpStream {
        self
    }
}
