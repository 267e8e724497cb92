//! Segments (bridges in one namespace), and the hosts and routers on them. Nothing is linked to the host's own network.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::netns;
use crate::plan::{LAN_PREFIX_V4, LAN_PREFIX_V6, Pair, Plan};
use crate::sh;
use crate::state::State;
use crate::wait::wait_every;

/// The bridge of the LAN that the nodes are on.
pub const LAN_BRIDGE: &str = "lan";
/// The namespace part that holds all bridges.
pub const BRIDGES: &str = "lan";

/// A host's interface on a segment.
#[derive(Clone, Debug)]
pub struct Port {
    /// Bridge it is plugged into.
    pub bridge: String,
    /// Its addresses; prefix lengths are those of the LAN.
    pub addresses: Pair,
}

/// Checks a name for a segment, router or host: it becomes part of interface names, which hold 15 characters.
pub fn check_part(name: &str) -> Result<()> {
    if name.is_empty()
        || name.len() > 10
        || !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        bail!("{name:?}: use 1 to 10 of a-z, 0-9 and '-'");
    }
    Ok(())
}

/// Makes the namespace that holds the bridges.
pub fn create_bridges_room(state: &State, plan: &Plan) -> Result<()> {
    let ns = plan.netns(BRIDGES);
    netns::add(state, &ns)?;
    // The bridges only forward frames: no addresses and no neighbour discovery of their own, no packet filter.
    netns::sysctl(&ns, &[("net/ipv6/conf/default/disable_ipv6", "1")], false)?;
    netns::sysctl(
        &ns,
        &[
            ("net/bridge/bridge-nf-call-iptables", "0"),
            ("net/bridge/bridge-nf-call-ip6tables", "0"),
        ],
        false,
    )
}

/// Adds a segment: a bridge without spanning tree, delay or multicast snooping, so that it behaves like a plain switch.
pub fn add_segment(plan: &Plan, bridge: &str) -> Result<()> {
    check_part(bridge)?;
    netns::ip_batch(
        &plan.netns(BRIDGES),
        &format!(
            "link add {bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set {bridge} up\n"
        ),
    )
}

/// True if there is a segment of this name.
pub fn has_segment(plan: &Plan, bridge: &str) -> Result<bool> {
    let wanted = format!("{bridge}:");
    Ok(links(plan)?
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some(&wanted)))
}

/// Removes a segment that was added.
pub fn remove_segment(plan: &Plan, bridge: &str) -> Result<()> {
    check_part(bridge)?;
    if bridge == LAN_BRIDGE {
        bail!("segment {LAN_BRIDGE} is the cluster's own and stays");
    }
    netns::ip_batch(&plan.netns(BRIDGES), &format!("link del {bridge}\n"))
}

/// Name of the bridge port of interface number `index` of a host.
pub fn port_name(part: &str, index: usize) -> String {
    if index == 0 {
        format!("p-{part}")
    } else {
        format!("p-{part}.{index}")
    }
}

/// Makes a host's namespace with one interface (eth0, eth1 ...) for each port, all up and addressed. A router forwards.
pub fn add_host(state: &State, plan: &Plan, part: &str, ports: &[Port], router: bool) -> Result<()> {
    check_part(part)?;
    let ns = plan.netns(part);
    netns::add(state, &ns)?;
    // No duplicate address detection: addresses are distinct by plan, and every start would wait for it.
    netns::sysctl(
        &ns,
        &[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
        ],
        true,
    )?;
    if router {
        let forward = [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ];
        netns::sysctl(&ns, &forward, true)?;
    }
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for (index, port) in ports.iter().enumerate() {
        let (name, bridge) = (port_name(part, index), &port.bridge);
        let (mac, Pair { v4, v6 }) = (port.addresses.mac(), port.addresses);
        outside.push(format!(
            "link add {name} type veth peer name eth{index} address {mac} netns {ns}\nlink set {name} master {bridge} up\n"
        ));
        inside.push(format!(
            "link set eth{index} up\naddr add {v4}/{LAN_PREFIX_V4} brd + dev eth{index}\n\
             addr add {v6}/{LAN_PREFIX_V6} dev eth{index} nodad\n"
        ));
    }
    netns::ip_batch(&plan.netns(BRIDGES), &outside.concat())?;
    netns::ip_batch(&ns, &inside.concat())
}

