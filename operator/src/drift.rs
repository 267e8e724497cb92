//! Whether an object in the cluster still is what was rendered.
//!
//! Every field that is rendered must be there with its value. What others added (defaults of the API server, a sidecar of an
//! injector, the annotation of `kubectl rollout restart`) is theirs, as in server-side apply. A field that is rendered no
//! longer is found by the [`DIGEST`] annotation, which changes with the rendering.

use serde_json::{Map, Value};

/// Annotation with a digest of the rendering that was applied last.
pub(crate) const DIGEST: &str = "metallb.io/rendered-digest";

/// Lists whose elements have a name: the API server merges them by it. All other lists are one value.
const KEYED_LISTS: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("ownerReferences", "uid"),
    ("imagePullSecrets", "name"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// A field that is not as rendered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Path in the object, such as `spec.template.spec.containers[speaker].image`.
    pub(crate) path: String,
    /// What the cluster has there; `Null` when the field is missing.
    pub(crate) live: Value,
}

/// The rendered object with its digest.
pub(crate) fn with_digest(mut rendered: Value) -> Value {
    let digest = format!("{:016x}", fnv1a(rendered.to_string().as_bytes()));
    let annotations = rendered
        .as_object_mut()
        .and_then(|object| {
            object
                .entry("metadata")
                .or_insert_with(|| Value::Object(Map::new()))
                .as_object_mut()
        })
        .map(|metadata| {
            metadata
                .entry("annotations")
                .or_insert_with(|| Value::Object(Map::new()))
        });
    if let Some(Value::Object(annotations)) = annotations {
        annotations.insert(DIGEST.into(), digest.into());
    }
    rendered
}

/// All fields of `rendered` that `live` lacks or has otherwise.
pub(crate) fn differences(rendered: &Value, live: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", rendered, live, &mut found);
    found
}

fn compare(path: &str, rendered: &Value, live: &Value, found: &mut Vec<Difference>) {
    let differs = |found: &mut Vec<Difference>| {
        found.push(Difference {
            path: path.to_owned(),
            live: live.clone(),
        });
    };
    match (rendered, live) {
        (Value::Object(rendered), Value::Object(live)) => {
            for (field, value) in rendered {
                let path = if path.is_empty() {
                    field.clone()
                } else {
                    format!("{path}.{field}")
                };
                compare(&path, value, live.get(field).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(rendered), Value::Array(live)) => {
            let field = path.rsplit('.').next().unwrap_or(path);
            if let Some((_, key)) = KEYED_LISTS.iter().find(|(list, _)| *list == field) {
                for element in rendered {
                    let name = &element[key];
                    let path = format!(
                        "{path}[{}]",
                        name.as_str().map_or_else(|| name.to_string(), Into::into)
                    );
                    let other = live
                        .iter()
                        .find(|other| other[key] == *name)
                        .unwrap_or(&Value::Null);
                    compare(&path, element, other, found);
                }
            } else if rendered.len() == live.len() {
                for (i, (rendered, live)) in rendered.iter().zip(live).enumerate() {
                    compare(&format!("{path}[{i}]"), rendered, live, found);
                }
            } else {
                differs(found);
            }
        }
        // The API server drops empty maps and lists.
        (Value::Object(rendered), Value::Null) if rendered.is_empty() => {}
        (Value::Array(rendered), Value::Null) if rendered.is_empty() => {}
        (rendered, live) if rendered == live => {}
        _ => differs(found),
    }
}

/// FNV-1a, 64 bits: tells renderings apart, protects against nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(rendered: &Value, live: &Value) -> Vec<String> {
        differences(rendered, live).into_iter().map(|d| d.path).collect()
    }

    #[test]
    fn what_others_added_is_theirs() {
        let rendered = json!({"metadata": {"labels": {"app": "metallb"}}, "spec": {"template": {"spec": {
            "containers": [{"name": "speaker", "image": "a", "env": [{"name": "X", "value": "1"}]}], "volumes": []}}}});
        let live = json!({"metadata": {"uid": "u", "labels": {"app": "metallb", "team": "net"}}, "spec": {"template": {
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
            "spec": {"dnsPolicy": "Default", "containers": [
                {"name": "injected", "image": "proxy"},
                {"name": "speaker", "image": "a", "env": [{"name": "Y"}, {"name": "X", "value": "1"}]}]}}}});
        assert_eq!(paths(&rendered, &live), Vec::<String>::new());
    }

    #[test]
    fn what_was_changed_is_named() {
        let rendered = json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
            "rules": [{"verbs": ["get"]}]});
        let cases = [
            (
                json!({"spec": {"replicas": 2, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.replicas",
            ),
            (
                json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "b", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.containers[c].image",
            ),
            (
                json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x", "y"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.containers[c].args",
            ),
            (
                json!({"spec": {"replicas": 1, "containers": [{"name": "d", "image": "a", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.containers[c]",
            ),
            (
                json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}, {"verbs": ["delete"]}]}),
                "rules",
            ),
            (
                json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
                "rules": [{"verbs": ["list"]}]}),
                "rules[0].verbs[0]",
            ),
        ];
        for (live, path) in cases {
            assert_eq!(paths(&rendered, &live), [path], "{live}");
        }
    }

    #[test]
    fn the_digest_follows_the_rendering_and_nothing_else() {
        let digest = |value: Value| with_digest(value)["metadata"]["annotations"][DIGEST].clone();
        assert_eq!(digest(json!({"a": 1})), digest(json!({"a": 1})));
        assert_ne!(digest(json!({"a": 1})), digest(json!({"a": 2})));
        let once = with_digest(json!({"metadata": {"annotations": {"mine": "x"}}}));
        assert_eq!(once["metadata"]["annotations"]["mine"], "x");
    }
}
