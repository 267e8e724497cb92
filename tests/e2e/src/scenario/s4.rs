//! A training class: two manifests, a Secret made by hand, the ConfigMap, whoami in a browser.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{
    clean::{LanNetwork, remove_manifest},
    install::read,
    manifests::{make_key, manifest, wait_rolled_out},
    workload::{SOON, remove_namespace, rolled_out, wait_address, wait_page},
};
use crate::{Cluster, Progress, checkout, cluster::CLIENT, images::WHOAMI_IMAGE, prereq, sh, wait_for};

const WORK: &str = "s4";
const NAMESPACE: &str = "metallb-system";
/// The class's network, and the first address of its pool.
const NETWORK: &str = "10.10.95";
const FIRST: &str = "10.10.95.200";

/// Debian's browser without a window, and its program.
const BROWSER: (&str, &str) = ("chromium-headless-shell", "/usr/bin/chromium-headless-shell");

/// What the class types: the text of the ConfigMap.
const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  namespace: metallb-system
  name: config
data:
  config: |
    address-pools:
    - name: metallb-ip-space
      protocol: layer2
      addresses:
      - 10.10.95.200-10.10.95.250
";

/// The whole scenario.
pub fn training_class(cluster: &mut Cluster) -> Result<()> {
    let class = LanNetwork::new(cluster, NETWORK)?;
    let metallb = manifest(cluster, "metallb")?;
    cluster.apply(&read("config/manifests/namespace.yaml")?)?;
    cluster.apply(&metallb)?;
    make_key(cluster)?;
    wait_rolled_out(cluster)?;
    let pods = cluster.kubectl(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app=metallb",
        "--no-headers",
    ])?;
    let ready = |prefix: &str| {
        let of = |line: &&str| line.starts_with(prefix) && line.split_whitespace().nth(1) == Some("1/1");
        pods.lines().filter(of).count()
    };
    ensure!(
        ready("controller-") == 1 && ready("speaker-") == cluster.nodes().len(),
        "kubectl get pods shows\n{pods}"
    );

    // Until it is configured it stays idle, and says so.
    wait_for("a ConfigurationState that says what is missing", SOON, || {
        let shown = cluster.kubectl(&["get", "configurationstates", "-n", NAMESPACE])?;
        ensure!(shown.contains("no pool is configured"), "kubectl shows\n{shown}");
        Ok(Some(()))
    })?;
    cluster.apply(CONFIG)?;
    cluster.kubectl(&["create", "namespace", WORK])?;
    cluster.kubectl(&["create", "deploy", "whoami", "-n", WORK, "--image", WHOAMI_IMAGE])?;
    cluster.kubectl(&[
        "expose",
        "deploy",
        "whoami",
        "-n",
        WORK,
        "--type=LoadBalancer",
        "--port=80",
    ])?;
    rolled_out(cluster, WORK, "whoami")?;
    let address = wait_address(cluster, WORK, "whoami")?;
    ensure!(address == FIRST.parse::<IpAddr>()?, "whoami got {address}");
    let services = cluster.kubectl(&["get", "svc", "-n", WORK, "--no-headers"])?;
    ensure!(services.contains(FIRST), "kubectl get svc shows\n{services}");
    wait_page(cluster, address, SOON)?;
    browse(cluster, address)?;

    // The class leaves; the next one gets the same address.
    remove_namespace(cluster, WORK)?;
    cluster.kubectl(&["create", "namespace", WORK])?;
    cluster.kubectl(&[
        "create",
        "service",
        "loadbalancer",
        "-n",
        WORK,
        "next",
        "--tcp=80",
    ])?;
    let next = wait_address(cluster, WORK, "next")?;
    ensure!(
        next == address,
        "the address was not freed: the next service got {next}"
    );

    remove_namespace(cluster, WORK)?;
    remove_manifest(cluster, &metallb)?;
    class.remove()
}

/// A real browser on the LAN opens the page. The picture stays under `target/e2e/`.
fn browse(cluster: &Cluster, address: IpAddr) -> Result<()> {
    let (package, program) = BROWSER;
    if !Path::new(program).exists() {
        prereq::install(&[package], &Progress::start())?;
    }
    let dir = checkout::root().join("target/e2e");
    let (picture, profile) = (dir.join("s4-whoami.png"), dir.join(WORK).join("browser"));
    let url = format!("http://{address}/");
    let browser = |what: &str| -> Result<Command> {
        let mut command = cluster.exec(CLIENT, program)?;
        command
            // The lab is root's, and the browser's own sandbox refuses root.
            .args([
                "--no-sandbox",
                "--disable-gpu",
                "--no-proxy-server",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args([what, url.as_str()]);
        Ok(command)
    };
    let page = wait_for("the browser to show whoami", SOON, || {
        let page = sh::run(&mut browser("--dump-dom")?)?;
        if page.contains("Hostname: whoami-") && page.contains("User-Agent: Mozilla/") {
            return Ok(Some(page));
        }
        bail!("it shows {page}")
    })?;
    ensure!(
        page.contains(&format!("Host: {address}")),
        "the page is another's: {page}"
    );
    if picture.exists() {
        fs::remove_file(&picture).with_context(|| format!("remove {}", picture.display()))?;
    }
    sh::run(browser(&format!("--screenshot={}", picture.display()))?.arg("--window-size=640,360"))?;
    let bytes = fs::read(&picture).with_context(|| format!("read {}", picture.display()))?;
    ensure!(
        bytes.starts_with(b"\x89PNG"),
        "{} is no picture",
        picture.display()
    );
    println!("the browser's picture is {}", picture.display());
    Ok(())
}
