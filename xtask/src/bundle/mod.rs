//! The OLM bundle (`registry+v1`): a `ClusterServiceVersion` around the same Deployment and rights as the plain manifests, the
//! CRDs, metadata and the scorecard's configuration.

mod contents;
mod csv;
mod descriptors;
mod examples;

pub(crate) use contents::{Contents, list};
pub(crate) use csv::ICON_TYPE;
pub(crate) use descriptors::WRITTEN_BY_COMPONENTS;
pub(crate) use examples::examples;

use crate::{
    generate::{Files, header},
    release::Release,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use metallb_api::{crd, yaml};
use semver::Version;
use serde_json::{Value, json};

/// Name of the package in a catalog, and prefix of the `ClusterServiceVersion`'s name.
pub(crate) const PACKAGE: &str = "metallb-operator";
/// The channel that subscriptions follow.
pub(crate) const CHANNEL: &str = "stable";
/// What the product is called in a console.
pub(crate) const DISPLAY_NAME: &str = "MetalLB Operator";
/// Who provides it.
pub(crate) const PROVIDER: &str = "MetalLB in Rust";
/// Where the repository and its documents are. A placeholder under a name that nobody can own (RFC 2606): bundles must name an
/// address, and this project has none yet. Whoever publishes writes theirs here.
pub(crate) const HOME: &str = "https://metallb-rs.example/metallb";
/// Whom to write to; a placeholder like [`HOME`].
const MAIL: &str = "maintainers@metallb-rs.example";
/// Annotation of a bundle: the versions of `OpenShift` whose catalogs it is for.
pub(crate) const OPENSHIFT_VERSIONS: &str = "com.redhat.openshift.versions";
const DESCRIPTION: &str = include_str!("description.md");
const ICON: &str = include_str!("icon.svg");
/// The version is that of the `operator-sdk` that the tests run.
const SCORECARD: &str = "quay.io/operator-framework/scorecard-test:v1.42.2";

/// `bundle/`.
pub(crate) fn bundle(release: &Release) -> anyhow::Result<Files> {
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
        header("bundle") + &yaml::to_string(&csv::cluster_service_version(release)?)?,
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

/// Name of the `ClusterServiceVersion` of a version.
pub(crate) fn csv_name(version: &Version) -> String {
    format!("{PACKAGE}.v{version}")
}

/// The icon in base64.
pub(crate) fn icon() -> String {
    BASE64_STANDARD.encode(ICON)
}

/// Minor version of the first `OpenShift` 4 with a version of Kubernetes: 4.N has 1.(N+13), and pipelines reckon with its patch 0.
pub(crate) fn openshift_with(kubernetes: &Version) -> u64 {
    (kubernetes.minor + u64::from(kubernetes.patch > 0)).saturating_sub(13)
}

fn annotations() -> Value {
    json!({
        // Nothing said is every version, which contradicts minKubeVersion.
        OPENSHIFT_VERSIONS: format!("v4.{}", openshift_with(&csv::MIN_KUBE_VERSION)),
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
        + "# The bundle image: files only.\nFROM scratch AS bundle\n"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_openshift_has_at_least_the_kubernetes() {
        for (kubernetes, minor) in [("1.29.0", 16), ("1.30.0", 17), ("1.31.0", 18), ("1.31.2", 19)] {
            assert_eq!(
                openshift_with(&kubernetes.parse().unwrap()),
                minor,
                "{kubernetes}"
            );
        }
    }
}
