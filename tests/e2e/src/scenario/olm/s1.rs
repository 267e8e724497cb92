//! Operator users: a catalog, a Subscription, one `MetalLB` resource in another namespace, the first-generation pool, a transfer
//! server; with both forms of `OperatorGroup`, and away with it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{
    OPERATOR,
    install::{self, Form, create, uninstall, wait_catalog, wait_repair, wait_succeeded},
    leftovers,
    release::{Published, catalog_source},
    transfer::{self, wait_reached},
};
use crate::scenario::{
    install::{NAMESPACE, read, wait_available},
    layer2::Figures,
    workload::{SOON, delete_speaker, remove_namespace, speakers_rolled_out, wait_address, wait_one_owner},
};
use crate::{Cluster, Progress, olm, wait_for};

/// As people wrote it in 2021, with a range of the lab's network.
const POOL: &str = "apiVersion: metallb.io/v1alpha1
kind: AddressPool
metadata:
  name: addresspool-sample1
  namespace: metallb-system
spec:
  name: default
  protocol: layer2
  addresses:
  - 192.168.124.200-192.168.124.250
";

/// The whole scenario.
pub fn s1(cluster: &mut Cluster) -> Result<()> {
    let cluster: &Cluster = cluster;
    let progress = Progress::start();
    let mut figures = Figures::new("s1");
    let published = Published::beside_olm(cluster, &progress)?;
    figures.add(
        "olm_up",
        "s",
        progress.elapsed().as_secs_f64(),
        "with cluster DNS, and two versions published",
    );
    let before = leftovers::outside(cluster)?;
    let present = &published.present;

    let start = Instant::now();
    create(cluster, &catalog_source(&published.catalog)?)?;
    create(cluster, &Form::AllNamespaces.text()?)?;
    wait_catalog(cluster, &published.catalog)?;
    wait_succeeded(cluster, &present.csv())?;
    figures.add(
        "subscription_to_succeeded",
        "s",
        start.elapsed().as_secs_f64(),
        "catalog and bundle pulled",
    );
    unpacked_in_a_job(cluster)?;

    let start = Instant::now();
    create(cluster, &read("config/samples/metallb.yaml")?)?;
    wait_available(cluster, Duration::from_secs(120))?;
    figures.add(
        "metallb_to_available",
        "s",
        start.elapsed().as_secs_f64(),
        "images pulled",
    );
    operands(cluster)?;
    create(cluster, POOL)?;
    let start = Instant::now();
    let address = transfer::serve(cluster)?;
    wait_reached(cluster, address)?;
    figures.add(
        "service_reached",
        "s",
        start.elapsed().as_secs_f64(),
        "server started, six ports answered",
    );
    progress.line(&format!("the transfer server is reached at {address}"));

    uninstall(cluster).context("uninstall the first time")?;
    serves_without_the_operator(cluster, address)?;
    remove_namespace(cluster, OPERATOR)?;
    progress.line("without the operator all goes on; now the OperatorGroup that names its namespaces");
    // What was left is not in its way: the resource and its namespace.
    cluster.apply(&Form::TargetNamespaces.text()?)?;
    wait_succeeded(cluster, &present.csv())?;
    picked_up(cluster)?;
    ensure!(
        wait_address(cluster, transfer::WORK, "transfer")? == address,
        "installing again has changed {address}"
    );
    wait_reached(cluster, address)?;

    away(cluster, address)?;
    leftovers::judge(cluster, &before)?;
    figures.write()?;
    remove_namespace(cluster, transfer::WORK)?;
    install::clear(cluster)
}

/// A job of OLM's has taken the bundle out of its image.
fn unpacked_in_a_job(cluster: &Cluster) -> Result<()> {
    let selector = "operatorframework.io/bundle-unpack-ref";
    let jobs = cluster.kubectl_json(&["get", "jobs", "-n", olm::NAMESPACE, "-l", selector])?;
    let done = jobs["items"]
        .as_array()
        .is_some_and(|jobs| jobs.iter().any(|job| job["status"]["succeeded"] == 1));
    ensure!(done, "no unpack job has succeeded: {jobs}");
    Ok(())
}

/// What the operator makes is where the resource is.
fn operands(cluster: &Cluster) -> Result<()> {
    for object in [
        "deployment/controller",
        "daemonset/speaker",
        "serviceaccount/controller",
        "serviceaccount/speaker",
        "role/controller",
        "rolebinding/controller",
        "secret/metallb-memberlist",
    ] {
        cluster
            .kubectl(&["get", "-n", NAMESPACE, object])
            .with_context(|| format!("{object} should be in {NAMESPACE}"))?;
    }
    Ok(())
}

/// What was announced is announced, and a speaker that starts now starts.
fn serves_without_the_operator(cluster: &Cluster, address: IpAddr) -> Result<()> {
    wait_reached(cluster, address)?;
    let owner = wait_one_owner(cluster, address, SOON)?;
    delete_speaker(cluster, &owner)?;
    speakers_rolled_out(cluster, Duration::from_secs(120))?;
    wait_reached(cluster, address)
}

/// The operator works again: it repairs what it had made before it went.
fn picked_up(cluster: &Cluster) -> Result<()> {
    wait_repair(cluster)?;
    wait_available(cluster, Duration::from_secs(120))
}

/// Away with it in the order of the documentation: the resource, the Subscription, the version.
fn away(cluster: &Cluster, address: IpAddr) -> Result<()> {
    cluster.kubectl(&["delete", "metallb", "-n", NAMESPACE, "metallb", "--timeout=60s"])?;
    wait_for("nobody to answer for the address", SOON, || {
        match cluster.announcing_node(address) {
            Ok(node) => bail!("{node} answers for {address}"),
            Err(_) => Ok(Some(())),
        }
    })?;
    wait_for("the operands to go", SOON, || {
        let pods = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "name"])?;
        ensure!(pods.is_empty(), "there are still {pods}");
        Ok(Some(()))
    })?;
    uninstall(cluster)?;
    cluster.kubectl(&["delete", "operatorgroup", "-n", OPERATOR, "--all"])?;
    // The users' own objects are still there.
    cluster
        .kubectl(&["get", "addresspool", "-n", NAMESPACE, "addresspool-sample1"])
        .context("the pool is the user's")?;
    cluster
        .kubectl(&["get", "service", "-n", transfer::WORK, "transfer"])
        .context("the service is the user's")
        .map(drop)
}
