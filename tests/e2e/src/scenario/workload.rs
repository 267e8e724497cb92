//! What scenarios put on the cluster, and what they ask of it.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::install::NAMESPACE;
use crate::{Cluster, images::TESTSERVER_IMAGE, images::WHOAMI_IMAGE, priority::prefer_process, wait_for};

/// Long enough for a busy two-core machine; what fails, fails with a message that says what was waited for.
pub const SOON: Duration = Duration::from_secs(60);

/// A fresh namespace of a scenario; what an earlier, broken run left in it is gone.
///
/// # Errors
/// kubectl's words.
pub fn fresh_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    remove_namespace(cluster, name)?;
    cluster.kubectl(&["create", "namespace", name]).map(drop)
}

/// Removes the namespace and waits until it is gone.
///
/// # Errors
/// kubectl's words.
pub fn remove_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    cluster
        .kubectl(&[
            "delete",
            "namespace",
            name,
            "--ignore-not-found",
            "--timeout=120s",
        ])
        .map(drop)
}

/// A whoami Deployment.
///
/// # Errors
/// kubectl's words.
pub fn web_pods(cluster: &Cluster, namespace: &str, name: &str, replicas: u32) -> Result<()> {
    cluster.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{replicas: {replicas}, \
         selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{\
         terminationGracePeriodSeconds: 1, containers: [{{name: whoami, image: {WHOAMI_IMAGE}, ports: [{{containerPort: 80}}]}}]}}}}}}}}"
    ))?;
    rolled_out(cluster, namespace, name)
}

/// A UDP echo server on port 9000, one pod a node, so that a dead node leaves live endpoints on the others.
///
/// # Errors
/// kubectl's words.
pub fn echo_pods(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.apply(&format!(
        "{{apiVersion: apps/v1, kind: DaemonSet, metadata: {{name: echo, namespace: {namespace}}}, spec: {{selector: {{matchLabels: {{app: echo}}}}, \
         template: {{metadata: {{labels: {{app: echo}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: echo, \
         image: {TESTSERVER_IMAGE}, args: [udp-echo, \"9000\"]}}]}}}}}}}}"
    ))?;
    let daemon_set = "daemonset/echo";
    cluster
        .kubectl(&["rollout", "status", "-n", namespace, daemon_set, "--timeout=90s"])
        .context("the echo pods do not start")?;
    prefer_echo_servers(cluster)
}

/// Gives the echo servers that run now real-time priority. What is measured is the way to a server: were it to wait for the
/// processor, its sockets would overflow.
///
/// # Errors
/// There is none, or the kernel refuses.
pub fn prefer_echo_servers(cluster: &Cluster) -> Result<()> {
    let mut pids = pids_of(cluster, "testserver")?;
    pids.retain(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.contains("-echo\0"))
    });
    ensure!(!pids.is_empty(), "no echo server runs");
    pids.into_iter().try_for_each(prefer_process)
}

/// Waits until a Deployment is rolled out.
///
/// # Errors
/// kubectl's words.
pub fn rolled_out(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let deployment = format!("deployment/{name}");
    cluster
        .kubectl(&["rollout", "status", "-n", namespace, &deployment, "--timeout=90s"])
        .with_context(|| format!("{deployment} does not start"))
        .map(drop)
}

/// Waits until the speakers run as their DaemonSet now says.
///
/// # Errors
/// kubectl's words.
pub fn speakers_rolled_out(cluster: &Cluster, patience: Duration) -> Result<()> {
    let timeout = format!("--timeout={}s", patience.as_secs());
    cluster
        .kubectl(&[
            "rollout",
            "status",
            "-n",
            NAMESPACE,
            "daemonset/speaker",
            &timeout,
        ])
        .context("the speakers do not start")
        .map(drop)
}

/// Restarts the speakers one after the other, and waits for the last.
///
/// # Errors
/// kubectl's words.
pub fn restart_speakers(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["rollout", "restart", "-n", NAMESPACE, "daemonset/speaker"])?;
    speakers_rolled_out(cluster, Duration::from_secs(180))
}

/// Deletes the speaker's pod of a node, and waits until it is gone.
///
/// # Errors
/// kubectl's words.
pub fn delete_speaker(cluster: &Cluster, node: &str) -> Result<()> {
    let field = on_node(node);
    cluster
        .kubectl(&[&["delete"], &speaker_pods(&field)[..]].concat())
        .map(drop)
}

/// kubectl's words for the pods of speakers that a field selector, such as that of [`on_node`], leaves.
pub fn speaker_pods(field: &str) -> [&str; 7] {
    [
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "component=speaker",
        "--field-selector",
        field,
    ]
}

/// The field selector for the pods of a node.
pub fn on_node(node: &str) -> String {
    format!("spec.nodeName={node}")
}

/// Two pods and the service `web` in a namespace; its address, once the client has read a page there.
///
/// # Errors
/// What does not come in time.
pub fn serve_page(cluster: &Cluster, namespace: &str) -> Result<IpAddr> {
    web_pods(cluster, namespace, "web", 2)?;
    Lb {
        namespace,
        name: "web",
        app: "web",
        ..Lb::default()
    }
    .apply(cluster)?;
    let address = wait_address(cluster, namespace, "web")?;
    wait_page(cluster, address, SOON)?;
    Ok(address)
}

/// A LoadBalancer service. `more` is YAML in flow style for the spec (`externalTrafficPolicy: Local`), `annotations` likewise.
#[derive(Clone, Copy, Default)]
pub struct Lb<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Value of the label `app` of its pods.
    pub app: &'a str,
    /// Protocol and port, TCP 80 if empty.
    pub port: &'a str,
    /// Further annotations.
    pub annotations: &'a str,
    /// Further fields of the spec.
    pub more: &'a str,
}

