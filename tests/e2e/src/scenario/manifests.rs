//! Installing with `kubectl apply`, in the forms of seven years: two files, one file, a kustomization, with Prometheus; with a
//! membership key made by hand before, after, or never.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    clean::{remove_manifest, run_in, wait_nothing_outside},
    evidence_dir,
    install::{NAMESPACE, push_image, read, with_images},
    workload::{
        SOON, addresses, events, fresh_namespace, remove_namespace, rolled_out, serve_page,
        speakers_rolled_out, wait_page,
    },
};
use crate::{Cluster, checkout, cluster::CLIENT, wait_for};

const WORK: &str = "manifests";
/// The key that we make, and the one that a user makes.
const GENERATED: &str = "metallb-memberlist";
const BY_HAND: &str = "memberlist";
/// Long enough also when kubelet did not see the Secret in time to bring it at once.
const KUBELET: Duration = Duration::from_secs(150);

/// A checked-in manifest with the images just built.
///
/// # Errors
/// They are not built.
pub fn manifest(cluster: &Cluster, file: &str) -> Result<String> {
    let text = read(&format!("config/manifests/{file}.yaml"))?;
    with_images(text, |name| push_image(cluster, name))
}

/// Waits until controller and speakers run as the objects now say.
///
/// # Errors
/// kubectl's words.
pub fn wait_rolled_out(cluster: &Cluster) -> Result<()> {
    rolled_out(cluster, NAMESPACE, "controller")?;
    speakers_rolled_out(cluster, Duration::from_secs(120))
}

/// Every form of the manifests, one over the other, around a service whose address never changes.
pub fn manifests(cluster: &mut Cluster) -> Result<()> {
    never(cluster)?;
    before(cluster)
}

/// One file and no key: the controller makes one. Then a user makes theirs, and only that one counts.
fn never(cluster: &Cluster) -> Result<()> {
    let one_file = manifest(cluster, "metallb")?;
    cluster.apply(&one_file)?;
    wait_rolled_out(cluster)?;
    let address = serve(cluster)?;
    wait_members(cluster)?;
    wait_owned(cluster)?;
    after(cluster)?;
    ensure_unmoved(cluster, address)?;
    remove(cluster, &one_file)
}

