//! What OLM and consoles make of a bundle, beyond what their validators look at.

use super::{Check, check, text, unless};
use crate::bundle::{Contents, list};
use metallb_admission::ApiServer;
use serde_json::Value;

pub(super) const CHECKS: &[Check] = &[
    check("olm: kinds", kinds),
    check("olm: no webhooks", webhooks),
    check("olm: no dependencies", dependencies),
    check("console: examples are admitted", admitted),
    check("console: initialization resource", initialization),
    check("console: suggested namespace", suggested_namespace),
    check("console: internal objects", internal_objects),
    check("console: features", features),
];

/// Kinds that OLM installs; those of the Prometheus operator would fail where there is none, so they are left out.
fn kinds(bundle: &Contents) -> Vec<String> {
    const INSTALLED: [&str; 11] = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "CustomResourceDefinition",
        "PodDisruptionBudget",
        "PriorityClass",
        "Role",
        "RoleBinding",
        "Secret",
        "Service",
        "ServiceAccount",
    ];
    bundle
        .objects
        .iter()
        .filter(|object| !INSTALLED.contains(&text(&object["kind"])) && object["kind"] != "NetworkPolicy")
        .map(|object| format!("OLM installs no {} everywhere", text(&object["kind"])))
        .collect()
}

/// Certificates would have to be there before the operator is, and OLM v1 needs a certificate manager for them.
fn webhooks(bundle: &Contents) -> Vec<String> {
    let of_csv = unless(
        list(&bundle.csv["spec"]["webhookdefinitions"]).is_empty(),
        "spec.webhookdefinitions is not empty",
    );
    let of_definitions = bundle
        .definitions()
        .filter(|definition| {
            let strategy = &definition["spec"]["conversion"]["strategy"];
            !strategy.is_null() && strategy != "None"
        })
        .map(|definition| format!("{} is converted by a webhook", definition["metadata"]["name"]));
    of_csv.into_iter().chain(of_definitions).collect()
}

/// OLM v1 resolves none.
fn dependencies(bundle: &Contents) -> Vec<String> {
    let spec = &bundle.csv["spec"];
    let required = ["customresourcedefinitions", "apiservicedefinitions"]
        .iter()
        .flat_map(|part| list(&spec[*part]["required"]))
        .map(|api| format!("{} is required", api["name"]));
    required.collect()
}

/// By the schemas and rules of the bundle's own definitions.
fn admitted(bundle: &Contents) -> Vec<String> {
    let server = ApiServer::new(bundle.definitions());
    bundle
        .examples()
        .iter()
        .filter_map(|example| {
            let refused = server.create(example).err()?;
            Some(format!(
                "the example of {} is refused: {refused}",
                text(&example["kind"])
            ))
        })
        .collect()
}

/// The object that a console asks for after the installation: an example of an owned kind.
fn initialization(bundle: &Contents) -> Vec<String> {
    let resource: Result<Value, _> =
        serde_json::from_str(bundle.annotation("operatorframework.io/initialization-resource"));
    let found = resource.is_ok_and(|resource| bundle.examples().contains(&resource));
    unless(
        found,
        "operatorframework.io/initialization-resource is none of the examples",
    )
}

/// The template that a console makes the namespace from has its name, and the level that speakers need.
fn suggested_namespace(bundle: &Contents) -> Vec<String> {
    let template: Value =
        serde_json::from_str(bundle.annotation("operatorframework.io/suggested-namespace-template"))
            .unwrap_or_default();
    let metadata = &template["metadata"];
    let name = bundle.annotation("operatorframework.io/suggested-namespace");
    unless(
        !name.is_empty()
            && metadata["name"] == name
            && metadata["labels"]["pod-security.kubernetes.io/enforce"] == "privileged",
        "operatorframework.io/suggested-namespace and its template must name one namespace that admits speakers",
    )
}

fn internal_objects(bundle: &Contents) -> Vec<String> {
    let hidden: Vec<String> =
        serde_json::from_str(bundle.annotation("operators.operatorframework.io/internal-objects"))
            .unwrap_or_default();
    let owned: Vec<&str> = bundle.owned().iter().map(|api| text(&api["name"])).collect();
    let unknown = hidden.iter().find(|name| !owned.contains(&name.as_str()));
    unless(
        !hidden.is_empty() && unknown.is_none(),
        "operators.operatorframework.io/internal-objects must list owned definitions",
    )
}

/// Filters of the console: each is answered, and what needs digests is claimed with digests only.
fn features(bundle: &Contents) -> Vec<String> {
    const ASKED: [&str; 10] = [
        "cnf",
        "cni",
        "csi",
        "disconnected",
        "fips-compliant",
        "proxy-aware",
        "tls-profiles",
        "token-auth-aws",
        "token-auth-azure",
        "token-auth-gcp",
    ];
    let answer = |name: &str| bundle.annotation(&format!("features.operators.openshift.io/{name}"));
    let unanswered = ASKED
        .iter()
        .filter(|name| !["true", "false"].contains(&answer(name)))
        .map(|name| format!("features.operators.openshift.io/{name} is neither true nor false"));
    let pinned = list(&bundle.csv["spec"]["relatedImages"])
        .iter()
        .all(|image| text(&image["image"]).contains("@sha256:"));
    let claimed = unless(
        (answer("disconnected") == "true") == pinned,
        "features.operators.openshift.io/disconnected must be true if and only if relatedImages are digests",
    );
    unanswered.chain(claimed).collect()
}
