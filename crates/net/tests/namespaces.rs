//! Packet sockets, the interface monitor and the announcer on real interfaces, in network namespaces of their own.
//!
//! Needs root, iproute2 and arping, so it is ignored by default: `cargo test -p metallb-net -- --ignored`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use metallb_l2::{Announcer, Entry, Input, Interfaces, Link, MacAddr, Output};
use metallb_net::{Exclusions, InterfaceEvent, InterfaceMonitor, PacketSocket, Protocol};
use metallb_sansio::{Instant as Now, Machine};

const ADDRESS: &str = "192.0.2.10";

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().expect("sh");
    assert!(status.success(), "{command}");
}

/// Two namespaces joined by a cable; removed when dropped.
struct Namespaces {
    speaker: String,
    client: String,
}

impl Namespaces {
    fn new() -> Self {
        let id = std::process::id();
        let both = Self {
            speaker: format!("l2s{id}"),
            client: format!("l2c{id}"),
        };
        let (s, c) = (&both.speaker, &both.client);
        run(&format!(
            "set -e; ip netns add {s}; ip netns add {c}
             ip -n {s} link add lan0 type veth peer name lan0 netns {c}
             ip -n {s} addr add 192.0.2.1/24 dev lan0; ip -n {c} addr add 192.0.2.2/24 dev lan0
             ip -n {s} link set lan0 up; ip -n {c} link set lan0 up"
        ));
        both
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.speaker, &self.client] {
            run(&format!("ip netns del {name}"));
        }
    }
}

/// Waits until the interface `lan0` satisfies `wanted`.
async fn until(
    monitor: &mut InterfaceMonitor,
    wanted: impl Fn(&metallb_net::Interface) -> bool,
) -> metallb_net::Interface {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(found) = monitor
            .table()
            .interfaces()
            .find(|i| i.name == "lan0" && wanted(i))
        {
            return found.clone();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let events = tokio::time::timeout(left, monitor.next())
            .await
            .expect("in time")
            .expect("netlink");
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, InterfaceEvent::Removed(_))),
            "{events:?}"
        );
    }
}

#[test]
#[ignore = "needs root, iproute2 and arping"]
fn a_real_client_gets_an_answer_and_hears_the_announcement() {
    let namespaces = Namespaces::new();
    // The thread enters the namespace by itself: every socket opened from here on lives there.
    let file = std::fs::File::open(format!("/run/netns/{}", namespaces.speaker)).expect("namespace");
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let mut monitor = InterfaceMonitor::open().expect("netlink");
        let interface = until(&mut monitor, |i| i.usable(&Exclusions::default()).is_ok()).await;
        let mac = interface.usable(&Exclusions::default()).expect("usable");
        let mut socket = PacketSocket::open(interface.index, Protocol::Arp).expect("packet socket");

        let mut announcer = Announcer::new();
        let link = Link {
            name: interface.name.as_str().into(),
            mac: MacAddr(mac),
            arp: true,
            link_local: None,
        };
        announcer.handle(Now::ZERO, Input::LinkUp(interface.index, link));
        let address = ADDRESS.parse().expect("address");
        announcer.handle(
            Now::ZERO,
            Input::Own {
                address,
                interfaces: Interfaces::All,
                entry: Entry::Announce,
            },
        );
        let send = |announcer: &mut Announcer, socket: &mut PacketSocket| {
            let mut count = 0;
            while let Some(output) = announcer.poll_output() {
                if let Output::Send { frame, .. } = output {
                    socket.send(&frame).expect("sent");
                    count += 1;
                }
            }
            count
        };
        run(&format!(
            "ip netns exec {} sysctl -qw net.ipv4.conf.lan0.arp_accept=1",
            namespaces.client
        ));
        assert_eq!(
            send(&mut announcer, &mut socket),
            3,
            "two announcements and a question"
        );
        let learnt = Command::new("ip")
            .args(["-n", &namespaces.client, "neigh"])
            .output()
            .expect("ip");
        let learnt = String::from_utf8_lossy(&learnt.stdout).into_owned();
        assert!(
            learnt.contains(ADDRESS) && learnt.contains(&MacAddr(mac).to_string()),
            "{learnt}"
        );

        let mut arping = Command::new("ip")
            .args([
                "netns",
                "exec",
                &namespaces.client,
                "arping",
                "-c",
                "3",
                "-w",
                "5",
                "-I",
                "lan0",
                ADDRESS,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("arping");
        let mut answers = 0;
        let mut buffer = [0; PacketSocket::BUFFER];
        while answers < 3 {
            let received = tokio::time::timeout(Duration::from_secs(5), socket.receive(&mut buffer));
            let length = received.await.expect("a request in time").expect("received");
            announcer.handle_frame(interface.index, &buffer[..length]);
            answers += send(&mut announcer, &mut socket);
        }
        assert!(arping.wait().expect("arping").success());

        run(&format!("ip -n {} link set lan0 down", namespaces.client));
        until(&mut monitor, |i| !i.carrier).await;
        run(&format!(
            "ip -n {0} link set lan0 down; ip -n {0} link set lan0 address 02:00:00:00:00:77",
            namespaces.speaker
        ));
        let moved = until(&mut monitor, |i| i.mac == Some([2, 0, 0, 0, 0, 0x77])).await;
        assert!(!moved.admin_up);
    });
}
