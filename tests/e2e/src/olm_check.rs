//! Bundles and catalogs judged by the Operator Framework's own tools. A warning is a failure.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::build;
use crate::progress::Progress;
use crate::sh;

/// What `operator-sdk bundle validate` is asked to look at beyond what it always does. The suite is operatorhubv2, capabilities,
/// categories, alpha-deprecated-apis and good-practices; the other two are deprecated, and pipelines still run them. Left out is
/// `name=multiarch`: it pulls the images from their public registry with docker or podman, and without one of them it sees none.
const SELECTIONS: [&str; 4] = [
    "",
    "suite=operatorframework",
    "name=operatorhub",
    "name=community",
];

/// What a deprecated validator says of itself whatever the bundle is.
const OF_ITSELF: &str = "\" validator is deprecated;";

/// In place of a bundle image's name, which a directory does not tell.
const PLACEHOLDER: &str = "BUNDLE_IMAGE";

/// Judges a catalog and bundles in it, and compares what the catalog says of each with what `opm render` makes of it.
///
/// # Errors
/// Everything the tools complain about, or the first difference.
pub fn run(catalog: &Path, bundles: &[PathBuf], progress: &Progress) -> Result<()> {
    let opm = build::ensure_opm(progress)?;
    let sdk = build::ensure_operator_sdk(progress)?.join("operator-sdk");
    let said = sh::run(Command::new(&opm).arg("validate").arg(catalog))?;
    ensure!(
        said.trim().is_empty(),
        "opm validate {}: {said}",
        catalog.display()
    );
    progress.line(&format!("opm validate {}: nothing said", catalog.display()));
    let listed = render(&opm, [catalog.as_os_str()])?;
    let mut complaints = Vec::new();
    for bundle in bundles {
        for selection in SELECTIONS {
            complaints.extend(validate(&sdk, bundle, selection)?);
        }
        let template = format!("--alpha-image-ref-template={PLACEHOLDER}");
        let args = [OsStr::new("--migrate"), OsStr::new(&template), bundle.as_os_str()];
        compare(&listed, &render(&opm, args)?)
            .with_context(|| format!("{} and {}", bundle.display(), catalog.display()))?;
        progress.line(&format!(
            "operator-sdk bundle validate {}: {} selections; opm render agrees with the catalog",
            bundle.display(),
            SELECTIONS.len()
        ));
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn validate(sdk: &Path, bundle: &Path, selection: &str) -> Result<Vec<String>> {
    let mut command = Command::new(sdk);
    command
        .args(["bundle", "validate", "-o", "json-alpha1"])
        .arg(bundle);
    if !selection.is_empty() {
        command.args(["--select-optional", selection]);
    }
    // It fails when it finds errors, and prints them all the same.
    let output = command
        .output()
        .with_context(|| format!("start {}", sdk.display()))?;
    let result: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "operator-sdk bundle validate {} {selection}: {}",
            bundle.display(),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    complaints(&result)
        .map(|all| {
            all.into_iter()
                .map(|complaint| format!("{} {selection}: {complaint}", bundle.display()))
                .collect()
        })
        .with_context(|| format!("operator-sdk bundle validate {} {selection}", bundle.display()))
}

/// Errors and warnings in the output.
fn complaints(result: &Value) -> Result<Vec<String>> {
    let outputs = match &result["outputs"] {
        Value::Null => &[][..],
        Value::Array(outputs) => outputs,
        other => bail!("its outputs are {other}"),
    };
    let all: Vec<String> = outputs
        .iter()
        .filter(|output| output["type"] != "info")
        .filter(|output| {
            output["message"]
                .as_str()
                .is_none_or(|text| !text.contains(OF_ITSELF))
        })
        .map(|output| {
            let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text("type"), text("message"))
        })
        .collect();
    ensure!(
        result["passed"] == true || !all.is_empty(),
        "it failed and said nothing"
    );
    Ok(all)
}

/// The documents that `opm render` prints.
fn render<'a>(opm: &Path, args: impl IntoIterator<Item = &'a OsStr>) -> Result<Vec<Value>> {
    let text = sh::run(Command::new(opm).args(["render", "-o", "json"]).args(args))?;
    serde_json::Deserializer::from_str(&text)
        .into_iter()
        .collect::<Result<_, _>>()
        .context("opm render prints JSON")
}

/// The rendered bundle is in the catalog, and the catalog says the same of it.
fn compare(catalog: &[Value], rendered: &[Value]) -> Result<()> {
    let [bundle] = rendered else {
        bail!("opm render gives {} documents instead of one", rendered.len())
    };
    let name = &bundle["name"];
    let listed = catalog
        .iter()
        .find(|document| document["schema"] == "olm.bundle" && document["name"] == *name)
        .with_context(|| format!("{name} is not in the catalog"))?;
    let image = listed["image"].as_str().context("it has no image")?;
    let rendered = named(bundle, image);
    for key in ["schema", "package", "image", "relatedImages", "properties"] {
        let (ours, theirs) = (ordered(&listed[key]), ordered(&rendered[key]));
        if let Some(at) = difference(&ours, &theirs, key) {
            bail!("{name}: the catalog differs from opm render at {at}");
        }
    }
    Ok(())
}

/// With an image's name in the place of [`PLACEHOLDER`].
fn named(value: &Value, image: &str) -> Value {
    match value {
        Value::String(text) if text == PLACEHOLDER => image.into(),
        Value::Array(elements) => elements.iter().map(|element| named(element, image)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, field)| (key.clone(), named(field, image)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Lists of a bundle are sets.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Array(elements) => {
            let mut elements = elements.clone();
            elements.sort_by_key(Value::to_string);
            elements.into()
        }
        other => other.clone(),
    }
}

/// Where two values first differ, and how.
fn difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let field =
                |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
            difference(&field(a), &field(b), &format!("{path}.{key}"))
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (a, b))| difference(a, b, &format!("{path}[{i}]"))),
        _ if one == other => None,
        _ => Some(format!("{path}: {one} and {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn warnings_are_complaints() {
        let passed = json!({"passed": true, "outputs": null});
        assert!(complaints(&passed).unwrap().is_empty());
        let warned = json!({"passed": true, "outputs": [
            {"type": "info", "message": "fine"}, {"type": "warning", "message": "no icon"},
            {"type": "warning", "message": "Warning: Value : The \"operatorhub\" validator is deprecated; for"}]});
        assert_eq!(complaints(&warned).unwrap(), ["warning: no icon"]);
        assert!(complaints(&json!({"passed": false, "outputs": []})).is_err());
    }

    #[test]
    fn a_catalog_is_compared_with_what_is_rendered() {
        let bundle = |image: &str, value: &str| {
            json!({"schema": "olm.bundle", "name": "a.v1.0.0", "package": "a", "image": image,
                "relatedImages": [{"name": "", "image": image}, {"name": "x", "image": "r.example/x:v1"}],
                "properties": [{"type": "t", "value": {"v": value}}]})
        };
        let catalog = [
            json!({"schema": "olm.package", "name": "a"}),
            bundle("r.example/a:v1", "1"),
        ];
        compare(&catalog, &[bundle(PLACEHOLDER, "1")]).unwrap();
        let error = compare(&catalog, &[bundle(PLACEHOLDER, "2")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("properties[0].value.v: \"1\" and \"2\""),
            "{error}"
        );
        assert!(compare(&catalog[..1], &[bundle(PLACEHOLDER, "1")]).is_err());
    }
}