/// The key goes when both the Deployment that made it and the speakers that use it have gone, not before.
fn wait_owned(cluster: &Cluster) -> Result<()> {
    wait_for("the membership key to have its owners", SOON, || {
        let secret = cluster.kubectl_json(&["get", "secret", "-n", NAMESPACE, GENERATED])?;
        let owners: BTreeSet<&str> = secret["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|owner| owner["kind"].as_str())
            .collect();
        ensure!(
            owners == BTreeSet::from(["DaemonSet", "Deployment"]),
            "they are {owners:?}"
        );
        Ok(Some(()))
    })
}

/// A key made by hand while speakers use ours: they change over one by one, and none loses sight of the others.
fn after(cluster: &Cluster) -> Result<()> {
    let before = secret_changes(cluster)?;
    make_key(cluster)?;
    // kubelet brings it within a minute and a half by itself, and at once to a pod that changes.
    let selector = "app=metallb,component=speaker";
    let annotate = [
        "annotate",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        selector,
        "example.org/look=now",
    ];
    cluster.kubectl(&annotate)?;
    wait_for("every speaker to use the key made by hand", KUBELET, || {
        let now = secret_changes(cluster)?;
        ensure!(
            now.iter().zip(&before).all(|(now, before)| now > before),
            "changes seen by the speakers: before {before:?}, now {now:?}"
        );
        Ok(Some(()))
    })?;
    wait_members(cluster)
}

/// How often each speaker has changed to another key.
fn secret_changes(cluster: &Cluster) -> Result<Vec<usize>> {
    speaker_pods(cluster)?
        .iter()
        .map(|(pod, _)| {
            let log = cluster.kubectl(&["logs", "-n", NAMESPACE, pod])?;
            Ok(log.matches("the membership secret changed").count())
        })
        .collect()
}

/// Two files with a key between them; then another flavour over it by a kustomization, and back by a file, with Prometheus.
fn before(cluster: &Cluster) -> Result<()> {
    cluster.apply(&read("config/manifests/namespace.yaml")?)?;
    make_key(cluster)?;
    cluster.apply(&manifest(cluster, "metallb")?)?;
    wait_rolled_out(cluster)?;
    let address = serve(cluster)?;
    wait_members(cluster)?;

    kustomize(cluster, "config/frr-k8s")?;
    wait_flavour(cluster, Some("frr-k8s"))?;
    ensure_unmoved(cluster, address)?;

    cluster.apply(SERVICE_MONITORS)?;
    cluster.kubectl(&["create", "namespace", "monitoring"])?;
    cluster.kubectl(&["create", "serviceaccount", "-n", "monitoring", "prometheus-k8s"])?;
    let scraped = manifest(cluster, "metallb-native-prometheus")?;
    cluster.apply(&scraped)?;
    wait_flavour(cluster, None)?;
    ensure_unmoved(cluster, address)?;
    scrape(cluster)?;
    // The user's own key was never replaced.
    let key = cluster.kubectl_json(&["get", "secret", "-n", NAMESPACE, BY_HAND])?;
    ensure!(
        key["metadata"]["ownerReferences"].is_null(),
        "somebody has taken the key made by hand: {}",
        key["metadata"]
    );
    remove(cluster, &scraped)?;
    remove_namespace(cluster, "monitoring")?;
    cluster.delete(SERVICE_MONITORS).map(drop)
}

/// A service with an address, a page, and configuration as today's users write it.
fn serve(cluster: &Cluster) -> Result<IpAddr> {
    for sample in ["pool.yaml", "l2-advertisement.yaml"] {
        cluster.apply(&read(&format!("config/samples/{sample}"))?)?;
    }
    fresh_namespace(cluster, WORK)?;
    serve_page(cluster, WORK)
}

fn ensure_unmoved(cluster: &Cluster, address: IpAddr) -> Result<()> {
    wait_page(cluster, address, SOON)?;
    ensure!(
        addresses(cluster, WORK, "web")? == [address],
        "the service has lost {address}"
    );
    let taken = events(cluster, WORK, "web")?
        .into_iter()
        .any(|(reason, ..)| reason == "ClearAssignment");
    ensure!(!taken, "{address} was taken away in between");
    Ok(())
}

/// Takes the installation off as its own manifest says, with the user's objects, and looks at what is left.
fn remove(cluster: &Cluster, manifest: &str) -> Result<()> {
    remove_namespace(cluster, WORK)?;
    remove_manifest(cluster, manifest)?;
    wait_nothing_outside(cluster)
}

/// `kubectl create secret generic -n metallb-system memberlist --from-literal=secretkey="$(openssl rand -base64 128)"`
///
/// # Errors
/// kubectl's words.
pub fn make_key(cluster: &Cluster) -> Result<()> {
    let random = fs::read("/proc/sys/kernel/random/uuid").context("read random bytes")?;
    // As long as openssl's, line breaks included.
    let key = String::from_utf8_lossy(&random).repeat(5);
    let literal = format!("--from-literal=secretkey={key}");
    let create = ["create", "secret", "generic", "-n", NAMESPACE, BY_HAND, &literal];
    cluster.kubectl(&create).map(drop)
}

/// Names and nodes of the speakers' pods.
fn speaker_pods(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let list = cluster.kubectl_json(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app=metallb,component=speaker",
    ])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |pod: &Value| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]));
    Ok(list["items"].as_array().into_iter().flatten().map(one).collect())
}

/// Waits until every speaker sees every other alive, as its page `/state` says.
fn wait_members(cluster: &Cluster) -> Result<()> {
    let nodes: BTreeSet<String> = cluster.nodes().into_iter().map(|node| node.name).collect();
    wait_for("every speaker to see every other", SOON, || {
        for node in &nodes {
            let page = run_in(
                cluster,
                node,
                &["curl", "-sS", "--max-time", "2", "http://127.0.0.1:17472/state"],
            )?;
            let page: Value =
                serde_json::from_str(&page).with_context(|| format!("/state of {node}: {page}"))?;
            let members = page["members"].as_object().cloned().unwrap_or_default();
            for other in &nodes {
                let wanted = if other == node { "myself" } else { "alive" };
                if members.get(other).is_none_or(|state| state != wanted) {
                    bail!("{node} sees {members:?}")
                }
            }
        }
        Ok(Some(()))
    })
}

/// Waits until both workloads are rolled out with this flavour of BGP.
fn wait_flavour(cluster: &Cluster, flavour: Option<&str>) -> Result<()> {
    for workload in ["deployment/controller", "daemonset/speaker"] {
        let object = cluster.kubectl_json(&["get", workload, "-n", NAMESPACE])?;
        let env = &object["spec"]["template"]["spec"]["containers"][0]["env"];
        let found = env
            .as_array()
            .into_iter()
            .flatten()
            .find(|variable| variable["name"] == "METALLB_BGP_TYPE")
            .and_then(|variable| variable["value"].as_str());
        ensure!(
            found == flavour,
            "{workload} has the flavour {found:?}, not {flavour:?}"
        );
    }
    wait_rolled_out(cluster)
}

