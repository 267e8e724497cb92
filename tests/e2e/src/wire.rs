//! A raw socket of a place on the LAN: asks for addresses, many at once, and hears who answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::cluster::Cluster;
use crate::frames::{self, Mac, Word};
use crate::lan::LAN_BRIDGE;
use crate::netns;
use crate::plan::{Pair, gateway, lan_host};

/// The place that asks. Not the client: answers to questions of others would keep its neighbour entries fresh.
pub const OBSERVER: &str = "observer";
/// Last number of its addresses.
const NUMBER: u8 = 103;

/// A socket on the first interface of a place.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    mac: Mac,
    own: (Ipv4Addr, Ipv6Addr),
}

/// Questions that go out again and again until this is dropped.
#[derive(Debug)]
pub struct Asking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the thread that asks for addresses panicked");
        }
    }
}

impl Wire {
    /// Opens it in the network namespace of a host with these addresses.
    fn open(namespace: &str, addresses: Pair, hears: bool) -> Result<Self> {
        let mac = Mac::parse(&addresses.mac()).context("a host has a hardware address")?;
        let socket = netns::within(namespace, || {
            let protocol = hears.then_some(SockProtocol::EthAll);
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                protocol,
            )
            .context("open a packet socket (this needs CAP_NET_RAW)")?;
            let mut links = nix::ifaddrs::getifaddrs().context("list the interfaces")?;
            let link = links
                .find(|link| link.interface_name == "eth0" && as_link(link).is_some())
                .with_context(|| format!("{namespace} has no interface eth0"))?;
            let link = as_link(&link).context("eth0 has a link address")?;
            bind(socket.as_raw_fd(), &link).context("bind the packet socket to eth0")?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 10_000))
                .context("set a receive time-out")?;
            // A burst of a thousand answers fits; the kernel gives what it may.
            setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).context("set the receive buffer")?;
            Ok(socket)
        })?;
        Ok(Self {
            socket,
            mac,
            own: (addresses.v4, addresses.v6),
        })
    }

    /// Asks everybody once for the address.
    pub fn ask(&self, address: IpAddr) -> Result<()> {
        self.send(&frames::question(self.mac, self.own, address, None))
    }

    /// Sends a frame. A full queue (a cut cable, a flood) drops it, as a network does.
    fn send(&self, frame: &[u8]) -> Result<()> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::ENETDOWN | Errno::EAGAIN) => Ok(()),
            Err(error) => bail!("send a frame: {error}"),
        }
    }

    /// The next frame about neighbours within 10 ms.
    fn hear(&self) -> Result<Option<Word>> {
        let mut buffer = [0; 2048];
        match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => Ok(frames::read(&buffer[..length])),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(error) => bail!("hear frames: {error}"),
        }
    }

    /// Asks for all the addresses and listens for `time` after the last question; who answered for each.
    pub fn who_has(&self, addresses: &[IpAddr], time: Duration) -> Result<BTreeMap<IpAddr, BTreeSet<Mac>>> {
        let mut heard: BTreeMap<IpAddr, BTreeSet<Mac>> = addresses
            .iter()
            .map(|address| (*address, BTreeSet::new()))
            .collect();
        let mut asked = addresses.iter();
        let mut last_question = Instant::now();
        loop {
            // A few at a time: nobody loses questions in a queue that is too short.
            for address in asked.by_ref().take(16) {
                self.ask(*address)?;
                last_question = Instant::now();
            }
            if last_question.elapsed() >= time {
                return Ok(heard);
            }
            while let Some(word) = self.hear()? {
                if let Word::Answers(address, mac) = word
                    && let Some(macs) = heard.get_mut(&address)
                {
                    macs.insert(mac);
                }
            }
        }
    }

    /// Asks everybody for each of the addresses every `period`, until what it returns is dropped.
    pub fn keep_asking(self, addresses: Vec<IpAddr>, period: Duration) -> Asking {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            for round in 1_u32.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                for address in &addresses {
                    if let Err(error) = self.ask(*address) {
                        eprintln!("asking for {address}: {error:#}");
                        return;
                    }
                }
                std::thread::sleep((period * round).saturating_sub(start.elapsed()));
            }
        });
        Asking {
            stop,
            thread: Some(thread),
        }
    }

    /// Asks one station for the addresses in turn, as fast as it goes, for this long; how many questions that were.
    pub fn flood(&self, station: Mac, addresses: &[IpAddr], time: Duration) -> Result<u64> {
        let frames: Vec<_> = addresses
            .iter()
            .map(|address| frames::question(self.mac, self.own, *address, Some(station)))
            .collect();
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < time {
            for frame in frames.iter().cycle().take(64) {
                self.send(frame)?;
                sent += 1;
            }
        }
        Ok(sent)
    }
}

fn as_link(link: &nix::ifaddrs::InterfaceAddress) -> Option<nix::sys::socket::LinkAddr> {
    link.address.as_ref()?.as_link_addr().copied()
}

impl Cluster {
    /// A raw socket of the observer, a host on the LAN that is made when it is first wanted; `hears` false for one that only
    /// sends.
    pub fn observer(&self, hears: bool) -> Result<Wire> {
        let namespace = self.plan().netns(OBSERVER);
        if !netns::path(&namespace).exists() {
            self.add_host(
                OBSERVER,
                &[(LAN_BRIDGE, lan_host(NUMBER))],
                false,
                Some(gateway()),
            )?;
        }
        Wire::open(&namespace, lan_host(NUMBER), hears)
    }

    /// A raw socket of a place with the addresses `host` that asks as if `source` were its own; it does not hear.
    pub fn asks_as(&self, part: &str, host: Pair, source: Pair) -> Result<Wire> {
        let wire = Wire::open(&self.plan().netns(part), host, false)?;
        let own = (source.v4, source.v6);
        Ok(Wire { own, ..wire })
    }

    /// Who answers for each of the addresses: names of nodes, hardware addresses of others. All are asked at once, and
    /// 300 ms are waited for the last answer.
    pub fn owners(&self, addresses: &[IpAddr]) -> Result<BTreeMap<IpAddr, BTreeSet<String>>> {
        let heard = self
            .observer(true)?
            .who_has(addresses, Duration::from_millis(300))?;
        let name = |mac: &Mac| {
            let mac = mac.to_string();
            self.node_by_mac(&mac).unwrap_or(mac)
        };
        Ok(heard
            .into_iter()
            .map(|(address, macs)| (address, macs.iter().map(name).collect()))
            .collect())
    }

    /// Frames that have come in and gone out on the first interface of a place.
    pub fn frames_counted(&self, part: &str) -> Result<(u64, u64)> {
        netns::within(&self.plan().netns(part), || {
            let text = std::fs::read_to_string("/proc/thread-self/net/dev")
                .context("read /proc/thread-self/net/dev")?;
            counters(&text, "eth0")
                .with_context(|| format!("{part} has no eth0 in /proc/thread-self/net/dev"))
        })
    }
}

/// Received and sent frames of an interface in the words of /proc/net/dev.
fn counters(text: &str, interface: &str) -> Option<(u64, u64)> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line.split_whitespace().map_while(|n| n.parse().ok()).collect();
    Some((*numbers.get(1)?, *numbers.get(9)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_one_interface() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n\
                    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  eth0: 100 5 0 0 0 0 0 0 200 7 0 0 0 0 0 0\n";
        assert_eq!(counters(text, "eth0"), Some((5, 7)));
        assert_eq!(counters(text, "eth1"), None);
    }
}
