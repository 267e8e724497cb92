//! The optional validators of `operator-sdk bundle validate`, by their names.

use super::{
    Check, check, is_empty,
    sdk::{api_of, example_of},
    text, unless,
};
use crate::bundle::{Contents, list};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use semver::Version;
use serde_json::Value;

pub(super) const CHECKS: &[Check] = &[
    check("operatorhubv2: provider", provider),
    check("operatorhubv2: maintainers", maintainers),
    check("operatorhubv2: links", links),
    check("operatorhubv2: version", version),
    check("operatorhubv2: icon", icon),
    check("capabilities", capabilities),
    check("categories", categories),
    check("good-practices: requests", requests),
    check("good-practices: channels", channels),
    check("good-practices: descriptions", descriptions),
    check("good-practices: rights on definitions", rights_on_definitions),
    check("good-practices: bundle name", bundle_name),
    check("alpha-deprecated-apis", removed_apis),
    check("multiarch: labels", platforms),
];

/// The annotations of metadata/annotations.yaml and of the image.
const CHANNELS: &str = "operators.operatorframework.io.bundle.channels.v1";
const DEFAULT_CHANNEL: &str = "operators.operatorframework.io.bundle.channel.default.v1";

fn provider(bundle: &Contents) -> Vec<String> {
    unless(
        !is_empty(&bundle.csv["spec"]["provider"]["name"]),
        "spec.provider.name is missing",
    )
}

fn maintainers(bundle: &Contents) -> Vec<String> {
    let maintainers = list(&bundle.csv["spec"]["maintainers"]);
    let has_address = |maintainer: &Value| {
        text(&maintainer["email"])
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains(' '))
    };
    let good = |maintainer: &Value| !is_empty(&maintainer["name"]) && has_address(maintainer);
    unless(
        !maintainers.is_empty() && maintainers.iter().all(good),
        "spec.maintainers needs a name and an address for mail each",
    )
}

fn links(bundle: &Contents) -> Vec<String> {
    let links = list(&bundle.csv["spec"]["links"]);
    let good = |link: &Value| {
        let url = text(&link["url"]);
        !is_empty(&link["name"])
            && url.starts_with("https://")
            && !url.contains(char::is_whitespace)
            && url.len() > "https://".len()
    };
    unless(
        !links.is_empty() && links.iter().all(good),
        "spec.links needs a name and an https URL each",
    )
}

fn version(bundle: &Contents) -> Vec<String> {
    let version = text(&bundle.csv["spec"]["version"]);
    unless(
        Version::parse(version).is_ok_and(|version| version > Version::new(0, 0, 0)),
        format!("spec.version {version:?} is no semantic version above 0.0.0"),
    )
}

fn icon(bundle: &Contents) -> Vec<String> {
    const TYPES: [&str; 4] = ["image/gif", "image/jpeg", "image/png", "image/svg+xml"];
    let good = |icon: &Value| {
        TYPES.contains(&text(&icon["mediatype"]))
            && BASE64_STANDARD
                .decode(text(&icon["base64data"]))
                .is_ok_and(|bytes| !bytes.is_empty())
    };
    unless(
        matches!(list(&bundle.csv["spec"]["icon"]), [icon] if good(icon)),
        "spec.icon must hold one picture in base64 with its media type",
    )
}

fn capabilities(bundle: &Contents) -> Vec<String> {
    const LEVELS: [&str; 5] = [
        "Basic Install",
        "Seamless Upgrades",
        "Full Lifecycle",
        "Deep Insights",
        "Auto Pilot",
    ];
    let level = bundle.annotation("capabilities");
    unless(
        LEVELS.contains(&level),
        format!("{level:?} is no capability level"),
    )
}

fn categories(bundle: &Contents) -> Vec<String> {
    const KNOWN: [&str; 16] = [
        "AI/Machine Learning",
        "Application Runtime",
        "Big Data",
        "Cloud Provider",
        "Database",
        "Developer Tools",
        "Integration & Delivery",
        "Logging & Tracing",
        "Modernization & Migration",
        "Monitoring",
        "Networking",
        "Observability",
        "OpenShift Optional",
        "Security",
        "Storage",
        "Streaming & Messaging",
    ];
    bundle
        .annotation("categories")
        .split(',')
        .filter(|category| !KNOWN.contains(&category.trim()))
        .map(|category| format!("{category:?} is no category"))
        .collect()
}

fn requests(bundle: &Contents) -> Vec<String> {
    bundle
        .containers()
        .filter(|container| {
            let requests = &container["resources"]["requests"];
            is_empty(&requests["cpu"]) || is_empty(&requests["memory"])
        })
        .map(|container| format!("container {} requests no cpu or no memory", container["name"]))
        .collect()
}

