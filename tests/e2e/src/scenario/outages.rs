//! Outages: the API server away with traffic flowing.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::workload::{Lb, SOON, echo_pods, fresh_namespace, remove_namespace, wait_address, wait_one_owner};
use crate::{Cluster, StreamSpec, checkout::root, stream::StreamReport, wait_for};

const UDP: &str = "name: echo, protocol: UDP, port: 9000";
/// After an outage of a minute, Kubernetes' own clients ask again only after 30 to 60 s (client-go's reflectors back off to
/// 30 s, with a jitter of as much), and a kubelet and the node controller need fresh caches before a node is Ready again.
const NODES_RETURN: Duration = Duration::from_secs(180);

/// An echo service that answers the client, and its address.
fn echo_service(cluster: &Cluster, namespace: &str) -> Result<SocketAddr> {
    fresh_namespace(cluster, namespace)?;
    echo_pods(cluster, namespace)?;
    Lb {
        namespace,
        name: "echo",
        app: "echo",
        port: UDP,
        ..Lb::default()
    }
    .apply(cluster)?;
    let address = wait_address(cluster, namespace, "echo")?;
    let target = SocketAddr::new(address, 9000);
    wait_for(&format!("an echo from {target}"), SOON, || {
        let report = cluster.client_udp_stream(target, Duration::from_millis(200))?;
        Ok((report.answered > 0).then_some(()))
    })?;
    // The gratuitous burst of the first announcement is over: what follows is steady state.
    wait_one_owner(cluster, address, SOON)?;
    Ok(target)
}

/// The API server is away for a minute: traffic flows on, speakers go on owning, and afterwards everything works.
pub fn api_loss(cluster: &mut Cluster) -> Result<()> {
    let ns = "api-loss";
    let target = echo_service(cluster, ns)?;
    let owner = wait_one_owner(cluster, target.ip(), SOON)?;
    let stream = cluster.client_stream(StreamSpec::udp(target))?;
    cluster.apiserver_stop()?;
    // Not a wait for something to happen: the outage itself lasts this long.
    std::thread::sleep(Duration::from_secs(60));
    let during = cluster.announcing_node(target.ip());
    let back = cluster.apiserver_start();
    let report = stream.stop()?;
    back.context("the API server does not come back")?;
    record("api_loss", &report)?;
    println!("API server away for 60 s: {report}");
    ensure!(during? == owner, "the owner changed during the outage");
    ensure!(
        report.lost() == 0,
        "{} of {} messages were lost while the API server was away",
        report.lost(),
        report.sent
    );
    // And it was noticed that it is back.
    Lb {
        namespace: ns,
        name: "after",
        app: "echo",
        port: UDP,
        ..Lb::default()
    }
    .apply(cluster)?;
    wait_address(cluster, ns, "after").context("after the API server came back")?;
    cluster.wait_nodes_ready(NODES_RETURN)?;
    remove_namespace(cluster, ns)
}

/// Keeps the measured times: printed, and in target/e2e/NAME.json.
fn record(name: &str, report: &StreamReport) -> Result<()> {
    let dir = root().join("target/e2e");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let body = json!([
        {"name": format!("{name}_longest_gap_ms"), "unit": "ms", "ours": report.longest.length.as_millis(), "peer": null, "runs": 1, "note": report.to_string()},
        {"name": format!("{name}_lost"), "unit": "messages", "ours": report.lost(), "peer": null, "runs": 1, "note": "200 messages/s"},
    ]);
    let file = dir.join(format!("{name}.json"));
    std::fs::write(&file, format!("{body:#}\n")).with_context(|| format!("write {}", file.display()))
}
