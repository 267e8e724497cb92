//! The OLM bundle (`registry+v1`): a `ClusterServiceVersion` around the same Deployment and rights as the plain manifests, the
//! CRDs, metadata and the scorecard's configuration.
//!
//! Descriptors come from the CRD schemas, so that none is forgotten when a field is added.

use crate::generate::{Files, Images, header};
use anyhow::Context as _;
use k8s_openapi::api::apps::v1::DeploymentSpec;
use metallb_api::{
    crd,
    names::{labels, objects},
    yaml,
};
use metallb_render::{Object, operator};
use serde_json::{Value, json};

/// Name of the package in a catalog, and prefix of the `ClusterServiceVersion`'s name.
const PACKAGE: &str = "metallb-operator";
const CHANNEL: &str = "stable";
/// Fixed, so that generating twice gives the same text; moved on at a release.
const CREATED_AT: &str = "2026-11-21T00:00:00Z";
const MIN_KUBE_VERSION: &str = "1.31.0";
const ICON: &str = include_str!("icon.svg");
const DESCRIPTION: &str = include_str!("description.md");
const SCORECARD: &str = "quay.io/operator-framework/scorecard-test:v1.42.2";

/// `bundle/`.
pub(crate) fn bundle(images: &Images) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for crd in crd::all() {
        let path = format!(
            "bundle/manifests/{}_{}.yaml",
            crd.spec.group, crd.spec.names.plural
        );
        files.insert(path, header("bundle") + &yaml::to_string(&crd)?);
    }
    files.insert(
        format!("bundle/manifests/{PACKAGE}.clusterserviceversion.yaml"),
        header("bundle") + &yaml::to_string(&cluster_service_version(images)?)?,
    );
    let annotations = annotations();
    files.insert(
        "bundle/metadata/annotations.yaml".into(),
        header("bundle") + &yaml::to_string(&json!({ "annotations": annotations }))?,
    );
    files.insert(
        "bundle/tests/scorecard/config.yaml".into(),
        header("bundle") + &yaml::to_string(&scorecard())?,
    );
    files.insert("bundle/bundle.Containerfile".into(), containerfile(&annotations));
    Ok(files)
}

fn annotations() -> Value {
    json!({
        "operators.operatorframework.io.bundle.mediatype.v1": "registry+v1",
        "operators.operatorframework.io.bundle.manifests.v1": "manifests/",
        "operators.operatorframework.io.bundle.metadata.v1": "metadata/",
        "operators.operatorframework.io.bundle.package.v1": PACKAGE,
        "operators.operatorframework.io.bundle.channels.v1": CHANNEL,
        "operators.operatorframework.io.bundle.channel.default.v1": CHANNEL,
        "operators.operatorframework.io.test.mediatype.v1": "scorecard+v1",
        "operators.operatorframework.io.test.config.v1": "tests/scorecard/",
    })
}

fn containerfile(annotations: &Value) -> String {
    let labels: Vec<String> = annotations
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("LABEL {key}={}\n", value.as_str().unwrap_or_default()))
        .collect();
    header("bundle")
        + "# The bundle image: files only.\nFROM scratch\n"
        + &labels.concat()
        + "COPY manifests /manifests/\nCOPY metadata /metadata/\nCOPY tests/scorecard /tests/scorecard/\n"
}

fn scorecard() -> Value {
    let test = |suite: &str, name: &str| {
        json!({
            "image": SCORECARD,
            "entrypoint": ["scorecard-test", name],
            "labels": {"suite": suite, "test": format!("{name}-test")},
            "storage": {"spec": {"mountPath": {}}},
        })
    };
    json!({
        "apiVersion": "scorecard.operatorframework.io/v1alpha3",
        "kind": "Configuration",
        "metadata": {"name": "config"},
        "stages": [{
            "parallel": true,
            "tests": [
                test("basic", "basic-check-spec"),
                test("olm", "olm-bundle-validation"),
                test("olm", "olm-crds-have-validation"),
                test("olm", "olm-crds-have-resources"),
                test("olm", "olm-spec-descriptors"),
                test("olm", "olm-status-descriptors"),
            ],
        }],
        "storage": {"spec": {"mountPath": {}}},
    })
}

