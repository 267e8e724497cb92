//! The `ClusterServiceVersion`.

use super::{
    DESCRIPTION, DISPLAY_NAME, HOME, MAIL, PROVIDER, WRITTEN_BY_COMPONENTS, csv_name, descriptors,
    examples::examples, icon,
};
use crate::release::{IMAGES, Release};
use anyhow::Context as _;
use k8s_openapi::api::apps::v1::DeploymentSpec;
use metallb_api::{
    crd,
    names::{labels, objects},
};
use metallb_render::{Kind, Object, operator};
use semver::Version;
use serde_json::{Value, json};

/// What this version can do, in the words of the Operator Framework; docs/capability-levels.md shows it question by question.
pub(super) const CAPABILITIES: &str = "Basic Install";
/// Fixed, so that generating twice gives the same text; moved on at a release.
const CREATED_AT: &str = "2026-11-21T00:00:00Z";
/// The oldest Kubernetes that the operator is for.
pub(super) const MIN_KUBE_VERSION: Version = Version::new(1, 31, 0);
/// The oldest release that may be upgraded to a later one directly.
const OLDEST_UPGRADABLE: Version = Version::new(0, 0, 9);
/// Media type of the icon.
pub(crate) const ICON_TYPE: &str = "image/svg+xml";

/// What a release is installed by.
pub(super) fn cluster_service_version(release: &Release) -> anyhow::Result<Value> {
    let version = release.version()?;
    let replaced = release.replaced()?;
    let related = IMAGES.map(|name| json!({"name": name, "image": release.image(name)}));
    let mut csv = json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": csv_name(&version),
            // OLM puts its own in place; tools want one.
            "namespace": "placeholder",
            "annotations": annotations(release)?,
            // `scripts/images` builds for whichever of the two it is asked for.
            "labels": {
                "operatorframework.io/arch.amd64": "supported",
                "operatorframework.io/arch.arm64": "supported",
                "operatorframework.io/os.linux": "supported",
            },
        },
        "spec": {
            "displayName": DISPLAY_NAME,
            "description": DESCRIPTION,
            "version": version.to_string(),
            "maturity": "alpha",
            "minKubeVersion": MIN_KUBE_VERSION.to_string(),
            "keywords": ["load balancer", "metallb", "bare metal", "network", "layer 2", "ARP", "NDP", "BGP", "BFD"],
            "provider": {"name": PROVIDER, "url": HOME},
            "maintainers": [{"name": PROVIDER, "email": MAIL}],
            "links": [
                {"name": "Repository", "url": HOME},
                {"name": "Installing", "url": format!("{HOME}/docs/installing.md")},
                {"name": "Samples of every resource", "url": format!("{HOME}/config/samples")},
                {"name": "MetalLB: concepts", "url": "https://metallb.io/concepts/"},
                {"name": "MetalLB: configuration", "url": "https://metallb.io/configuration/"},
                {"name": "MetalLB: usage", "url": "https://metallb.io/usage/"},
            ],
            "icon": [{"base64data": icon(), "mediatype": ICON_TYPE}],
            // All rights are cluster-wide and MetalLB is watched in all namespaces, whatever the OperatorGroup targets.
            "installModes": [
                {"type": "OwnNamespace", "supported": true},
                {"type": "SingleNamespace", "supported": true},
                {"type": "MultiNamespace", "supported": true},
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
                        "spec": deployment(release)?,
                    }],
                },
            },
            "customresourcedefinitions": {"owned": owned()?},
            "relatedImages": related,
        },
    });
    if let Some(old) = replaced {
        csv["spec"]["replaces"] = csv_name(&old).into();
        csv["metadata"]["annotations"]["olm.skipRange"] =
            format!(">={} <{version}", OLDEST_UPGRADABLE.min(old)).into();
    }
    Ok(csv)
}

