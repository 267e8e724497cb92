//! L2Advertisement: which nodes answer for which services, and where.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::{headings, sample, service, start_pods, wait_silent, wait_within};
use crate::{
    Cluster,
    lan::{LAN_BRIDGE, port_name},
    netns,
    scenario::{
        configuration::wait_valid,
        install::NAMESPACE,
        workload::{SOON, fresh_namespace, remove_namespace, wait_page},
    },
    wait_for,
};

const NS: &str = "shop";
const FILES: [&str; 4] = [
    "pool-reserved.yaml",
    "pool-by-labels.yaml",
    "l2-advertisement-edge.yaml",
    "l2-advertisement-per-service.yaml",
];

/// Nodes, interfaces, preferences and services are chosen as the samples say.
pub fn l2_advertisement(cluster: &mut Cluster) -> Result<()> {
    fresh_namespace(cluster, NS)?;
    cluster.kubectl(&["label", "namespace", NS, "team=shop"])?;
    let nodes = cluster.nodes();
    ensure!(nodes.len() >= 3, "this scenario needs three nodes");
    let second_nics = SecondNics::plug(cluster)?;
    let outcome = with_second_nics(cluster, &second_nics);
    second_nics.unplug()?;
    for node in &nodes {
        cluster.kubectl(&["label", "node", &node.name, "zone-", "role-"])?;
    }
    outcome?;
    remove_namespace(cluster, NS)?;
    for file in FILES {
        cluster.delete(&sample(file)?)?;
    }
    Ok(())
}

fn with_second_nics(cluster: &Cluster, nics: &SecondNics<'_>) -> Result<()> {
    let names: Vec<String> = cluster.nodes().into_iter().map(|node| node.name).collect();
    for edge in &names[..2] {
        cluster.kubectl(&["label", "node", edge, "zone=edge"])?;
    }
    for file in FILES {
        cluster.apply(&sample(file)?)?;
    }
    for name in ["edge", "shop-public"] {
        let advertisement = ("l2advertisements.metallb.io", NAMESPACE, name);
        wait_valid(cluster, advertisement, "True", "Accepted", &[])?;
    }
    headings(
        cluster,
        "l2advertisements",
        NAMESPACE,
        &[
            "NAME",
            "IPADDRESSPOOLS",
            "IPADDRESSPOOL SELECTORS",
            "INTERFACES",
            "VALID",
        ],
    )?;
    start_pods(cluster, NS)?;
    cluster.apply(&sample("service-from-pool.yaml")?)?;
    let address = wait_within(cluster, NS, "vip", &[("192.168.124.192", "192.168.124.199")])?[0];
    let owner = wait_for(
        &format!("eth1 of {} or {} to answer", names[0], names[1]),
        SOON,
        || {
            let owner = nics.owner(address)?;
            ensure!(
                names[..2].contains(&owner),
                "{owner} answers, which is not labelled zone=edge"
            );
            Ok(Some(owner))
        },
    )?;
    wait_page(cluster, address, SOON)?;
    wait_for("a ServiceL2Status that names the interface", SOON, || {
        let selector = format!("metallb.io/service-name=vip,metallb.io/service-namespace={NS}");
        let list = cluster.kubectl_json(&["get", "servicel2statuses", "-n", NAMESPACE, "-l", &selector])?;
        let status = &list["items"][0]["status"];
        ensure!(
            status["node"] == owner.as_str() && status["interfaces"][0]["name"] == "eth1",
            "it says {status}"
        );
        Ok(Some(()))
    })?;
    headings(
        cluster,
        "servicel2statuses",
        NAMESPACE,
        &["NAME", "ALLOCATED NODE", "SERVICE NAME", "SERVICE NAMESPACE"],
    )?;
    // Whichever is preferred, it owns the address.
    for preferred in &names[..2] {
        for node in &names[..2] {
            let label = if node == preferred {
                "role=gateway"
            } else {
                "role-"
            };
            cluster.kubectl(&["label", "node", node, label])?;
        }
        wait_for(
            &format!("{preferred}, which is preferred, to answer for {address}"),
            SOON,
            || {
                let owner = nics.owner(address)?;
                ensure!(owner == *preferred, "{owner} does");
                Ok(Some(()))
            },
        )?;
    }
    per_service(cluster)
}

/// A label of the service decides whether anybody answers for its address.
fn per_service(cluster: &Cluster) -> Result<()> {
    cluster.apply(&service(NS, "web", "app: web, public: 'yes'", "", ""))?;
    let range = ("192.168.124.128", "192.168.124.143");
    let address = wait_within(cluster, NS, "web", &[range])?[0];
    wait_page(cluster, address, SOON)?;
    cluster.kubectl(&["label", "service", "-n", NS, "web", "public-"])?;
    wait_silent(cluster, address)?;
    cluster.kubectl(&["label", "service", "-n", NS, "web", "public=yes"])?;
    wait_page(cluster, address, SOON).map(drop)
}

/// A second network interface, eth1, of every node, on the same LAN.
struct SecondNics<'a> {
    cluster: &'a Cluster,
}

impl<'a> SecondNics<'a> {
    fn plug(cluster: &'a Cluster) -> Result<Self> {
        let nics = Self { cluster };
        nics.unplug()?;
        for (index, node) in cluster.nodes().into_iter().enumerate() {
            let (port, ns) = (port_name(&node.name, 1), cluster.plan().netns(&node.name));
            let mac = Self::mac(index);
            netns::ip_batch(
                &cluster.plan().netns("lan"),
                &format!(
                    "link add {port} type veth peer name eth1 address {mac} netns {ns}\nlink set {port} master {LAN_BRIDGE} up\n"
                ),
            )?;
            // The node's own addresses stay where they are.
            netns::sysctl(&ns, &[("net/ipv4/conf/eth1/arp_ignore", "1")], true)?;
            netns::ip_batch(&ns, "link set eth1 up\n")?;
        }
        Ok(nics)
    }

    fn unplug(&self) -> Result<()> {
        let ns = self.cluster.plan().netns("lan");
        for node in self.cluster.nodes() {
            let port = port_name(&node.name, 1);
            if netns::command(&ns, "ip")
                .args(["link", "show", &port])
                .output()?
                .status
                .success()
            {
                netns::ip_batch(&ns, &format!("link del {port}\n"))?;
            }
        }
        Ok(())
    }

    fn mac(index: usize) -> String {
        format!("02:4c:e1:00:00:{:02x}", index + 1)
    }

    /// The node whose eth1 answers for the address, and nobody else.
    fn owner(&self, address: IpAddr) -> Result<String> {
        let macs = self.cluster.client_who_has(address)?;
        let mut macs = macs.iter();
        let (Some(mac), None) = (macs.next(), macs.next()) else {
            anyhow::bail!(
                "{address} is answered for by {:?}",
                self.cluster.client_who_has(address)?
            )
        };
        let nodes = self.cluster.nodes();
        let of = nodes
            .iter()
            .enumerate()
            .find(|(index, _)| Self::mac(*index) == *mac);
        match of {
            Some((_, node)) => Ok(node.name.clone()),
            None => anyhow::bail!("{mac} answers for {address}, which is the eth1 of no node"),
        }
    }
}
