//! All sources of configuration: the kinds of each generation and the `ConfigMap`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{
    configuration::wait_valid,
    install::NAMESPACE,
    tour::{headings, sample},
    workload::{
        Lb, SOON, addresses, events, fresh_namespace, remove_namespace, rolled_out, speakers_rolled_out,
        wait_address, wait_event, wait_page, web_pods,
    },
};
use crate::{Cluster, wait_for};

const CONFIG_MAP: &str = "config";

/// A service over whoami pods that asks for the pool, answering the client: its address.
fn served_from(cluster: &Cluster, namespace: &str, pool: &str) -> Result<IpAddr> {
    fresh_namespace(cluster, namespace)?;
    web_pods(cluster, namespace, "web", 1)?;
    Lb {
        namespace,
        name: "web",
        app: "web",
        annotations: &format!("metallb.universe.tf/address-pool: {pool}"),
        ..Lb::default()
    }
    .apply(cluster)?;
    let address = wait_address(cluster, namespace, "web").with_context(|| format!("from pool {pool}"))?;
    wait_page(cluster, address, SOON)?;
    Ok(address)
}

fn within(address: IpAddr, low: &str, high: &str) -> Result<()> {
    let range = low.parse::<IpAddr>()?..=high.parse()?;
    ensure!(
        range.contains(&address),
        "{address} is not of the pool {low}-{high}"
    );
    Ok(())
}

fn wait_cleared(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    wait_for(
        &format!("{namespace}/{name} to lose an address that no pool holds any more"),
        SOON,
        || match addresses(cluster, namespace, name)?.as_slice() {
            [] => Ok(Some(())),
            some => bail!("it has {some:?}"),
        },
    )
}

/// The kind of the first operator, in its first version, as tutorials have it; and the samples of both versions.
pub fn address_pool(cluster: &mut Cluster) -> Result<()> {
    let ns = "address-pool";
    clear(cluster)?;
    samples_of_address_pools(cluster, ns)?;
    let name = "addresspool-sample1";
    let (low, high) = ("192.168.124.150", "192.168.124.154");
    let pool = |range: &str| {
        format!(
            "{{apiVersion: metallb.io/v1alpha1, kind: AddressPool, metadata: {{name: {name}, namespace: {NAMESPACE}}}, \
             spec: {{name: default, protocol: layer2, autoAssign: false, addresses: ['{range}']}}}}"
        )
    };
    cluster.delete(&pool("192.0.2.1/32"))?;
    cluster.apply(&pool(&format!("{low}-{high}")))?;
    let resource = ("addresspools.metallb.io", NAMESPACE, name);
    wait_valid(cluster, resource, "True", "Accepted", &["IPAddressPool"])?;
    wait_event(
        cluster,
        NAMESPACE,
        name,
        "DeprecatedConfiguration",
        &["IPAddressPool", "L2Advertisement"],
    )?;
    let address = served_from(cluster, ns, name)?;
    within(address, low, high)?;
    // Both versions show the whole object.
    for version in ["v1alpha1", "v1beta1"] {
        let resource = format!("addresspools.{version}.metallb.io");
        let object = cluster.kubectl_json(&["get", &resource, "-n", NAMESPACE, name])?;
        ensure!(
            object["spec"]["protocol"] == "layer2"
                && object["spec"]["addresses"][0] == format!("{low}-{high}"),
            "{resource} shows {}",
            object["spec"]
        );
    }
    // An edit into another pool's range: named, and nothing is taken away.
    cluster.apply(&pool("192.168.124.200-192.168.124.201"))?;
    wait_valid(cluster, resource, "False", "AddressOverlap", &["lan"])?;
    ensure!(
        addresses(cluster, ns, "web")? == [address],
        "the service lost {address} because of a bad edit"
    );
    wait_page(cluster, address, SOON)?;
    cluster.delete(&pool("192.0.2.1/32"))?;
    wait_cleared(cluster, ns, "web")?;
    remove_namespace(cluster, ns)
}

/// Removes what an earlier, broken run of a scenario here has left: its addresses are those of others.
fn clear(cluster: &Cluster) -> Result<()> {
    for file in ["deprecated-address-pools.yaml", "deprecated-config-map.yaml"] {
        cluster.delete(&sample(file)?)?;
    }
    Ok(())
}

fn samples_of_address_pools(cluster: &Cluster, ns: &str) -> Result<()> {
    let text = sample("deprecated-address-pools.yaml")?;
    cluster.apply(&text)?;
    for (name, words) in [
        ("old-layer2", ["IPAddressPool", "L2Advertisement"]),
        ("old-bgp", ["IPAddressPool", "BGPAdvertisement"]),
    ] {
        let pool = ("addresspools.metallb.io", NAMESPACE, name);
        wait_valid(cluster, pool, "True", "Accepted", &words)?;
    }
    headings(
        cluster,
        "addresspools",
        NAMESPACE,
        &["NAME", "PROTOCOL", "AUTO ASSIGN", "ADDRESSES", "VALID"],
    )?;
    within(
        served_from(cluster, ns, "old-layer2")?,
        "192.168.124.160",
        "192.168.124.167",
    )?;
    // Nobody is given one of these unasked.
    Lb {
        namespace: ns,
        name: "bgp",
        app: "web",
        annotations: "metallb.io/address-pool: old-bgp",
        ..Lb::default()
    }
    .apply(cluster)?;
    within(
        wait_address(cluster, ns, "bgp")?,
        "198.51.100.0",
        "198.51.100.255",
    )?;
    cluster.delete(&text).map(drop)
}

