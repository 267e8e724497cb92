//! What a user of OLM does and sees: catalogs, subscriptions, approvals, versions that get installed.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::super::{
    install::{NAMESPACE, read, wait_available},
    workload::{SOON, remove_namespace},
};
use super::{OPERATOR, PACKAGE, PATIENCE};
use crate::{Cluster, olm, olm::csv_text, wait_for};

/// The checked-in ways to install: the `OperatorGroup` for all namespaces, and the older form that names them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    AllNamespaces,
    TargetNamespaces,
}

impl Form {
    /// The file's text.
    pub(super) fn text(self) -> Result<String> {
        read(match self {
            Self::AllNamespaces => "olm/metallb-operator.yaml",
            Self::TargetNamespaces => "olm/metallb-operator-target-namespaces.yaml",
        })
    }

    /// The file's text for somebody who approves each version, beginning with this one.
    pub(super) fn with_approval(self, first: &str) -> Result<String> {
        let text = self.text()?;
        let automatic = "installPlanApproval: Automatic\n";
        ensure!(
            text.contains(automatic),
            "{self:?} does not say who approves: {text}"
        );
        Ok(text.replace(
            automatic,
            &format!("installPlanApproval: Manual\n  startingCSV: {first}\n"),
        ))
    }
}

/// `kubectl create -f`.
pub(super) fn create(cluster: &Cluster, yaml: &str) -> Result<()> {
    cluster.kubectl_with_input(&["create", "-f", "-"], yaml).map(drop)
}

/// Name of the `CatalogSource` in OLM's namespace.
fn catalog_name(cluster: &Cluster) -> Result<String> {
    let list = cluster.kubectl_json(&["get", "catalogsources", "-n", olm::NAMESPACE])?;
    list["items"][0]["metadata"]["name"]
        .as_str()
        .map(str::to_owned)
        .context("there is no CatalogSource")
}

/// Waits until OLM reads the catalog of this image.
pub(super) fn wait_catalog(cluster: &Cluster, image: &str) -> Result<()> {
    let name = catalog_name(cluster)?;
    wait_for("the catalog to be read", PATIENCE, || {
        let source = cluster.kubectl_json(&["get", "catalogsource", "-n", olm::NAMESPACE, &name])?;
        let state = &source["status"]["connectionState"]["lastObservedState"];
        let selector = format!("olm.catalogSource={name}");
        let pods = cluster.kubectl_json(&["get", "pods", "-n", olm::NAMESPACE, "-l", &selector])?;
        let serves = |pod: &Value| {
            let texts = pod["spec"].to_string();
            pod["metadata"]["deletionTimestamp"].is_null() && texts.contains(image) && ready(pod)
        };
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        if state == "READY" && pods.iter().any(serves) {
            return Ok(Some(()));
        }
        let statuses: Vec<_> = pods
            .iter()
            .map(|pod| pod["status"]["containerStatuses"].to_string())
            .collect();
        bail!("its connection is {state}, and no pod of {image} is ready: {statuses:?}")
    })
}

/// Has the catalog read from another image.
pub(super) fn change_catalog(cluster: &Cluster, image: &str) -> Result<()> {
    let name = catalog_name(cluster)?;
    let patch = serde_json::json!({"spec": {"image": image}}).to_string();
    cluster.kubectl(&[
        "patch",
        "catalogsource",
        "-n",
        olm::NAMESPACE,
        &name,
        "--type=merge",
        "-p",
        &patch,
    ])?;
    wait_catalog(cluster, image)
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The plan that installs this version, once there is one that waits for an approval.
pub(super) fn wait_plan(cluster: &Cluster, csv: &str) -> Result<String> {
    wait_for(&format!("an InstallPlan of {csv} that waits"), PATIENCE, || {
        let list = cluster.kubectl_json(&["get", "installplans", "-n", OPERATOR])?;
        for plan in list["items"].as_array().into_iter().flatten() {
            let names = plan["spec"]["clusterServiceVersionNames"].as_array();
            if names.into_iter().flatten().any(|name| name == csv)
                && plan["spec"]["approved"] == false
                && plan["status"]["phase"] == "RequiresApproval"
            {
                return Ok(plan["metadata"]["name"].as_str().map(str::to_owned));
            }
        }
        bail!("{}", story(cluster))
    })
}

/// Approves a plan.
pub(super) fn approve(cluster: &Cluster, plan: &str) -> Result<()> {
    let patch = r#"{"spec":{"approved":true}}"#;
    cluster
        .kubectl(&[
            "patch",
            "installplan",
            "-n",
            OPERATOR,
            plan,
            "--type=merge",
            "-p",
            patch,
        ])
        .map(drop)
}

/// Waits until `kubectl get csv` shows `Succeeded` for this version.
pub(super) fn wait_succeeded(cluster: &Cluster, csv: &str) -> Result<()> {
    wait_for(&format!("{csv} to be Succeeded"), PATIENCE, || {
        let object = cluster
            .kubectl_json(&["get", "csv", "-n", OPERATOR, csv])
            .with_context(|| story(cluster))?;
        if object["status"]["phase"] == "Succeeded" {
            return Ok(Some(()));
        }
        bail!("it is {}", csv_text(cluster, OPERATOR, csv))
    })
}

/// Names and phases of the versions in the operator's namespace.
pub(super) fn versions(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let list = cluster.kubectl_json(&["get", "csv", "-n", OPERATOR])?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok(list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|csv| {
            csv["metadata"]["name"]
                .as_str()
                .is_some_and(|n| n.starts_with(PACKAGE))
        })
        .map(|csv| (text(&csv["metadata"]["name"]), text(&csv["status"]["phase"])))
        .collect())
}

