//! The local cluster tested by itself, without the product: what fails here is not the product's fault.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::StreamSpec;
use crate::cluster::Cluster;
use crate::images::{TESTSERVER_IMAGE, WHOAMI_IMAGE};
use crate::plan::{Pair, lan_host};
use crate::wait::wait_for;

const HTTP: u16 = 31080;
const UDP: u16 = 31053;
const TCP: u16 = 31054;

/// Runs the test and prints what it finds. Objects go into a namespace of their own, which is deleted at the end.
pub fn run(cluster: &mut Cluster) -> Result<()> {
    cluster.wait_nodes_ready(Duration::from_secs(60))?;
    let result = cluster.apply(&manifest()).and_then(|_| steps(cluster));
    let cleaned = cluster.kubectl(&["delete", "namespace", "selftest", "--ignore-not-found"]);
    result?;
    cleaned.map(drop)
}

fn steps(cluster: &mut Cluster) -> Result<()> {
    for deployment in ["whoami", "echo"] {
        rollout(cluster, deployment)?;
    }
    pages_through_every_node(cluster)?;
    println!("  pages through every node, IPv4 and IPv6: fine");
    cable(cluster)?;
    neighbours(cluster)?;
    println!("  ARP and neighbour discovery name the node: fine");
    api_server_away(cluster)?;
    frozen_node(cluster)?;
    power_cut(cluster)?;
    further_segment(cluster)
}

fn rollout(cluster: &Cluster, deployment: &str) -> Result<()> {
    let name = format!("deployment/{deployment}");
    cluster
        .kubectl(&["rollout", "status", &name, "-n", "selftest", "--timeout=90s"])
        .map(drop)
}

fn pages_through_every_node(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        for address in [IpAddr::from(node.lan.v4), IpAddr::from(node.lan.v6)] {
            // kube-proxy may be a moment behind the endpoints.
            let page = wait_for(
                &format!("a page through {} at {address}", node.name),
                Duration::from_secs(20),
                || cluster.client_http_get(address, HTTP, 2).map(Some),
            )?;
            ensure!(
                page.contains("Hostname: whoami-"),
                "no whoami page from {address}: {page}"
            );
        }
    }
    Ok(())
}

/// A cut cable stops the streams for just as long, and a TCP connection outlives it.
fn cable(cluster: &Cluster) -> Result<()> {
    let node = cluster.nodes().remove(0);
    let target = |port| SocketAddr::new(node.lan.v4.into(), port);
    let udp = cluster.client_stream(StreamSpec::udp(target(UDP)))?;
    let tcp = cluster.client_stream(StreamSpec::tcp(target(TCP)))?;
    std::thread::sleep(Duration::from_millis(500));
    cluster.link(&node.name, false)?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.link(&node.name, true)?;
    std::thread::sleep(Duration::from_secs(2));
    let (udp, tcp) = (udp.stop()?, tcp.stop()?);
    println!("  cable of {} out for 1 s: UDP {udp}", node.name);
    println!("  the same: TCP {tcp}");
    let outage = udp.longest.length;
    ensure!(
        outage >= Duration::from_millis(900) && outage < Duration::from_millis(2500),
        "UDP outage {outage:?}"
    );
    ensure!(
        tcp.broken.is_none(),
        "the TCP connection did not outlive the cut: {tcp}"
    );
    Ok(())
}

fn neighbours(cluster: &Cluster) -> Result<()> {
    let node = cluster.nodes().remove(0);
    for address in [IpAddr::from(node.lan.v4), IpAddr::from(node.lan.v6)] {
        ensure!(
            cluster.announcing_node(address)? == node.name,
            "{address} is not answered for by {}",
            node.name
        );
    }
    let nobody = IpAddr::from(lan_host(99).v4);
    ensure!(
        cluster.client_who_has(nobody)?.is_empty(),
        "somebody answers for {nobody}"
    );
    cluster.client_flush_neighbours()
}

fn api_server_away(cluster: &Cluster) -> Result<()> {
    let node = cluster.nodes().remove(0);
    let udp = cluster.client_stream(StreamSpec::udp(SocketAddr::new(node.lan.v4.into(), UDP)))?;
    cluster.apiserver_stop()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(
        cluster.kubectl(&["get", "nodes"]).is_err(),
        "the API server still answers"
    );
    cluster.apiserver_start()?;
    let report = udp.stop()?;
    println!("  API server away for 3 s: UDP {report}");
    ensure!(
        report.longest.length < Duration::from_millis(500),
        "traffic stopped with the API server: {report}"
    );
    cluster.wait_nodes_ready(Duration::from_secs(30))
}