fn channels(bundle: &Contents) -> Vec<String> {
    let channels = text(&bundle.annotations[CHANNELS]).split(',');
    channels
        .chain([text(&bundle.annotations[DEFAULT_CHANNEL])])
        .map(str::trim)
        .filter(|channel| {
            !["candidate", "fast", "stable"]
                .iter()
                .any(|prefix| channel.starts_with(prefix))
        })
        .map(|channel| format!("channel {channel:?} should begin with candidate, fast or stable"))
        .collect()
}

fn descriptions(bundle: &Contents) -> Vec<String> {
    bundle
        .owned()
        .iter()
        .filter(|api| is_empty(&api["description"]))
        .map(|api| format!("{} has no description", api_of(api)))
        .collect()
}

/// The rules of the operator, cluster-wide and not.
fn rules(bundle: &Contents) -> impl Iterator<Item = &Value> {
    let spec = &bundle.csv["spec"]["install"]["spec"];
    ["permissions", "clusterPermissions"]
        .into_iter()
        .flat_map(|part| list(&spec[part]))
        .flat_map(|permission| list(&permission["rules"]))
}

fn names(value: &Value, among: &[&str]) -> bool {
    list(value).iter().any(|name| among.contains(&text(name)))
}

fn rights_on_definitions(bundle: &Contents) -> Vec<String> {
    let makes = |rule: &&Value| {
        names(&rule["apiGroups"], &["apiextensions.k8s.io", "*"])
            && names(&rule["resources"], &["customresourcedefinitions", "*"])
            && names(&rule["verbs"], &["create", "patch", "*"])
    };
    unless(
        rules(bundle).find(makes).is_none(),
        "the operator may create definitions, which is OLM's part",
    )
}

fn bundle_name(bundle: &Contents) -> Vec<String> {
    let good = bundle
        .name()
        .split_once(".v")
        .is_some_and(|(name, version)| !name.is_empty() && Version::parse(version).is_ok());
    unless(good, format!("{} should be NAME.vX.Y.Z", bundle.name()))
}

/// APIs that Kubernetes 1.22 to 1.26 no longer have. Rights name no version; which one is meant is said in the resources of an
/// owned kind.
fn removed_apis(bundle: &Contents) -> Vec<String> {
    const REMOVED: [(&str, &str); 12] = [
        ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"),
        (
            "admissionregistration.k8s.io/v1beta1",
            "ValidatingWebhookConfiguration",
        ),
        (
            "admissionregistration.k8s.io/v1beta1",
            "MutatingWebhookConfiguration",
        ),
        ("rbac.authorization.k8s.io/v1beta1", "Role"),
        ("rbac.authorization.k8s.io/v1beta1", "RoleBinding"),
        ("rbac.authorization.k8s.io/v1beta1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding"),
        ("scheduling.k8s.io/v1beta1", "PriorityClass"),
        ("policy/v1beta1", "PodDisruptionBudget"),
        ("policy/v1beta1", "PodSecurityPolicy"),
        ("autoscaling/v2beta1", "HorizontalPodAutoscaler"),
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler"),
    ];
    const RIGHTS: [(&str, &str); 7] = [
        ("batch", "cronjobs"),
        ("discovery.k8s.io", "endpointslices"),
        ("events.k8s.io", "events"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        ("policy", "podsecuritypolicies"),
        ("node.k8s.io", "runtimeclasses"),
    ];
    let objects = bundle
        .objects
        .iter()
        .filter(|object| REMOVED.contains(&(text(&object["apiVersion"]), text(&object["kind"]))))
        .map(|object| format!("{} is gone", example_of(object)));
    let said: Vec<String> = bundle
        .owned()
        .iter()
        .flat_map(|api| list(&api["resources"]))
        .map(|resource| format!("{}s", text(&resource["kind"]).to_lowercase()))
        .collect();
    let rights = RIGHTS
        .iter()
        .filter(|(_, resource)| !said.iter().any(|kind| kind == resource))
        .filter(|(group, resource)| {
            rules(bundle)
                .any(|rule| names(&rule["apiGroups"], &[group]) && names(&rule["resources"], &[resource]))
        })
        .map(|(group, resource)| {
            format!("rights on {resource} of {group}, whose beta is gone: say the version")
        });
    objects.chain(rights).collect()
}

/// What a console filters by; without labels it assumes amd64 alone.
fn platforms(bundle: &Contents) -> Vec<String> {
    let labels = &bundle.csv["metadata"]["labels"];
    let has = |prefix: &str| {
        labels
            .as_object()
            .into_iter()
            .flatten()
            .any(|(key, value)| key.starts_with(prefix) && value == "supported")
    };
    unless(
        has("operatorframework.io/arch.") && has("operatorframework.io/os."),
        "labels operatorframework.io/arch.… and os.… say which platforms there are images for",
    )
}