fn cluster_service_version(images: &Images) -> anyhow::Result<Value> {
    let deployment = deployment(images)?;
    let version = images.semver();
    let related =
        ["operator", "controller", "speaker"].map(|name| json!({"name": name, "image": images.of(name)}));
    let examples = examples();
    let installation = examples
        .iter()
        .find(|example| example["kind"] == "MetalLB")
        .context("no MetalLB example")?;
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{PACKAGE}.v{version}"),
            "namespace": "placeholder",
            "annotations": {
                "alm-examples": serde_json::to_string_pretty(&examples)?,
                "capabilities": "Basic Install",
                "categories": "Networking",
                "certified": "false",
                "containerImage": images.of("operator"),
                "createdAt": CREATED_AT,
                "description": "Load balancers for clusters without a cloud: addresses from your own pools, announced to your own network.",
                "support": "Community",
                "operatorframework.io/suggested-namespace": objects::DEFAULT_NAMESPACE,
                "operatorframework.io/suggested-namespace-template": suggested_namespace()?,
                "operatorframework.io/initialization-resource": serde_json::to_string_pretty(installation)?,
                "operators.operatorframework.io/internal-objects":
                    r#"["configurationstates.metallb.io","servicebgpstatuses.metallb.io","servicel2statuses.metallb.io"]"#,
                "features.operators.openshift.io/disconnected": "false",
                "features.operators.openshift.io/fips-compliant": "false",
                "features.operators.openshift.io/proxy-aware": "false",
                "features.operators.openshift.io/tls-profiles": "false",
                "features.operators.openshift.io/token-auth-aws": "false",
                "features.operators.openshift.io/token-auth-azure": "false",
                "features.operators.openshift.io/token-auth-gcp": "false",
            },
            "labels": {
                "operatorframework.io/arch.amd64": "supported",
                "operatorframework.io/arch.arm64": "supported",
                "operatorframework.io/os.linux": "supported",
            },
        },
        "spec": {
            "displayName": "MetalLB Operator",
            "description": DESCRIPTION,
            "version": version,
            "maturity": "alpha",
            "minKubeVersion": MIN_KUBE_VERSION,
            "keywords": ["load balancer", "metallb", "bare metal", "ARP", "NDP", "BGP"],
            "provider": {"name": "MetalLB in Rust"},
            "maintainers": [{"name": "MetalLB in Rust", "email": "maintainers@metallb-rs.example"}],
            "links": [{"name": "The resources and annotations", "url": "https://metallb.io"}],
            "icon": [{"base64data": base64(ICON.as_bytes()), "mediatype": "image/svg+xml"}],
            // All rights are cluster-wide and MetalLB is watched in all namespaces, whatever the OperatorGroup targets.
            "installModes": [
                {"type": "OwnNamespace", "supported": true},
                {"type": "SingleNamespace", "supported": true},
                {"type": "MultiNamespace", "supported": false},
                {"type": "AllNamespaces", "supported": true},
            ],
            "install": {
                "strategy": "deployment",
                "spec": {
                    "clusterPermissions": [{
                        "serviceAccountName": objects::OPERATOR_ACCOUNT,
                        "rules": operator::rules(),
                    }],
                    "deployments": [{
                        "name": objects::OPERATOR_DEPLOYMENT,
                        "label": {"control-plane": "controller-manager"},
                        "spec": deployment,
                    }],
                },
            },
            "customresourcedefinitions": {"owned": owned()},
            "relatedImages": related,
        },
    }))
}

fn deployment(images: &Images) -> anyhow::Result<DeploymentSpec> {
    operator::objects(
        objects::DEFAULT_NAMESPACE,
        &images.of("operator"),
        &images.operands(),
    )
    .into_iter()
    .find_map(|object| match object {
        Object::Deployment(deployment) => deployment.spec,
        _ => None,
    })
    .context("the operator has no Deployment")
}

