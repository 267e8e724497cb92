//! The kinds of BGP, as far as they are built: each is read, judged and answered, in every version, and says what it does.

use anyhow::{Context, Result, ensure};

use super::{headings, object, sample};
use crate::{
    Cluster,
    scenario::{configuration::wait_valid, install::NAMESPACE},
};

/// What an object of these kinds says while the speakers do not speak BGP.
const NOT_YET: &str = "does not speak BGP yet";

fn wait_accepted(cluster: &Cluster, resource: &str, name: &str) -> Result<()> {
    let resource = format!("{resource}.metallb.io");
    wait_valid(
        cluster,
        (&resource, NAMESPACE, name),
        "True",
        "Accepted",
        &[NOT_YET],
    )
}

fn apply(cluster: &Cluster, files: &[&str]) -> Result<()> {
    files
        .iter()
        .try_for_each(|file| cluster.apply(&sample(file)?).map(drop))
}

fn delete(cluster: &Cluster, files: &[&str]) -> Result<()> {
    files
        .iter()
        .try_for_each(|file| cluster.delete(&sample(file)?).map(drop))
}

/// A peer waits for what it names, and both versions show the whole of it.
pub fn bgp_peer(cluster: &mut Cluster) -> Result<()> {
    let files = ["bgp-peer.yaml", "deprecated-bgp-peer.yaml", "bfd-profile.yaml"];
    delete(cluster, &files)?;
    let peer = ("bgppeers.metallb.io", NAMESPACE, "router");
    apply(cluster, &files[1..])?;
    // The file without the Secret at its end.
    let text = sample("bgp-peer.yaml")?;
    let (alone, _) = text.split_once("---\n").context("two objects")?;
    cluster.apply(alone)?;
    wait_valid(cluster, peer, "False", "WaitingForSecret", &["router-password"])?;
    cluster.apply(&text)?;
    wait_accepted(cluster, "bgppeers", "router")?;
    wait_accepted(cluster, "bgppeers", "old-router")?;
    headings(
        cluster,
        "bgppeers",
        NAMESPACE,
        &["NAME", "ADDRESS", "ASN", "BFD PROFILE", "MULTI HOPS", "VALID"],
    )?;
    for version in ["v1beta1", "v1beta2"] {
        let resource = format!("bgppeers.{version}.metallb.io");
        for (name, peer, asn) in [
            ("router", "192.168.124.1", 64513),
            ("old-router", "192.168.124.254", 64514),
        ] {
            let object = object(cluster, &resource, NAMESPACE, name)?;
            ensure!(
                object["apiVersion"] == format!("metallb.io/{version}")
                    && object["spec"]["peerAddress"] == peer
                    && object["spec"]["peerASN"] == asn,
                "{resource} {name} is {}",
                object["spec"]
            );
        }
    }
    delete(cluster, &["bfd-profile.yaml"])?;
    wait_valid(cluster, peer, "False", "WaitingForBFDProfile", &["fast"])?;
    delete(cluster, &files)
}

/// Advertisements name pools, peers and communities that are there.
pub fn bgp_advertisement(cluster: &mut Cluster) -> Result<()> {
    let files = [
        "bgp-advertisement.yaml",
        "bgp-advertisement-per-service.yaml",
        "community.yaml",
        "bgp-peer.yaml",
        "bfd-profile.yaml",
    ];
    delete(cluster, &files)?;
    apply(cluster, &files)?;
    for name in ["lan", "gold"] {
        wait_accepted(cluster, "bgpadvertisements", name)?;
    }
    headings(
        cluster,
        "bgpadvertisements",
        NAMESPACE,
        &[
            "NAME",
            "IPADDRESSPOOLS",
            "IPADDRESSPOOL SELECTORS",
            "PEERS",
            "VALID",
        ],
    )?;
    delete(cluster, &["community.yaml"])?;
    let lan = ("bgpadvertisements.metallb.io", NAMESPACE, "lan");
    wait_valid(cluster, lan, "False", "WaitingForCommunity", &["no-advertise"])?;
    delete(cluster, &files)
}

/// A profile with the sample's timers.
pub fn bfd_profile(cluster: &mut Cluster) -> Result<()> {
    let files = ["bfd-profile.yaml"];
    delete(cluster, &files)?;
    apply(cluster, &files)?;
    wait_accepted(cluster, "bfdprofiles", "fast")?;
    headings(
        cluster,
        "bfdprofiles",
        NAMESPACE,
        &[
            "NAME",
            "PASSIVE MODE",
            "TRANSMIT INTERVAL",
            "RECEIVE INTERVAL",
            "MULTIPLIER",
            "VALID",
        ],
    )?;
    delete(cluster, &files)
}

/// Names for communities, of both forms.
pub fn community(cluster: &mut Cluster) -> Result<()> {
    let files = ["community.yaml"];
    delete(cluster, &files)?;
    apply(cluster, &files)?;
    wait_accepted(cluster, "communities", "names")?;
    headings(cluster, "communities", NAMESPACE, &["NAME", "VALID"])?;
    delete(cluster, &files)
}
