//! Configuration that is wrong: refused with a sentence, or named in status and Event while the rest works on.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    install::{NAMESPACE, condition, read},
    workload::{Lb, SOON, fresh_namespace, remove_namespace, wait_address, wait_event},
};
use crate::{Cluster, wait_for};

/// A pool of the namespace, in one line.
fn pool(name: &str, addresses: &str) -> String {
    format!(
        "{{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {{name: {name}, namespace: {NAMESPACE}}}, \
         spec: {{addresses: [{addresses}], autoAssign: false}}}}"
    )
}

fn wait_invalid(cluster: &Cluster, pool: &str, reason: &str, words: &[&str]) -> Result<()> {
    wait_valid(
        cluster,
        ("ipaddresspools.metallb.io", NAMESPACE, pool),
        "False",
        reason,
        words,
    )
}

/// Waits for condition `Valid` of an object, given as resource, namespace and name.
///
/// # Errors
/// The condition as it is.
pub(super) fn wait_valid(
    cluster: &Cluster,
    (resource, namespace, name): (&str, &str, &str),
    status: &str,
    reason: &str,
    words: &[&str],
) -> Result<()> {
    wait_for(
        &format!("{resource} {namespace}/{name} to be Valid={status}, {reason}, saying {words:?}"),
        SOON,
        || {
            let object = cluster.kubectl_json(&["get", resource, "-n", namespace, name])?;
            let Some(valid) = condition(&object, "Valid") else {
                bail!("it has no condition Valid: {}", object["status"])
            };
            let message = valid["message"].as_str().unwrap_or_default();
            let right = valid["status"] == status
                && valid["reason"] == reason
                && words.iter().all(|w| message.contains(w));
            if right {
                Ok(Some(()))
            } else {
                bail!("it is {valid}")
            }
        },
    )
}

/// Two pools overlap: the first one works on, the second is named in its status and in an Event, and works once corrected.
pub fn overlap(cluster: &mut Cluster) -> Result<()> {
    let ns = "overlap";
    fresh_namespace(cluster, ns)?;
    cluster.delete(&(pool("good", "192.0.2.1/32") + "\n---\n" + &pool("bad", "192.0.2.1/32")))?;
    cluster.apply(&pool("good", "192.168.124.180-192.168.124.184"))?;
    wait_for("the good pool to be valid", SOON, || {
        let object = cluster.kubectl_json(&["get", "ipaddresspool", "-n", NAMESPACE, "good"])?;
        Ok(condition(&object, "Valid")
            .filter(|c| c["status"] == "True")
            .map(drop))
    })?;
    cluster.apply(&pool("bad", "192.168.124.184-192.168.124.188"))?;
    wait_invalid(cluster, "bad", "AddressOverlap", &["good", "192.168.124.184"])?;
    wait_event(
        cluster,
        NAMESPACE,
        "bad",
        "ConfigurationInvalid",
        &["good", "spec.addresses[0]", "192.168.124.184"],
    )?;

    let annotations = "metallb.io/address-pool: good";
    Lb {
        namespace: ns,
        name: "served",
        app: "none",
        annotations,
        ..Lb::default()
    }
    .apply(cluster)?;
    wait_address(cluster, ns, "served").context("from the good pool")?;
    let annotations = "metallb.io/address-pool: bad";
    Lb {
        namespace: ns,
        name: "waits",
        app: "none",
        annotations,
        ..Lb::default()
    }
    .apply(cluster)?;
    wait_event(cluster, ns, "waits", "AllocationFailed", &["bad"])?;
    cluster.apply(&pool("bad", "192.168.124.185-192.168.124.188"))?;
    wait_address(cluster, ns, "waits").context("after the pool was corrected")?;
    remove_namespace(cluster, ns)?;
    cluster
        .delete(&(pool("good", "192.0.2.1/32") + "\n---\n" + &pool("bad", "192.0.2.1/32")))
        .map(drop)
}

