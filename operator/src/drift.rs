//! Whether an object in the cluster still is what was rendered.
//!
//! Every field that is rendered must be there with its value, and what it does (`spec`, `data`) is ours as a whole: what others
//! added there is drift, but for the defaults of the API server ([`fields`]). Metadata that others added (the annotation of
//! `kubectl rollout restart`, a team's label) is theirs. A field that is rendered no longer is found by the [`DIGEST`]
//! annotation, which changes with the rendering.

use crate::fields;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Annotation with a digest of the rendering that was applied last.
pub(crate) const DIGEST: &str = "metallb.io/rendered-digest";

/// A field that is not as rendered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Path in the object, such as `spec.template.spec.containers[speaker].image`.
    pub(crate) path: String,
    /// What the cluster has there; `Null` when the field is missing.
    pub(crate) live: Value,
    /// Where the field is, as a JSON pointer, when it is not rendered at all: an apply leaves it if somebody else owns it.
    pub(crate) extra: Option<String>,
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

/// The digest in a rendered object.
pub(crate) fn digest(body: &Value) -> &str {
    body["metadata"]["annotations"][DIGEST]
        .as_str()
        .unwrap_or_default()
}

/// All fields of `rendered` that `live` lacks or has otherwise, and what it has and must not have.
pub(crate) fn differences(rendered: &Value, live: &Value) -> Vec<Difference> {
    let mut comparison = Comparison {
        kind: rendered["kind"].as_str().unwrap_or_default(),
        found: Vec::new(),
    };
    comparison.compare(&Place::default(), rendered, live);
    comparison.found
}

/// Where a value is.
#[derive(Default)]
struct Place {
    /// For people.
    path: String,
    /// For a patch.
    pointer: String,
    /// Name of the field; empty for an element of a list.
    field: String,
    /// Whether it is part of a value that is ours as a whole.
    whole: bool,
}

impl Place {
    fn member(&self, field: &str) -> Place {
        let dot = if self.path.is_empty() { "" } else { "." };
        let begins = self.path.is_empty() && fields::is_ours(field);
        Place {
            path: format!("{}{dot}{field}", self.path),
            pointer: format!("{}/{}", self.pointer, field.replace('~', "~0").replace('/', "~1")),
            field: field.to_owned(),
            whole: (self.whole || begins || fields::is_atomic(field)) && field != "metadata",
        }
    }

    fn element(&self, name: &str, index: usize, whole: bool) -> Place {
        Place {
            path: format!("{}[{name}]", self.path),
            pointer: format!("{}/{index}", self.pointer),
            field: String::new(),
            whole,
        }
    }
}

