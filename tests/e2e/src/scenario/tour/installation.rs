//! The `MetalLB` resource of the samples, and what the README shows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{sample, service, start_pods, wait_within};
use crate::{
    Cluster,
    scenario::{
        install::{NAMESPACE, read, wait_available},
        workload::{SOON, addresses, fresh_namespace, remove_namespace, wait_page},
    },
    wait_for,
};

const ROLLOUT: Duration = Duration::from_secs(120);
const LAN: (&str, &str) = ("192.168.124.200", "192.168.124.250");

/// Settings of the installation: where speakers run, which class is served, how addresses are used again. Then back.
pub fn metallb(cluster: &mut Cluster) -> Result<()> {
    let ns = "metallb-tuned";
    fresh_namespace(cluster, ns)?;
    start_pods(cluster, ns)?;
    let names: Vec<String> = cluster.nodes().into_iter().map(|node| node.name).collect();
    for node in &names[..2] {
        cluster.kubectl(&["label", "node", node, "lb=true", "--overwrite"])?;
    }
    // Its speaker tolerates that.
    cluster.kubectl(&[
        "taint",
        "node",
        &names[1],
        "dedicated=edge:NoSchedule",
        "--overwrite",
    ])?;
    let outcome = tuned(cluster, ns, &names[..2]);
    for node in &names[..2] {
        cluster.kubectl(&["label", "node", node, "lb-"])?;
    }
    cluster.kubectl(&["taint", "node", &names[1], "dedicated-"])?;
    outcome?;
    cluster.apply(&sample("metallb.yaml")?)?;
    wait_available(cluster, ROLLOUT)?;
    wait_speakers(cluster, &names)?;
    remove_namespace(cluster, ns)
}

fn tuned(cluster: &Cluster, ns: &str, nodes: &[String]) -> Result<()> {
    cluster.apply(&sample("metallb-tuned.yaml")?)?;
    wait_available(cluster, ROLLOUT)?;
    wait_speakers(cluster, nodes)?;
    let class = "loadBalancerClass: metallb.io/metallb";
    // Addresses rest: the one that was freed is not the next.
    cluster.apply(&service(ns, "first", "", "", class))?;
    let first = wait_within(cluster, ns, "first", &[LAN])?;
    wait_page(cluster, first[0], SOON)?;
    cluster.kubectl(&["delete", "service", "-n", ns, "first"])?;
    cluster.apply(&service(ns, "second", "", "", class))?;
    let second = wait_within(cluster, ns, "second", &[LAN])?;
    ensure!(first != second, "{first:?} was used again at once");
    // Without a class: not looked at, though it came before one that is.
    cluster.apply(&service(ns, "classless", "", "", ""))?;
    cluster.apply(&service(ns, "third", "", "", class))?;
    wait_within(cluster, ns, "third", &[LAN])?;
    ensure!(
        addresses(cluster, ns, "classless")?.is_empty(),
        "a service without a class was given an address"
    );
    Ok(())
}

/// Waits until speakers run on these nodes and on no others.
fn wait_speakers(cluster: &Cluster, nodes: &[String]) -> Result<()> {
    wait_for(&format!("speakers on {nodes:?} alone"), ROLLOUT, || {
        let list = cluster.kubectl_json(&["get", "pods", "-n", NAMESPACE, "-l", "component=speaker"])?;
        let mut on: Vec<&str> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pod| pod["spec"]["nodeName"].as_str())
            .collect();
        on.sort_unstable();
        ensure!(on == nodes, "they are on {on:?}");
        Ok(Some(()))
    })
}

/// The YAML of the README, applied as it is shown, serves.
pub fn readme(cluster: &mut Cluster) -> Result<()> {
    let ns = "readme";
    fresh_namespace(cluster, ns)?;
    // The samples have the same names.
    for file in ["pool.yaml", "l2-advertisement.yaml"] {
        cluster.delete(&sample(file)?)?;
    }
    let text = read("README.md")?;
    let blocks = yaml_blocks(&text).context("README.md")?;
    ensure!(!blocks.is_empty(), "README.md shows no YAML");
    for block in &blocks {
        cluster.apply(block)?;
    }
    wait_available(cluster, ROLLOUT)?;
    start_pods(cluster, ns)?;
    cluster.apply(&service(ns, "web", "", "", ""))?;
    let address = wait_within(cluster, ns, "web", &[LAN])?[0];
    wait_page(cluster, address, SOON)?;
    remove_namespace(cluster, ns)?;
    for file in ["metallb.yaml", "pool.yaml", "l2-advertisement.yaml"] {
        cluster.apply(&sample(file)?)?;
    }
    wait_available(cluster, ROLLOUT)
}

/// What stands between "```yaml" and "```".
fn yaml_blocks(text: &str) -> Result<Vec<String>> {
    let mut blocks = Vec::new();
    for part in text.split("```yaml\n").skip(1) {
        let (block, _) = part
            .split_once("```")
            .context("a block of YAML that does not end")?;
        blocks.push(block.to_owned());
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::yaml_blocks;

    #[test]
    fn blocks_of_yaml_are_found() {
        let text = "a\n```yaml\nx: 1\n```\nb\n```\nno yaml\n```\n```yaml\ny: 2\n```\n";
        assert_eq!(yaml_blocks(text).unwrap(), ["x: 1\n", "y: 2\n"]);
        assert!(yaml_blocks("```yaml\nx: 1\n").is_err());
    }
}