fn annotations(release: &Release) -> anyhow::Result<Value> {
    let examples = examples();
    let installation = examples
        .iter()
        .find(|example| example["kind"] == "MetalLB")
        .context("no MetalLB example")?;
    let internal: Vec<String> = crd::all()
        .into_iter()
        .filter(|crd| WRITTEN_BY_COMPONENTS.contains(&crd.spec.names.kind.as_str()))
        .filter_map(|crd| crd.metadata.name)
        .collect();
    let feature = |name: &str| format!("features.operators.openshift.io/{name}");
    let mut annotations = json!({
        "alm-examples": serde_json::to_string_pretty(&examples)?,
        "capabilities": CAPABILITIES,
        "categories": "Networking",
        "certified": "false",
        "containerImage": release.image("operator"),
        "createdAt": CREATED_AT,
        "description": "Load balancers for clusters without a cloud: addresses from your own pools, announced to your own network.",
        "repository": HOME,
        "support": PROVIDER,
        "operatorframework.io/suggested-namespace": objects::DEFAULT_NAMESPACE,
        "operatorframework.io/suggested-namespace-template": suggested_namespace()?,
        "operatorframework.io/initialization-resource": serde_json::to_string_pretty(installation)?,
        "operators.operatorframework.io/internal-objects": serde_json::to_string(&internal)?,
    });
    // A mirror must know each image by what it is, not by a name that may be given to another one.
    annotations[feature("disconnected")] = release.is_pinned().to_string().into();
    for name in [
        "cnf",
        "cni",
        "csi",
        "fips-compliant",
        "proxy-aware",
        "tls-profiles",
        "token-auth-aws",
        "token-auth-azure",
        "token-auth-gcp",
    ] {
        annotations[feature(name)] = "false".into();
    }
    Ok(annotations)
}

