//! Two network namespaces on one cable: ours with the announcer on real sockets, and a station that sends whatever a test wants.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::process::{Command, Output as Finished};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use metallb_l2::wire::ndp;
use metallb_l2::{Announcer, Entry, Input, Interfaces, Link, MacAddr, Output};
use metallb_net::{Exclusions, Groups, InterfaceEvent, InterfaceMonitor, PacketSocket, Protocol};
use metallb_sansio::{Instant as Now, Machine};

pub(crate) const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xaa, 1]);
pub(crate) const STATION_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xbb, 1]);
/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().expect("sh");
    assert!(status.success(), "{command}");
}

/// What a command printed.
pub(crate) fn printed(command: &str) -> String {
    let Finished { stdout, .. } = Command::new("sh").args(["-c", command]).output().expect("sh");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Two namespaces joined by a cable; removed when dropped.
pub(crate) struct Namespaces {
    pub(crate) ours: String,
    pub(crate) station: String,
}

impl Namespaces {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let both = Self {
            ours: format!("l2s{id}"),
            station: format!("l2c{id}"),
        };
        let (s, c) = (&both.ours, &both.station);
        run(&format!(
            "set -e; ip netns add {s}; ip netns add {c}
             ip netns exec {s} sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
             ip -n {s} link add lan0 address {OUR_MAC} type veth peer name lan0 address {STATION_MAC} netns {c}
             ip -n {s} addr add 192.0.2.1/24 dev lan0; ip -n {c} addr add 192.0.2.2/24 dev lan0
             ip -n {s} link set lan0 up; ip -n {c} link set lan0 up"
        ));
        both
    }

    /// This thread lives there from now on, and every socket that it opens.
    pub(crate) fn enter(name: &str) {
        let file = std::fs::File::open(format!("/run/netns/{name}")).expect("namespace");
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.ours, &self.station] {
            run(&format!("ip netns del {name}"));
        }
    }
}

/// Runs a test with both sides open.
pub(crate) fn on_a_lan<F: AsyncFnOnce(&Namespaces, Host, Station)>(test: F) {
    let namespaces = Namespaces::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        Namespaces::enter(&namespaces.station);
        let station = Station::open().await;
        Namespaces::enter(&namespaces.ours);
        let host = Host::open();
        test(&namespaces, host, station).await;
    });
}

/// A station that sends and hears whole frames.
pub(crate) struct Station {
    arp: PacketSocket,
    ndp: PacketSocket,
}

impl Station {
    async fn open() -> Self {
        let mut monitor = InterfaceMonitor::open().expect("netlink");
        let deadline = Instant::now() + PATIENCE;
        let index = loop {
            let lan = |i: &&metallb_net::Interface| i.name == "lan0";
            if let Some(found) = monitor.table().interfaces().find(lan) {
                break found.index;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let next = tokio::time::timeout(left, monitor.next());
            next.await.expect("in time").expect("netlink");
        };
        Self {
            arp: PacketSocket::open(index, Protocol::Arp).expect("packet socket"),
            ndp: PacketSocket::open(index, Protocol::Ndp).expect("packet socket"),
        }
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.arp.send(frame).expect("sent");
    }

    /// All frames that were heard since the last time.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; PacketSocket::BUFFER];
        let mut frames = Vec::new();
        for socket in [&self.arp, &self.ndp] {
            while let Ok(length) = socket.try_receive(&mut buffer) {
                frames.push(buffer[..length].to_vec());
            }
        }
        frames
    }
}

struct Sockets {
    link: Link,
    arp: PacketSocket,
    ndp: Option<PacketSocket>,
}

/// The announcer on the sockets of its namespace.
pub(crate) struct Host {
    monitor: InterfaceMonitor,
    links: BTreeMap<u32, Sockets>,
    pub(crate) announcer: Announcer,
    pub(crate) groups: Groups,
    started: Instant,
}

