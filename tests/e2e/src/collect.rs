//! Evidence of a failed scenario: objects, events, logs of pods and of the cluster's components.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cluster::Cluster;

/// Kinds that `kubectl get -A -o yaml` saves, each into a file of its own. Those that the cluster does not know are noted in
/// the file instead.
const KINDS: [&str; 28] = [
    "nodes",
    "namespaces",
    "pods",
    "services",
    "endpointslices",
    "events",
    "deployments",
    "daemonsets",
    "replicasets",
    "configmaps",
    "leases",
    "serviceaccounts",
    "clusterroles",
    "clusterrolebindings",
    "roles",
    "rolebindings",
    "customresourcedefinitions",
    "metallbs.metallb.io",
    "ipaddresspools.metallb.io",
    "l2advertisements.metallb.io",
    "servicel2statuses.metallb.io",
    "configurationstates.metallb.io",
    "jobs",
    "catalogsources.operators.coreos.com",
    "operatorgroups.operators.coreos.com",
    "subscriptions.operators.coreos.com",
    "installplans.operators.coreos.com",
    "clusterserviceversions.operators.coreos.com",
];

impl Cluster {
    /// Saves everything that helps to understand a failure into `dir`. A part that cannot be had is noted in its place; only
    /// a directory that cannot be written is an error.
    pub fn collect_logs(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        for kind in KINDS {
            self.save(dir, &format!("{kind}.yaml"), &["get", kind, "-A", "-o", "yaml"])?;
        }
        self.save(
            dir,
            "overview.txt",
            &["get", "nodes,pods,services", "-A", "-o", "wide"],
        )?;
        self.save(
            dir,
            "events.txt",
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        )?;
        self.save_pod_logs(dir)?;
        let components = dir.join("components");
        fs::create_dir_all(&components).with_context(|| format!("create {}", components.display()))?;
        let logs = self.log_dir();
        for entry in fs::read_dir(&logs).with_context(|| format!("list {}", logs.display()))? {
            let entry = entry?;
            fs::copy(entry.path(), components.join(entry.file_name()))
                .with_context(|| format!("copy {}", entry.path().display()))?;
        }
        Ok(())
    }

    fn save_pod_logs(&self, dir: &Path) -> Result<()> {
        let Ok(pods) = self.kubectl_json(&["get", "pods", "-A"]) else {
            return Ok(()); // pods.yaml says why
        };
        for pod in pods["items"].as_array().into_iter().flatten() {
            let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (
                text(&pod["metadata"]["namespace"]),
                text(&pod["metadata"]["name"]),
            );
            let containers = pod["status"]["containerStatuses"].as_array();
            for status in containers.into_iter().flatten() {
                let container = text(&status["name"]);
                let file = format!("pod.{namespace}.{name}.{container}");
                let args = ["logs", "-n", &namespace, &name, "-c", &container];
                self.save(dir, &format!("{file}.log"), &args)?;
                if status["restartCount"].as_u64().unwrap_or(0) > 0 {
                    let args = [args.as_slice(), &["--previous"]].concat();
                    self.save(dir, &format!("{file}.previous.log"), &args)?;
                }
            }
        }
        Ok(())
    }

    fn save(&self, dir: &Path, file: &str, args: &[&str]) -> Result<()> {
        let text = self
            .kubectl(args)
            .unwrap_or_else(|error| format!("# {error:#}\n"));
        let path = dir.join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}
