//! Samples are what people start from: each says what it does, and an API server admits it and keeps all of it.

use crate::bundle::{self, WRITTEN_BY_COMPONENTS};
use anyhow::Context as _;
use metallb_admission::ApiServer;
use metallb_api::{crd, names::objects, yaml};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// Top-level keys of the configuration in the ConfigMap of old.
const LEGACY_KEYS: [&str; 4] = ["peers", "address-pools", "bgp-communities", "bfd-profiles"];

/// What is wrong with the samples in a directory, and with the bundle's examples; one sentence each.
pub(crate) fn problems(directory: &Path) -> anyhow::Result<Vec<String>> {
    let definitions: Vec<Value> = crd::all()
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    let server = ApiServer::new(&definitions);
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = format!(
            "config/samples/{}",
            path.file_name().unwrap_or_default().display()
        );
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        if !text.starts_with("# ") {
            found.push(format!("{name} does not say what it does"));
        }
        for object in yaml::from_str_all::<Value>(&text).with_context(|| name.clone())? {
            seen.insert(object["kind"].as_str().unwrap_or_default().to_owned());
            found.extend(
                judge(&server, &object)
                    .into_iter()
                    .map(|problem| format!("{name}: {problem}")),
            );
        }
    }
    for (_, kind) in server.kinds() {
        if !seen.contains(kind) && !WRITTEN_BY_COMPONENTS.contains(&kind) {
            found.push(format!("config/samples has none of {kind}"));
        }
    }
    for example in bundle::examples() {
        let problems = judge(&server, &example);
        found.extend(
            problems
                .into_iter()
                .map(|problem| format!("example of the bundle: {problem}")),
        );
    }
    Ok(found)
}

fn judge(server: &ApiServer, object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    match (object["apiVersion"].as_str(), kind) {
        (Some("v1"), "Service") if object["spec"]["type"] == "LoadBalancer" => Vec::new(),
        (Some("v1"), "Service") => vec!["a Service of another type than LoadBalancer".into()],
        (Some("v1"), "Secret") => Vec::new(),
        (Some("v1"), "ConfigMap") => legacy(object),
        _ => match server.create(object) {
            Err(refused) => refused
                .0
                .into_iter()
                .map(|problem| format!("{kind}: {problem}"))
                .collect(),
            // An empty spec of a kind that has none is no loss.
            Ok(stored) if WRITTEN_BY_COMPONENTS.contains(&kind) => ["metadata", "status"]
                .iter()
                .flat_map(|part| lost(&format!("{kind}.{part}"), &object[part], &stored[part]))
                .collect(),
            Ok(stored) => lost(kind, object, &stored),
        },
    }
}

/// The text in the ConfigMap of old is YAML with keys that are read.
fn legacy(object: &Value) -> Vec<String> {
    if object["metadata"]["name"] != objects::LEGACY_CONFIG_MAP {
        return vec!["a ConfigMap that nobody reads".into()];
    }
    let text = object["data"][objects::LEGACY_CONFIG_KEY]
        .as_str()
        .unwrap_or_default();
    match yaml::from_str::<Value>(text) {
        Err(error) => vec![format!("data.config: {error}")],
        Ok(config) => config
            .as_object()
            .map(|keys| {
                keys.keys()
                    .filter(|key| !LEGACY_KEYS.contains(&key.as_str()))
                    .collect::<Vec<_>>()
            })
            .map_or_else(
                || vec!["data.config is no mapping".into()],
                |unknown| {
                    unknown
                        .iter()
                        .map(|key| format!("data.config: {key} is read by nobody"))
                        .collect()
                },
            ),
    }
}

/// Fields that an API server would drop because no schema knows them.
fn lost(path: &str, written: &Value, kept: &Value) -> Vec<String> {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => written
            .iter()
            .flat_map(|(field, value)| {
                lost(
                    &format!("{path}.{field}"),
                    value,
                    kept.get(field).unwrap_or(&Value::Null),
                )
            })
            .collect(),
        (Value::Array(written), Value::Array(kept)) if written.len() == kept.len() => written
            .iter()
            .zip(kept)
            .enumerate()
            .flat_map(|(i, (written, kept))| lost(&format!("{path}[{i}]"), written, kept))
            .collect(),
        _ if written == kept => Vec::new(),
        _ => vec![format!("{path} would be dropped: there is no such field")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sample_with_a_mistake_is_found() {
        let definitions: Vec<Value> = crd::all()
            .iter()
            .map(|crd| serde_json::to_value(crd).unwrap())
            .collect();
        let server = ApiServer::new(&definitions);
        for (object, problem) in [
            (
                json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "spec": {"addresses": ["192.0.2.1"]}}),
                "each entry of addresses must be",
            ),
            (
                json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
                    "spec": {"addresses": ["192.0.2.0/24"], "serviceAllocation": {"namespace": ["a"]}}}),
                "IPAddressPool.spec.serviceAllocation.namespace would be dropped",
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
                "no kind \"Deployment\"",
            ),
            (
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"config": "pools: []"}}),
                "pools is read by nobody",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Service", "spec": {}}),
                "another type than LoadBalancer",
            ),
        ] {
            let found = judge(&server, &object).join("; ");
            assert!(found.contains(problem), "{found}");
        }
    }
}
