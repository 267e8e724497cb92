//! A file-based catalog: what OLM shows, chooses and upgrades by.

use crate::{
    bundle::{CHANNEL, Contents, DISPLAY_NAME, ICON_TYPE, PACKAGE, icon, list},
    generate::{Files, header},
};
use anyhow::{Context as _, ensure};
use metallb_api::yaml;
use semver::Version;
use serde_json::{Map, Value, json};

/// Where a catalog image holds its catalog.
pub(crate) const DIRECTORY: &str = "/configs";
/// Label of a catalog image: where its catalog is.
const LABEL: &str = "operators.operatorframework.io.index.configs.v1";

/// A bundle in a catalog.
pub(crate) struct Entry {
    /// Complete reference of the bundle image.
    pub(crate) image: String,
    /// What is in it.
    pub(crate) contents: Contents,
}

/// `catalog/metallb-operator/catalog.yaml` and `catalog.Containerfile`, below `prefix`. The bundles may come in any order.
pub(crate) fn catalog(prefix: &str, entries: &[Entry]) -> anyhow::Result<Files> {
    let text = yaml::to_string_all(&documents(entries)?)?;
    // To OPM a comment before the first `---` is a document without a schema.
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(Files::from([
        (
            format!("{prefix}catalog/{PACKAGE}/catalog.yaml"),
            header("olm") + text,
        ),
        (format!("{prefix}catalog.Containerfile"), containerfile()),
    ]))
}

fn containerfile() -> String {
    header("olm")
        + "# The catalog image: the catalog alone. OLM serves it with an opm of its own (extractContent of the CatalogSource).\n"
        + &format!("FROM scratch AS catalog\nLABEL {LABEL}={DIRECTORY}\nCOPY catalog {DIRECTORY}\n")
}

/// The package, its channel, and each bundle.
pub(crate) fn documents(entries: &[Entry]) -> anyhow::Result<Vec<Value>> {
    let mut sorted = Vec::new();
    for entry in entries {
        let text = entry.contents.csv["spec"]["version"].as_str().unwrap_or_default();
        let version = Version::parse(text)
            .with_context(|| format!("{}: spec.version {text:?}", entry.contents.name()))?;
        let package = &entry.contents.annotations["operators.operatorframework.io.bundle.package.v1"];
        ensure!(
            package == PACKAGE,
            "{}: a bundle of package {package}",
            entry.contents.name()
        );
        sorted.push((version, entry));
    }
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (_, newest) = sorted.last().context("a catalog needs a bundle")?;
    let entries_of_channel: Vec<Value> = sorted.iter().map(|(_, entry)| step(&entry.contents)).collect();
    let mut all = vec![
        json!({
            "schema": "olm.package",
            "name": PACKAGE,
            "defaultChannel": CHANNEL,
            "description": format!("{DISPLAY_NAME}: {}", newest.contents.annotation("description")),
            "icon": {"base64data": icon(), "mediatype": ICON_TYPE},
        }),
        json!({
            "schema": "olm.channel",
            "package": PACKAGE,
            "name": CHANNEL,
            "entries": entries_of_channel,
        }),
    ];
    all.extend(sorted.iter().map(|(version, entry)| bundle(version, entry)));
    Ok(all)
}

/// What the channel says about a bundle: where upgrades to it may start.
fn step(contents: &Contents) -> Value {
    let mut step = json!({"name": contents.name()});
    if let Some(replaces) = contents.csv["spec"].get("replaces") {
        step["replaces"] = replaces.clone();
    }
    let range = contents.annotation("olm.skipRange");
    if !range.is_empty() {
        step["skipRange"] = range.into();
    }
    step
}

/// A bundle as `opm render` gives it, with the metadata that consoles and the package server show.
fn bundle(version: &Version, entry: &Entry) -> Value {
    let csv = &entry.contents.csv;
    let mut properties: Vec<Value> = entry
        .contents
        .owned()
        .iter()
        .map(|api| {
            let name = api["name"].as_str().unwrap_or_default();
            let group = name.split_once('.').map_or("", |(_, group)| group);
            let value = json!({"group": group, "kind": api["kind"], "version": api["version"]});
            json!({"type": "olm.gvk", "value": value})
        })
        .collect();
    properties.sort_by_key(|property| property["value"].to_string());
    properties.push(json!({
        "type": "olm.package",
        "value": {"packageName": PACKAGE, "version": version.to_string()},
    }));
    properties.push(json!({"type": "olm.csv.metadata", "value": metadata(csv)}));
    let mut related: Vec<Value> = list(&csv["spec"]["relatedImages"])
        .iter()
        .map(|image| json!({"name": image["name"], "image": image["image"]}))
        .collect();
    related.push(json!({"name": "", "image": entry.image}));
    related.sort_by_key(|image| image["image"].to_string());
    json!({
        "schema": "olm.bundle",
        "name": entry.contents.name(),
        "package": PACKAGE,
        "image": entry.image,
        "properties": properties,
        "relatedImages": related,
    })
}

/// The parts of a `ClusterServiceVersion` that a catalog repeats: all that is shown before the installation.
fn metadata(csv: &Value) -> Value {
    const OF_SPEC: [&str; 10] = [
        "description",
        "displayName",
        "installModes",
        "keywords",
        "links",
        "maintainers",
        "maturity",
        "minKubeVersion",
        "nativeAPIs",
        "provider",
    ];
    let mut all = Map::new();
    all.insert("annotations".into(), csv["metadata"]["annotations"].clone());
    all.insert("labels".into(), csv["metadata"]["labels"].clone());
    // Written even when there are none.
    all.insert("apiServiceDefinitions".into(), json!({}));
    let mut definitions = csv["spec"]["customresourcedefinitions"].clone();
    without_empty_lists(&mut definitions);
    all.insert("crdDescriptions".into(), definitions);
    for field in OF_SPEC {
        if let Some(value) = csv["spec"].get(field) {
            all.insert(field.into(), value.clone());
        }
    }
    Value::Object(all)
}

/// The catalog's schema leaves empty lists out.
fn without_empty_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| field.as_array().is_none_or(|list| !list.is_empty()));
            fields.values_mut().for_each(without_empty_lists);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_empty_lists),
        _ => {}
    }
}