fn deployment(release: &Release) -> anyhow::Result<DeploymentSpec> {
    operator::objects(
        objects::DEFAULT_NAMESPACE,
        release.tag(),
        release.image("operator"),
        &release.operands(),
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
fn owned() -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for crd in crd::all() {
        for version in &crd.spec.versions {
            let kind = &crd.spec.names.kind;
            let schema = serde_json::to_value(&version.schema)?;
            let root = &schema["openAPIV3Schema"];
            all.push(json!({
                "name": crd.metadata.name,
                "kind": kind,
                "version": version.name,
                "displayName": descriptors::words(kind),
                "description": root["description"],
                "resources": resources(kind, &version.name),
                "specDescriptors": descriptors::of_spec(kind, &root["properties"]["spec"]),
                "statusDescriptors": descriptors::of_status(&root["properties"]["status"]),
            }));
        }
    }
    Ok(all)
}

/// What a console shows beside an object of a kind: for MetalLB all that the operator makes, for the others what they are about.
fn resources(kind: &str, version: &str) -> Vec<Value> {
    let resource = |kind: &str, version: &str| json!({"kind": kind, "version": version, "name": ""});
    let ours = |kind: &str| resource(kind, "v1beta1");
    let others = match kind {
        // The API versions of all of these are v1.
        "MetalLB" => {
            let made = Kind::OWNED.map(|kind| resource(kind.name(), "v1"));
            [vec![resource("Pod", "v1")], made.to_vec()].concat()
        }
        "IPAddressPool" => vec![
            resource("Service", "v1"),
            ours("L2Advertisement"),
            ours("BGPAdvertisement"),
        ],
        "AddressPool" | "ServiceBGPStatus" => vec![resource("Service", "v1")],
        // That of discovery.k8s.io/v1, for services that want their own nodes only. Validators assume the removed v1beta1 of
        // rights on it unless the version is said here.
        "L2Advertisement" => vec![
            ours("IPAddressPool"),
            ours("ServiceL2Status"),
            resource("EndpointSlice", "v1"),
        ],
        "BGPAdvertisement" => vec![
            ours("IPAddressPool"),
            ours("Community"),
            resource("BGPPeer", "v1beta2"),
            ours("ServiceBGPStatus"),
        ],
        "BGPPeer" => vec![resource("Secret", "v1"), ours("BFDProfile")],
        "BFDProfile" => vec![resource("BGPPeer", "v1beta2")],
        "Community" => vec![ours("BGPAdvertisement")],
        "ServiceL2Status" => vec![resource("Service", "v1"), resource("Node", "v1")],
        "ConfigurationState" => vec![resource("Pod", "v1")],
        _ => Vec::new(),
    };
    [vec![resource(kind, version)], others].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, fs};

    #[test]
    fn the_level_claimed_is_the_one_that_the_table_supports() {
        let table = fs::read_to_string(crate::repository().join("docs/capability-levels.md")).unwrap();
        let line = format!("The bundle claims: **{CAPABILITIES}**.");
        assert!(
            table.contains(&line),
            "docs/capability-levels.md does not say {line:?}"
        );
    }

    #[test]
    fn the_page_of_the_link_installing_says_how_with_olm() {
        let read = |path: &str| fs::read_to_string(crate::repository().join(path)).unwrap();
        let csv = cluster_service_version(&Release::checked_in()).unwrap();
        let links = csv["spec"]["links"].as_array().unwrap();
        let link = links.iter().find(|link| link["name"] == "Installing").unwrap();
        let path = link["url"].as_str().unwrap().strip_prefix(HOME).unwrap();
        let (page, reference) = (read(path.trim_start_matches('/')), read("olm/README.md"));
        let (_, section) = page
            .split_once("\n### Through OLM\n")
            .expect("no section Through OLM");
        let commands: Vec<&str> = section
            .lines()
            .take_while(|line| !line.starts_with('#'))
            .filter_map(|line| line.strip_prefix("kubectl "))
            .collect();
        assert!(
            commands.contains(&"create -f olm/metallb-operator.yaml"),
            "{commands:?}"
        );
        for command in commands {
            assert!(
                reference.contains(command),
                "olm/README.md has no kubectl {command}"
            );
        }
    }

    #[test]
    fn a_mirror_is_promised_only_with_digests() {
        let claim = |release: &Release| {
            annotations(release).unwrap()["features.operators.openshift.io/disconnected"].clone()
        };
        assert_eq!(claim(&Release::checked_in()), "false");
        let digest = |name: &str| (name.to_owned(), format!("registry.example/{name}@sha256:aa"));
        let given: BTreeMap<String, String> = IMAGES.map(digest).into();
        let pinned = Release::pinned("v0.1.0", None, None, &given).unwrap();
        assert_eq!(claim(&pinned), "true");
    }

    #[test]
    fn an_upgrade_says_what_it_starts_from() {
        let csv = cluster_service_version(&Release::checked_in()).unwrap();
        assert_eq!(csv["spec"]["replaces"], "metallb-operator.v0.0.9");
        assert_eq!(csv["metadata"]["annotations"]["olm.skipRange"], ">=0.0.9 <0.1.0");
        let first = cluster_service_version(&Release::previous()).unwrap();
        assert!(first["spec"].get("replaces").is_none());
        assert!(first["metadata"]["annotations"].get("olm.skipRange").is_none());
    }

    #[test]
    fn any_operator_group_will_do() {
        let csv = cluster_service_version(&Release::checked_in()).unwrap();
        let modes = csv["spec"]["installModes"].as_array().unwrap();
        assert_eq!(modes.len(), 4);
        assert!(modes.iter().all(|mode| mode["supported"] == true));
        // A conversion webhook would forbid all modes but one.
        assert!(csv["spec"].get("webhookdefinitions").is_none());
    }

    #[test]
    fn the_operator_is_told_its_release() {
        let csv = cluster_service_version(&Release::previous()).unwrap();
        let container =
            &csv["spec"]["install"]["spec"]["deployments"][0]["spec"]["template"]["spec"]["containers"][0];
        let variables = container["env"].as_array().unwrap();
        assert!(variables.contains(&json!({"name": "OPERATOR_VERSION", "value": "v0.0.9"})));
    }
}
