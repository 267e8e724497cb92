//! A cluster as a user has it who has never installed anything of ours, and the networks of tutorials on its LAN.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{
    install::{NAMESPACE, manifest_with},
    layer2::moves::EXCLUDE,
    workload::remove_namespace,
};
use crate::{Cluster, cluster::CLIENT, flush::FLUSHING, olm, wait_for};

/// Namespace of the operator where it is not that of its operands.
pub const OPERATOR: &str = "my-metallb-operator";

/// Takes the product off the cluster with everything of it; whether it was there.
///
/// # Errors
/// What kubectl says, or that something does not go.
pub fn remove_the_product(cluster: &Cluster) -> Result<bool> {
    let namespace = cluster.kubectl(&["get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"])?;
    if namespace.is_empty() {
        return Ok(false);
    }
    // First the resource, so that the operator takes away what is outside the namespace.
    let kind = cluster.kubectl(&[
        "get",
        "crd",
        "metallbs.metallb.io",
        "--ignore-not-found",
        "-o",
        "name",
    ])?;
    if !kind.is_empty() {
        let resource = [
            "delete",
            "metallb",
            "-n",
            NAMESPACE,
            "metallb",
            "--ignore-not-found",
        ];
        cluster.kubectl(&resource)?;
        wait_for("the operands to go", Duration::from_secs(60), || {
            let pods =
                cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", "app=metallb", "-o", "name"])?;
            if pods.is_empty() {
                return Ok(Some(()));
            }
            bail!("there are still {pods}")
        })?;
        wait_nothing_outside(cluster)?;
    }
    remove_manifest(cluster, &manifest_with(|name| Ok(name.to_owned()))?)?;
    Ok(true)
}

/// Removes what a scenario on an installation has left when it failed, the product with it: namespaces that were not there before,
/// cut cables, marks on nodes, settings. The next scenario is to fail for reasons of its own.
///
/// # Errors
/// kubectl's words; nodes that do not get Ready.
pub fn renew(cluster: &mut Cluster, namespaces: &BTreeSet<String>) -> Result<()> {
    cluster.make_whole()?;
    for node in cluster.nodes() {
        cluster.kubectl(&["uncordon", &node.name])?;
        cluster.kubectl(&["label", "node", &node.name, &format!("{EXCLUDE}-")])?;
    }
    cluster.remove_host(FLUSHING)?;
    for new in self::namespaces(cluster)?.difference(namespaces) {
        remove_namespace(cluster, new)?;
    }
    remove_the_product(cluster).map(drop)
}

/// The namespaces that there are.
///
/// # Errors
/// kubectl's words.
pub fn namespaces(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let names = cluster.kubectl(&["get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}"])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Removes what a scenario that failed may have left of an installation: it would be in the next one's way.
///
/// # Errors
/// kubectl's words.
pub fn sweep(cluster: &Cluster) -> Result<()> {
    // It would install again what is removed here.
    if olm::is_there(cluster)? {
        olm::remove(cluster)?;
    }
    let workloads = ["delete", "daemonsets,deployments", "-A", "-l"];
    for selector in ["app.kubernetes.io/name=metallb", "app=metallb"] {
        cluster.kubectl(&[&workloads[..], &[selector]].concat())?;
    }
    let rights = ["delete", "clusterroles,clusterrolebindings", "-l", "app=metallb"];
    cluster.kubectl(&rights)?;
    for namespace in [OPERATOR, NAMESPACE] {
        remove_namespace(cluster, namespace)?;
    }
    Ok(())
}

/// Waits until of an installation nothing is left outside its namespace, but for CRDs.
///
/// # Errors
/// What is left.
pub fn wait_nothing_outside(cluster: &Cluster) -> Result<()> {
    let kinds = "clusterroles,clusterrolebindings";
    wait_for("the cluster-wide rights to go", Duration::from_secs(60), || {
        let left = cluster.kubectl(&["get", kinds, "-l", "app=metallb", "-o", "name"])?;
        ensure!(left.is_empty(), "there are still {left}");
        Ok(Some(()))
    })
}

/// Removes what a manifest with our CRDs has made: the namespace first. While CRDs vanish under it, the namespace controller
/// goes into a back-off of minutes.
///
/// # Errors
/// kubectl's words.
pub fn remove_manifest(cluster: &Cluster, manifest: &str) -> Result<()> {
    remove_namespace(cluster, NAMESPACE)?;
    cluster.delete(manifest).map(drop)
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
