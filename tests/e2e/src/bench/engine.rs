//! The two that are compared.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Cluster, Progress, build,
    cache::fnv64,
    checkout::root,
    peer,
    scenario::{
        install::{self, NAMESPACE},
        layer2::restart::{self, pids_on, wait_new_speaker},
        workload::{delete_speaker, speakers_rolled_out, wait_product_ready},
    },
    wait_for,
};

/// Whose speakers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    /// Ours.
    Ours,
    /// Go `MetalLB`'s.
    Go,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Go => "Go",
        })
    }
}

const OPERATOR: &str = "deployment/metallb-operator-controller-manager";

impl Engine {
    /// Name of the speaker's program.
    pub(super) fn binary(self) -> &'static str {
        match self {
            Self::Ours => restart::SPEAKER,
            Self::Go => peer::SPEAKER,
        }
    }

    /// What tells one build from another.
    pub(super) fn version(self) -> Result<String> {
        match self {
            Self::Go => Ok(build::METALLB.to_owned()),
            Self::Ours => {
                let file = root().join("target/images/speaker.oci.tar");
                let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
                Ok(format!("{:016x}", fnv64(&[&bytes])))
            }
        }
    }

    /// Installs it; of the other nothing runs.
    pub(super) fn install(self, cluster: &Cluster, progress: &Progress) -> Result<()> {
        // Ours brings the CRDs and the namespace for both.
        install::install(cluster, progress)?;
        if self == Self::Ours {
            return Ok(());
        }
        Self::Ours.remove(cluster, progress)?;
        peer::install(cluster, progress)
    }

    /// Removes it, but for namespace, CRDs and configuration.
    pub(super) fn remove(self, cluster: &Cluster, progress: &Progress) -> Result<()> {
        if self == Self::Go {
            return peer::remove(cluster, progress);
        }
        cluster.kubectl(&[
            "delete",
            "metallb",
            "-n",
            NAMESPACE,
            "metallb",
            "--ignore-not-found",
        ])?;
        wait_for("our operands to go", Duration::from_secs(60), || {
            // The cluster-scoped ones too: Go's have the same names.
            let kinds = "clusterroles,clusterrolebindings";
            let roles = cluster.kubectl(&["get", kinds, "-l", "app=metallb", "-o", "name"])?;
            let pods =
                cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", "app=metallb", "-o", "name"])?;
            ensure!(
                roles.is_empty() && pods.is_empty(),
                "there are still {roles} {pods}"
            );
            Ok(Some(()))
        })
    }

    /// The speaker's process on a node.
    pub(super) fn speaker(self, cluster: &Cluster, node: &str) -> Result<u32> {
        let pids = pids_on(cluster, node, self.binary())?;
        ensure!(
            pids.len() == 1,
            "{} processes of {} run on {node}",
            pids.len(),
            self.binary()
        );
        u32::try_from(pids[0]).context("a process id")
    }

    /// Makes the speaker of a node anew, in a new pod: a container that was killed often is started later and later, and a Go
    /// speaker that was cut off takes up to a minute to join the others again.
    pub(super) fn renew(self, cluster: &Cluster, node: &str) -> Result<()> {
        let old = pids_on(cluster, node, self.binary())?;
        delete_speaker(cluster, node)?;
        wait_new_speaker(cluster, node, self.binary(), &old)
    }

    /// Gives the speakers this further argument, or takes it away; the operator is away meanwhile.
    pub(super) fn with_argument(self, cluster: &Cluster, argument: Option<&str>) -> Result<()> {
        let replicas = if argument.is_some() { "0" } else { "1" };
        if self == Self::Ours {
            cluster.kubectl(&["scale", "-n", NAMESPACE, OPERATOR, "--replicas", replicas])?;
        }
        if let Some(argument) = argument {
            wait_for("the operator to be away", super::LONG, || {
                let pods = cluster.kubectl_json(&["get", "-n", NAMESPACE, OPERATOR])?;
                Ok(pods["status"]["replicas"]
                    .as_u64()
                    .unwrap_or_default()
                    .eq(&0)
                    .then_some(()))
            })?;
            let patch =
                json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": argument}]);
            cluster.kubectl(&[
                "patch",
                "daemonset",
                "-n",
                NAMESPACE,
                "speaker",
                "--type=json",
                "-p",
                &patch.to_string(),
            ])?;
            return speakers_rolled_out(cluster, Duration::from_secs(180));
        }
        // The operator puts the arguments right, and the speakers with them.
        wait_for("the speakers' arguments to be put right", super::LONG, || {
            let set = cluster.kubectl_json(&["get", "daemonset", "-n", NAMESPACE, "speaker"])?;
            let args = &set["spec"]["template"]["spec"]["containers"][0]["args"];
            Ok((!args.to_string().contains("--l2-probe")).then_some(()))
        })?;
        wait_product_ready(cluster)
    }
}