/// A console that installs the operator makes this namespace, with the Pod Security level that speakers need.
fn suggested_namespace() -> anyhow::Result<String> {
    let template = Object::Namespace(operator::namespace(objects::DEFAULT_NAMESPACE)).to_value();
    debug_assert!(template["metadata"]["labels"][labels::POD_SECURITY_ENFORCE] == "privileged");
    Ok(serde_json::to_string_pretty(&template)?)
}

/// Every served version of every kind, with descriptors from its schema.
fn owned() -> Vec<Value> {
    let mut all = Vec::new();
    for crd in crd::all() {
        for version in &crd.spec.versions {
            let kind = &crd.spec.names.kind;
            let schema = serde_json::to_value(&version.schema).unwrap_or_default();
            let root = &schema["openAPIV3Schema"];
            let mut resources = vec![json!({"kind": kind, "version": version.name, "name": ""})];
            if kind == "MetalLB" {
                for (kind, version) in [
                    ("DaemonSet", "v1"),
                    ("Deployment", "v1"),
                    ("Pod", "v1"),
                    ("ConfigMap", "v1"),
                    ("Secret", "v1"),
                    ("ServiceAccount", "v1"),
                ] {
                    resources.push(json!({"kind": kind, "version": version, "name": ""}));
                }
            }
            all.push(json!({
                "name": crd.metadata.name,
                "kind": kind,
                "version": version.name,
                "displayName": words(kind),
                "description": root["description"],
                "resources": resources,
                "specDescriptors": descriptors(&root["properties"]["spec"]),
                "statusDescriptors": descriptors(&root["properties"]["status"]),
            }));
        }
    }
    all
}

fn descriptors(part: &Value) -> Vec<Value> {
    let fields = part["properties"].as_object().into_iter().flatten();
    fields
        .map(|(field, schema)| {
            let mut descriptor =
                json!({"path": field, "displayName": words(field), "description": schema["description"]});
            if field == "conditions" {
                descriptor["x-descriptors"] = json!(["urn:alm:descriptor:io.kubernetes.conditions"]);
            }
            descriptor
        })
        .collect()
}

/// `ipAddressPools` as `Ip Address Pools`; runs of capitals stay together.
fn words(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let starts = letter.is_uppercase()
            && i > 0
            && (letters[i - 1].is_lowercase() || letters.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if starts {
            text.push(' ');
        }
        text.push(if i == 0 {
            letter.to_ascii_uppercase()
        } else {
            *letter
        });
    }
    text.replace("Metal LB", "MetalLB")
}