/// `kubectl apply -k` of an overlay over one of ours, which names other images, as somebody has it who keeps it in a repository.
fn kustomize(cluster: &Cluster, base: &str) -> Result<()> {
    let dir = evidence_dir(WORK).join("overlay");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    // Kustomize wants its way to the base as a relative path.
    let up = "../".repeat(dir.strip_prefix(checkout::root())?.components().count());
    let mut images = Vec::new();
    for name in ["controller", "speaker"] {
        let image = push_image(cluster, name)?;
        let (tagged, digest) = image.split_once('@').context("an image without a digest")?;
        let new = tagged.rsplit_once(':').map_or(tagged, |(name, _)| name);
        images.push(json!({"name": format!("quay.io/metallb-rs/{name}"), "newName": new, "digest": digest}));
    }
    let overlay = json!({"resources": [format!("{up}{base}")], "images": images});
    fs::write(dir.join("kustomization.yaml"), overlay.to_string()).context("write the overlay")?;
    cluster
        .kubectl(&["apply", "-k", &dir.display().to_string()])
        .map(drop)
}

/// As much of the Prometheus operator as the manifests need: its kind.
const SERVICE_MONITORS: &str = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, \
     metadata: {name: servicemonitors.monitoring.coreos.com, annotations: \
     {api-approved.kubernetes.io: 'https://github.com/prometheus-operator/prometheus-operator'}}, \
     spec: {group: monitoring.coreos.com, scope: Namespaced, \
     names: {kind: ServiceMonitor, listKind: ServiceMonitorList, plural: servicemonitors, singular: servicemonitor}, \
     versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, \
     x-kubernetes-preserve-unknown-fields: true}}}]}}";

/// What Prometheus does with a `ServiceMonitor`: it looks the Service up, and reads the metrics of every endpoint with its own token.
fn scrape(cluster: &Cluster) -> Result<()> {
    let token = cluster.kubectl(&["create", "token", "-n", "monitoring", "prometheus-k8s"])?;
    for (component, count, metric) in [
        ("controller", 1, "metallb_allocator_addresses_total"),
        ("speaker", cluster.nodes().len(), "metallb_speaker_announced"),
    ] {
        let monitor = format!("{component}-monitor");
        let monitor = cluster.kubectl_json(&["get", "servicemonitor", "-n", NAMESPACE, &monitor])?;
        let endpoint = &monitor["spec"]["endpoints"][0];
        ensure!(
            endpoint["scheme"] == "https" && endpoint["port"] == "metricshttps",
            "the ServiceMonitor asks for {endpoint}"
        );
        let label = &monitor["spec"]["selector"]["matchLabels"]["name"];
        let selector = format!("name={}", label.as_str().unwrap_or_default());
        let services =
            cluster.kubectl(&["get", "services", "-n", NAMESPACE, "-l", &selector, "-o", "name"])?;
        let service = services
            .trim()
            .strip_prefix("service/")
            .context("a Service of the monitor")?;
        let selector = format!("kubernetes.io/service-name={service}");
        let targets = wait_for(&format!("{count} endpoints of {selector}"), SOON, || {
            let slices =
                cluster.kubectl_json(&["get", "endpointslices", "-n", NAMESPACE, "-l", &selector])?;
            let items = slices["items"].as_array().cloned().unwrap_or_default();
            let targets: Vec<String> = items
                .iter()
                .filter_map(|slice| {
                    Some((
                        slice["ports"][0]["port"].as_u64()?,
                        slice["endpoints"].as_array()?,
                    ))
                })
                .flat_map(|(port, endpoints)| {
                    endpoints
                        .iter()
                        .map(move |one| (port, one["addresses"][0].as_str()))
                })
                .filter_map(|(port, address)| Some(format!("{}:{port}", address?)))
                .collect();
            ensure!(targets.len() == count, "there are {targets:?}");
            Ok(Some(targets))
        })?;
        let mut seen = false;
        for target in &targets {
            let url = format!("https://{target}/metrics");
            let header = format!("Authorization: Bearer {}", token.trim());
            // From where pods are reachable: a node.
            let node = &cluster.nodes()[0].name;
            let page = run_in(
                cluster,
                node,
                &["curl", "-sSfk", "--max-time", "5", "-H", &header, &url],
            )?;
            ensure!(
                page.contains("metallb_k8s_client_config_loaded_bool"),
                "{url} shows {page}"
            );
            seen |= page.contains(metric);
        }
        ensure!(seen, "none of {targets:?} shows {metric}");
    }
    // The client on the LAN has no token.
    let node = cluster.nodes()[0].lan.v4;
    let url = format!("https://{node}:9120/metrics");
    let without = run_in(cluster, CLIENT, &["curl", "-sSfk", "--max-time", "5", &url]);
    ensure!(without.is_err(), "metrics were given out without a token");
    Ok(())
}
