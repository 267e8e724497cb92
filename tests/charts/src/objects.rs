//! Comparing what the chart renders with the plain manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use metallb_api::yaml;
use serde_json::Value;

/// The objects of `config/manifests/metallb-native.yaml`.
///
/// # Errors
/// It can't be read.
pub fn native(root: &Path) -> Result<Vec<Value>> {
    let file = root.join("config/manifests/metallb-native.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    yaml::from_str_all(&text).with_context(|| format!("{}", file.display()))
}

/// Objects by kind and name, in order.
///
/// # Panics
/// Two objects of one kind have one name.
pub fn by_id(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for object in objects {
        let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let id = format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"]));
        let before = all.insert(id.clone(), object);
        assert!(before.is_none(), "two objects are called {id}");
    }
    all
}

/// An object with the same meaning in the form that is compared: no labels of objects and pods, what the API server would set
/// anyway left out, lists of named things in the order of their names.
pub fn normalised(mut object: Value) -> Value {
    strip(&mut object);
    object
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Labels differ by design; selectors hold nothing else.
            for key in ["labels", "matchLabels"] {
                fields.remove(key);
            }
            // The API server's default, written out by the chart because it is a value.
            if fields.get("successThreshold").is_some_and(|v| v == 1) {
                fields.remove("successThreshold");
            }
            for (_, field) in fields.iter_mut() {
                strip(field);
            }
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                strip(item);
            }
            if items.iter().all(|item| item["name"].is_string()) {
                items.sort_by_key(|item| item["name"].to_string());
            }
        }
        _ => {}
    }
}