struct Comparison<'a> {
    kind: &'a str,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn compare(&mut self, place: &Place, rendered: &Value, live: &Value) {
        match (rendered, live) {
            (Value::Object(rendered), Value::Object(live)) => {
                for (field, value) in rendered {
                    let live = live.get(field).unwrap_or(&Value::Null);
                    self.compare(&place.member(field), value, live);
                }
                for (field, value) in live {
                    if !rendered.contains_key(field) {
                        self.extra(place, field, value);
                    }
                }
            }
            (Value::Array(rendered), Value::Array(live)) => self.lists(place, rendered, live),
            // The API server drops empty maps and lists.
            (Value::Object(rendered), Value::Null) if rendered.is_empty() => {}
            (Value::Array(rendered), Value::Null) if rendered.is_empty() => {}
            (rendered, live) if rendered == live => {}
            _ => self.differs(place, live),
        }
    }

    fn lists(&mut self, place: &Place, rendered: &[Value], live: &[Value]) {
        let keys = fields::keys(self.kind, &place.field);
        if keys.is_empty() {
            if rendered.len() != live.len() {
                return self.differs(place, &Value::Array(live.to_vec()));
            }
            for (i, (rendered, live)) in rendered.iter().zip(live).enumerate() {
                self.compare(&place.element(&i.to_string(), i, true), rendered, live);
            }
            return;
        }
        let mut names = BTreeSet::new();
        for element in rendered {
            let name = fields::identity(keys, element);
            let other = live
                .iter()
                .enumerate()
                .find(|(_, other)| fields::identity(keys, other) == name);
            let (index, other) = other.unwrap_or((0, &Value::Null));
            let element_place = place.element(&name.join("/"), index, place.whole);
            self.compare(&element_place, element, other);
            names.insert(name);
        }
        for (index, element) in live.iter().enumerate().filter(|_| place.whole) {
            let name = fields::identity(keys, element);
            if !names.contains(&name) {
                self.added(place.element(&name.join("/"), index, true), element);
            }
        }
    }

    /// A field that is not rendered.
    fn extra(&mut self, of: &Place, field: &str, value: &Value) {
        let undone = of.whole && field != "metadata" && !fields::is_default(field, value);
        if undone || fields::is_reserved(self.kind, &of.path, field, value) {
            self.added(of.member(field), value);
        }
    }

    fn added(&mut self, place: Place, live: &Value) {
        self.found.push(Difference {
            path: place.path,
            live: live.clone(),
            extra: Some(place.pointer),
        });
    }

    fn differs(&mut self, place: &Place, live: &Value) {
        self.found.push(Difference {
            path: place.path.clone(),
            live: live.clone(),
            extra: None,
        });
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
    fn metadata_that_others_added_is_theirs() {
        let rendered = json!({"kind": "DaemonSet", "metadata": {"labels": {"app": "metallb"}}, "spec": {"template": {
            "metadata": {"labels": {"app": "metallb"}}, "spec": {"containers": [{"name": "speaker"}], "volumes": []}}}});
        let mut live = json!({"kind": "DaemonSet", "metadata": {"uid": "u", "labels": {"app": "metallb", "team": "net"}}, "spec": {"template": {
            "metadata": {"labels": {"app": "metallb", "team": "net"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
            "spec": {"containers": [{"name": "speaker"}]}}}});
        assert_eq!(paths(&rendered, &live), Vec::<String>::new());
        live["metadata"]["labels"] = json!({"team": "net"});
        assert_eq!(paths(&rendered, &live), ["metadata.labels.app"]);
        let account = json!({"kind": "ServiceAccount", "imagePullSecrets": [{"name": "ours"}]});
        let live = json!({"kind": "ServiceAccount", "imagePullSecrets": [{"name": "of-the-registry"}, {"name": "ours"}], "secrets": [{"name": "token"}]});
        assert_eq!(paths(&account, &live), Vec::<String>::new());
    }

    #[test]
    fn what_was_changed_is_named() {
        let rendered = json!({"kind": "DaemonSet", "spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
            "rules": [{"verbs": ["get"]}]});
        let cases = [
            (
                json!({"kind": "DaemonSet", "spec": {"replicas": 2, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.replicas",
            ),
            (
                json!({"kind": "DaemonSet", "spec": {"replicas": 1, "containers": [{"name": "c", "image": "b", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.containers[c].image",
            ),
            (
                json!({"kind": "DaemonSet", "spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x", "y"]}]},
                "rules": [{"verbs": ["get"]}]}),
                "spec.containers[c].args",
            ),
            (
                json!({"kind": "DaemonSet", "spec": {"replicas": 1, "containers": []},
                "rules": [{"verbs": ["get"]}]}),
                "spec.containers[c]",
            ),
            (
                json!({"kind": "DaemonSet", "spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
                "rules": [{"verbs": ["get"]}, {"verbs": ["delete"]}]}),
                "rules",
            ),
            (
                json!({"kind": "DaemonSet", "spec": {"replicas": 1, "containers": [{"name": "c", "image": "a", "args": ["x"]}]},
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

    #[test]
    fn what_was_added_to_a_whole_value_is_drift() {
        let cases = [
            (
                json!({"kind": "DaemonSet", "spec": {"template": {"spec": {"nodeSelector": {"os": "linux"}}}}}),
                json!({"spec": {"template": {"spec": {"nodeSelector": {"os": "linux", "no/where": "x"}}}}}),
                "spec.template.spec.nodeSelector.no/where",
            ),
            (
                json!({"kind": "Service", "spec": {"selector": {"app": "metallb"}}}),
                json!({"spec": {"selector": {"app": "metallb", "x": "y"}, "clusterIP": "None"}}),
                "spec.selector.x",
            ),
            (
                json!({"kind": "ClusterRole", "rules": [{"verbs": ["get"], "resources": ["pods"]}]}),
                json!({"rules": [{"verbs": ["get"], "resources": ["pods"], "resourceNames": ["none"]}]}),
                "rules[0].resourceNames",
            ),
            (
                json!({"kind": "RoleBinding", "subjects": [{"kind": "ServiceAccount", "name": "speaker"}]}),
                json!({"subjects": [{"kind": "ServiceAccount", "name": "speaker", "apiGroup": "", "namespace": "other"}]}),
                "subjects[0].namespace",
            ),
            (
                json!({"kind": "NetworkPolicy", "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "egress": [{"ports": [{"port": 1}]}]}}),
                json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}, "egress": [{"ports": [{"port": 1, "protocol": "TCP", "endPort": 2}]}]}}),
                "spec.egress[0].ports[0].endPort",
            ),
            (
                json!({"kind": "NetworkPolicy", "spec": {"egress": [{"ports": [{"port": 1}]}]}}),
                json!({"spec": {"egress": [{"ports": [{"port": 1}], "to": [{"podSelector": {}}]}]}}),
                "spec.egress[0].to",
            ),
            (
                json!({"kind": "NetworkPolicy", "spec": {"egress": [{"ports": [{"port": 1}]}]}}),
                json!({"spec": {"egress": [{"ports": [{"port": 2}]}]}}),
                "spec.egress[0].ports[0].port",
            ),
            (
                json!({"kind": "ServiceMonitor", "spec": {"namespaceSelector": {"matchNames": ["a"]}}}),
                json!({"spec": {"namespaceSelector": {"matchNames": ["a"], "any": true}}}),
                "spec.namespaceSelector.any",
            ),
        ];
        for (rendered, mut live, path) in cases {
            live["kind"] = rendered["kind"].clone();
            assert_eq!(paths(&rendered, &live), [path], "{live}");
            let found = differences(&rendered, &live);
            if let Some(pointer) = &found[0].extra {
                assert_eq!(live.pointer(pointer), Some(&found[0].live));
            }
        }
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_drift() {
        let rendered = json!({"kind": "NetworkPolicy", "subjects": [{"kind": "ServiceAccount", "name": "a"}],
            "roleRef": {"kind": "Role", "name": "r"}, "spec": {"ingress": [{"ports": [{"port": 7}]}]}});
        let live = json!({"kind": "NetworkPolicy", "subjects": [{"kind": "ServiceAccount", "name": "a", "apiGroup": ""}],
            "roleRef": {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
            "spec": {"ingress": [{"ports": [{"port": 7, "protocol": "TCP"}]}]}});
        assert_eq!(paths(&rendered, &live), Vec::<String>::new());
        let reference = |field: Value| {
            json!({"kind": "DaemonSet", "spec": {"containers": [{"name": "c",
                "env": [{"name": "N", "valueFrom": {"fieldRef": field}}]}]}})
        };
        assert_eq!(
            paths(
                &reference(json!({"fieldPath": "spec.nodeName"})),
                &reference(json!({"fieldPath": "spec.nodeName", "apiVersion": "v1"}))
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_was_added_to_what_an_operand_does_is_drift() {
        let rendered = json!({"kind": "Deployment", "spec": {"template": {"spec": {"containers": [
            {"name": "ours", "env": [{"name": "X"}], "livenessProbe": {"httpGet": {"path": "/", "port": 1}}}]}}}});
        let live = json!({"kind": "Deployment", "spec": {"paused": true, "template": {"spec": {"affinity": {"nodeAffinity": {"x": 1}},
            "containers": [{"name": "sidecar", "command": ["x"]}, {"name": "ours", "command": ["sleep"],
                "env": [{"name": "GOGC", "value": "1"}, {"name": "X"}], "resources": {"limits": {"memory": "8Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 1, "scheme": "HTTPS"}}}]}}}});
        let found = differences(&rendered, &live);
        let mut extra: Vec<_> = found.iter().filter_map(|d| d.extra.as_deref()).collect();
        extra.sort_unstable();
        let container = "/spec/template/spec/containers/1";
        assert_eq!(
            extra,
            [
                "/spec/paused".to_owned(),
                "/spec/template/spec/affinity".to_owned(),
                "/spec/template/spec/containers/0".to_owned(),
                format!("{container}/command"),
                format!("{container}/env/0"),
                format!("{container}/livenessProbe/httpGet/scheme"),
                format!("{container}/resources"),
            ]
        );
        assert_eq!(found.len(), extra.len());
        let data = json!({"kind": "ConfigMap", "data": {"ours": "x"}});
        let live =
            json!({"kind": "ConfigMap", "data": {"ours": "x", "theirs": "y"}, "binaryData": {"z": "eA=="}});
        assert_eq!(paths(&data, &live), ["data.theirs", "binaryData"]);
    }
}