/// One example of every kind, complete enough to be created as it is.
pub(crate) fn examples() -> Vec<Value> {
    let example = |version: &str, kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": format!("metallb.io/{version}"),
            "kind": kind,
            "metadata": {"name": name, "namespace": objects::DEFAULT_NAMESPACE},
            "spec": spec,
        })
    };
    vec![
        example(
            "v1beta1",
            "MetalLB",
            objects::METALLB,
            json!({"logLevel": "info"}),
        ),
        example(
            "v1beta1",
            "IPAddressPool",
            "lan",
            json!({"addresses": ["192.168.124.200-192.168.124.250"]}),
        ),
        example(
            "v1beta1",
            "L2Advertisement",
            "lan",
            json!({"ipAddressPools": ["lan"]}),
        ),
        example(
            "v1beta1",
            "BGPAdvertisement",
            "routers",
            json!({"ipAddressPools": ["lan"], "peers": ["router"]}),
        ),
        example(
            "v1beta1",
            "BGPPeer",
            "router-v1beta1",
            json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.168.124.2"}),
        ),
        example(
            "v1beta2",
            "BGPPeer",
            "router",
            json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.168.124.1", "bfdProfile": "fast"}),
        ),
        example(
            "v1beta1",
            "BFDProfile",
            "fast",
            json!({"receiveInterval": 100, "transmitInterval": 100, "detectMultiplier": 3}),
        ),
        example(
            "v1beta1",
            "Community",
            "names",
            json!({"communities": [{"name": "no-advertise", "value": "65535:65282"}]}),
        ),
        example(
            "v1alpha1",
            "AddressPool",
            "old-v1alpha1",
            json!({"protocol": "layer2", "addresses": ["192.168.124.160-192.168.124.169"]}),
        ),
        example(
            "v1beta1",
            "AddressPool",
            "old",
            json!({"protocol": "layer2", "addresses": ["192.168.124.170-192.168.124.179"]}),
        ),
        example("v1beta1", "ServiceL2Status", "l2-example", json!({})),
        example("v1beta1", "ServiceBGPStatus", "bgp-example", json!({})),
        example("v1beta1", "ConfigurationState", "controller", json!({})),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for sextet in 0..4 {
            let letter = if sextet <= chunk.len() {
                ALPHABET[(word >> (18 - 6 * sextet) & 63) as usize]
            } else {
                b'='
            };
            text.push(char::from(letter));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv() -> Value {
        cluster_service_version(&Images::checked_in()).unwrap()
    }

    /// What `operator-sdk bundle validate` and the scorecard look at, as far as files tell.
    #[test]
    fn the_bundle_is_complete() {
        let csv = csv();
        let examples: Vec<Value> =
            serde_json::from_str(csv["metadata"]["annotations"]["alm-examples"].as_str().unwrap()).unwrap();
        let owned = csv["spec"]["customresourcedefinitions"]["owned"]
            .as_array()
            .unwrap();
        let served: usize = crd::all().iter().map(|crd| crd.spec.versions.len()).sum();
        assert_eq!(owned.len(), served);
        for api in owned {
            let name = format!("{} {}", api["kind"], api["version"]);
            assert!(
                api["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: no description"
            );
            assert!(
                !api["resources"].as_array().unwrap().is_empty(),
                "{name}: no resources"
            );
            let group_version = format!("metallb.io/{}", api["version"].as_str().unwrap());
            let example = examples.iter().find(|example| {
                example["kind"] == api["kind"] && example["apiVersion"] == group_version.as_str()
            });
            let spec = &example.unwrap_or_else(|| panic!("{name}: no example"))["spec"];
            assert!(spec.is_object(), "{name}: the example has no spec");
            for field in spec.as_object().unwrap().keys() {
                let described = api["specDescriptors"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|d| d["path"] == field.as_str());
                assert!(described, "{name}: spec.{field} has no descriptor");
            }
        }
        assert_eq!(examples.len(), owned.len());
        for container in
            csv["spec"]["install"]["spec"]["deployments"][0]["spec"]["template"]["spec"]["containers"]
                .as_array()
                .unwrap()
        {
            assert!(container["resources"]["requests"]["cpu"].is_string());
            assert!(container["resources"]["requests"]["memory"].is_string());
        }
    }

    #[test]
    fn every_image_of_the_deployment_is_a_related_image() {
        let csv = csv();
        let related: Vec<&str> = csv["spec"]["relatedImages"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|image| image["image"].as_str())
            .collect();
        let container =
            &csv["spec"]["install"]["spec"]["deployments"][0]["spec"]["template"]["spec"]["containers"][0];
        let mut used = vec![container["image"].as_str().unwrap()];
        for variable in container["env"].as_array().unwrap() {
            if variable["name"].as_str().unwrap().ends_with("_IMAGE") {
                used.push(variable["value"].as_str().unwrap());
            }
        }
        assert_eq!(used.len(), 3);
        assert!(
            used.iter().all(|image| related.contains(image)),
            "{used:?} {related:?}"
        );
    }

    #[test]
    fn names_become_words() {
        for (name, wanted) in [
            ("loadBalancerClass", "Load Balancer Class"),
            ("ipAddressPools", "Ip Address Pools"),
            ("BGPPeer", "BGP Peer"),
            ("peerASN", "Peer ASN"),
            ("MetalLB", "MetalLB"),
        ] {
            assert_eq!(words(name), wanted);
        }
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"abc"), "YWJj");
    }
}