/// A pool stored before a rule got stricter: read, named and left out, while the good ones work. Its CRD is loosened for a
/// moment, as an older release's would be.
pub fn stricter_rule(cluster: &mut Cluster) -> Result<()> {
    let ns = "stricter-rule";
    fresh_namespace(cluster, ns)?;
    cluster.kubectl(&[
        "delete",
        "ipaddresspool",
        "-n",
        NAMESPACE,
        "old",
        "--ignore-not-found",
    ])?;
    let strict = read("config/crd/metallb.io_ipaddresspools.yaml")?;
    let mut loose: Value = serde_json::from_str(&cluster.kubectl(&[
        "get",
        "crd",
        "ipaddresspools.metallb.io",
        "-o",
        "json",
    ])?)?;
    loosen(&mut loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]);
    if let Some(metadata) = loose["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    let stored = (|| {
        cluster.kubectl_with_input(&["replace", "-f", "-"], &loose.to_string())?;
        let old = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": "old", "namespace": NAMESPACE},
            "spec": {"addresses": ["192.168.124.170-192.168.124.160"], "autoAssign": "perhaps", "avoidBuggyIPs": 7},
        });
        // The API server takes a moment to serve the new schema.
        wait_for(
            "the loosened CRD to admit a pool that ours would not",
            SOON,
            || {
                cluster
                    .kubectl_with_input(&["apply", "--validate=false", "-f", "-"], &old.to_string())
                    .map(Some)
            },
        )
    })();
    // Back to our own rules whatever happened.
    cluster.kubectl_with_input(&["replace", "-f", "-"], &strict)?;
    stored?;
    wait_event(
        cluster,
        NAMESPACE,
        "old",
        "ConfigurationInvalid",
        &["spec.autoAssign", "perhaps"],
    )?;
    let annotations = "metallb.io/address-pool: lan";
    Lb {
        namespace: ns,
        name: "served",
        app: "none",
        annotations,
        ..Lb::default()
    }
    .apply(cluster)?;
    wait_address(cluster, ns, "served").context("from a good pool beside the bad one")?;
    wait_invalid(cluster, "old", "InvalidSpec", &["spec.autoAssign"])?;
    cluster.kubectl(&["delete", "ipaddresspool", "-n", NAMESPACE, "old"])?;
    remove_namespace(cluster, ns)
}

/// Makes a schema admit anything, as if its rules had not been there.
fn loosen(schema: &mut Value) {
    *schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
}

/// Wrong values are refused by the CRD with a sentence that names the field and what is allowed; nothing running changes.
pub fn refused(cluster: &mut Cluster) -> Result<()> {
    let metallb = |spec: &str| {
        format!(
            "{{apiVersion: metallb.io/v1beta1, kind: MetalLB, metadata: {{name: metallb, namespace: {NAMESPACE}}}, spec: {{{spec}}}}}"
        )
    };
    let cases: [(String, &[&str]); 5] = [
        (metallb("logLevel: loud"), &["spec.logLevel", "info"]),
        (metallb("bgpBackend: quagga"), &["spec.bgpBackend", "frr"]),
        (metallb("loadBalancerClass: \"a b\""), &["spec.loadBalancerClass"]),
        (metallb("nodeSelector: [a]"), &["spec.nodeSelector"]),
        (pool("nothing", ""), &["spec.addresses"]),
    ];
    let before = cluster.kubectl_json(&["get", "metallb", "-n", NAMESPACE, "metallb"])?;
    for (yaml, words) in cases {
        let output = cluster.apply_output(&yaml)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{yaml} was admitted");
        for word in words {
            ensure!(
                said.contains(word),
                "{yaml} was refused without a word about {word}: {said}"
            );
        }
    }
    let after = cluster.kubectl_json(&["get", "metallb", "-n", NAMESPACE, "metallb"])?;
    ensure!(
        before["metadata"]["generation"] == after["metadata"]["generation"],
        "the resource has changed"
    );
    Ok(())
}
