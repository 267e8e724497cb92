//! Go `MetalLB` on a lab cluster: the peer of comparisons and of mixed fleets. Its objects are those of its own manifest, read
//! from its Go module at run time; its programs are built from the same.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::wait::wait_for;
use crate::{build, cache, checkout, images, sh};

/// Namespace of its manifest, which is also ours.
const NAMESPACE: &str = "metallb-system";
/// Name of its speaker's program.
pub const SPEAKER: &str = "speaker";

/// Its objects but for CRDs (ours serve it as well) and webhooks, with its images in the cluster's registry.
pub fn objects(cluster: &Cluster, progress: &Progress) -> Result<Vec<Value>> {
    push_images(cluster, progress)?;
    let module = sh::run(
        Command::new("go")
            .args(["list", "-m", "-f", "{{.Dir}}", "go.universe.tf/metallb"])
            .current_dir(checkout::package().join("modules/metallb"))
            .env("GOWORK", "off"),
    )?;
    let manifest = format!("{}/config/manifests/metallb-native.yaml", module.trim());
    // kubectl reads the YAML for us.
    let text = cluster.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &manifest])?;
    let mut all = Vec::new();
    for document in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let document = document.context("kubectl prints JSON")?;
        match document["items"].as_array() {
            Some(items) => all.extend(items.clone()),
            None => all.push(document),
        }
    }
    let foreign = ["CustomResourceDefinition", "ValidatingWebhookConfiguration"];
    all.retain(|object| !foreign.iter().any(|kind| object["kind"] == *kind));
    for object in &mut all {
        if object["kind"] == "Deployment" {
            let args = object["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut();
            args.context("its controller has arguments")?
                .push(json!("--webhook-mode=disabled"));
        }
    }
    ensure!(
        all.iter().any(|object| object["kind"] == "DaemonSet"),
        "{manifest} has no DaemonSet"
    );
    Ok(all)
}

/// Installs it in the namespace of its manifest, where nothing of ours may run any more, and waits until it is ready.
pub fn install(cluster: &Cluster, progress: &Progress) -> Result<()> {
    apply(cluster, &objects(cluster, progress)?)?;
    for what in ["deployment/controller", "daemonset/speaker"] {
        cluster
            .kubectl(&["rollout", "status", "-n", NAMESPACE, what, "--timeout=180s"])
            .with_context(|| format!("Go MetalLB's {what} does not get ready"))?;
    }
    progress.line(&format!("Go MetalLB {} is ready", build::METALLB));
    Ok(())
}

/// Removes it, but for the namespace.
pub fn remove(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let objects = objects(cluster, progress)?;
    let mine: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] != "Namespace")
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": mine});
    cluster.delete(&list.to_string())?;
    wait_for("Go MetalLB's pods to be gone", Duration::from_secs(60), || {
        let pods = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", "app=metallb", "-o", "name"])?;
        ensure!(pods.is_empty(), "there are still {pods}");
        Ok(Some(()))
    })
}

/// Applies objects.
pub fn apply(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    cluster.apply(&list.to_string()).map(drop)
}

/// Controller and speaker as images under their public names.
fn push_images(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let programs = build::ensure_metallb(progress)?;
    let name = programs
        .file_name()
        .context("a directory of the cache has a name")?;
    let dir = cache::dir()?.join("images").join(name);
    let dir = cache::entry(&dir, |scratch| {
        let containerfile = scratch.join("Containerfile");
        let stage =
            |name: &str| format!("FROM scratch AS {name}\nCOPY {name} /{name}\nENTRYPOINT [\"/{name}\"]\n");
        fs::write(&containerfile, stage("controller") + &stage("speaker"))
            .with_context(|| format!("write {}", containerfile.display()))?;
        ["controller", "speaker"].iter().try_for_each(|name| {
            let archive = scratch.join(format!("{name}.oci.tar"));
            images::build_image(&cache::dir()?, &containerfile, &programs, name, &archive)
        })
    })?;
    for name in ["controller", "speaker"] {
        let image = format!("quay.io/metallb/{name}:v{}", build::METALLB);
        cluster.push(&dir.join(format!("{name}.oci.tar")), &image)?;
    }
    Ok(())
}
