//! How to repair what server-side apply alone does not: as JSON patches.
//!
//! An apply leaves fields that another manager owns and that are not rendered, and it is refused when ours and theirs do not
//! go together (an environment variable with `value` and `valueFrom`).

use crate::{drift, fields};
use metallb_api::names::field_managers;
use serde_json::{Map, Value, json};

/// Words with which the API server refuses to change what can never change.
const IMMUTABLE: [&str; 3] = ["immutable", "cannot change", "may not change"];

/// Whether all that the API server has against an object is that fields of it can never change. If there is anything else, the
/// object could not be made anew either.
pub(crate) fn only_immutable<'a>(causes: impl IntoIterator<Item = &'a str>) -> bool {
    let mut causes = causes.into_iter().peekable();
    causes.peek().is_some()
        && causes.all(|cause| {
            let cause = cause.to_lowercase();
            IMMUTABLE.iter().any(|word| cause.contains(word))
        })
}

/// Patch that removes what an apply has left although nobody else may set it. Empty when there is nothing to remove.
///
/// The ownership that a [`replacement`] brought goes as well: with it, a field that is rendered no longer would stay.
pub(crate) fn tidying(rendered: &Value, live: &Value) -> Vec<Value> {
    let mut pointers: Vec<String> = drift::differences(rendered, live)
        .into_iter()
        .filter_map(|difference| difference.extra)
        .collect();
    // Of a list the last first, so that the indices stay right.
    pointers.sort_by_cached_key(|pointer| std::cmp::Reverse(segments(pointer)));
    let managers = live["metadata"]["managedFields"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    // From the end, so that the indices stay right.
    for (i, manager) in managers.iter().enumerate().rev() {
        let of_replacement = manager["manager"] == field_managers::OPERATOR
            && manager["operation"] == "Update"
            && manager.get("subresource").is_none();
        if of_replacement {
            pointers.push(format!("/metadata/managedFields/{i}"));
        }
    }
    let removals = pointers
        .into_iter()
        .map(|path| json!({"op": "remove", "path": path}));
    guarded(removals.collect(), live)
}

/// A JSON pointer in an order that has the elements of a list in theirs.
fn segments(pointer: &str) -> Vec<(usize, String)> {
    pointer
        .split('/')
        .map(|segment| (segment.parse().unwrap_or_default(), segment.to_owned()))
        .collect()
}

/// Patch that makes all of the object ours but its metadata and what others added to lists and maps. Empty when that changes
/// nothing.
pub(crate) fn replacement(rendered: &Value, live: &Value) -> Vec<Value> {
    let kind = rendered["kind"].as_str().unwrap_or_default();
    let of_type = ["apiVersion", "kind", "metadata", "status"];
    let fields = rendered.as_object().into_iter().flatten();
    let mut changes = Vec::new();
    for (field, value) in fields.filter(|(field, _)| !of_type.contains(&field.as_str())) {
        let ours = merged(kind, field, value, &live[field], false);
        if ours != live[field] {
            // On a field that is there, it replaces.
            changes.push(json!({"op": "add", "path": format!("/{field}"), "value": ours}));
        }
    }
    guarded(changes, live)
}

/// With the version that was looked at: the API server refuses the patch when there is a newer one.
fn guarded(mut changes: Vec<Value>, live: &Value) -> Vec<Value> {
    let version = &live["metadata"]["resourceVersion"];
    if !changes.is_empty() && version.is_string() {
        changes.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    }
    changes
}

/// `whole`: what is not rendered is not kept, but for others' elements of lists.
fn merged(kind: &str, field: &str, rendered: &Value, live: &Value, whole: bool) -> Value {
    if fields::is_atomic(field) {
        return rendered.clone();
    }
    match (rendered, live) {
        (Value::Object(rendered), Value::Object(live)) => {
            let whole = whole || fields::is_union(field);
            let is_list = |field: &str| !fields::keys(kind, field).is_empty();
            let mut all: Map<String, Value> = live
                .iter()
                .filter(|(field, _)| !whole || is_list(field))
                .map(|(field, value)| (field.clone(), value.clone()))
                .collect();
            for (field, value) in rendered {
                let live = live.get(field).unwrap_or(&Value::Null);
                let ours = if whole && !is_list(field) {
                    value.clone()
                } else {
                    merged(kind, field, value, live, whole)
                };
                all.insert(field.clone(), ours);
            }
            Value::Object(all)
        }
        (Value::Array(rendered), Value::Array(live)) => {
            let keys = fields::keys(kind, field);
            if keys.is_empty() {
                return Value::from(rendered.clone());
            }
            let mut all = live.clone();
            for element in rendered {
                let name = fields::identity(keys, element);
                match all.iter_mut().find(|other| fields::identity(keys, other) == name) {
                    Some(other) => *other = merged(kind, "", element, other, true),
                    None => all.push(element.clone()),
                }
            }
            Value::Array(all)
        }
        _ => rendered.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon_set(containers: &Value, volumes: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"resourceVersion": "7", "labels": {"theirs": "x"}},
            "spec": {"template": {"spec": {"containers": containers, "volumes": volumes}}}})
    }

    #[test]
    fn our_elements_become_ours_and_those_of_others_stay() {
        let probe = |handler: &str| json!({handler: {"port": 1}, "periodSeconds": 5});
        let rendered = daemon_set(
            &json!([{"name": "speaker", "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "f"}}}],
                "livenessProbe": probe("httpGet")}]),
            &json!([{"name": "v", "secret": {"secretName": "s"}}]),
        );
        let live = daemon_set(
            &json!([{"name": "sidecar", "command": ["x"]}, {"name": "speaker", "terminationMessagePath": "/dev/x",
                "env": [{"name": "N", "value": "x"}, {"name": "THEIRS", "value": "y"}], "livenessProbe": probe("tcpSocket")}]),
            &json!([{"name": "theirs"}, {"name": "v", "emptyDir": {}}]),
        );
        let patch = replacement(&rendered, &live);
        assert_eq!(patch[0]["path"], "/spec");
        assert_eq!(
            patch[0]["value"]["template"]["spec"],
            json!({
                "containers": [{"name": "sidecar", "command": ["x"]}, {"name": "speaker",
                    "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "f"}}}, {"name": "THEIRS", "value": "y"}],
                    "livenessProbe": probe("httpGet")}],
                "volumes": [{"name": "theirs"}, {"name": "v", "secret": {"secretName": "s"}}],
            })
        );
        assert_eq!(
            patch[1..],
            [json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"})]
        );
        assert!(replacement(&live, &live).is_empty());
    }

    #[test]
    fn what_an_apply_leaves_is_removed() {
        let rendered = json!({"kind": "Deployment", "spec": {"template": {"spec": {"nodeSelector": {}}}}});
        let mut live = json!({"kind": "Deployment", "metadata": {"resourceVersion": "9", "managedFields": [
                {"manager": "metallb-operator", "operation": "Apply"}, {"manager": "kubectl-edit", "operation": "Update"},
                {"manager": "metallb-operator", "operation": "Update", "subresource": "status"}]},
            "spec": {"template": {"spec": {"priorityClassName": "x"}}}});
        let paths = |live: &Value| {
            let patch = tidying(&rendered, live);
            let paths = patch.iter().filter_map(|change| change["path"].as_str());
            paths.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            paths(&live),
            [
                "/spec/template/spec/priorityClassName",
                "/metadata/resourceVersion"
            ]
        );
        live["spec"]["template"]["spec"] =
            json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "ours", "command": ["x"]}]});
        let of_ours =
            json!({"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "ours"}]}}}});
        let patch = tidying(&of_ours, &live);
        let paths_of: Vec<_> = patch
            .iter()
            .filter_map(|change| change["path"].as_str())
            .collect();
        let containers = "/spec/template/spec/containers";
        assert_eq!(
            paths_of[..3],
            [
                format!("{containers}/2/command"),
                format!("{containers}/1"),
                format!("{containers}/0")
            ]
        );
        live["metadata"]["managedFields"][1]["manager"] = "metallb-operator".into();
        live["spec"] = json!({});
        assert_eq!(
            paths(&live),
            ["/metadata/managedFields/1", "/metadata/resourceVersion"]
        );
    }

    #[test]
    fn an_object_is_made_anew_only_when_nothing_else_is_against_it() {
        let role = "Invalid value: {}: cannot change roleRef";
        let selector = "Invalid value: {}: field is immutable";
        assert!(only_immutable([role, selector]));
        assert!(!only_immutable([selector, "must be greater than zero"]));
        assert!(!only_immutable([]));
    }
}