/// What OLM says about an installation, for a message.
pub(super) fn story(cluster: &Cluster) -> String {
    let conditions = |object: &Value| {
        let all = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.iter()
            .filter(|c| c["status"] == "True")
            .map(|c| format!("{}: {}", c["type"], c["message"]))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let mut told = Vec::new();
    for kind in ["subscriptions", "installplans", "csv"] {
        match cluster.kubectl_json(&["get", kind, "-n", OPERATOR]) {
            Ok(list) => told.extend(list["items"].as_array().into_iter().flatten().map(|object| {
                format!(
                    "{kind} {} {} {}",
                    object["metadata"]["name"],
                    object["status"]["phase"],
                    conditions(object)
                )
            })),
            Err(error) => told.push(format!("{kind}: {error:#}")),
        }
    }
    told.join(" | ")
}

/// Uninstalls as OLM's documentation says: the Subscription, then the versions. The operands are none of their business.
pub(super) fn uninstall(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "subscription", "-n", OPERATOR, "--all"])?;
    for (csv, _) in versions(cluster)? {
        cluster.kubectl(&["delete", "csv", "-n", OPERATOR, &csv, "--timeout=90s"])?;
    }
    wait_for("the operator to go", SOON, || {
        let pods = cluster.kubectl(&["get", "deployments,pods", "-n", OPERATOR, "-o", "name"])?;
        ensure!(pods.is_empty(), "there are still {pods}");
        Ok(Some(()))
    })
}

/// Waits until the `MetalLB` resource is Available and says that it is of this version.
pub(super) fn wait_version(cluster: &Cluster, version: &str) -> Result<()> {
    wait_for(&format!("MetalLB to say that it is {version}"), PATIENCE, || {
        let metallb = cluster.kubectl_json(&["get", "metallb", "-n", NAMESPACE, "metallb"])?;
        let says = &metallb["status"]["version"];
        ensure!(says == version, "it says {says}");
        Ok(Some(()))
    })?;
    wait_available(cluster, PATIENCE)
}

/// Takes everything off the cluster that a scenario of OLM has put there, OLM included.
pub(super) fn clear(cluster: &Cluster) -> Result<()> {
    remove_namespace(cluster, OPERATOR)?;
    remove_namespace(cluster, NAMESPACE)?;
    let crds = cluster.kubectl(&["get", "crds", "-o", "name"])?;
    let ours: Vec<&str> = crds
        .lines()
        .filter(|name| name.ends_with(".metallb.io"))
        .collect();
    if !ours.is_empty() {
        cluster.kubectl(&[&["delete", "--timeout=90s"], ours.as_slice()].concat())?;
    }
    olm::remove(cluster)
}

/// Changes something of the operator's by hand, and waits until it is as before.
pub(super) fn wait_repair(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&[
        "scale",
        "deployment",
        "-n",
        NAMESPACE,
        "controller",
        "--replicas=0",
    ])?;
    wait_for("the operator to repair the controller", SOON, || {
        let controller = cluster.kubectl_json(&["get", "deployment", "-n", NAMESPACE, "controller"])?;
        ensure!(
            controller["spec"]["replicas"] == 1,
            "it has {} replicas",
            controller["spec"]["replicas"]
        );
        Ok(Some(()))
    })
}
