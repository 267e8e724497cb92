//! The LAN client's view: pages, streams of packets, ARP and neighbour discovery. All traffic starts in the client's network
//! namespace (or that of another place of the lab).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::cluster::{CLIENT, Cluster};
use crate::priority::prefer_thread;
use crate::stream::{StreamReport, gaps, longest_run_missing};
use crate::wait::wait_every;
use crate::{netns, sh};

/// A stream of numbered messages to an echo server.
#[derive(Clone, Copy, Debug)]
pub struct StreamSpec {
    /// Address and port of the echo server.
    pub target: SocketAddr,
    /// Messages a second.
    pub rate: u32,
    /// TCP (one connection for the whole stream) instead of UDP.
    pub tcp: bool,
}

impl StreamSpec {
    /// UDP at 200 messages a second.
    pub fn udp(target: SocketAddr) -> Self {
        Self {
            target,
            rate: 200,
            tcp: false,
        }
    }

    /// One TCP connection with 200 messages a second.
    pub fn tcp(target: SocketAddr) -> Self {
        Self {
            tcp: true,
            ..Self::udp(target)
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate.max(1)
    }
}

/// A stream under way.
#[derive(Debug)]
pub struct StreamHandle {
    spec: StreamSpec,
    started: SystemTime,
    stop: Arc<AtomicBool>,
    live: Arc<Live>,
    sender: JoinHandle<Sent>,
    receiver: JoinHandle<Received>,
}

/// What a stream shows while it runs, in microseconds since its start: scenarios wait for these.
#[derive(Debug, Default)]
struct Live {
    /// When the last answer came.
    last: AtomicU64,
    /// Since when answers have come without a pause of [`PAUSE`].
    flowing_since: AtomicU64,
    /// How many messages were sent in all; [`UNDER_WAY`] until the last was.
    sent_in_all: AtomicU64,
}

/// Still sending.
const UNDER_WAY: u64 = u64::MAX;
/// After the last message, so long without a new answer means that no more come. Long, because a busy machine is no loss.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A pause between two answers that begins a new stretch of flowing traffic.
const PAUSE: Duration = Duration::from_millis(100);

impl Live {
    fn answer(&self, at: Duration) {
        let now = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let last = self.last.load(Ordering::Relaxed);
        if last == 0 || u128::from(now.saturating_sub(last)) > PAUSE.as_micros() {
            self.flowing_since.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Sent {
    ok: u64,
    errors: u64,
    last: Duration,
    broken: Option<String>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Socket {
    fn open(spec: &StreamSpec) -> Result<Self> {
        let target = spec.target;
        if spec.tcp {
            // A connection whose first packet comes before kube-proxy's rules stays without translation for ever (the kernel
            // decides that once per connection), so each try is a new one.
            let mut tries = 10;
            let socket = loop {
                tries -= 1;
                match TcpStream::connect_timeout(&target, Duration::from_secs(1)) {
                    Ok(socket) => break socket,
                    Err(error) if tries == 0 => {
                        return Err(error).with_context(|| format!("connect to {target}"));
                    }
                    Err(_) => {}
                }
            };
            socket.set_nodelay(true)?;
            Ok(Self::Tcp(socket))
        } else {
            let any: IpAddr = if target.is_ipv4() {
                [0, 0, 0, 0].into()
            } else {
                [0u16; 8].into()
            };
            let socket = UdpSocket::bind((any, 0)).context("open a UDP socket")?;
            socket
                .connect(target)
                .with_context(|| format!("aim at {target}"))?;
            Ok(Self::Udp(socket))
        }
    }

    fn split(self) -> Result<(Self, Self)> {
        // The receiver looks at the stop flag this often.
        let tick = Some(Duration::from_millis(50));
        Ok(match self {
            Self::Udp(s) => {
                s.set_read_timeout(tick)?;
                (Self::Udp(s.try_clone()?), Self::Udp(s))
            }
            Self::Tcp(s) => {
                s.set_read_timeout(tick)?;
                (Self::Tcp(s.try_clone()?), Self::Tcp(s))
            }
        })
    }

    fn send(&mut self, number: u64) -> std::io::Result<()> {
        match self {
            Self::Udp(s) => s.send(&number.to_be_bytes()).map(drop),
            Self::Tcp(s) => s.write_all(&number.to_be_bytes()),
        }
    }

    /// Appends what has come to `buffer`; returns false at the end of a TCP connection.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> bool {
        let mut chunk = [0; 2048];
        let got = match self {
            Self::Udp(s) => s.recv(&mut chunk),
            Self::Tcp(s) => match s.read(&mut chunk) {
                Ok(0) => return false,
                other => other,
            },
        };
        // Time-outs, and for UDP the errors that ICMP reports: the next answer may still come.
        if let Ok(n) = got {
            buffer.extend_from_slice(&chunk[..n]);
        }
        true
    }
}

fn send_all(mut socket: Socket, spec: StreamSpec, start: Instant, stop: &AtomicBool, live: &Live) -> Sent {
    let mut sent = Sent::default();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sent.last = start.elapsed();
        match socket.send(number) {
            Ok(()) => sent.ok += 1,
            Err(error) => {
                sent.errors += 1;
                if spec.tcp {
                    sent.broken = Some(error.to_string());
                    break;
                }
            }
        }
        let next = spec.interval() * u32::try_from(number + 1).unwrap_or(u32::MAX);
        std::thread::sleep(next.saturating_sub(start.elapsed()));
    }
    live.sent_in_all.store(sent.ok, Ordering::Relaxed);
    sent
}

/// When the first answer to each message came, in the order in which they came, and which messages.
type Received = (Vec<Duration>, BTreeSet<u64>);

fn receive_all(mut socket: Socket, start: Instant, stop: &AtomicBool, live: &Live) -> Received {
    let mut times = Vec::new();
    let mut answered = BTreeSet::new();
    let mut buffer = Vec::new();
    let mut quiet_since = Instant::now();
    while !stop.load(Ordering::Relaxed)
        || (live.sent_in_all.load(Ordering::Relaxed) > answered.len() as u64
            && quiet_since.elapsed() < LAST_ANSWERS)
    {
        let open = socket.receive(&mut buffer);
        while let Some((number, _)) = buffer.split_first_chunk::<8>() {
            let at = start.elapsed();
            if answered.insert(u64::from_be_bytes(*number)) {
                times.push(at);
                live.answer(at);
                quiet_since = Instant::now();
            }
            buffer.drain(..8);
        }
        if !open {
            break;
        }
    }
    (times, answered)
}

impl StreamHandle {
    fn start(spec: StreamSpec, sending: Socket, receiving: Socket) -> Self {
        let live = Live {
            sent_in_all: AtomicU64::new(UNDER_WAY),
            ..Live::default()
        };
        let (stop, live) = (Arc::new(AtomicBool::new(false)), Arc::new(live));
        let (started, start) = (SystemTime::now(), Instant::now());
        let (stop_sender, stop_receiver) = (Arc::clone(&stop), Arc::clone(&stop));
        let (done, seen) = (Arc::clone(&live), Arc::clone(&live));
        Self {
            spec,
            started,
            stop,
            live,
            sender: std::thread::spawn(move || {
                prefer_thread();
                send_all(sending, spec, start, &stop_sender, &done)
            }),
            receiver: std::thread::spawn(move || {
                prefer_thread();
                receive_all(receiving, start, &stop_receiver, &seen)
            }),
        }
    }

    /// Time since the stream began; marks of the scenario (link cut at ...) are taken with it.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }

    /// True if answers have come without a pause for at least `time`, and after `mark` (a time since the stream began).
    pub fn flows_since(&self, mark: Duration, time: Duration) -> bool {
        let micros = |at: &AtomicU64| Duration::from_micros(at.load(Ordering::Relaxed));
        let (since, last) = (micros(&self.live.flowing_since), micros(&self.live.last));
        last >= mark + time && last >= since + time
    }

    /// Tells it to end, without waiting.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the stream and says what came of it.
    pub fn stop(self) -> Result<StreamReport> {
        self.ask_to_stop();
        let sent = self
            .sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sending thread panicked"))?;
        let (times, answered) = self
            .receiver
            .join()
            .map_err(|_| anyhow::anyhow!("the receiving thread panicked"))?;
        let (longest, gaps) = gaps(&times, sent.last, self.spec.interval() * 4);
        let since_1970 = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(StreamReport {
            sent: sent.ok,
            send_errors: sent.errors,
            answered: times.len() as u64,
            lost_in_a_row: longest_run_missing(&answered, sent.ok + sent.errors),
            longest,
            gaps,
            started_unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            broken: sent.broken,
        })
    }
}

impl Cluster {
    /// Fetches `http://IP:PORT/` from the client, with a time-out in seconds; the page, or an error with curl's words.
    pub fn client_http_get(&self, address: IpAddr, port: u16, timeout_s: u32) -> Result<String> {
        self.http_get_from(CLIENT, address, port, timeout_s)
    }

    /// As [`Self::client_http_get`] from another place.
    pub fn http_get_from(&self, part: &str, address: IpAddr, port: u16, timeout_s: u32) -> Result<String> {
        let url = format!("http://{}/", SocketAddr::new(address, port));
        let mut command = self.exec(part, "curl")?;
        let limit = timeout_s.to_string();
        sh::run(command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--max-time",
            &limit,
            &url,
        ]))
    }

