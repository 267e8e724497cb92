//! Our definitions beside MetalLB's own, read from its Go module at test time: every field, type, default and rule that is
//! there is here, and each difference stands in `upstream/differences.yaml` with its reason.

use anyhow::{Context as _, ensure};
use metallb_api::{crd, yaml};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

mod module;

/// Differences of one version of a kind, and why they are there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    /// `Kind/version`, or `*` for all.
    of: Vec<String>,
    reason: String,
    differences: Vec<String>,
}

#[test]
fn every_difference_from_upstream_is_known_and_explained() -> anyhow::Result<()> {
    let upstream = definitions(&module::directory()?.join("config/crd/bases"))?;
    let ours: BTreeMap<String, Value> = crd::all()
        .iter()
        .map(|crd| Ok((crd.spec.names.kind.clone(), serde_json::to_value(crd)?)))
        .collect::<anyhow::Result<_>>()?;

    let mut found = BTreeSet::new();
    for (kind, theirs) in &upstream {
        let ours = ours.get(kind).with_context(|| format!("{kind} is not ours"))?;
        found.extend(compare(kind, theirs, ours));
    }
    ensure!(
        upstream.len() == 9,
        "MetalLB has other kinds: {:?}",
        upstream.keys()
    );

    let table: Vec<Accepted> = yaml::from_str(include_str!("upstream/differences.yaml"))?;
    let mut accepted = BTreeSet::new();
    for entry in &table {
        ensure!(
            !entry.reason.trim().is_empty(),
            "no reason: {:?}",
            entry.differences
        );
        for difference in &entry.differences {
            let before = accepted.len();
            for of in &entry.of {
                let all = found
                    .iter()
                    .filter(|(kind, text)| (of == "*" || of == kind) && text == difference);
                let matched: Vec<_> = all.cloned().collect();
                ensure!(
                    !matched.is_empty(),
                    "{of}: listed, but no difference any more: {difference}"
                );
                accepted.extend(matched);
            }
            ensure!(accepted.len() > before, "listed twice: {difference}");
        }
    }
    let unlisted: Vec<String> = found
        .difference(&accepted)
        .map(|(kind, text)| format!("{kind}: {text}"))
        .collect();
    ensure!(
        unlisted.is_empty(),
        "differences that are not in differences.yaml:\n{}",
        unlisted.join("\n")
    );
    Ok(())
}

fn definitions(directory: &Path) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        for definition in yaml::from_str_all::<Value>(&fs::read_to_string(entry?.path())?)? {
            let kind = definition["spec"]["names"]["kind"]
                .as_str()
                .context("a definition without a kind")?;
            all.insert(kind.to_owned(), definition);
        }
    }
    Ok(all)
}

/// `Kind/version` and what differs there.
fn compare(kind: &str, theirs: &Value, ours: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for key in ["group", "names", "scope", "conversion"] {
        if theirs["spec"][key] != ours["spec"][key] {
            let difference = format!("spec.{key}: {} -> {}", theirs["spec"][key], ours["spec"][key]);
            found.push((kind.to_owned(), difference));
        }
    }
    let versions = |crd: &Value| -> BTreeMap<String, Value> {
        let all = crd["spec"]["versions"].as_array().into_iter().flatten();
        all.map(|v| (v["name"].as_str().unwrap_or_default().to_owned(), v.clone()))
            .collect()
    };
    let (theirs, ours) = (versions(theirs), versions(ours));
    for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
        found.push((kind.to_owned(), format!("version {name} added")));
    }
    for (name, theirs) in &theirs {
        let mut differences = Vec::new();
        match ours.get(name) {
            None => differences.push("not served".to_owned()),
            Some(ours) => compare_versions(theirs, ours, &mut differences),
        }
        found.extend(
            differences
                .into_iter()
                .map(|text| (format!("{kind}/{name}"), text)),
        );
    }
    found
}

fn compare_versions(theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    for key in ["served", "storage", "deprecated", "subresources"] {
        if theirs[key] != ours[key] {
            found.push(format!("{key}: {} -> {}", theirs[key], ours[key]));
        }
    }
    // The text is our own; that there is one is not.
    if theirs["deprecationWarning"].is_null() != ours["deprecationWarning"].is_null() {
        found.push("deprecationWarning".into());
    }
    let columns = |version: &Value| -> Vec<Value> {
        let all = version["additionalPrinterColumns"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.into_iter()
            .map(|mut column| {
                column.as_object_mut().map(|fields| fields.remove("description"));
                column
            })
            .collect()
    };
    let (their_columns, our_columns) = (columns(theirs), columns(ours));
    found.extend(
        their_columns
            .iter()
            .filter(|c| !our_columns.contains(c))
            .map(|c| format!("column gone: {c}")),
    );
    found.extend(
        our_columns
            .iter()
            .filter(|c| !their_columns.contains(c))
            .map(|c| format!("column added: {c}")),
    );
    let kept: Vec<_> = our_columns.iter().filter(|c| their_columns.contains(c)).collect();
    if kept != their_columns.iter().collect::<Vec<_>>() {
        found.push("columns in another order".into());
    }
    let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    compare_schemas("", &schema(theirs), &schema(ours), found);
}

fn compare_schemas(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    let at = if path.is_empty() { "." } else { path };
    let keys = |schema: &Value| {
        schema
            .as_object()
            .into_iter()
            .flat_map(|s| s.keys().cloned())
            .collect::<BTreeSet<_>>()
    };
    for key in keys(theirs).union(&keys(ours)) {
        let (old, new) = (&theirs[key], &ours[key]);
        match key.as_str() {
            // Told in our own words; that every field has one is another test's.
            "description" => {}
            "properties" => compare_fields(path, old, new, found),
            "items" => compare_schemas(&format!("{path}[]"), old, new, found),
            "additionalProperties" if old.is_object() && new.is_object() => {
                compare_schemas(&format!("{path}{{}}"), old, new, found);
            }
            // Which rules there are is tested by what they admit; that there are some where MetalLB has some, here.
            "x-kubernetes-validations" => match (old.is_null(), new.is_null()) {
                (true, false) => found.push(format!("{at}: rules added")),
                (false, true) => found.push(format!("{at}: rules gone")),
                _ => {}
            },
            "required" => {
                let (old, new) = (words(old), words(new));
                found.extend(
                    old.difference(&new)
                        .map(|name| format!("{at}: {name} is no longer required")),
                );
                found.extend(
                    new.difference(&old)
                        .map(|name| format!("{at}: {name} is required")),
                );
            }
            "enum" if words(old) == words(new) => {}
            _ if as_number(old) == as_number(new) => {}
            _ => found.push(format!("{at}: {key}: {old} -> {new}")),
        }
    }
}

fn compare_fields(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    let none = serde_json::Map::new();
    let (theirs, ours) = (
        theirs.as_object().unwrap_or(&none),
        ours.as_object().unwrap_or(&none),
    );
    for (name, schema) in theirs {
        match ours.get(name) {
            None => found.push(format!("{path}.{name}: gone")),
            Some(ours) => compare_schemas(&format!("{path}.{name}"), schema, ours, found),
        }
    }
    found.extend(
        ours.keys()
            .filter(|name| !theirs.contains_key(*name))
            .map(|name| format!("{path}.{name}: added")),
    );
}

fn words(list: &Value) -> BTreeSet<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// 1 and 1.0 are the same bound.
fn as_number(value: &Value) -> Value {
    value.as_f64().map_or_else(|| value.clone(), Value::from)
}
