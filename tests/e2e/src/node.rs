//! A node: network namespace, first process, containerd, kubelet and kube-proxy; and what can happen to it (power cut,
//! boot, freeze).

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::Hierarchies;
use crate::lan::{self, LAN_BRIDGE, Port};
use crate::netns;
use crate::node_files;
use crate::node_root::{BIN_CONTAINERD, BIN_KUBERNETES, NodeRoot};
use crate::pki::{NodeCredentials, write_private};
use crate::plan::{NodePlan, Plan, gateway};
use crate::process::{self, Room, SELF_EXE, Spec};
use crate::sh;
use crate::state::{ClusterRecord, State};
use crate::wait::wait_every;

/// The cgroup that holds a node: its own processes and its pods.
pub fn cgroup(plan: &Plan, node: &NodePlan) -> String {
    format!("{}/{}", plan.cgroup(), node.name)
}

/// The cgroup of the node's own processes (pods are beside it, in `kubepods`).
fn system_cgroup(plan: &Plan, node: &NodePlan) -> String {
    format!("{}/sys", cgroup(plan, node))
}

fn disk(plan: &Plan, node: &NodePlan) -> PathBuf {
    plan.data_dir().join("disks").join(&node.name)
}

/// Writes the node's configuration onto its disk.
pub fn write_disk(plan: &Plan, node: &NodePlan, credentials: &NodeCredentials) -> Result<()> {
    let disk = disk(plan, node);
    for (path, text) in node_files::all(node, credentials, &cgroup(plan, node)) {
        write_private(&disk.join(path.trim_start_matches('/')), &text)?;
    }
    Ok(())
}

/// Switches the machine on: network, first process, containerd. The disk is written.
pub fn power_on(state: &State, record: &ClusterRecord, node: &NodePlan) -> Result<()> {
    let plan = &record.plan;
    Hierarchies::detect()?.create(&system_cgroup(plan, node))?;
    create_network(state, plan, node).with_context(|| format!("network of {}", node.name))?;
    let root = NodeRoot {
        hostname: node.name.clone(),
        netns: plan.netns(&node.name),
        disk: disk(plan, node),
        bin_kubernetes: record.tools.kubernetes.clone(),
        bin_containerd: record.tools.containerd.clone(),
    };
    let init = process::start(
        state,
        &Spec {
            id: init_id(node),
            program: SELF_EXE.into(),
            args: vec!["internal".into(), "hold".into(), node.name.clone()],
            env: Vec::new(),
            room: Room::NewNode(root),
            cgroup: system_cgroup(plan, node),
            log: log(plan, node, "init"),
        },
    )?;
    let containerd = vec!["--config".into(), format!("{}/containerd.toml", node_files::DIR)];
    start_inside(
        state,
        record,
        node,
        init.pid,
        &format!("{BIN_CONTAINERD}/containerd"),
        containerd,
    )
}

/// Starts kubelet and kube-proxy, once the API server knows the node.
pub fn start_kubelet(state: &State, record: &ClusterRecord, node: &NodePlan) -> Result<()> {
    let init = init_pid(state, node)?;
    let bin = |name: &str| format!("{BIN_KUBERNETES}/{name}");
    wait_for_containerd(init, record, node)?;
    start_inside(
        state,
        record,
        node,
        init,
        &bin("kubelet"),
        node_files::kubelet_args(node),
    )?;
    let proxy = vec![format!("--config={}/kube-proxy.yaml", node_files::DIR)];
    start_inside(state, record, node, init, &bin("kube-proxy"), proxy)
}

/// kubelet gives up when the socket is not there yet.
fn wait_for_containerd(init: i32, record: &ClusterRecord, node: &NodePlan) -> Result<()> {
    let socket = format!("/proc/{init}/root/run/containerd/containerd.sock");
    wait_every(
        &format!(
            "containerd of {} (see {})",
            node.name,
            log(&record.plan, node, "containerd").display()
        ),
        Duration::from_millis(50),
        Duration::from_secs(30),
        || {
            Ok(std::os::unix::net::UnixStream::connect(&socket)
                .is_ok()
                .then_some(()))
        },
    )
}

/// Name of the node's first process.
pub fn init_id(node: &NodePlan) -> String {
    format!("{}.init", node.name)
}

/// Process id of the node's first process; an error if the node is switched off.
pub fn init_pid(state: &State, node: &NodePlan) -> Result<i32> {
    match process::lookup(state, &init_id(node))? {
        Some(init) if init.is_alive() => Ok(init.pid),
        _ => bail!(
            "node {0} is switched off; `lab node start {0}` boots it",
            node.name
        ),
    }
}

