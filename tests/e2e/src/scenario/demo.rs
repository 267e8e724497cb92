//! The demo: the main job, shown. On a lab cluster, or on the user's own.

use std::{net::IpAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    install::{self, NAMESPACE, read},
    workload::{Lb, SOON, pids_of, resident_bytes, wait_address, wait_page, web_pods},
};
use crate::{Cluster, Progress, images::WHOAMI_IMAGE, sh, wait_for};

/// Runs the demo on a lab cluster and prints what a person wants to see. The cluster is left as it then is.
///
/// # Errors
/// What did not work, with the words of whoever refused.
pub fn on_lab(cluster: &Cluster, progress: &Progress) -> Result<()> {
    install::install(cluster, progress)?;
    progress.line("creating a web server and a LoadBalancer service");
    let (address, page) = serve_whoami(cluster, progress)?;

    for words in [
        "get nodes",
        "get metallb -A",
        &format!("get pods -n {NAMESPACE}"),
        "get service whoami",
    ] {
        show(cluster, words)?;
    }
    println!("\n(LAN client)$ curl http://{address}/\n{}", page.trim_end());
    show_memory(cluster)?;
    println!(
        "\nThe cluster stays. What to try next:\n\
         \x20 export KUBECONFIG={}\n\
         \x20 kubectl get servicel2statuses -n {NAMESPACE}      # who announces what\n\
         \x20 kubectl get ipaddresspools -n {NAMESPACE} -o yaml # counters, and whether each pool is valid\n\
         \x20 make e2e SCENARIO=link-cut                          # cut the owner's cable under traffic\n\
         \x20 make cluster-down                                   # remove everything",
        cluster.kubeconfig().display()
    );
    Ok(())
}

/// The service that is shown; its address and the page that the client on the LAN has read there.
///
/// # Errors
/// What does not come in time.
pub(super) fn serve_whoami(cluster: &Cluster, progress: &Progress) -> Result<(IpAddr, String)> {
    web_pods(cluster, "default", "whoami", 2)?;
    Lb {
        namespace: "default",
        name: "whoami",
        app: "whoami",
        ..Lb::default()
    }
    .apply(cluster)?;
    let address = wait_address(cluster, "default", "whoami")?;
    let page = wait_page(cluster, address, SOON)?;
    progress.line(&format!("the client on the LAN has fetched http://{address}/"));
    Ok((address, page))
}

/// Runs kubectl with these words, and prints both.
///
/// # Errors
/// kubectl's words.
pub(super) fn show(cluster: &Cluster, words: &str) -> Result<()> {
    let args: Vec<&str> = words.split_whitespace().collect();
    println!("\n$ kubectl {words}\n{}", cluster.kubectl(&args)?.trim_end());
    Ok(())
}

/// Prints the memory of each of our processes.
///
/// # Errors
/// /proc can't be read.
pub(super) fn show_memory(cluster: &Cluster) -> Result<()> {
    println!("\n{:<12} {:>6}  resident memory", "process", "pid");
    for binary in ["metallb-operator", "metallb-allocator", "metallb-speaker"] {
        for pid in pids_of(cluster, binary)? {
            let mebibytes = resident_bytes(pid)? as f64 / f64::from(1 << 20);
            println!(
                "{:<12} {pid:>6}  {mebibytes:.1} MiB",
                binary.trim_start_matches("metallb-")
            );
        }
    }
    Ok(())
}

