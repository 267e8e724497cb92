//! How many nodes are without a ready speaker while speakers are replaced, by every event that the API server tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::install::NAMESPACE;
use crate::{Cluster, wait_for};

/// A watch under way.
pub(super) struct SpeakerWatch {
    kubectl: Child,
    reader: JoinHandle<Nodes>,
}

impl SpeakerWatch {
    /// Begins to watch.
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let mut kubectl = cluster
            .kubectl_command()
            .args(["get", "pods", "-n", NAMESPACE, "-l", "component=speaker"])
            .args(["--watch", "--output-watch-events", "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start kubectl")?;
        let events = kubectl.stdout.take().context("standard output is piped")?;
        let reader = std::thread::spawn(move || {
            let mut nodes = Nodes::default();
            let events = serde_json::Deserializer::from_reader(BufReader::new(events));
            // The last one is cut off when the watch is ended.
            for event in events.into_iter::<Value>().map_while(Result::ok) {
                nodes.event(&event);
            }
            nodes
        });
        Ok(Self { kubectl, reader })
    }

    /// Ends it; the largest number of nodes that were without a ready speaker at the same time.
    pub(super) fn stop(mut self, cluster: &Cluster) -> Result<usize> {
        let ended = self.kubectl.try_wait().context("look after kubectl")?;
        ensure!(
            ended.is_none(),
            "kubectl ended in the middle of its watch: {ended:?}"
        );
        self.kubectl.kill().context("end kubectl")?;
        self.kubectl.wait().context("wait for kubectl")?;
        let nodes = self
            .reader
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that watches speakers panicked"))?;
        ensure!(
            nodes.seen.len() == cluster.nodes().len() && nodes.replaced > 0,
            "it saw speakers on {:?}, and {} of them replaced",
            nodes.seen,
            nodes.replaced
        );
        Ok(nodes.most)
    }
}

/// Waits until every speaker's pod has the image with this digest, and is ready.
pub(super) fn wait_all_of(cluster: &Cluster, digest: &str) -> Result<()> {
    let what = format!("all speakers to be of {digest}");
    wait_for(&what, super::PATIENCE, || {
        let set = cluster.kubectl_json(&["get", "daemonset", "-n", NAMESPACE, "speaker"])?;
        let template = set["spec"]["template"]["spec"]["containers"].to_string();
        ensure!(template.contains(digest), "the DaemonSet has {template}");
        let status = &set["status"];
        let is = |key: &str, value: &Value| status[key] == *value;
        let wanted = &status["desiredNumberScheduled"];
        ensure!(
            status["observedGeneration"] == set["metadata"]["generation"]
                && is("updatedNumberScheduled", wanted)
                && is("numberReady", wanted),
            "its status is {status}"
        );
        Ok(Some(()))
    })
}

#[derive(Debug, Default)]
struct Nodes {
    /// Pods by UID: node, and whether they are ready.
    pods: BTreeMap<String, (String, bool)>,
    /// Nodes that had a ready speaker once.
    seen: BTreeSet<String>,
    /// Pods that went.
    replaced: usize,
    /// Most nodes without one at a time.
    most: usize,
}

impl Nodes {
    fn event(&mut self, event: &Value) {
        let pod = &event["object"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let uid = text(&pod["metadata"]["uid"]);
        if event["type"] == "DELETED" {
            self.pods.remove(&uid);
            self.replaced += 1;
        } else {
            let node = text(&pod["spec"]["nodeName"]);
            let conditions = pod["status"]["conditions"].as_array();
            let ready = conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready {
                self.seen.insert(node.clone());
            }
            self.pods.insert(uid, (node, ready));
        }
        let served: BTreeSet<&String> = self
            .pods
            .values()
            .filter(|(_, ready)| *ready)
            .map(|(node, _)| node)
            .collect();
        self.most = self.most.max(self.seen.len() - served.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tell(nodes: &mut Nodes, kind: &str, uid: &str, node: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        nodes.event(
            &json!({"type": kind, "object": {"metadata": {"uid": uid}, "spec": {"nodeName": node},
            "status": {"conditions": [{"type": "Ready", "status": status}]}}}),
        );
    }

    #[test]
    fn nodes_without_a_ready_speaker_are_counted() {
        let mut nodes = Nodes::default();
        tell(&mut nodes, "ADDED", "a", "n1", true);
        tell(&mut nodes, "ADDED", "b", "n2", true);
        assert_eq!(nodes.most, 0);
        tell(&mut nodes, "MODIFIED", "a", "n1", false);
        tell(&mut nodes, "DELETED", "a", "n1", false);
        tell(&mut nodes, "ADDED", "c", "n1", false);
        tell(&mut nodes, "MODIFIED", "c", "n1", true);
        tell(&mut nodes, "MODIFIED", "b", "n2", false);
        assert_eq!((nodes.most, nodes.replaced), (1, 1));
        tell(&mut nodes, "MODIFIED", "c", "n1", false);
        assert_eq!(nodes.most, 2);
    }
}
