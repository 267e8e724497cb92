//! The ground of a measurement: a server on a node of its own, services in both families with known owners, clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    Cluster,
    flush::{FLUSHING, Flusher},
    images::TESTSERVER_IMAGE,
    scenario::{
        install::NAMESPACE,
        workload::{SOON, fresh_namespace, prefer_echo_servers, remove_namespace, rolled_out},
    },
    wait_for,
};

/// Port of the echo servers, UDP and TCP.
pub const PORT: u16 = 9000;
/// Name of the pool, and of its advertisement.
pub const POOL: &str = "layer2";
const RANGES: [&str; 2] = ["192.168.124.140-192.168.124.179", "fd00:124::140-fd00:124::179"];

/// A service with an address of each family.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its IPv4 address.
    pub v4: IpAddr,
    /// Its IPv6 address.
    pub v6: IpAddr,
    /// The node that answered for both when the field was laid.
    pub owner: String,
}

impl Target {
    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4, self.v6]
    }
}

/// The ground.
pub struct Field {
    /// Namespace of servers and services.
    pub namespace: String,
    /// The node that the server is on. Nothing happens to it, so that what is measured is the address.
    pub server: String,
    /// Services whose owner is another node.
    pub targets: Vec<Target>,
    /// All services, those of the server's node too.
    pub all: Vec<Target>,
    flusher: Flusher,
}

impl Field {
    /// Lays it: a pool and its advertisement, a server on the last node, six services, a client that flushes.
    ///
    /// # Errors
    /// What does not get ready, with the words of whoever refused.
    pub fn lay(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let server = cluster.nodes().pop().context("a cluster has nodes")?.name;
        fresh_namespace(cluster, namespace)?;
        advertise(cluster, &json!({}))?;
        serve(cluster, namespace, &server)?;
        let names: Vec<String> = (1..=6).map(|n| format!("s{n}")).collect();
        let services: Vec<_> = names
            .iter()
            .map(|name| service(namespace, name, POOL, &json!({})))
            .collect();
        create(cluster, &services)?;
        let addresses = wait_addresses(cluster, namespace, &names)?;
        let owners = wait_single(
            cluster,
            &addresses.values().flatten().copied().collect::<Vec<_>>(),
        )?;
        let flusher = cluster.flushing_client()?;
        let mut all = Vec::new();
        for (name, [v4, v6]) in addresses {
            let owner = owners[&v4].clone();
            ensure!(
                owner == owners[&v6],
                "{owner} answers for {v4} of service {name}, but {} for its {v6}",
                owners[&v6]
            );
            all.push(Target { name, v4, v6, owner });
        }
        let targets: Vec<_> = all
            .iter()
            .filter(|target| target.owner != server)
            .cloned()
            .collect();
        ensure!(
            !targets.is_empty(),
            "{server}, where the server is, owns every address"
        );
        Ok(Self {
            namespace: namespace.to_owned(),
            server,
            targets,
            all,
            flusher,
        })
    }

    /// A service to measure: the first whose owner is not the server's node.
    pub fn target(&self) -> &Target {
        &self.targets[0]
    }

    /// Whether the flushing client waits for an answer, see [`Flusher::patient`].
    pub fn patient(&self, yes: bool) {
        self.flusher.patient(yes);
    }

    /// Every address of the field.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.all.iter().flat_map(Target::addresses).collect()
    }

    /// Waits until each address is answered for by its owner alone.
    ///
    /// # Errors
    /// Who answers instead.
    pub fn wait_as_laid(&self, cluster: &Cluster) -> Result<()> {
        self.wait_owners(cluster, Duration::from_secs(120), |target| target.owner.clone())
    }

    /// Waits until each service is answered for by the node that `owner` gives, alone.
    ///
    /// # Errors
    /// Who answers instead.
    pub fn wait_owners(
        &self,
        cluster: &Cluster,
        deadline: Duration,
        owner: impl Fn(&Target) -> String,
    ) -> Result<()> {
        let addresses = self.addresses();
        wait_for(
            "each address to be answered for by its owner alone",
            deadline,
            || {
                let heard = cluster.owners(&addresses)?;
                for target in &self.all {
                    for address in target.addresses() {
                        let wanted = BTreeSet::from([owner(target)]);
                        ensure!(
                            heard[&address] == wanted,
                            "{address} is answered for by {:?}, not {wanted:?}",
                            heard[&address]
                        );
                    }
                }
                Ok(Some(()))
            },
        )
    }

    /// Removes everything of it.
    ///
    /// # Errors
    /// kubectl's words.
    pub fn clear(self, cluster: &Cluster) -> Result<()> {
        drop(self.flusher);
        cluster.remove_host(FLUSHING)?;
        remove_namespace(cluster, &self.namespace)?;
        remove_pool(cluster, POOL)
    }
}