/// A power cut: the link goes first, so that nobody on the LAN hears a connection end; then every process at once.
/// The disk stays.
pub fn power_off(plan: &Plan, node: &NodePlan) -> Result<()> {
    let ns = plan.netns(&node.name);
    // There is no cable when the node is off already, or when a killed run had not come to it.
    if lan::is_plugged(plan, &node.name)? {
        lan::set_link(plan, &node.name, false)?;
    }
    let groups = Hierarchies::detect()?;
    groups.kill(&cgroup(plan, node))?;
    groups.remove(&cgroup(plan, node))?;
    netns::remove(&ns)?;
    lan::unplug(plan, &node.name)
}

/// Stops (or continues) every process of the node, pods included; its kernel still forwards and answers.
pub fn freeze(plan: &Plan, node: &NodePlan, frozen: bool) -> Result<()> {
    Hierarchies::detect()?.freeze(&cgroup(plan, node), frozen)
}

/// A command that runs inside the node: its network, its mounts, its host name.
pub fn command(init: i32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        &format!("--target={init}"),
        "--net",
        "--mount",
        "--uts",
        "--wd=/",
        "--",
        program,
    ]);
    command
}

fn create_network(state: &State, plan: &Plan, node: &NodePlan) -> Result<()> {
    let ns = plan.netns(&node.name);
    lan::add_host(
        state,
        plan,
        &node.name,
        &[Port {
            bridge: LAN_BRIDGE.to_owned(),
            addresses: node.lan,
        }],
        true,
    )?;
    // Between two pods of a node frames pass the bridge; without this the answer of a service would pass it untranslated.
    let filter = [
        ("net/bridge/bridge-nf-call-iptables", "1"),
        ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ];
    netns::sysctl(&ns, &filter, false)?;
    lan::default_route(plan, &node.name, gateway())?;
    netns::ip_batch(&ns, &pod_routes(plan, Some(node)))?;
    sh::run_with_input(
        netns::command(&ns, "nft").args(["-f", "-"]),
        &node_files::masquerade(node),
    )?;
    Ok(())
}

/// `ip` commands for the routes to the pods of every node but `except`.
pub fn pod_routes(plan: &Plan, except: Option<&NodePlan>) -> String {
    let mut lines = Vec::new();
    for node in plan.node_plans().filter(|n| Some(n) != except) {
        let [v4, v6] = node.pod_cidrs();
        lines.push(format!("route replace {v4} via {}\n", node.lan.v4));
        lines.push(format!("route replace {v6} via {}\n", node.lan.v6));
    }
    lines.concat()
}

fn log(plan: &Plan, node: &NodePlan, program: &str) -> PathBuf {
    plan.log_dir().join(format!("{}.{program}.log", node.name))
}

fn start_inside(
    state: &State,
    record: &ClusterRecord,
    node: &NodePlan,
    init: i32,
    program: &str,
    args: Vec<String>,
) -> Result<()> {
    let plan = &record.plan;
    let name = program.rsplit('/').next().unwrap_or(program);
    let spec = Spec {
        id: format!("{}.{name}", node.name),
        program: program.into(),
        args,
        env: Vec::new(),
        room: Room::Inside { pid: init },
        cgroup: system_cgroup(plan, node),
        log: log(plan, node, name),
    };
    process::start(state, &spec).map(drop)
}

/// The Node objects, made before any kubelet registers: so each node has the pod ranges of the plan, and its network is
/// configured before it first asks for it.
pub fn objects(plan: &Plan) -> serde_json::Value {
    let items: Vec<_> = plan
        .node_plans()
        .map(|node| {
            let cidrs = node.pod_cidrs();
            serde_json::json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
                "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
            })
        })
        .collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Restarts one component of a node (`containerd`, `kubelet`, `kube-proxy`) that was killed.
pub fn restart_component(state: &State, node: &NodePlan, component: &str) -> Result<()> {
    process::start_again(state, &format!("{}.{component}", node.name)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_lead_to_the_other_nodes_only() {
        let plan = Plan::new("x", 3).unwrap();
        let own = NodePlan::new(2);
        let lines = pod_routes(&plan, Some(&own));
        assert!(lines.contains("10.244.1.0/24 via 192.168.124.11"));
        assert!(lines.contains("fd00:10:244:3::/64 via fd00:124::13"));
        assert!(!lines.contains("10.244.2.0"));
        assert_eq!(pod_routes(&plan, None).lines().count(), 6);
    }
}