/// The `ConfigMap` with this text under `data.config`.
fn config(text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {CONFIG_MAP}, namespace: {NAMESPACE}}}, data: {{config: {text}}}}}"
    )
}

/// The configuration of `MetalLB` up to v0.12: one text for everything.
pub fn config_map(cluster: &mut Cluster) -> Result<()> {
    let ns = "config-map";
    let (low, high) = ("192.168.124.160", "192.168.124.164");
    let good = format!(
        "address-pools:\n- name: metallb-ip-space\n  protocol: layer2\n  auto-assign: false\n  addresses:\n  - {low}-{high}\n"
    );
    let bad_entry = format!("{good}- name: junk\n  protocol: layer2\n  addresses: [10.0.0.0/33]\n");
    clear(cluster)?;
    let shown = sample("deprecated-config-map.yaml")?;
    cluster.apply(&shown)?;
    let address = served_from(cluster, ns, "old-default")?;
    within(address, "192.168.124.168", "192.168.124.175")?;
    let told = ["IPAddressPool", "L2Advertisement"];
    wait_event(cluster, NAMESPACE, CONFIG_MAP, "DeprecatedConfiguration", &told)?;

    cluster.delete(&shown)?;
    cluster.apply(&config(&bad_entry))?;
    let address = served_from(cluster, ns, "metallb-ip-space")?;
    within(address, low, high)?;
    wait_event(
        cluster,
        NAMESPACE,
        CONFIG_MAP,
        "ConfigurationInvalid",
        &["address-pools[1]", "10.0.0.0/33"],
    )?;
    wait_state(cluster, "Invalid", &["ConfigMap", "address-pools[1]"])?;

    // Now the whole text is no YAML, and everything is restarted on top of that.
    cluster.apply(&config("address-pools: [\n"))?;
    wait_event(
        cluster,
        NAMESPACE,
        CONFIG_MAP,
        "ConfigurationInvalid",
        &["data.config", "YAML"],
    )?;
    cluster.kubectl(&[
        "rollout",
        "restart",
        "-n",
        NAMESPACE,
        "deployment/controller",
        "daemonset/speaker",
    ])?;
    rolled_out(cluster, NAMESPACE, "controller")?;
    speakers_rolled_out(cluster, Duration::from_secs(120))?;
    // The restarted allocator has judged it: it serves a service that came after the typo from the pool before it.
    Lb {
        namespace: ns,
        name: "later",
        app: "web",
        annotations: "metallb.io/address-pool: metallb-ip-space",
        ..Lb::default()
    }
    .apply(cluster)?;
    within(wait_address(cluster, ns, "later")?, low, high)?;
    ensure!(
        addresses(cluster, ns, "web")? == [address],
        "the service lost {address} because of a typo and a restart"
    );
    wait_page(cluster, address, SOON)?;
    let told: Vec<_> = events(cluster, ns, "web")?
        .into_iter()
        .filter(|(reason, ..)| reason == "ClearAssignment")
        .collect();
    ensure!(told.is_empty(), "an address was taken away: {told:?}");

    cluster.apply(&config(&good))?;
    wait_event(cluster, NAMESPACE, CONFIG_MAP, "ConfigurationValid", &[])?;
    wait_state(cluster, "Valid", &[])?;
    cluster.delete(&config(""))?;
    wait_cleared(cluster, ns, "web")?;
    remove_namespace(cluster, ns)
}

/// Waits until the allocator's ConfigurationState has this result, and its summary these words.
fn wait_state(cluster: &Cluster, result: &str, words: &[&str]) -> Result<()> {
    wait_for(
        &format!("ConfigurationState controller to be {result}, saying {words:?}"),
        SOON,
        || {
            let state =
                cluster.kubectl_json(&["get", "configurationstate", "-n", NAMESPACE, "controller"])?;
            let status = &state["status"];
            let summary = status["errorSummary"].as_str().unwrap_or_default();
            if status["result"] == result && words.iter().all(|word| summary.contains(word)) {
                Ok(Some(()))
            } else {
                bail!("it is {status}")
            }
        },
    )
}

/// Objects in a namespace that is not read: each kind says so.
pub fn wrong_namespace(cluster: &mut Cluster) -> Result<()> {
    let ns = "wrong-namespace";
    fresh_namespace(cluster, ns)?;
    let object = |kind: &str, spec: &str| {
        format!(
            "---\n{{apiVersion: metallb.io/v1beta1, kind: {kind}, metadata: {{name: stray, namespace: {ns}}}, spec: {{{spec}}}}}\n"
        )
    };
    cluster.apply(
        &[
            object("IPAddressPool", "addresses: [192.0.2.0/24]"),
            object("L2Advertisement", ""),
            object("BGPAdvertisement", ""),
            object("BGPPeer", "myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1"),
            object("BFDProfile", ""),
            object("Community", "communities: [{name: c, value: '64512:1'}]"),
            object("AddressPool", "protocol: layer2, addresses: [192.0.2.0/24]"),
        ]
        .concat(),
    )?;
    for resource in [
        "ipaddresspools",
        "l2advertisements",
        "bgpadvertisements",
        "bgppeers",
        "bfdprofiles",
        "communities",
        "addresspools",
    ] {
        let resource = format!("{resource}.metallb.io");
        wait_valid(
            cluster,
            (&resource, ns, "stray"),
            "False",
            "WrongNamespace",
            &[NAMESPACE],
        )?;
    }
    wait_event(cluster, ns, "stray", "ConfigurationInvalid", &[NAMESPACE])?;
    remove_namespace(cluster, ns)
}