impl Host {
    fn open() -> Self {
        Self {
            monitor: InterfaceMonitor::open().expect("netlink"),
            links: BTreeMap::new(),
            announcer: Announcer::new(),
            groups: Groups::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).expect("short"))
    }

    pub(crate) fn own(&mut self, address: IpAddr) {
        let own = Input::Own {
            address,
            interfaces: Interfaces::All,
            entry: Entry::Announce,
        };
        let now = self.now();
        self.announcer.handle(now, own);
        self.flush();
    }

    /// The link with this name, when it is announced on.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        let mut links = self.links.values().map(|sockets| &sockets.link);
        links.find(|link| &*link.name == name)
    }

    /// The index of an interface with sockets.
    pub(crate) fn index(&self, name: &str) -> Option<u32> {
        let mut links = self.links.iter();
        links
            .find(|(_, sockets)| &*sockets.link.name == name)
            .map(|(index, _)| *index)
    }

    /// Works until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            self.turn().await;
        }
    }

    /// One round of the loop, a few milliseconds at most.
    async fn turn(&mut self) {
        let events = tokio::time::timeout(Duration::from_millis(3), self.monitor.next());
        if let Ok(events) = events.await {
            for event in events.expect("netlink") {
                self.interface(event);
            }
        }
        let mut buffer = [0; PacketSocket::BUFFER];
        let now = self.now();
        self.announcer.set_now(now);
        for (index, sockets) in &self.links {
            for socket in core::iter::once(&sockets.arp).chain(&sockets.ndp) {
                while let Ok(length) = socket.try_receive(&mut buffer) {
                    self.announcer.handle_frame(*index, &buffer[..length]);
                }
            }
        }
        self.announcer.handle_timeout(now);
        self.flush();
    }

    fn interface(&mut self, event: InterfaceEvent) {
        let (index, link) = match event {
            InterfaceEvent::Removed(index) => (index, None),
            InterfaceEvent::Changed(interface) => {
                let mac = interface.usable(&Exclusions::default()).ok();
                let link = mac.map(|mac| Link {
                    name: interface.name.as_str().into(),
                    mac: MacAddr(mac),
                    arp: true,
                    link_local: interface.link_local,
                });
                (interface.index, link)
            }
        };
        let now = self.now();
        let before = self.links.remove(&index);
        let Some(link) = link else {
            if before.is_some() {
                self.groups.part_all(index);
                self.announcer.handle(now, Input::LinkDown(index));
                self.flush();
            }
            return;
        };
        let open = |protocol| PacketSocket::open(index, protocol).expect("packet socket");
        let (arp, ndp) = before.map_or_else(|| (None, None), |before| (Some(before.arp), before.ndp));
        let sockets = Sockets {
            arp: arp.unwrap_or_else(|| open(Protocol::Arp)),
            ndp: link
                .link_local
                .map(|_| ndp.unwrap_or_else(|| open(Protocol::Ndp))),
            link: link.clone(),
        };
        self.links.insert(index, sockets);
        self.announcer.handle(now, Input::LinkUp(index, link));
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(output) = self.announcer.poll_output() {
            match output {
                Output::Send { interface, frame } => {
                    let sockets = self.links.get_mut(&interface).expect("a link");
                    // The interface may go at any time.
                    if let Err(error) = sockets.arp.send(&frame) {
                        eprintln!("not sent: {error}");
                    }
                }
                Output::Join(interface, group) => self.groups.join(interface, group).expect("joined"),
                Output::Part(interface, group) => self.groups.part(interface, group),
                _ => {}
            }
        }
    }
}

/// Whether the kernel of this thread's namespace hears the group on an interface.
pub(crate) fn hears(interface: &str, group: Ipv6Addr) -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/igmp6").expect("IPv6");
    let wanted = format!("{:032x}", u128::from(group));
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|words| words.get(1) == Some(&interface) && words.get(2) == Some(&&*wanted))
}

/// A solicitation for `target` from `source`, as the station sends it.
pub(crate) fn solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    to: MacAddr,
) -> Vec<u8> {
    let source_mac = (!source.is_unspecified()).then_some(STATION_MAC);
    let message = ndp::Message::Solicitation { target, source_mac };
    ndp::Repr {
        source,
        destination,
        message,
    }
    .emit(to, STATION_MAC)
}