impl Lb<'_> {
    /// Creates or changes it.
    ///
    /// # Errors
    /// kubectl's words.
    pub fn apply(&self, cluster: &Cluster) -> Result<()> {
        let Self {
            namespace,
            name,
            app,
            annotations,
            more,
            ..
        } = self;
        let port = if self.port.is_empty() {
            "port: 80"
        } else {
            self.port
        };
        let comma = if more.is_empty() { "" } else { ", " };
        cluster
            .apply(&format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, annotations: {{{annotations}}}}}, \
                 spec: {{type: LoadBalancer, selector: {{app: {app}}}, ports: [{{{port}}}]{comma}{more}}}}}"
            ))
            .map(drop)
    }
}

/// The addresses in a service's status.
///
/// # Errors
/// kubectl's words, or an address that is none.
pub fn addresses(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<IpAddr>> {
    let service = cluster.kubectl_json(&["get", "service", "-n", namespace, name])?;
    let ingress = service["status"]["loadBalancer"]["ingress"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ingress
        .iter()
        .filter_map(|entry| entry["ip"].as_str())
        .map(|ip| {
            ip.parse()
                .with_context(|| format!("{namespace}/{name} has address {ip:?}"))
        })
        .collect()
}

/// Waits for a service's first address.
///
/// # Errors
/// None came; the message holds the service's events.
pub fn wait_address(cluster: &Cluster, namespace: &str, name: &str) -> Result<IpAddr> {
    wait_for(
        &format!("service {namespace}/{name} to get an address"),
        SOON,
        || Ok(addresses(cluster, namespace, name)?.first().copied()),
    )
    .with_context(|| format!("its events: {}", events_text(cluster, namespace, name)))
}

/// Waits until the client reads a page there.
///
/// # Errors
/// curl's last words.
pub fn wait_page(cluster: &Cluster, address: IpAddr, deadline: Duration) -> Result<String> {
    wait_for(&format!("a page at {address}"), deadline, || {
        cluster.client_http_get(address, 80, 2).map(Some)
    })
}

/// Events about an object: (reason, message, source).
///
/// # Errors
/// kubectl's words.
pub fn events(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<(String, String, String)>> {
    let selector = format!("involvedObject.name={name}");
    let list = cluster.kubectl_json(&["get", "events", "-n", namespace, "--field-selector", &selector])?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let one = |e: &Value| {
        (
            text(&e["reason"]),
            text(&e["message"]),
            text(&e["source"]["component"]),
        )
    };
    Ok(list["items"]
        .as_array()
        .map(|all| all.iter().map(one).collect())
        .unwrap_or_default())
}

/// What was told about an object, for a message.
pub fn events_text(cluster: &Cluster, namespace: &str, name: &str) -> String {
    match events(cluster, namespace, name) {
        Ok(all) => all
            .iter()
            .map(|(reason, message, _)| format!("{reason}: {message}"))
            .collect::<Vec<_>>()
            .join("; "),
        Err(error) => format!("unknown ({error:#})"),
    }
}

/// Waits for an event with this reason whose message holds all the words.
///
/// # Errors
/// The events that there are.
pub fn wait_event(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    reason: &str,
    words: &[&str],
) -> Result<String> {
    wait_for(
        &format!("an event {reason} about {namespace}/{name} that says {words:?}"),
        SOON,
        || {
            let all = events(cluster, namespace, name)?;
            let found = all
                .iter()
                .find(|(r, m, _)| r == reason && words.iter().all(|word| m.contains(word)));
            match found {
                Some((_, message, _)) => Ok(Some(message.clone())),
                None => bail!("there are: {all:?}"),
            }
        },
    )
}

/// Waits until exactly one node answers for the address, and says which.
///
/// # Errors
/// Nobody or several answer at the end.
pub fn wait_one_owner(cluster: &Cluster, address: IpAddr, deadline: Duration) -> Result<String> {
    wait_for(&format!("one node to answer for {address}"), deadline, || {
        cluster.announcing_node(address).map(Some)
    })
}

/// Processes of one of our binaries in this cluster, wherever their pods are.
///
/// # Errors
/// /proc can't be read.
pub fn pids_of(cluster: &Cluster, binary: &str) -> Result<Vec<i32>> {
    let group = cluster.plan().cgroup();
    let wanted = format!("/{binary}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("list /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // Processes end while we look: what can't be read is not there.
        let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else {
            continue;
        };
        let Ok(groups) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            continue;
        };
        if exe.to_string_lossy() == wanted && groups.lines().any(|line| line.contains(&group)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// It ended.
pub fn resident_bytes(pid: i32) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .context("VmRSS")?;
    Ok(kib * 1024)
}

/// Kills processes with SIGKILL.
///
/// # Errors
/// There is none: a kill that hits nothing proves nothing.
pub fn kill_9(pids: &[i32]) -> Result<()> {
    if pids.is_empty() {
        bail!("there is no process to kill");
    }
    for pid in pids {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(*pid),
            nix::sys::signal::Signal::SIGKILL,
        )
        .with_context(|| format!("kill {pid}"))?;
    }
    Ok(())
}

/// Waits until the pods of the product are all Ready again: as many as there should be.
///
/// # Errors
/// kubectl's words.
pub fn wait_product_ready(cluster: &Cluster) -> Result<()> {
    for what in [
        "deployment/metallb-operator-controller-manager",
        "deployment/controller",
        "daemonset/speaker",
    ] {
        cluster
            .kubectl(&["rollout", "status", "-n", NAMESPACE, what, "--timeout=120s"])
            .with_context(|| format!("{what} does not get ready"))?;
    }
    Ok(())
}
