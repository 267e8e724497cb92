//! What a scenario does to an open cluster: kubectl, power cuts, cables, the API server.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::lan::{self, LAN_BRIDGE, Port};
use crate::plan::Pair;
use crate::{control_plane, netns, node, process, sh};

/// The other half of a LAN that is cut in two.
const APART: &str = "apart";

impl Cluster {
    /// `kubectl` of the cluster's version, with its kubeconfig.
    pub fn kubectl_command(&self) -> Command {
        control_plane::kubectl(&self.state, &self.record)
    }

    /// Runs kubectl; what it printed, or an error with its message.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        sh::run(self.kubectl_command().args(args))
    }

    /// Runs kubectl and returns output and status, for commands that are expected to fail.
    pub fn kubectl_output(&self, args: &[&str]) -> Result<Output> {
        sh::output(self.kubectl_command().args(args))
    }

    /// Runs kubectl with `-o json`.
    pub fn kubectl_json(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {} printed no JSON", args.join(" ")))
    }

    /// Runs kubectl with text for standard input.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        sh::run_with_input(self.kubectl_command().args(args), input)
    }

    /// Applies YAML (client-side, as users do).
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], yaml)
    }

    /// Applies YAML and returns output and status, for objects that are expected to be refused.
    pub fn apply_output(&self, yaml: &str) -> Result<Output> {
        let path = self.state.dir().join("apply.yaml");
        std::fs::write(&path, yaml).with_context(|| format!("write {}", path.display()))?;
        self.kubectl_output(&["apply", "-f", &path.display().to_string()])
    }

    /// Deletes the objects in YAML; those that are gone already are fine.
    pub fn delete(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["delete", "--ignore-not-found", "-f", "-"], yaml)
    }

    /// Power cut of a node: its link goes down and every process of it ends at once. Its disk stays.
    pub fn node_kill(&mut self, name: &str) -> Result<()> {
        let node = self.record.plan.node(name)?;
        // On record first: a node that is off on purpose is not "repaired" by the next `up`.
        if !self.record.powered_off.contains(&node.name) {
            self.record.powered_off.push(node.name.clone());
            self.state.save(&self.record)?;
        }
        node::power_off(&self.record.plan, &node)
    }

    /// Boots a node that was switched off, without waiting for it to be Ready. A running one stays as it is.
    pub fn node_start(&mut self, name: &str) -> Result<()> {
        let node = self.record.plan.node(name)?;
        if node::init_pid(&self.state, &node).is_err() {
            node::power_off(&self.record.plan, &node).context("clear what the last power cut left")?;
            node::power_on(&self.state, &self.record, &node)?;
        }
        node::start_kubelet(&self.state, &self.record, &node)?;
        self.record.powered_off.retain(|n| *n != node.name);
        self.state.save(&self.record)
    }

    /// Stops every process of a node, pods included, without their noticing. Its kernel still answers.
    pub fn node_freeze(&self, name: &str) -> Result<()> {
        node::freeze(&self.record.plan, &self.record.plan.node(name)?, true)
    }

    /// Continues a frozen node.
    pub fn node_thaw(&self, name: &str) -> Result<()> {
        node::freeze(&self.record.plan, &self.record.plan.node(name)?, false)
    }

    /// Kills one component of a node (`containerd`, `kubelet` or `kube-proxy`) with SIGKILL and starts it again.
    pub fn node_restart_component(&self, name: &str, component: &str) -> Result<()> {
        let node = self.record.plan.node(name)?;
        let id = format!("{}.{component}", node.name);
        if let Some(running) = process::lookup(&self.state, &id)? {
            running.kill()?;
            crate::wait::wait_for(&format!("{id} to end"), Duration::from_secs(10), || {
                Ok((!running.is_alive()).then_some(()))
            })?;
        }
        process::start_again(&self.state, &id).map(drop)
    }

    /// Plugs the cable between a host (a node, `client`, `control` ...) and the LAN in or out.
    pub fn link(&self, part: &str, up: bool) -> Result<()> {
        lan::set_link(&self.record.plan, part, up)
    }

    /// Cuts the LAN in two: these places (nodes, `client`, `control` ...) keep contact with one another only. Their cables stay
    /// in, so that nobody notices by their carrier.
    pub fn partition(&self, apart: &[&str]) -> Result<()> {
        // One that a failed scenario left is as good.
        if !lan::has_segment(&self.record.plan, APART)? {
            lan::add_segment(&self.record.plan, APART)?;
        }
        apart
            .iter()
            .try_for_each(|part| lan::move_port(&self.record.plan, part, APART))
    }

    /// Joins again what [`Self::partition`] has parted.
    pub fn heal(&self, apart: &[&str]) -> Result<()> {
        for part in apart {
            lan::move_port(&self.record.plan, part, LAN_BRIDGE)?;
        }
        lan::remove_segment(&self.record.plan, APART)
    }

    /// Undoes cuts, parted halves, standstills and power cuts of nodes, whoever has left them.
    pub fn make_whole(&mut self) -> Result<()> {
        let names: Vec<String> = self.nodes().into_iter().map(|node| node.name).collect();
        if lan::has_segment(&self.record.plan, APART)? {
            self.heal(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        for name in &names {
            if self.record.powered_off.contains(name) {
                self.node_start(name)?;
            }
            self.link(name, true)?;
            self.node_thaw(name)?;
        }
        self.wait_nodes_ready(std::time::Duration::from_secs(120))
    }

    /// Kills the API server; etcd, controller manager and scheduler stay.
    pub fn apiserver_stop(&self) -> Result<()> {
        control_plane::stop_api(&self.state)
    }

    /// Starts the API server and waits until it is ready.
    pub fn apiserver_start(&self) -> Result<()> {
        process::start_again(&self.state, control_plane::APISERVER)?;
        control_plane::wait_ready(&self.state, &self.record.plan)
    }

    /// Adds a segment: a further bridge, called `name`.
    pub fn add_segment(&self, name: &str) -> Result<()> {
        lan::add_segment(&self.record.plan, name)
    }

    /// Removes a segment that was added; its hosts lose their cables' other ends.
    pub fn remove_segment(&self, name: &str) -> Result<()> {
        lan::remove_segment(&self.record.plan, name)
    }

    /// Adds a host (or, if `router`, one that forwards) with an interface on each of the segments, and a default route.
    pub fn add_host(
        &self,
        name: &str,
        ports: &[(&str, Pair)],
        router: bool,
        default_via: Option<Pair>,
    ) -> Result<()> {
        let ports: Vec<Port> = ports
            .iter()
            .map(|(bridge, addresses)| Port {
                bridge: (*bridge).to_owned(),
                addresses: *addresses,
            })
            .collect();
        lan::add_host(&self.state, &self.record.plan, name, &ports, router)?;
        if let Some(via) = default_via {
            lan::default_route(&self.record.plan, name, via)?;
        }
        Ok(())
    }

    /// Removes a host that was added, and whatever runs in it.
    pub fn remove_host(&self, name: &str) -> Result<()> {
        lan::check_part(name)?;
        let ns = self.record.plan.netns(name);
        for pid in netns::pids(std::slice::from_ref(&ns))? {
            crate::cgroup::signal(pid, nix::sys::signal::Signal::SIGKILL)?;
        }
        netns::remove(&ns)?;
        lan::unplug(&self.record.plan, name)
    }

    /// Directory of the logs of etcd, API server, kubelets and so on.
    pub fn log_dir(&self) -> std::path::PathBuf {
        self.record.plan.log_dir()
    }

    /// The API server's audit log, one JSON event a line.
    pub fn audit_log(&self) -> std::path::PathBuf {
        control_plane::audit_log(&self.record.plan)
    }

    /// The network namespace of a place, as a path for `nsenter --net=`.
    pub fn netns_path(&self, part: &str) -> std::path::PathBuf {
        netns::path(&self.record.plan.netns(part))
    }
}
