//! The scorecard's six tests. What it merely suggests is a finding here, but for one thing: that examples have no status.
//! A status in an example of what a person writes would be in the form that a console offers.

use super::{Check, check, is_empty, text, unless};
use crate::bundle::{Contents, WRITTEN_BY_COMPONENTS, list};
use serde_json::Value;

pub(super) const CHECKS: &[Check] = &[
    check("basic-check-spec", spec),
    check("olm-bundle-validation", bundle_format),
    check("olm-crds-have-validation", validation),
    check("olm-crds-have-resources", resources),
    check("olm-spec-descriptors", spec_descriptors),
    check("olm-status-descriptors", status_descriptors),
];

fn spec(bundle: &Contents) -> Vec<String> {
    bundle
        .examples()
        .iter()
        .filter(|example| !example["spec"].is_object())
        .map(|example| format!("the example of {} has no spec", text(&example["kind"])))
        .collect()
}

/// The validators are in `checks::sdk`; beyond them the test reads metadata and image labels, which must agree.
fn bundle_format(bundle: &Contents) -> Vec<String> {
    const PREFIX: &str = "operators.operatorframework.io.bundle.";
    let annotations = &bundle.annotations;
    let wanted = [
        ("mediatype.v1", "registry+v1"),
        ("manifests.v1", "manifests/"),
        ("metadata.v1", "metadata/"),
    ];
    let mut found = Vec::new();
    for (key, value) in wanted {
        found.extend(unless(
            annotations[format!("{PREFIX}{key}")] == value,
            format!("metadata/annotations.yaml: {PREFIX}{key} must be {value}"),
        ));
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let label = format!("LABEL {key}={}\n", text(value));
        found.extend(unless(
            bundle.containerfile.contains(&label),
            format!("bundle.Containerfile lacks the label {key} of metadata/annotations.yaml"),
        ));
    }
    found.extend(unless(
        bundle.scorecard["apiVersion"] == "scorecard.operatorframework.io/v1alpha3"
            && !is_empty(&bundle.scorecard["stages"][0]["tests"]),
        "tests/scorecard/config.yaml is no configuration of the scorecard",
    ));
    found
}

/// The schema of a kind in a version.
fn schema<'a>(bundle: &'a Contents, example: &Value) -> Option<&'a Value> {
    let (group, name) = text(&example["apiVersion"]).split_once('/')?;
    let definition = bundle.definitions().find(|definition| {
        definition["spec"]["group"] == group && definition["spec"]["names"]["kind"] == example["kind"]
    })?;
    let version = list(&definition["spec"]["versions"])
        .iter()
        .find(|version| version["name"] == name)?;
    Some(&version["schema"]["openAPIV3Schema"]["properties"])
}

fn validation(bundle: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    for example in bundle.examples() {
        let Some(schema) = schema(bundle, &example) else {
            found.push(format!("no schema for the example of {}", text(&example["kind"])));
            continue;
        };
        for part in ["spec", "status"] {
            for (field, _) in example[part].as_object().into_iter().flatten() {
                found.extend(unless(
                    schema[part]["properties"].get(field).is_some(),
                    format!("{}.{part}.{field} is in no schema", text(&example["kind"])),
                ));
            }
        }
    }
    found
}

fn resources(bundle: &Contents) -> Vec<String> {
    bundle
        .owned()
        .iter()
        .filter(|api| is_empty(&api["resources"]))
        .map(|api| format!("{} lists no resources", text(&api["kind"])))
        .collect()
}

/// What the CSV says about a kind; the scorecard looks at the first version that it finds.
fn description<'a>(bundle: &'a Contents, example: &Value) -> Option<&'a Value> {
    bundle.owned().iter().find(|api| api["kind"] == example["kind"])
}

fn spec_descriptors(bundle: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    for example in bundle.examples() {
        let kind = text(&example["kind"]);
        let Some(api) = description(bundle, &example) else {
            found.push(format!("{kind} has an example and is not owned"));
            continue;
        };
        for (field, _) in example["spec"].as_object().into_iter().flatten() {
            let described = list(&api["specDescriptors"])
                .iter()
                .any(|descriptor| descriptor["path"] == field.as_str());
            found.extend(unless(
                described,
                format!("{kind}.spec.{field} has no descriptor"),
            ));
        }
    }
    found
}

fn status_descriptors(bundle: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    for example in bundle.examples() {
        let kind = text(&example["kind"]);
        let described = description(bundle, &example).is_some_and(|api| !is_empty(&api["statusDescriptors"]));
        found.extend(unless(described, format!("{kind} has no status descriptor")));
        found.extend(unless(
            is_empty(&example["status"]) != WRITTEN_BY_COMPONENTS.contains(&kind),
            format!("{kind}: an example has a status if and only if components write the kind"),
        ));
    }
    found
}
