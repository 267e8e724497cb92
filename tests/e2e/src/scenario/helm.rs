//! Installing with Helm: from a directory behind a plain web server and from an image registry; upgrade, uninstall, once more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{
    clean::run_in,
    evidence_dir,
    install::push_image,
    workload::{SOON, addresses, events, fresh_namespace, remove_namespace, serve_page, wait_page},
};
use crate::plan::{REGISTRY_PORT, gateway};
use crate::{Cluster, Progress, build, checkout, cluster::CLIENT, netns, pki, sh, web};

/// Helm on the LAN client, with a home of its own: as somebody uses it who sits in front of that machine.
pub struct Helm<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    /// Helm's home, the kubeconfig, and what is packaged.
    pub home: PathBuf,
}

impl<'a> Helm<'a> {
    /// Builds Helm if need be.
    ///
    /// # Errors
    /// The build's; a home that can't be made.
    pub fn new(cluster: &'a Cluster, scenario: &str) -> Result<Self> {
        let home = evidence_dir(scenario).join("helm");
        fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let path = cluster.kubeconfig();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut config: serde_json::Value = serde_json::from_str(&text).context("the kubeconfig")?;
        // The host's way to the API is not the client's.
        config["clusters"][0]["cluster"]["server"] = pki::api_url().into();
        pki::write_private(&home.join("kubeconfig"), &config.to_string())?;
        Ok(Self {
            cluster,
            program: build::ensure_helm(&Progress::start())?,
            home,
        })
    }

    /// Runs Helm on the client; what it printed.
    ///
    /// # Errors
    /// Its own words.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command: Command = self.cluster.exec(CLIENT, &self.program.display().to_string())?;
        for proxy in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(proxy);
        }
        for (variable, dir) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
            ("KUBECONFIG", "kubeconfig"),
        ] {
            command.env(variable, self.home.join(dir));
        }
        sh::run(command.args(args))
    }

    /// Removes the release, if an earlier run that was broken off has left one.
    ///
    /// # Errors
    /// Helm's words.
    pub fn clear(&self, namespace: &str) -> Result<()> {
        let args = [
            "uninstall",
            RELEASE,
            "-n",
            namespace,
            "--ignore-not-found",
            "--wait",
        ];
        self.run(&args).map(drop)
    }

    /// Packages the checkout's chart, or one made of it: the archive's path.
    ///
    /// # Errors
    /// Helm's words.
    pub fn package(&self, chart: &Path) -> Result<PathBuf> {
        let to = self.home.join("repo");
        let said = self.run(&[
            "package",
            &chart.display().to_string(),
            "-d",
            &to.display().to_string(),
        ])?;
        // "Successfully packaged chart and saved it to: PATH"
        let path = said.trim().rsplit(": ").next().unwrap_or_default();
        ensure!(Path::new(path).is_file(), "helm package said {said}");
        Ok(path.into())
    }

    /// Serves the packaged charts over plain HTTP to the client, with an index, and adds them as repository `metallb`.
    ///
    /// # Errors
    /// Helm's words.
    pub fn add_repository(&self) -> Result<Repository> {
        let dir = self.home.join("repo");
        let place = self.cluster.plan().netns(CLIENT);
        let listener = netns::within(&place, || {
            std::net::TcpListener::bind("127.0.0.1:0").context("listen for Helm")
        })?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, files) = (Arc::clone(&stop), dir.clone());
        let server = std::thread::spawn(move || web::serve_directory(&listener, &files, &stopped));
        let repository = Repository {
            stop,
            server: Some(server),
        };
        self.run(&["repo", "index", &dir.display().to_string(), "--url", &url])?;
        self.run(&["repo", "add", "metallb", &url])?;
        Ok(repository)
    }
}

/// A directory that is served until this is dropped.
pub struct Repository {
    stop: Arc<AtomicBool>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take()
            && server.join().is_err()
        {
            eprintln!("the chart repository's server panicked");
        }
    }
}

/// The chart in the checkout.
pub fn chart() -> PathBuf {
    checkout::root().join("config/charts/metallb")
}