    /// Starts a stream from the client to an echo server.
    pub fn client_stream(&self, spec: StreamSpec) -> Result<StreamHandle> {
        self.stream_from(CLIENT, spec)
    }

    /// As [`Self::client_stream`] from another place.
    pub fn stream_from(&self, part: &str, spec: StreamSpec) -> Result<StreamHandle> {
        let name = self.plan().netns(part);
        let socket = netns::within(&name, || Socket::open(&spec))?;
        let (sending, receiving) = socket.split()?;
        Ok(StreamHandle::start(spec, sending, receiving))
    }

    /// Waits until an echo server answers a single message, each try from a port of its own: the kernel remembers of a port
    /// whose first message came before kube-proxy's rules that it is not translated.
    ///
    /// # Errors
    /// It does not answer before the deadline.
    pub fn wait_echo(&self, part: &str, spec: StreamSpec, deadline: Duration) -> Result<()> {
        let name = self.plan().netns(part);
        wait_every(
            &format!("an answer from {} to {part}", spec.target),
            Duration::from_millis(20),
            deadline,
            || {
                let (mut sending, mut receiving) = netns::within(&name, || Socket::open(&spec))?.split()?;
                sending
                    .send(0)
                    .with_context(|| format!("send to {}", spec.target))?;
                let (asked, mut answer) = (Instant::now(), Vec::new());
                while answer.len() < 8 && asked.elapsed() < Duration::from_millis(500) {
                    if !receiving.receive(&mut answer) {
                        break;
                    }
                }
                Ok((answer.len() >= 8).then_some(()))
            },
        )
    }

