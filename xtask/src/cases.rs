//! The admission cases, ready to be sent: whoever sends them needs no YAML and no kinds.

use anyhow::{Context as _, anyhow};
use metallb_admission::cases;
use metallb_api::{crd, yaml};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

/// Prints a JSON list of `{name, path, object, old, admitted, messageContains}`; `path` is the collection's on the API server.
pub(crate) fn print(repository: &Path, namespace: &str) -> anyhow::Result<()> {
    let plurals: BTreeMap<String, String> = crd::all()
        .into_iter()
        .map(|crd| (crd.spec.names.kind, crd.spec.names.plural))
        .collect();
    let directory = repository.join("crates/api/tests/admission");
    let list = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files = list
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot list {}", directory.display()))?;
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: Value = yaml::from_str(&text).with_context(|| path.display().to_string())?;
        let cases = cases::read(&file, namespace).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        for case in cases {
            all.push(request(&plurals, namespace, &case).with_context(|| path.display().to_string())?);
        }
    }
    println!("{}", Value::from(all));
    Ok(())
}

fn request(plurals: &BTreeMap<String, String>, namespace: &str, case: &cases::Case) -> anyhow::Result<Value> {
    let text = |key: &str| case.object[key].as_str().unwrap_or_default();
    let plural = plurals
        .get(text("kind"))
        .with_context(|| format!("case {}: no kind {:?} of ours", case.name, text("kind")))?;
    Ok(json!({
        "path": format!("/apis/{}/namespaces/{namespace}/{plural}", text("apiVersion")),
        "name": format!("{}: {}", text("kind"), case.name),
        "object": case.object,
        "old": case.old,
        "admitted": case.admitted,
        "messageContains": case.message_contains,
    }))
}