fn frozen_node(cluster: &Cluster) -> Result<()> {
    let node = cluster.nodes().remove(0);
    cluster.node_freeze(&node.name)?;
    let pinged = cluster
        .exec("client", "ping")?
        .args(["-c1", "-W2", &node.lan.v4.to_string()])
        .output();
    let kubelet = cluster.kubectl_output(&[
        "get",
        "--raw",
        &format!("/api/v1/nodes/{}/proxy/healthz", node.name),
        "--request-timeout=2s",
    ]);
    cluster.node_thaw(&node.name)?;
    ensure!(
        pinged.context("ping")?.status.success(),
        "the kernel of a frozen node does not answer"
    );
    ensure!(!kubelet?.status.success(), "kubelet of a frozen node answers");
    println!("  frozen node: its kernel answers, its kubelet does not");
    Ok(())
}

/// A node that is switched off and on comes back with its pods and its address.
fn power_cut(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.nodes().pop().context("a cluster has nodes")?;
    let address = IpAddr::from(node.lan.v4);
    cluster.node_kill(&node.name)?;
    cluster.client_flush_neighbours()?;
    ensure!(
        cluster.client_who_has(address)?.is_empty(),
        "a node without power answers for {address}"
    );
    cluster.node_start(&node.name)?;
    cluster.wait_nodes_ready(Duration::from_secs(60))?;
    wait_for("a page through the booted node", Duration::from_secs(60), || {
        cluster.client_http_get(address, HTTP, 2).map(Some)
    })?;
    println!("  {} switched off and on: it serves again", node.name);
    Ok(())
}

/// A host on a second segment, behind a router, reaches a node and back.
fn further_segment(cluster: &Cluster) -> Result<()> {
    let pair = |v4: [u8; 4], last: u16| Pair {
        v4: v4.into(),
        v6: [0xfd00, 0x9, 0, 0, 0, 0, 0, last].into(),
    };
    let (near, far, host) = (lan_host(90), pair([10, 9, 0, 1], 1), pair([10, 9, 0, 2], 2));
    let node = cluster.nodes().remove(0);
    cluster.add_segment("far")?;
    cluster.add_host("r1", &[("lan", near), ("far", far)], true, None)?;
    cluster.add_host("h1", &[("far", host)], false, Some(far))?;
    let result = (|| {
        for (net, via) in [
            ("10.9.0.0/24", IpAddr::from(near.v4)),
            ("fd00:9::/64", IpAddr::from(near.v6)),
        ] {
            crate::sh::run(cluster.exec(&node.name, "ip")?.args([
                "route",
                "replace",
                net,
                "via",
                &via.to_string(),
            ]))?;
        }
        for address in [IpAddr::from(node.lan.v4), IpAddr::from(node.lan.v6)] {
            let page = cluster.http_get_from("h1", address, HTTP, 3)?;
            ensure!(
                page.contains("Hostname: whoami-"),
                "no whoami page across the router: {page}"
            );
        }
        println!("  a host behind a router reads the page in both families");
        Ok(())
    })();
    cluster.remove_host("h1")?;
    cluster.remove_host("r1")?;
    cluster.remove_segment("far")?;
    result
}

fn manifest() -> String {
    let node_port = |name: &str, app: &str, protocol: &str, port: u16, target: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: selftest}}\nspec:\n  type: NodePort\n  \
             ipFamilyPolicy: PreferDualStack\n  selector: {{app: {app}}}\n  \
             ports: [{{protocol: {protocol}, port: {target}, nodePort: {port}}}]\n---\n"
        )
    };
    let deployment = |name: &str, replicas: u8, image: &str, command: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: selftest}}\nspec:\n  replicas: {replicas}\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      \
             topologySpreadConstraints:\n      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway,\n         \
             labelSelector: {{matchLabels: {{app: {name}}}}}}}\n      containers:\n      {command}\n---\n",
            command = command.replace("IMAGE", image)
        )
    };
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: selftest}\n---\n".to_owned()
        + &deployment("whoami", 3, WHOAMI_IMAGE, "- {name: whoami, image: IMAGE}")
        + &deployment(
            "echo",
            1,
            TESTSERVER_IMAGE,
            "- {name: udp, image: IMAGE, args: [udp-echo, \"53\"]}\n      - {name: tcp, image: IMAGE, args: [tcp-echo, \"54\"]}",
        )
        + &node_port("whoami", "whoami", "TCP", HTTP, 80)
        + &node_port("udp", "echo", "UDP", UDP, 53)
        + &node_port("tcp", "echo", "TCP", TCP, 54)
}