    /// Runs a UDP stream at 200 messages a second for `time`.
    pub fn client_udp_stream(&self, target: SocketAddr, time: Duration) -> Result<StreamReport> {
        let stream = self.client_stream(StreamSpec::udp(target))?;
        std::thread::sleep(time);
        stream.stop()
    }

    /// Asks the LAN who has the address, by ARP or neighbour discovery, for up to a second; the MAC addresses that answered,
    /// lower case. More than one is a conflict.
    pub fn client_who_has(&self, address: IpAddr) -> Result<BTreeSet<String>> {
        let target = address.to_string();
        let mut command = if address.is_ipv4() {
            let mut command = self.exec(CLIENT, "arping")?;
            command.args(["-c", "2", "-w", "1", "-I", "eth0", &target]);
            command
        } else {
            let mut command = self.exec(CLIENT, "ndisc6")?;
            command.args(["-m", "-r", "1", "-w", "800", &target, "eth0"]);
            command
        };
        // Both end with a failure when nobody answers: that is an empty set, not an error.
        let output = sh::output(&mut command)?;
        Ok(macs(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The node with this MAC address on the LAN.
    pub fn node_by_mac(&self, mac: &str) -> Option<String> {
        self.plan()
            .node_plans()
            .find(|n| n.lan.mac() == mac)
            .map(|n| n.name)
    }

    /// The node that answers for an address; an error if none or several do.
    pub fn announcing_node(&self, address: IpAddr) -> Result<String> {
        let macs = self.client_who_has(address)?;
        let mut nodes: Vec<_> = macs
            .iter()
            .map(|m| self.node_by_mac(m).unwrap_or_else(|| m.clone()))
            .collect();
        match (nodes.pop(), nodes.len()) {
            (Some(node), 0) => Ok(node),
            (None, _) => bail!("nobody answers for {address}"),
            (Some(node), _) => bail!("{address} is answered for by {node} and {}", nodes.join(", ")),
        }
    }

    /// Makes the client forget all neighbours, as one that has just been switched on.
    pub fn client_flush_neighbours(&self) -> Result<()> {
        netns::ip_batch(&self.plan().netns(CLIENT), "neigh flush dev eth0\n")
    }
}

/// Every MAC address in a text, lower case.
fn macs(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_hexdigit() || c == ':'))
        .filter(|word| {
            word.len() == 17 && word.split(':').count() == 6 && word.split(':').all(|p| p.len() == 2)
        })
        .map(str::to_ascii_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_in_the_words_of_arping_and_ndisc6() {
        let arping = "ARPING 192.168.124.200 from 192.168.124.100 eth0\n\
                      Unicast reply from 192.168.124.200 [02:4C:C0:A8:7C:0B]  0.7ms\nSent 2 probes";
        assert_eq!(macs(arping), BTreeSet::from(["02:4c:c0:a8:7c:0b".to_owned()]));
        let ndisc6 = "Soliciting fd00:124::200 (fd00:124::200) on eth0...\nTarget link-layer address: 02:4C:C0:A8:7C:0C\n\
                      from fd00:124:0:0:0:0:0:200";
        assert_eq!(macs(ndisc6), BTreeSet::from(["02:4c:c0:a8:7c:0c".to_owned()]));
    }

    #[test]
    fn a_stream_counts_every_message() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            // Every fourth message is lost.
            for n in 0.. {
                let Ok((len, from)) = server.recv_from(&mut buffer) else {
                    return n;
                };
                if n % 4 != 3 {
                    server.send_to(&buffer[..len], from).unwrap();
                }
            }
            0
        });
        let spec = StreamSpec {
            target,
            rate: 500,
            tcp: false,
        };
        let (sending, receiving) = Socket::open(&spec).unwrap().split().unwrap();
        let handle = StreamHandle::start(spec, sending, receiving);
        std::thread::sleep(Duration::from_millis(300));
        assert!(handle.flows_since(Duration::ZERO, Duration::from_millis(50)));
        assert!(!handle.flows_since(Duration::from_secs(1), Duration::from_millis(50)));
        let report = handle.stop().unwrap();
        let seen: u64 = echo.join().unwrap();
        assert_eq!(report.sent, seen);
        assert_eq!(report.lost(), seen / 4);
        assert_eq!(report.lost_in_a_row, 1);
    }
}
