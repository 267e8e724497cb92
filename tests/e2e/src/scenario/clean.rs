//! A cluster as a user has it who has never installed anything of ours, and the networks of tutorials on its LAN.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{
    evidence_dir,
    install::{self, NAMESPACE, manifest_with},
};
use crate::{Cluster, Progress, cluster::CLIENT, wait_for};

/// Removes the product with everything of it, runs `work` on the cluster, and installs the product again whatever came of it.
/// The evidence of a failure is saved before that.
///
/// # Errors
/// Those of `work`; else what removal and installation say.
pub fn without_the_product(
    cluster: &Cluster,
    name: &str,
    work: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    remove_the_product(cluster)?;
    let outcome = work(cluster);
    if outcome.is_err() {
        cluster.collect_logs(&evidence_dir(name).join("at-failure"))?;
        // Whatever the scenario has installed would be in the way.
        cluster.kubectl(&[
            "delete",
            "daemonsets,deployments",
            "-A",
            "-l",
            "app.kubernetes.io/name=metallb",
        ])?;
    }
    let again = install::install(cluster, &Progress::start());
    outcome?;
    again.context("the product could not be installed again")
}

fn remove_the_product(cluster: &Cluster) -> Result<()> {
    // First the resource, so that the operator takes away what is outside the namespace.
    cluster.kubectl(&[
        "delete",
        "metallb",
        "-n",
        NAMESPACE,
        "metallb",
        "--ignore-not-found",
    ])?;
    let all = "clusterroles,clusterrolebindings";
    wait_for("the operands to go", Duration::from_secs(60), || {
        let left = cluster.kubectl(&["get", all, "-l", "app=metallb", "-o", "name"])?;
        let pods = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", "app=metallb", "-o", "name"])?;
        if left.is_empty() && pods.is_empty() {
            return Ok(Some(()));
        }
        bail!("there are still {left} {pods}")
    })?;
    cluster
        .delete(&manifest_with(|name| Ok(name.to_owned()))?)
        .map(drop)
}

/// The first three numbers of an IPv4 /24 that nodes (.11, .12 ...) and client (.100) have on the LAN, beside the lab's own.
/// Tutorials name addresses of networks of theirs; with this they work as written.
pub struct LanNetwork<'a> {
    cluster: &'a Cluster,
    prefix: &'static str,
}

impl<'a> LanNetwork<'a> {
    /// Gives everybody an address of the network.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn new(cluster: &'a Cluster, prefix: &'static str) -> Result<Self> {
        let network = Self { cluster, prefix };
        network.ip("replace")?;
        Ok(network)
    }

    /// Takes the addresses away.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn remove(self) -> Result<()> {
        self.ip("del")
    }

    fn ip(&self, verb: &str) -> Result<()> {
        let nodes = self.cluster.nodes();
        let hosts = nodes
            .iter()
            .zip(11..)
            .map(|(node, number)| (node.name.as_str(), number));
        for (part, number) in hosts.chain([(CLIENT, 100)]) {
            let address = format!("{}.{number}/24", self.prefix);
            run_in(self.cluster, part, &["ip", "addr", verb, &address, "dev", "eth0"])?;
        }
        Ok(())
    }
}

/// Runs a command in a place of the lab; what it printed.
///
/// # Errors
/// Its own words.
pub fn run_in(cluster: &Cluster, part: &str, command: &[&str]) -> Result<String> {
    let (program, args) = command.split_first().context("a command to run")?;
    crate::sh::run(cluster.exec(part, program)?.args(args))
}
