//! The validators that `operator-sdk bundle validate` always runs: of the `ClusterServiceVersion`, of the definitions, of the bundle.

use super::{Check, check, is_empty, text, unless};
use crate::bundle::{Contents, list};
use semver::Version;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const CHECKS: &[Check] = &[
    check("csv: kind", kind),
    check("csv: name", name),
    check("csv: required fields", required_fields),
    check("csv: examples", examples),
    check("csv: install modes", install_modes),
    check("csv: minKubeVersion", min_kube_version),
    check("csv: annotations", annotation_names),
    check("crd", definitions),
    check("bundle: owned definitions", owned_definitions),
    check("bundle: service accounts", service_accounts),
    check("bundle: size", size),
    check("bundle: related images", related_images),
];

fn kind(bundle: &Contents) -> Vec<String> {
    unless(
        bundle.csv["apiVersion"] == "operators.coreos.com/v1alpha1"
            && bundle.csv["kind"] == "ClusterServiceVersion",
        "apiVersion or kind is missing or wrong",
    )
}

/// The name becomes a label's value too, so it is shorter than other names.
fn name(bundle: &Contents) -> Vec<String> {
    let mut names = vec![("metadata.name", bundle.name())];
    if let Some(replaces) = bundle.csv["spec"].get("replaces") {
        names.push(("spec.replaces", text(replaces)));
    }
    names
        .into_iter()
        .filter(|(_, name)| !is_dns_subdomain(name) || name.len() > 63)
        .map(|(field, name)| format!("{field} {name:?} is no DNS-1123 subdomain of at most 63 characters"))
        .collect()
}

