//! The API server's audit log: who asked for what, and whether they might.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Cluster, control_plane};

/// One request of one of our components, as far as rights go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    /// Namespace and name of the ServiceAccount, with a colon between.
    pub(super) account: String,
    /// get, list, watch, create, update, patch, delete ...
    pub(super) verb: String,
    /// Group; empty for the core group.
    pub(super) group: String,
    /// Resource, with its subresource after a slash.
    pub(super) resource: String,
    /// Namespace; empty for all or none.
    pub(super) namespace: String,
    /// Name; empty when it is not about one object.
    pub(super) name: String,
    /// A path that is no resource.
    pub(super) url: String,
    /// What was answered.
    pub(super) code: i64,
    /// `allow` or `forbid`.
    pub(super) decision: String,
    /// When it came in, as RFC 3339.
    pub(super) at: String,
}

impl Request {
    /// Whether it may have changed something.
    pub(super) fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && self.url.is_empty()
    }
}

/// Requests of `ServiceAccount`s in these namespaces, from all files of the log, oldest first.
pub(super) fn requests(cluster: &Cluster, namespaces: &[&str]) -> Result<Vec<Request>> {
    let log = control_plane::audit_log(cluster.plan());
    let dir = log.parent().context("the audit log's directory")?;
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("list {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("audit"))
        })
        .collect();
    // Old files have the time of their end in their names.
    files.sort_by_key(|path| (*path == log, path.clone()));
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        for line in text.lines() {
            // Most lines are of others.
            if !line.contains("system:serviceaccount:") {
                continue;
            }
            // The last line may be half written.
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            all.extend(request(&event, namespaces));
        }
    }
    Ok(all)
}

fn request(event: &Value, namespaces: &[&str]) -> Option<Request> {
    // A watch is there twice: when it begins to be answered and when it ends.
    if event["stage"] == "ResponseStarted" && event["verb"] != "watch" {
        return None;
    }
    let account = event["user"]["username"]
        .as_str()?
        .strip_prefix("system:serviceaccount:")?;
    let (namespace, _) = account.split_once(':')?;
    if !namespaces.contains(&namespace) {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let resource = text(&object["resource"]);
    let subresource = text(&object["subresource"]);
    Some(Request {
        account: account.to_owned(),
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        url: if resource.is_empty() {
            text(&event["requestURI"])
        } else {
            String::new()
        },
        resource: if subresource.is_empty() {
            resource
        } else {
            format!("{resource}/{subresource}")
        },
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_i64().unwrap_or(0),
        decision: text(&event["annotations"]["authorization.k8s.io/decision"]),
        at: text(&event["requestReceivedTimestamp"]),
    })
}