/// Gives a host its default routes.
pub fn default_route(plan: &Plan, part: &str, via: Pair) -> Result<()> {
    let Pair { v4, v6 } = via;
    netns::ip_batch(
        &plan.netns(part),
        &format!("route replace default via {v4}\nroute replace default via {v6}\n"),
    )
}

/// Cuts or plugs the cable between a host and its segment: the bridge's end goes down, the host's own end only loses its
/// carrier and keeps addresses and routes.
pub fn set_link(plan: &Plan, part: &str, up: bool) -> Result<()> {
    let port = port_name(part, 0);
    let to = if up { "up" } else { "down" };
    netns::ip_batch(&plan.netns(BRIDGES), &format!("link set {port} {to}\n"))
}

/// Plugs a host's cable into another segment, without the host's noticing.
pub fn move_port(plan: &Plan, part: &str, bridge: &str) -> Result<()> {
    let port = port_name(part, 0);
    netns::ip_batch(
        &plan.netns(BRIDGES),
        &format!("link set {port} master {bridge}\n"),
    )
}

/// Removes a host's cables, both ends. Its namespace may live on for minutes after its last process: connections that were
/// cut are still being closed in it.
pub fn unplug(plan: &Plan, part: &str) -> Result<()> {
    let what = format!("the cables of {part} to be gone");
    wait_every(&what, Duration::from_millis(20), Duration::from_secs(5), || {
        let links = links(plan)?;
        let ports = ports_of(&links, part);
        for port in &ports {
            // The kernel may be removing it at this moment, with the namespace at its other end; the next look tells.
            sh::output(Command::new("ip").args(["-n", &plan.netns(BRIDGES), "link", "del", port]))?;
        }
        Ok(ports.is_empty().then_some(()))
    })
}

/// True if the host has a cable to its first segment.
pub fn is_plugged(plan: &Plan, part: &str) -> Result<bool> {
    Ok(ports_of(&links(plan)?, part).contains(&port_name(part, 0).as_str()))
}

/// What is plugged into the bridges, in the words of `ip`; nothing if they are not there.
fn links(plan: &Plan) -> Result<String> {
    let ns = plan.netns(BRIDGES);
    if !netns::path(&ns).exists() {
        return Ok(String::new());
    }
    sh::run(Command::new("ip").args(["-n", &ns, "-o", "link", "show"]))
}

/// The bridge ports of a host, in the output of `ip -o link show`.
fn ports_of<'a>(links: &'a str, part: &str) -> Vec<&'a str> {
    let first = port_name(part, 0);
    let further = format!("{first}.");
    links
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter_map(|name| name.trim_end_matches(':').split('@').next())
        .filter(|name| *name == first || name.starts_with(&further))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_ports_are_found() {
        let links = "1: lo: <LOOPBACK> mtu 65536\n2: lan: <UP> mtu 1500\n3: p-r1@if2: <UP> mtu 1500\n\
                     4: p-r1.1@if3: <UP> mtu 1500\n5: p-r10@if2: <UP> mtu 1500\n";
        assert_eq!(ports_of(links, "r1"), ["p-r1", "p-r1.1"]);
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        for index in [0, 1, 12] {
            assert!(port_name("abcdefghij", index).len() <= 15);
        }
        assert!(check_part("abcdefghij").is_ok());
        for bad in ["", "abcdefghijk", "a b", "A", "a/b", "a;b"] {
            assert!(check_part(bad).is_err(), "{bad}");
        }
    }
}