/// Values that name the images just built.
///
/// # Errors
/// They are not built.
pub fn image_values(cluster: &Cluster) -> Result<String> {
    let one = |name: &str| -> Result<String> {
        let image = push_image(cluster, name)?;
        let (repository, tag) = repository_and_tag(&image).context("an image without a tag")?;
        Ok(format!(
            "{name}.image.repository={repository},{name}.image.tag={tag}"
        ))
    };
    Ok(format!("{},{}", one("controller")?, one("speaker")?))
}

/// Parts an image's name before its tag. A registry's port is no tag; a digest stays with the tag.
fn repository_and_tag(image: &str) -> Option<(&str, &str)> {
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    let colon = name + image[name..].find(':')?;
    Some((&image[..colon], &image[colon + 1..]))
}

/// A pool of one range and its advertisement, in flow style.
pub fn pool(namespace: &str, name: &str, range: &str) -> String {
    format!(
        "{{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{addresses: ['{range}']}}}}\n---\n\
         {{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {{name: default, namespace: {namespace}}}, \
         spec: {{ipAddressPools: [{name}]}}}}\n"
    )
}

/// What every tutorial calls the release.
pub const RELEASE: &str = "metallb";
const NAMESPACE: &str = "lb-system";
const WORK: &str = "helm";
const RANGE: &str = "192.168.124.220-192.168.124.222";

/// Install, upgrade to a newer chart with a changed value, uninstall, install again.
pub fn helm(cluster: &mut Cluster) -> Result<()> {
    let helm = Helm::new(cluster, "helm")?;
    helm.clear(NAMESPACE)?;
    let images = image_values(cluster)?;
    helm.package(&chart())?;
    let repository = helm.add_repository()?;
    let install = [
        "install",
        RELEASE,
        "metallb/metallb",
        "-n",
        NAMESPACE,
        "--create-namespace",
        "--set",
        &images,
        "--wait",
        "--timeout",
        "120s",
    ];
    let said = helm.run(&install)?;
    ensure!(
        said.contains("stays idle"),
        "the notes do not say what is to be done next: {said}"
    );

    cluster.apply(&pool(NAMESPACE, "first-pool", RANGE))?;
    fresh_namespace(cluster, WORK)?;
    let address = serve_page(cluster, WORK)?;

    upgrade_from_the_registry(cluster, &helm, &images)?;
    ensure!(
        addresses(cluster, WORK, "web")? == [address],
        "the upgrade changed {address}"
    );
    wait_page(cluster, address, SOON)?;

    helm.run(&[
        "uninstall",
        RELEASE,
        "-n",
        NAMESPACE,
        "--wait",
        "--timeout",
        "120s",
    ])?;
    wait_nothing_left(cluster, NAMESPACE)?;
    helm.run(&install)?;
    wait_page(cluster, address, SOON).context("after uninstall and install")?;
    ensure!(
        addresses(cluster, WORK, "web")? == [address],
        "installing again changed {address}"
    );
    let taken = events(cluster, WORK, "web")?
        .into_iter()
        .any(|(reason, ..)| reason == "ClearAssignment");
    ensure!(!taken, "the address was taken away in between");

    drop(repository);
    remove_namespace(cluster, WORK)?;
    remove_release(cluster, &helm, NAMESPACE)
}

/// Uninstalls the release, and removes its namespace and the CRDs that it leaves.
///
/// # Errors
/// Helm's and kubectl's words.
pub fn remove_release(cluster: &Cluster, helm: &Helm<'_>, namespace: &str) -> Result<()> {
    helm.run(&[
        "uninstall",
        RELEASE,
        "-n",
        namespace,
        "--wait",
        "--timeout",
        "120s",
    ])?;
    if namespace != "default" {
        // Before the CRDs: a namespace that CRDs vanish under goes slowly.
        remove_namespace(cluster, namespace)?;
    }
    let crds = cluster.kubectl(&["get", "crds", "-o", "name"])?;
    let ours: Vec<&str> = crds
        .lines()
        .filter(|name| name.ends_with(".metallb.io"))
        .collect();
    cluster
        .kubectl(&[&["delete"], ours.as_slice()].concat())
        .map(drop)
}

