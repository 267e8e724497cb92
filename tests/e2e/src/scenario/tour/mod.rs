//! A tour of today's resources: what is in `config/samples` and in the README is applied as it stands there, and does what it
//! says.

pub mod bgp;
pub mod installation;
pub mod layer2;
pub mod pools;
pub mod services;

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    install::read,
    workload::{SOON, addresses, events_text, rolled_out},
};
use crate::{Cluster, images::WHOAMI_IMAGE, wait_for};

/// The text of a file of `config/samples`.
///
/// # Errors
/// There is no such file.
pub(super) fn sample(file: &str) -> Result<String> {
    read(&format!("config/samples/{file}"))
}

/// A LoadBalancer service with labels. `annotations` and `more` (fields of the spec) are in flow style.
pub(super) fn service(namespace: &str, name: &str, labels: &str, annotations: &str, more: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}, \
         annotations: {{{annotations}}}}}, spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}], \
         {more}}}}}\n"
    )
}

/// Pods that the samples' services lead to: whoami on port 8080, labelled `app=web`.
fn pods_of_the_samples(namespace: &str) -> String {
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {namespace}}}, spec: {{replicas: 2, \
         selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{\
         terminationGracePeriodSeconds: 1, containers: [{{name: whoami, image: {WHOAMI_IMAGE}, args: [--port, \"8080\"]}}]}}}}}}}}\n"
    )
}

/// Starts [`pods_of_the_samples`].
pub(super) fn start_pods(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.apply(&pods_of_the_samples(namespace))?;
    rolled_out(cluster, namespace, "web")
}

/// Waits until a service has addresses, and checks that each is of the range at its place.
pub(super) fn wait_within(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    ranges: &[(&str, &str)],
) -> Result<Vec<IpAddr>> {
    let all = wait_for(
        &format!("service {namespace}/{name} to get {} addresses", ranges.len()),
        SOON,
        || {
            let all = addresses(cluster, namespace, name)?;
            Ok((all.len() == ranges.len()).then_some(all))
        },
    )
    .with_context(|| format!("its events: {}", events_text(cluster, namespace, name)))?;
    for (address, (low, high)) in all.iter().zip(ranges) {
        let range = low.parse::<IpAddr>()?..=high.parse()?;
        ensure!(
            range.contains(address),
            "{namespace}/{name} got {address}, which is not of {low}-{high}"
        );
    }
    Ok(all)
}

/// Waits until nobody on the LAN answers for an address.
pub(super) fn wait_silent(cluster: &Cluster, address: IpAddr) -> Result<()> {
    wait_for(&format!("nobody to answer for {address}"), SOON, || {
        let macs = cluster.client_who_has(address)?;
        ensure!(macs.is_empty(), "{macs:?} answer");
        Ok(Some(()))
    })
}

/// Checks the headings that `kubectl get -o wide` prints for a kind, in their order; others may stand between them.
pub(super) fn headings(cluster: &Cluster, resource: &str, namespace: &str, wanted: &[&str]) -> Result<()> {
    let printed = cluster.kubectl(&["get", resource, "-n", namespace, "-o", "wide"])?;
    let line = printed.lines().next().unwrap_or_default();
    let mut rest = line;
    for heading in wanted {
        match rest.find(heading) {
            Some(at) => rest = &rest[at + heading.len()..],
            None => {
                bail!("kubectl get {resource} prints the headings {line:?}, without {heading} in its place")
            }
        }
    }
    Ok(())
}

/// The first object in a YAML text of one document.
pub(super) fn object(cluster: &Cluster, resource: &str, namespace: &str, name: &str) -> Result<Value> {
    cluster.kubectl_json(&["get", resource, "-n", namespace, name])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::checkout;

    fn files_below(dir: &Path, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files_below(&path, extension));
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn every_sample_is_applied_by_a_scenario() {
        let scenarios: String = files_below(&checkout::package().join("src/scenario"), "rs")
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        for file in files_below(&checkout::root().join("config/samples"), "yaml") {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(
                scenarios.contains(&format!("\"{name}\"")),
                "config/samples/{name} is applied by no scenario: write one that checks what its comment says"
            );
        }
    }

    /// YAML is shown where a scenario reads it, and nowhere else.
    #[test]
    fn yaml_of_documents_is_that_of_the_readme() {
        let root = checkout::root();
        let mut documents = files_below(&root.join("docs"), "md");
        documents.extend(files_below(&root.join("config"), "md"));
        for entry in fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") && !path.ends_with("README.md") {
                documents.push(path);
            }
        }
        for file in documents {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("```yaml"),
                "{} shows YAML that no scenario applies: point to a file of config/samples",
                file.display()
            );
        }
    }
}
