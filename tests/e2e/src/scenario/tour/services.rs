//! The samples of services, in namespace `default` as they stand there.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::{sample, service, start_pods, wait_within};
use crate::{
    Cluster,
    cluster::CLIENT,
    images::TESTSERVER_IMAGE,
    scenario::{
        clean::run_in,
        workload::{SOON, addresses, rolled_out, wait_event, wait_page},
    },
    wait_for,
};

const NS: &str = "default";
const LAN: (&str, &str) = ("192.168.124.200", "192.168.124.250");
const LAN_V6: (&str, &str) = ("fd00:124::200", "fd00:124::250");
const FILES: [&str; 5] = [
    "service.yaml",
    "service-dual-stack.yaml",
    "service-fixed-address.yaml",
    "service-shared-address.yaml",
    "service-of-class.yaml",
];

/// Each sample of a service does what its comment says.
pub fn samples(cluster: &mut Cluster) -> Result<()> {
    clear(cluster)?;
    start_pods(cluster, NS)?;
    name_server(cluster)?;

    cluster.apply(&sample("service.yaml")?)?;
    let address = wait_within(cluster, NS, "web", &[LAN])?[0];
    wait_page(cluster, address, SOON)?;
    let shown = cluster.kubectl(&["get", "service", "web", "-n", NS])?;
    let mut lines = shown.lines();
    let (heading, row) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    ensure!(
        heading.contains("EXTERNAL-IP") && row.contains(&address.to_string()),
        "kubectl get service web shows\n{shown}"
    );

    cluster.apply(&sample("service-dual-stack.yaml")?)?;
    let both = wait_for("one address of each family", SOON, || {
        let all = addresses(cluster, NS, "web-dual")?;
        Ok((all.len() == 2).then_some(all))
    })?;
    ensure!(
        both.iter().filter(|address| address.is_ipv4()).count() == 1,
        "the dual-stack service got {both:?}"
    );
    for (address, (low, high)) in both.iter().map(|a| (a, if a.is_ipv4() { LAN } else { LAN_V6 })) {
        let range = low.parse::<IpAddr>()?..=high.parse()?;
        ensure!(range.contains(address), "{address} is not of the pool lan");
    }

    fixed(cluster)?;
    shared(cluster)?;

    cluster.apply(&sample("service-of-class.yaml")?)?;
    // One that is served comes after it, so it has been passed over.
    cluster.apply(&service(NS, "after", "", "", ""))?;
    wait_within(cluster, NS, "after", &[LAN])?;
    ensure!(
        addresses(cluster, NS, "web-class")?.is_empty(),
        "a service of another class was given an address"
    );
    clear(cluster)
}

/// Echoes on TCP port 53, in one pod.
fn name_server(cluster: &Cluster) -> Result<()> {
    cluster.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: dns, namespace: {NS}}}, spec: {{replicas: 1, \
         selector: {{matchLabels: {{app: dns}}}}, template: {{metadata: {{labels: {{app: dns}}}}, spec: {{\
         terminationGracePeriodSeconds: 1, containers: [{{name: dns, image: {TESTSERVER_IMAGE}, args: [tcp-echo, \"53\"]}}]}}}}}}}}"
    ))?;
    rolled_out(cluster, NS, "dns")
}

/// One address of the service's own choice, answered for where its pod is; pending while another has it.
fn fixed(cluster: &Cluster) -> Result<()> {
    let text = sample("service-fixed-address.yaml")?;
    let (fixed, wish) = ("192.168.124.205", "metallb.io/loadBalancerIPs: 192.168.124.205");
    cluster.apply(&service(NS, "in-the-way", "", wish, ""))?;
    wait_within(cluster, NS, "in-the-way", &[(fixed, fixed)])?;
    cluster.apply(&text)?;
    wait_event(cluster, NS, "dns-tcp", "AllocationFailed", &[fixed])?;
    cluster.kubectl(&["delete", "service", "-n", NS, "in-the-way"])?;
    let address = wait_within(cluster, NS, "dns-tcp", &[(fixed, fixed)])?[0];
    // The second service of its comment.
    let second = text
        .replace("dns-tcp", "dns-udp")
        .replace("protocol: TCP", "protocol: UDP");
    cluster.apply(&second)?;
    wait_within(cluster, NS, "dns-udp", &[(fixed, fixed)])?;
    let pods = cluster.kubectl_json(&["get", "pods", "-n", NS, "-l", "app=dns"])?;
    let node = pods["items"][0]["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    wait_for(
        &format!("{node}, where the pod is, to answer for {address}"),
        SOON,
        || {
            let owner = cluster.announcing_node(address)?;
            ensure!(owner == node, "{owner} does");
            Ok(Some(()))
        },
    )?;
    wait_for("the client to connect", SOON, || {
        let connect = format!("exec 3<>/dev/tcp/{fixed}/53");
        run_in(cluster, CLIENT, &["timeout", "2", "bash", "-c", &connect]).map(Some)
    })?;
    cluster.delete(&(text + "\n---\n" + &second)).map(drop)
}

/// Two services on one address, each under the other prefix.
fn shared(cluster: &Cluster) -> Result<()> {
    cluster.apply(&sample("service-shared-address.yaml")?)?;
    let udp = wait_within(cluster, NS, "name-server-udp", &[LAN])?;
    let tcp = wait_within(cluster, NS, "name-server-tcp", &[LAN])?;
    ensure!(
        udp == tcp,
        "UDP got {udp:?} and TCP {tcp:?}: they should share one"
    );
    Ok(())
}

fn clear(cluster: &Cluster) -> Result<()> {
    for file in FILES {
        cluster.delete(&sample(file)?)?;
    }
    let ours = "service/in-the-way,service/dns-udp,service/after,deployment/web,deployment/dns";
    let ours: Vec<&str> = ours.split(',').collect();
    cluster
        .kubectl(&[&["delete", "-n", NS, "--ignore-not-found"], ours.as_slice()].concat())
        .map(drop)
}
