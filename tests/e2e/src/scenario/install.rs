//! Putting the product on a lab cluster the way a user does: images in a registry, manifests, one `MetalLB` resource.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{Cluster, Progress, checkout::root, registry, wait_for};

/// Namespace of the operator and its operands.
pub const NAMESPACE: &str = "metallb-system";
/// The names that the checked-in manifests carry.
const CHECKED_IN: (&str, &str) = ("quay.io/metallb-rs", "v0.1.0");
/// Our images, as they are called after the repository.
const IMAGES: [&str; 3] = ["operator", "controller", "speaker"];

/// Repository and tag of our images, from `IMAGE_REPO` and `VERSION` as the Makefile exports them.
pub fn image_names() -> (String, String) {
    let or = |name: &str, default: &str| {
        std::env::var(name)
            .ok()
            .filter(|v| !v.is_empty())
            .unwrap_or(default.to_owned())
    };
    (or("IMAGE_REPO", CHECKED_IN.0), or("VERSION", CHECKED_IN.1))
}

/// Installs the product, or brings an installed one to the images just built, and waits until it says Available.
///
/// # Errors
/// Images that are not built, an API server that refuses, or what the `MetalLB` resource says when it does not get well.
pub fn install(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let manifest = manifest_with(|name| push_image(cluster, name))?;
    progress.line("images are in the registry; applying config/manifests/metallb-operator.yaml");
    cluster.apply(&manifest)?;
    let rollout = [
        "rollout",
        "status",
        "-n",
        NAMESPACE,
        "deployment/metallb-operator-controller-manager",
        "--timeout=90s",
    ];
    cluster.kubectl(&rollout).context("the operator does not start")?;
    apply_resource(cluster, progress)?;
    let (repository, _) = image_names();
    // An operator of before may still have said Available of the operands of before.
    for (workload, image) in [
        ("deployment/controller", "controller"),
        ("daemonset/speaker", "speaker"),
    ] {
        let wanted = manifest
            .split_whitespace()
            .find(|word| word.starts_with(&format!("{repository}/{image}:")))
            .with_context(|| format!("the operator's manifest names no image of the {image}"))?;
        wait_for(
            &format!("{workload} to be of {wanted}"),
            Duration::from_secs(60),
            || {
                let found = cluster.kubectl_json(&["get", "-n", NAMESPACE, workload])?;
                let containers = &found["spec"]["template"]["spec"]["containers"];
                Ok((containers[0]["image"] == wanted).then_some(()))
            },
        )?;
        cluster.kubectl(&["rollout", "status", "-n", NAMESPACE, workload, "--timeout=120s"])?;
    }
    Ok(())
}

/// Pushes the image `operator`, `controller` or `speaker` that was built; its full name.
///
/// # Errors
/// It is not built.
pub fn push_image(cluster: &Cluster, name: &str) -> Result<String> {
    let (repository, version) = image_names();
    let archive = root().join(format!("target/images/{name}.oci.tar"));
    ensure!(
        archive.exists(),
        "{} is not there: run `make images` first",
        archive.display()
    );
    let image = format!("{repository}/{name}:{version}");
    cluster.push(&archive, &image)?;
    // By digest as well: the tag stays the same between two builds, and nodes keep what they have pulled.
    Ok(format!("{image}@{}", registry::digest(&archive)?))
}

/// The checked-in manifest of the operator with the images that `name` gives for `operator`, `controller` and `speaker`.
///
/// # Errors
/// The manifest can't be read, or an error of `name`.
pub fn manifest_with(name: impl Fn(&str) -> Result<String>) -> Result<String> {
    with_images(read("config/manifests/metallb-operator.yaml")?, name)
}

/// A checked-in manifest with the images that `name` gives.
///
/// # Errors
/// An error of `name`.
pub fn with_images(manifest: String, name: impl Fn(&str) -> Result<String>) -> Result<String> {
    IMAGES.iter().try_fold(manifest, |manifest, image| {
        Ok(manifest.replace(
            &format!("{}/{image}:{}", CHECKED_IN.0, CHECKED_IN.1),
            &name(image)?,
        ))
    })
}

/// Applies the sample `MetalLB`, pool and advertisement and waits for Available.
///
/// # Errors
/// As [`install`].
pub fn apply_resource(cluster: &Cluster, progress: &Progress) -> Result<()> {
    progress.line("operator runs; creating the MetalLB resource, a pool and its advertisement");
    for sample in ["metallb.yaml", "pool.yaml", "l2-advertisement.yaml"] {
        cluster.apply(&read(&format!("config/samples/{sample}"))?)?;
    }
    wait_available(cluster, Duration::from_secs(120))?;
    progress.line("MetalLB is Available");
    Ok(())
}

/// Waits until the `MetalLB` resource says Available for its current generation and no rollout is under way.
///
/// # Errors
/// The conditions as they are when the deadline passes.
pub fn wait_available(cluster: &Cluster, deadline: Duration) -> Result<()> {
    wait_for("the MetalLB resource to be Available", deadline, || {
        let metallb = cluster.kubectl_json(&["get", "metallb", "-n", NAMESPACE, "metallb"])?;
        let current = metallb["metadata"]["generation"].clone();
        let is = |kind: &str, status: &str| {
            condition(&metallb, kind)
                .is_some_and(|c| c["status"] == status && c["observedGeneration"] == current)
        };
        if is("Available", "True") && is("Progressing", "False") && is("Degraded", "False") {
            return Ok(Some(()));
        }
        bail!("its conditions are {}", conditions_text(&metallb))
    })
}

/// The condition of this type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)
}

/// All conditions in one line, for a person.
pub fn conditions_text(object: &Value) -> String {
    let Some(all) = object["status"]["conditions"].as_array() else {
        return "none".to_owned();
    };
    let one = |c: &Value| {
        let word = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
        format!(
            "{}={} {} ({})",
            word("type"),
            word("status"),
            word("reason"),
            word("message")
        )
    };
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A file of the checkout.
///
/// # Errors
/// It can't be read; the message names it.
pub fn read(path: &str) -> Result<String> {
    let file = root().join(path);
    std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}
