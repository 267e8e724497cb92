//! A cluster as a whole: up, down, open, and what can be done with an open one.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::Hierarchies;
use crate::lan::{self, LAN_BRIDGE, Port};
use crate::plan::{NodePlan, Plan, client, control, gateway};
use crate::process::ProcRecord;
use crate::progress::Progress;
use crate::state::{self, ClusterRecord, Made, Phase, State};
use crate::teardown::tear_down;
use crate::wait::wait_every;
use crate::{build, cache, clock, control_plane, images, netns, node, pki, prereq, process, proxy, registry};

/// Part name of the LAN client.
pub const CLIENT: &str = "client";

/// An existing, complete cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) record: ClusterRecord,
    pub(crate) state: State,
}

/// What [`Cluster::up`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpOutcome {
    /// It was running.
    AlreadyUp,
    /// It was running, but some of its processes had ended and were started again.
    Repaired,
    /// It was made.
    Started,
}

impl Cluster {
    /// Opens a running cluster.
    pub fn open(name: &str) -> Result<Self> {
        let plan = Plan::new(name, 1)?;
        let state = State::at(plan.run_dir());
        match state.load()? {
            Some(record) if record.phase == Phase::Up => Ok(Self { record, state }),
            Some(_) => {
                bail!("cluster {name} is half-made or half-removed; `lab up --name {name}` rebuilds it")
            }
            None => bail!("there is no cluster {name}; `lab up --name {name}` makes it"),
        }
    }

    /// Brings a cluster up: at once if it is up already; whatever a killed run left is removed first.
    pub fn up(name: &str, nodes: u8, progress: &Progress) -> Result<(Self, UpOutcome)> {
        let plan = Plan::new(name, nodes)?;
        let state = State::at(plan.run_dir());
        if let Some(cluster) = Self::running(&state, &plan)? {
            return Ok((cluster, UpOutcome::AlreadyUp));
        }
        prereq::check()?;
        let _lock = lock(name)?;
        // Somebody else may have made it while this run waited for the lock.
        if let Some(cluster) = Self::running(&state, &plan)? {
            return Ok((cluster, UpOutcome::AlreadyUp));
        }
        prereq::install_missing(progress)?;
        prereq::check_after_install()?;
        let tools = build::ensure(progress)?;
        if let Some(record) = state.load().unwrap_or_default()
            && record.phase == Phase::Up
            && record.plan == plan
            && record.tools == tools
        {
            let cluster = Self {
                record,
                state: state.clone(),
            };
            match cluster.repair(progress) {
                Ok(()) => return Ok((cluster, UpOutcome::Repaired)),
                Err(error) => progress.line(&format!(
                    "cluster {name} cannot be repaired, rebuilding it: {error:#}"
                )),
            }
        }
        if state.dir().exists() || plan.data_dir().exists() {
            progress.line(&format!("removing what an earlier cluster {name} left"));
            tear_down(&plan, &state)?;
        }
        let record = ClusterRecord {
            plan,
            phase: Phase::Starting,
            port: 0,
            tools,
            powered_off: Vec::new(),
        };
        let mut cluster = Self { record, state };
        cluster.build(progress).with_context(|| {
            format!("cluster {name} did not come up; it is left as it is to look into (logs: {}), `lab down --name {name}` removes it", cluster.record.plan.log_dir().display())
        })?;
        Ok((cluster, UpOutcome::Started))
    }

    /// The cluster if it is complete and all of it runs.
    fn running(state: &State, plan: &Plan) -> Result<Option<Self>> {
        // A damaged record is no running cluster; making the cluster anew replaces it.
        let Some(record) = state.load().unwrap_or_default() else {
            return Ok(None);
        };
        if record.phase != Phase::Up {
            return Ok(None);
        }
        let cluster = Self {
            record,
            state: state.clone(),
        };
        if !cluster.dead_processes()?.is_empty() || !control_plane::is_ready(&cluster.record.plan) {
            return Ok(None);
        }
        if cluster.record.plan.nodes != plan.nodes {
            bail!(
                "cluster {0} is up with {1} nodes, not {2}; `lab down --name {0}` first",
                plan.name,
                cluster.record.plan.nodes,
                plan.nodes
            );
        }
        Ok(Some(cluster))
    }

    /// Names of processes that should run and do not. Those of nodes that are switched off do not count.
    fn dead_processes(&self) -> Result<Vec<String>> {
        let off = |id: &str| {
            self.record
                .powered_off
                .iter()
                .any(|n| id.strip_prefix(n.as_str()).is_some_and(|r| r.starts_with('.')))
        };
        let all = process::all(&self.state)?;
        Ok(all
            .into_iter()
            .filter(|(id, p)| !p.is_alive() && !off(id))
            .map(|(id, _)| id)
            .collect())
    }