/// Creates the pool of the field and its advertisement, whose spec gets these further fields; or changes it to that.
///
/// # Errors
/// kubectl's words.
pub fn advertise(cluster: &Cluster, more: &Value) -> Result<()> {
    pool(cluster, POOL, &RANGES, more)
}

/// A pool that is used by request only, and its advertisement with these further fields.
///
/// # Errors
/// kubectl's words.
pub fn pool(cluster: &Cluster, name: &str, ranges: &[&str], more: &Value) -> Result<()> {
    let meta = json!({"name": name, "namespace": NAMESPACE});
    let mut advertisement = json!({"ipAddressPools": [name]});
    if let (Some(spec), Some(more)) = (advertisement.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": meta,
         "spec": {"addresses": ranges, "autoAssign": false}},
        {"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": meta, "spec": advertisement},
    ]});
    cluster.apply(&objects.to_string()).map(drop)
}

/// Removes a pool and its advertisement.
///
/// # Errors
/// kubectl's words.
pub fn remove_pool(cluster: &Cluster, name: &str) -> Result<()> {
    cluster
        .kubectl(&[
            "delete",
            "-n",
            NAMESPACE,
            "--ignore-not-found",
            &format!("l2advertisement/{name}"),
            &format!("ipaddresspool/{name}"),
        ])
        .map(drop)
}

/// Echo servers in one pod on the node.
///
/// # Errors
/// It does not start.
pub fn serve(cluster: &Cluster, namespace: &str, node: &str) -> Result<()> {
    let container = |protocol: &str| {
        let args = [format!("{protocol}-echo"), PORT.to_string()];
        json!({"name": protocol, "image": TESTSERVER_IMAGE, "args": args})
    };
    let labels = json!({"app": "server"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container("udp"), container("tcp")]}}}});
    cluster.apply(&deployment.to_string())?;
    rolled_out(cluster, namespace, "server")?;
    prefer_echo_servers(cluster)
}

/// A service of both families with an address of the pool, for the servers of [`serve`].
pub fn service(namespace: &str, name: &str, pool: &str, annotations: &Value) -> Value {
    let mut all = json!({"metallb.io/address-pool": pool});
    if let (Some(all), Some(more)) = (all.as_object_mut(), annotations.as_object()) {
        all.extend(more.clone());
    }
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT});
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": all},
        "spec": {"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "selector": {"app": "server"},
            "allocateLoadBalancerNodePorts": false, "ports": [port("UDP"), port("TCP")]}})
}

/// Creates many objects with one call.
///
/// # Errors
/// kubectl's words.
pub fn create(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    cluster
        .kubectl_with_input(&["create", "-f", "-"], &list.to_string())
        .map(drop)
}

/// Waits until each of the services has an IPv4 and an IPv6 address.
///
/// # Errors
/// Those that have none.
pub fn wait_addresses(
    cluster: &Cluster,
    namespace: &str,
    names: &[String],
) -> Result<BTreeMap<String, [IpAddr; 2]>> {
    wait_for(&format!("addresses of the services of {namespace}"), SOON, || {
        let list = cluster.kubectl_json(&["get", "services", "-n", namespace])?;
        let mut found = BTreeMap::new();
        for item in list["items"].as_array().into_iter().flatten() {
            let ingress = item["status"]["loadBalancer"]["ingress"].as_array();
            let mut addresses: Vec<IpAddr> = ingress
                .into_iter()
                .flatten()
                .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
                .collect();
            addresses.sort_unstable();
            if let (Some(name), [v4, v6]) = (item["metadata"]["name"].as_str(), &addresses[..]) {
                found.insert(name.to_owned(), [*v4, *v6]);
            }
        }
        let missing: Vec<_> = names.iter().filter(|name| !found.contains_key(*name)).collect();
        match missing.first() {
            None => Ok(Some(found)),
            Some(first) => bail!("{} have none, {first} for one", missing.len()),
        }
    })
}

/// Waits until exactly one node answers for each of the addresses; which.
///
/// # Errors
/// An address that nobody or several answer for.
pub fn wait_single(cluster: &Cluster, addresses: &[IpAddr]) -> Result<BTreeMap<IpAddr, String>> {
    wait_for("one node to answer for each address", SOON, || {
        let heard = cluster.owners(addresses)?;
        let mut single = BTreeMap::new();
        for (address, nodes) in heard {
            let mut nodes = nodes.into_iter();
            match (nodes.next(), nodes.next()) {
                (Some(node), None) => single.insert(address, node),
                (None, _) => bail!("nobody answers for {address}"),
                (Some(one), Some(other)) => bail!("{address} is answered for by {one} and {other}"),
            };
        }
        Ok(Some(single))
    })
}