/// Upgrades to a chart of a higher version, whose CRDs differ, from the lab's image registry.
fn upgrade_from_the_registry(cluster: &Cluster, helm: &Helm<'_>, images: &str) -> Result<()> {
    let newer = helm.home.join("newer");
    run_in(
        cluster,
        CLIENT,
        &[
            "cp",
            "-r",
            &chart().display().to_string(),
            &newer.display().to_string(),
        ],
    )?;
    let edit = |file: &str, from: &str, to: &str| -> Result<()> {
        let path = newer.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        ensure!(text.contains(from), "{} does not hold {from:?}", path.display());
        fs::write(&path, text.replace(from, to)).with_context(|| format!("write {}", path.display()))
    };
    edit("Chart.yaml", "\nversion: 0.1.0", "\nversion: 0.1.1")?;
    edit(
        "templates/crds.yaml",
        "helm.sh/resource-policy: keep",
        "helm.sh/resource-policy: keep\n    example.org/newer: 'true'",
    )?;
    let archive = helm.package(&newer)?.display().to_string();
    let registry = format!("oci://{}:{REGISTRY_PORT}/charts", gateway().v4);
    helm.run(&["push", &archive, &registry, "--plain-http"])?;
    // One of them has no effect here, and the notes name it.
    let set = format!("{images},speaker.logLevel=debug,speaker.memberlist.enabled=false");
    let said = helm.run(&[
        "upgrade",
        RELEASE,
        &format!("{registry}/metallb"),
        "--version",
        "0.1.1",
        "--plain-http",
        "-n",
        NAMESPACE,
        "--set",
        &set,
        "--wait",
        "--timeout",
        "120s",
    ])?;
    ensure!(
        said.contains("no effect") && said.contains("speaker.memberlist.enabled"),
        "the notes do not name the value that has no effect: {said}"
    );
    let crds = cluster.kubectl_json(&["get", "crd", "ipaddresspools.metallb.io"])?;
    ensure!(
        crds["metadata"]["annotations"]["example.org/newer"] == "true",
        "the CRDs were not upgraded with the chart"
    );
    let speakers = cluster.kubectl_json(&["get", "daemonset", "-n", NAMESPACE, "metallb-speaker"])?;
    let args = &speakers["spec"]["template"]["spec"]["containers"][0]["args"];
    ensure!(
        args.as_array()
            .is_some_and(|all| all.iter().any(|arg| arg == "--log-level=debug")),
        "the changed value has not arrived: {args}"
    );
    Ok(())
}

/// Waits until nothing of the release is left: in its namespace only what Kubernetes puts into every one and what the user
/// made, and of the cluster's own kinds the CRDs.
fn wait_nothing_left(cluster: &Cluster, namespace: &str) -> Result<()> {
    let kinds = |namespaced: &str| -> Result<String> {
        let listed = ["api-resources", "--verbs=list", "-o", "name", namespaced];
        let all = cluster.kubectl(&listed)?;
        let kinds: Vec<&str> = all.lines().filter(|kind| !kind.starts_with("events")).collect();
        Ok(kinds.join(","))
    };
    let (inside, outside) = (kinds("--namespaced=true")?, kinds("--namespaced=false")?);
    let expected = |name: &&str| {
        ["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(name)
            || name.starts_with("ipaddresspool.") || name.starts_with("l2advertisement.")
            || name.starts_with("customresourcedefinition.") || name.starts_with("namespace/")
            // A group and version of the CRDs.
            || name.starts_with("apiservice.")
    };
    crate::wait_for(
        "everything of the release to be gone",
        Duration::from_secs(60),
        || {
            let mut left = cluster.kubectl(&[
                "get",
                &inside,
                "-n",
                namespace,
                "-o",
                "name",
                "--ignore-not-found",
            ])?;
            let all = cluster.kubectl(&["get", &outside, "-o", "name", "--ignore-not-found"])?;
            left.extend(
                all.lines()
                    .filter(|name| name.contains("metallb"))
                    .flat_map(|name| [name, "\n"]),
            );
            let left: Vec<&str> = left.lines().filter(|name| !expected(name)).collect();
            ensure!(left.is_empty(), "there are still {}", left.join(", "));
            Ok(Some(()))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_parted_before_the_tag() {
        let cases = [
            ("quay.io/a/b:v1", Some(("quay.io/a/b", "v1"))),
            (
                "localhost:5000/b:v1@sha256:00",
                Some(("localhost:5000/b", "v1@sha256:00")),
            ),
            ("localhost:5000/b", None),
        ];
        for (image, parts) in cases {
            assert_eq!(repository_and_tag(image), parts, "{image}");
        }
    }
}