    /// Starts again what has ended (somebody killed it): single processes in place, a node without its first process as a
    /// whole.
    fn repair(&self, progress: &Progress) -> Result<()> {
        let dead = self.dead_processes()?;
        progress.line(&format!("starting again what has ended: {}", dead.join(", ")));
        let (nodes, others): (Vec<_>, Vec<_>) = dead.into_iter().partition(|id| id.contains('.'));
        for id in ["etcd", control_plane::APISERVER] {
            if others.iter().any(|o| o == id) {
                process::start_again(&self.state, id)?;
            }
        }
        control_plane::wait_ready(&self.state, &self.record.plan)?;
        for id in others {
            process::start_again(&self.state, &id)?;
        }
        for node in self
            .record
            .plan
            .node_plans()
            .filter(|n| !self.record.powered_off.contains(&n.name))
        {
            let of_node: Vec<_> = nodes
                .iter()
                .filter(|id| id.starts_with(&format!("{}.", node.name)))
                .collect();
            let first = node::init_id(&node);
            if of_node.iter().any(|id| **id == first) {
                node::power_off(&self.record.plan, &node)?;
                node::power_on(&self.state, &self.record, &node)?;
                node::start_kubelet(&self.state, &self.record, &node)?;
            } else {
                for id in of_node {
                    process::start_again(&self.state, id)?;
                }
            }
        }
        self.wait_nodes_ready(Duration::from_secs(90))
    }

    fn build(&mut self, progress: &Progress) -> Result<()> {
        let images = images::ensure(progress)?;
        let plan = self.record.plan.clone();
        self.state.create()?;
        for made in [
            Made::Dir {
                path: plan.data_dir(),
            },
            Made::Dir { path: plan.run_dir() },
            Made::Cgroup { path: plan.cgroup() },
        ] {
            self.state.about_to_make(&made)?;
        }
        self.state.save(&self.record)?;
        self.record.port = proxy::pick_port(&plan)?;
        self.state.save(&self.record)?;

        progress.line(&format!(
            "network: a LAN with {} nodes, control plane, gateway, client",
            plan.nodes
        ));
        self.make_ground()?;
        progress.line("control plane: etcd and kube-apiserver");
        let files = control_plane::files(&plan);
        let credentials = pki::make(&plan, &files, &self.state.kubeconfig(), self.record.port)?;
        control_plane::start_api(&self.state, &self.record)?;
        registry::start(&self.state, &self.record)?;
        proxy::start(&self.state, &self.record)?;
        for (node, credentials) in plan.node_plans().zip(&credentials) {
            node::write_disk(&plan, &node, credentials)?;
            node::power_on(&self.state, &self.record, &node)?;
        }
        netns::ip_batch(&plan.netns(control_plane::PART), &node::pod_routes(&plan, None))?;
        netns::ip_batch(&plan.netns(registry::PART), &node::pod_routes(&plan, None))?;
        registry::wait_ready(&plan)?;
        for image in images {
            registry::push(&plan, &image.archive, image.name)?;
        }
        control_plane::wait_ready(&self.state, &plan)?;
        control_plane::start_followers(&self.state, &self.record)?;
        progress.line("nodes: containerd, kubelet, kube-proxy");
        self.kubectl_with_input(&["create", "-f", "-"], &node::objects(&plan).to_string())?;
        for node in plan.node_plans() {
            node::start_kubelet(&self.state, &self.record, &node)?;
        }
        self.wait_nodes_ready(Duration::from_secs(120))?;
        // A pod cannot be made before its namespace's account is there.
        wait_every(
            "the default service account",
            Duration::from_millis(200),
            Duration::from_secs(60),
            || {
                Ok(self
                    .kubectl(&["get", "serviceaccount", "default"])
                    .is_ok()
                    .then_some(()))
            },
        )?;
        self.record.phase = Phase::Up;
        self.state.save(&self.record)
    }

    /// Directories, cgroups, and the network but for the nodes.
    fn make_ground(&self) -> Result<()> {
        let plan = &self.record.plan;
        fs::create_dir_all(plan.log_dir()).with_context(|| format!("create {}", plan.log_dir().display()))?;
        let groups = Hierarchies::detect()?;
        for part in [control_plane::PART, registry::PART, "host"] {
            groups.create(&format!("{}/{part}", plan.cgroup()))?;
        }
        lan::create_bridges_room(&self.state, plan)?;
        lan::add_segment(plan, LAN_BRIDGE)?;
        let port = |addresses| {
            [Port {
                bridge: LAN_BRIDGE.to_owned(),
                addresses,
            }]
        };
        lan::add_host(&self.state, plan, registry::PART, &port(gateway()), true)?;
        for (part, address) in [(control_plane::PART, control()), (CLIENT, client())] {
            lan::add_host(&self.state, plan, part, &port(address), false)?;
            lan::default_route(plan, part, gateway())?;
        }
        Ok(())
    }