pub(super) fn is_dns_subdomain(name: &str) -> bool {
    name.split('.').all(|label| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// The fields that the CSV's Go type does not call optional.
fn required_fields(bundle: &Contents) -> Vec<String> {
    let csv = &bundle.csv;
    [
        ("spec.displayName", &csv["spec"]["displayName"]),
        ("spec.install.strategy", &csv["spec"]["install"]["strategy"]),
        (
            "spec.install.spec.deployments",
            &csv["spec"]["install"]["spec"]["deployments"],
        ),
    ]
    .into_iter()
    .filter(|(_, value)| is_empty(value))
    .map(|(field, _)| format!("{field} is missing"))
    .collect()
}

/// Group, version and kind as one text.
pub(super) fn example_of(object: &Value) -> String {
    format!("{} {}", text(&object["apiVersion"]), text(&object["kind"]))
}

pub(super) fn api_of(owned: &Value) -> String {
    let group = text(&owned["name"])
        .split_once('.')
        .map_or("", |(_, group)| group);
    format!("{group}/{} {}", text(&owned["version"]), text(&owned["kind"]))
}

fn examples(bundle: &Contents) -> Vec<String> {
    let examples: Vec<Value> = match serde_json::from_str(bundle.annotation("alm-examples")) {
        Ok(examples) => examples,
        Err(error) => return vec![format!("alm-examples is no JSON list: {error}")],
    };
    let owned: BTreeSet<String> = bundle.owned().iter().map(api_of).collect();
    let shown: BTreeSet<String> = examples.iter().map(example_of).collect();
    let foreign = shown
        .difference(&owned)
        .map(|api| format!("an example of {api}, which the bundle does not own"));
    let missing = owned.difference(&shown).map(|api| format!("no example of {api}"));
    foreign.chain(missing).collect()
}

fn install_modes(bundle: &Contents) -> Vec<String> {
    let modes = list(&bundle.csv["spec"]["installModes"]);
    let types: BTreeSet<&str> = modes.iter().map(|mode| text(&mode["type"])).collect();
    let supports = |name: &str| {
        modes
            .iter()
            .any(|mode| mode["type"] == name && mode["supported"] == true)
    };
    let converts = list(&bundle.csv["spec"]["webhookdefinitions"])
        .iter()
        .any(|webhook| !is_empty(&webhook["conversionCRDs"]));
    let others = ["OwnNamespace", "SingleNamespace", "MultiNamespace"]
        .iter()
        .any(|name| supports(name));
    [
        unless(
            modes.iter().any(|mode| mode["supported"] == true),
            "no install mode is supported",
        ),
        unless(types.len() == modes.len(), "an install mode is there twice"),
        unless(
            !converts || (supports("AllNamespaces") && !others),
            "with a conversion webhook AllNamespaces must be the only install mode",
        ),
    ]
    .concat()
}

fn min_kube_version(bundle: &Contents) -> Vec<String> {
    let version = text(&bundle.csv["spec"]["minKubeVersion"]);
    unless(
        Version::parse(version).is_ok(),
        format!("spec.minKubeVersion {version:?} is no semantic version"),
    )
}

/// Keys that OLM reads in this case only.
fn annotation_names(bundle: &Contents) -> Vec<String> {
    const CASE: [&str; 5] = [
        "olm.operatorGroup",
        "olm.operatorNamespace",
        "olm.targetNamespaces",
        "olm.providedAPIs",
        "olm.skipRange",
    ];
    let keys = bundle.csv["metadata"]["annotations"].as_object();
    keys.into_iter()
        .flatten()
        .filter_map(|(key, _)| {
            if key == "olm.properties" {
                return Some("olm.properties belongs into metadata/properties.yaml".to_owned());
            }
            let wanted = CASE
                .iter()
                .find(|known| known.eq_ignore_ascii_case(key) && **known != key)?;
            Some(format!("annotation {key} must be written {wanted}"))
        })
        .collect()
}

fn definitions(bundle: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    for definition in bundle.definitions() {
        let name = text(&definition["metadata"]["name"]);
        let spec = &definition["spec"];
        let versions = list(&spec["versions"]);
        let stored = versions
            .iter()
            .filter(|version| version["storage"] == true)
            .count();
        let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
        found.extend(unless(
            definition["apiVersion"] == "apiextensions.k8s.io/v1",
            format!("{name} is not of apiextensions.k8s.io/v1"),
        ));
        found.extend(unless(name == wanted, format!("{name} must be named {wanted}")));
        found.extend(unless(
            stored == 1,
            format!("{name} has {stored} storage versions"),
        ));
        for version in versions {
            found.extend(unless(
                version["schema"]["openAPIV3Schema"].is_object(),
                format!("{name} has no schema for {}", text(&version["name"])),
            ));
        }
    }
    found
}

fn owned_definitions(bundle: &Contents) -> Vec<String> {
    let owned: Vec<String> = bundle.owned().iter().map(api_of).collect();
    let mut defined = Vec::new();
    for definition in bundle.definitions() {
        let spec = &definition["spec"];
        for version in list(&spec["versions"]) {
            defined.push(format!(
                "{}/{} {}",
                text(&spec["group"]),
                text(&version["name"]),
                text(&spec["names"]["kind"])
            ));
        }
    }
    let twice = defined
        .iter()
        .enumerate()
        .filter(|(i, api)| defined[..*i].contains(api))
        .map(|(_, api)| format!("{api} is defined twice"));
    let without = owned
        .iter()
        .filter(|api| !defined.contains(api))
        .map(|api| format!("{api} is owned and not defined"));
    let unowned = defined
        .iter()
        .filter(|api| !owned.contains(api))
        .map(|api| format!("{api} is defined and not owned"));
    twice.chain(without).chain(unowned).collect()
}

fn service_accounts(bundle: &Contents) -> Vec<String> {
    let made_by_olm: Vec<&str> = bundle
        .deployments()
        .iter()
        .map(|deployment| text(&deployment["spec"]["template"]["spec"]["serviceAccountName"]))
        .collect();
    bundle
        .objects
        .iter()
        .filter(|object| object["kind"] == "ServiceAccount")
        .map(|object| text(&object["metadata"]["name"]))
        .filter(|name| made_by_olm.contains(name))
        .map(|name| format!("the ServiceAccount {name} is made by OLM and must not be a manifest"))
        .collect()
}

/// It must fit into a ConfigMap when it is compressed. It is measured as it is, which is ten times stricter.
fn size(bundle: &Contents) -> Vec<String> {
    const MOST: usize = 1 << 20;
    unless(
        bundle.size < MOST * 85 / 100,
        format!("the manifests have {} bytes, near or over {MOST}", bundle.size),
    )
}

fn related_images(bundle: &Contents) -> Vec<String> {
    let related = list(&bundle.csv["spec"]["relatedImages"]);
    let malformed = related
        .iter()
        .filter(|image| !is_image(text(&image["image"])))
        .map(|image| format!("relatedImages: {} is no image reference", image["image"]));
    let listed: Vec<&str> = related.iter().map(|image| text(&image["image"])).collect();
    // The operator hands out those that its environment names.
    let variables = bundle
        .containers()
        .flat_map(|container| list(&container["env"]))
        .filter(|variable| text(&variable["name"]).ends_with("_IMAGE"))
        .map(|variable| text(&variable["value"]));
    let used = bundle
        .containers()
        .map(|container| text(&container["image"]))
        .chain(variables);
    let missing = used
        .filter(|image| !listed.contains(image))
        .map(|image| format!("relatedImages lacks {image}"));
    malformed.chain(missing).collect()
}

/// `HOST/PATH` with a tag or a digest; names without a host mean different things to different people.
fn is_image(reference: &str) -> bool {
    let (name, digest) = reference
        .split_once('@')
        .map_or((reference, None), |(name, digest)| (name, Some(digest)));
    let digest_ok = digest.is_none_or(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let Some((host, path)) = name.split_once('/') else {
        return false;
    };
    let (path, tag) = path.split_once(':').map_or((path, None), |(p, t)| (p, Some(t)));
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    digest_ok
        && (digest.is_some() || tag.is_some())
        && (host.contains('.') || host.contains(':'))
        && tag.is_none_or(|tag| !tag.is_empty() && tag.chars().all(word))
        && path
            .split('/')
            .all(|part| !part.is_empty() && part.chars().all(|c| word(c) && !c.is_ascii_uppercase()))
}