/// Runs the demo on a cluster that the user has. `pool` is a range of free addresses on its network.
///
/// # Errors
/// As [`on_lab`].
pub fn on_own(kubeconfig: &str, pool: &str, progress: &Progress) -> Result<()> {
    ensure!(
        !pool.is_empty(),
        "name a range of free addresses on the cluster's network: make demo KUBECONFIG={kubeconfig} POOL=192.0.2.240-192.0.2.250"
    );
    let own = Own {
        kubeconfig: PathBuf::from(kubeconfig),
    };
    progress.line(&format!("using the cluster of {kubeconfig}; nothing is built"));
    let (repository, version) = install::image_names();
    let manifest = install::manifest_with(|name| Ok(format!("{repository}/{name}:{version}")))?;
    own.apply(&manifest)?;
    let rollout = [
        "rollout",
        "status",
        "-n",
        NAMESPACE,
        "deployment/metallb-operator-controller-manager",
        "--timeout=180s",
    ];
    own.kubectl(&rollout).with_context(|| {
        format!("the operator does not start; can the cluster pull {repository}/operator:{version}? (IMAGE_REPO and VERSION name others)")
    })?;
    own.apply(&read("config/samples/metallb.yaml")?)?;
    own.apply(&format!(
        "{{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {{name: demo, namespace: {NAMESPACE}}}, spec: {{addresses: [\"{pool}\"]}}}}"
    ))?;
    own.apply(&format!(
        "{{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {{name: demo, namespace: {NAMESPACE}}}, spec: {{ipAddressPools: [demo]}}}}"
    ))?;
    own.kubectl(&[
        "wait",
        "-n",
        NAMESPACE,
        "metallb/metallb",
        "--for=condition=Available",
        "--timeout=180s",
    ])?;
    progress.line("MetalLB is Available");
    own.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: whoami, namespace: default}}, spec: {{replicas: 2, selector: {{matchLabels: {{app: whoami}}}}, \
         template: {{metadata: {{labels: {{app: whoami}}}}, spec: {{containers: [{{name: whoami, image: \"{WHOAMI_IMAGE}\"}}]}}}}}}}}"
    ))?;
    own.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: whoami, namespace: default, annotations: {metallb.io/address-pool: demo}}, \
         spec: {type: LoadBalancer, selector: {app: whoami}, ports: [{port: 80}]}}",
    )?;
    let address: IpAddr = wait_for("the service to get an address", SOON, || {
        let ip = own.kubectl(&[
            "get",
            "service",
            "whoami",
            "-o",
            "jsonpath={.status.loadBalancer.ingress[0].ip}",
        ])?;
        if ip.is_empty() {
            Ok(None)
        } else {
            ip.parse().map(Some).context(ip)
        }
    })?;
    own.kubectl(&["rollout", "status", "deployment/whoami", "--timeout=180s"])?;
    let url = format!("http://{}/", std::net::SocketAddr::new(address, 80));
    let page = wait_for(
        &format!("a page at {url} (this machine must be on the cluster's network)"),
        Duration::from_secs(30),
        || {
            sh::run(Command::new("curl").args([
                "--silent",
                "--show-error",
                "--fail",
                "--noproxy",
                "*",
                "--max-time",
                "2",
                &url,
            ]))
            .map(Some)
        },
    )?;
    for args in [
        ["get", "nodes", "-o", "wide"].as_slice(),
        &["get", "pods", "-n", NAMESPACE],
        &["get", "service", "whoami"],
    ] {
        println!(
            "\n$ kubectl {}\n{}",
            args.join(" "),
            own.kubectl(args)?.trim_end()
        );
    }
    println!("\n$ curl {url}\n{}", page.trim_end());
    println!(
        "\nRemove it with:\n  kubectl delete service,deployment whoami\n  kubectl delete metallb -n {NAMESPACE} metallb\n  kubectl delete -f config/manifests/metallb-operator.yaml"
    );
    Ok(())
}

/// A cluster that somebody else runs.
struct Own {
    kubeconfig: PathBuf,
}

impl Own {
    fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        sh::run(self.command().args(args))
    }

    fn apply(&self, yaml: &str) -> Result<String> {
        // Older kubectls take text that begins with a brace for JSON.
        sh::run_with_input(self.command().args(["apply", "-f", "-"]), &format!("---\n{yaml}"))
    }
}