    /// Waits until every node that is switched on is Ready, by the word of the kubelet that runs now: after a power cut the
    /// API still shows what the node said before.
    pub fn wait_nodes_ready(&self, deadline: Duration) -> Result<()> {
        let mut wanted = Vec::new();
        for node in self.record.plan.node_plans() {
            if !self.record.powered_off.contains(&node.name) {
                let since = process::started_at(&self.state, &format!("{}.kubelet", node.name))?;
                wanted.push((node.name, clock::rfc3339(since)));
            }
        }
        let names: Vec<_> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        wait_every(
            &format!("nodes {} to be Ready", names.join(", ")),
            Duration::from_millis(300),
            deadline,
            || {
                let nodes = self.kubectl_json(&["get", "nodes"])?;
                let ready = ready_nodes(&nodes);
                let fresh = |(name, since): &(String, String)| ready.get(name).is_some_and(|at| at >= since);
                Ok(wanted.iter().all(fresh).then_some(()))
            },
        )
    }

    /// Takes a cluster down, complete or not. Only what is on record is touched. False if there was nothing.
    pub fn down(name: &str, progress: &Progress) -> Result<bool> {
        let plan = Plan::new(name, 1)?;
        let state = State::at(plan.run_dir());
        let _lock = lock(name)?;
        if !state.dir().exists() && !plan.data_dir().exists() {
            return Ok(false);
        }
        tear_down(&plan, &state)?;
        progress.line(&format!("cluster {name} is down"));
        Ok(true)
    }

    /// Name of the cluster.
    pub fn name(&self) -> &str {
        &self.record.plan.name
    }

    /// The plan it was made by.
    pub fn plan(&self) -> &Plan {
        &self.record.plan
    }

    /// The nodes in order.
    pub fn nodes(&self) -> Vec<NodePlan> {
        self.record.plan.node_plans().collect()
    }

    /// Nodes that were switched off on purpose.
    pub fn powered_off(&self) -> &[String] {
        &self.record.powered_off
    }

    /// A kubeconfig that works on the host, with the rights of the cluster's administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.kubeconfig()
    }

    /// All processes on record with their state.
    pub fn processes(&self) -> Result<Vec<(String, ProcRecord)>> {
        process::all(&self.state)
    }

    /// Pushes an image archive into the registry under its full public name.
    pub fn push(&self, archive: &std::path::Path, image: &str) -> Result<()> {
        registry::push(&self.record.plan, archive, image)
    }

    /// A command in the place called `part`: a node (its network, mounts and host name), `client`, `control`, `gw`, `lan`, or a
    /// host or router that was added.
    pub fn exec(&self, part: &str, program: &str) -> Result<Command> {
        if let Ok(node) = self.record.plan.node(part) {
            return Ok(node::command(node::init_pid(&self.state, &node)?, program));
        }
        let ns = self.record.plan.netns(part);
        if !netns::path(&ns).exists() {
            bail!(
                "cluster {} has no place {part}; there are its nodes, client, control, gw and lan",
                self.name()
            );
        }
        Ok(netns::command(&ns, program))
    }
}

/// The nodes whose condition Ready is True, each with the time at which its kubelet last said so.
fn ready_nodes(list: &serde_json::Value) -> BTreeMap<String, String> {
    let said = |node: &serde_json::Value| -> Option<(String, String)> {
        let conditions = node["status"]["conditions"].as_array()?;
        let ready = conditions
            .iter()
            .find(|c| c["type"] == "Ready" && c["status"] == "True")?;
        let name = node["metadata"]["name"].as_str()?;
        Some((name.to_owned(), ready["lastHeartbeatTime"].as_str()?.to_owned()))
    };
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(said)
        .collect()
}

/// One run at a time changes a cluster. The lock is beside the cluster's directory, which comes and goes.
fn lock(name: &str) -> Result<nix::fcntl::Flock<fs::File>> {
    fs::create_dir_all("/run/metallb-lab").context("create /run/metallb-lab")?;
    cache::lock(&PathBuf::from(format!("/run/metallb-lab/{name}.lock")))
}

/// Says in a sentence what this machine lacks, before anything is changed, and installs the packages that are missing.
pub fn prerequisites(progress: &Progress) -> Result<()> {
    prereq::check()?;
    prereq::install_missing(progress)?;
    prereq::check_after_install()
}

/// Installs, builds and caches what a cluster needs.
pub fn prepare(progress: &Progress) -> Result<()> {
    prerequisites(progress)?;
    build::ensure(progress)?;
    images::ensure(progress).map(drop)
}

/// Names of all clusters that have anything on record.
pub fn all_names() -> Result<Vec<String>> {
    let mut names = state::all_names()?;
    names.retain(|n| Plan::new(n, 1).is_ok());
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_nodes_count() {
        let list = serde_json::json!({"items": [
            {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "T"}]}},
            {"metadata": {"name": "n2"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            {"metadata": {"name": "n3"}}]});
        assert_eq!(
            ready_nodes(&list),
            BTreeMap::from([("n1".to_owned(), "T".to_owned())])
        );
        assert!(ready_nodes(&serde_json::Value::Null).is_empty());
    }
}
