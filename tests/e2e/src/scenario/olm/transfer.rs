//! A file transfer server: one TCP port and several UDP ports on one address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::super::workload::{SOON, fresh_namespace, rolled_out, wait_address};
use crate::{Cluster, StreamSpec, images::TESTSERVER_IMAGE, wait::wait_every, wait_for};

/// Namespace of the server and its service.
pub(super) const WORK: &str = "transfer";
/// Name of both.
const NAME: &str = "transfer";
/// The TCP port, and the first UDP port.
const FIRST: u16 = 33001;
const UDP_PORTS: u16 = 5;

fn udp_ports() -> impl Iterator<Item = u16> {
    FIRST..FIRST + UDP_PORTS
}

/// Starts the server and exposes it; its address.
pub(super) fn serve(cluster: &Cluster) -> Result<IpAddr> {
    fresh_namespace(cluster, WORK)?;
    let labels = json!({"app": NAME});
    let container = |protocol: &str, ports: Vec<String>| {
        let args: Vec<String> = [format!("{protocol}-echo")].into_iter().chain(ports).collect();
        json!({"name": protocol, "image": TESTSERVER_IMAGE, "args": args})
    };
    let udp: Vec<String> = udp_ports().map(|port| port.to_string()).collect();
    let port = |protocol: &str, port: u16| json!({"name": format!("{}-{port}", protocol.to_lowercase()), "protocol": protocol, "port": port});
    let ports: Vec<Value> = [port("TCP", FIRST)]
        .into_iter()
        .chain(udp_ports().map(|number| port("UDP", number)))
        .collect();
    let place = json!({"name": NAME, "namespace": WORK});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [container("tcp", vec![FIRST.to_string()]), container("udp", udp)]}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": place, "spec": {
            "type": "LoadBalancer", "selector": labels, "ports": ports}},
    ]});
    super::install::create(cluster, &objects.to_string())?;
    rolled_out(cluster, WORK, NAME)?;
    wait_address(cluster, WORK, NAME)
}

/// Waits until every port answers a client on the LAN.
pub(super) fn wait_reached(cluster: &Cluster, address: IpAddr) -> Result<()> {
    let tcp = StreamSpec::tcp(SocketAddr::new(address, FIRST));
    let udp = udp_ports().map(|port| StreamSpec::udp(SocketAddr::new(address, port)));
    for spec in [tcp].into_iter().chain(udp) {
        let protocol = if spec.tcp { "TCP" } else { "UDP" };
        let what = format!("answers from {} over {protocol}", spec.target);
        wait_for(&what, SOON, || answered(cluster, spec).map(Some)).context("the transfer server")?;
    }
    Ok(())
}

/// A new stream each time: what was sent before the nodes knew the service stays without translation.
fn answered(cluster: &Cluster, spec: StreamSpec) -> Result<()> {
    let stream = cluster.client_stream(spec)?;
    let flows = wait_every(
        "a steady stream",
        Duration::from_millis(10),
        Duration::from_secs(2),
        || {
            Ok(stream
                .flows_since(Duration::ZERO, Duration::from_millis(50))
                .then_some(()))
        },
    );
    let report = stream.stop()?;
    if flows.is_err() {
        bail!("{report}");
    }
    Ok(())
}
