//! What Kubernetes says about the fields that are rendered: which lists are merged by a key, which values are replaced as a
//! whole, which fields the API server fills in, and which ones nobody else may set.

use serde_json::{Map, Value};

const WORKLOADS: [&str; 2] = ["Deployment", "DaemonSet"];
const POD: &str = "spec.template.spec";

/// Values that server-side apply replaces as a whole, wherever they are: what somebody added to one goes with the next apply.
const ATOMIC: [&str; 10] = [
    "nodeSelector",
    "selector",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "roleRef",
    "fieldRef",
    "resourceFieldRef",
    "secretKeyRef",
    "configMapKeyRef",
];

/// What the API server fills in inside of values that are replaced as a whole.
const DEFAULTS: [(&str, &str); 6] = [
    ("apiGroup", ""),
    ("apiGroup", "rbac.authorization.k8s.io"),
    ("apiVersion", "v1"),
    ("protocol", "TCP"),
    ("operator", "Equal"),
    ("action", "replace"),
];

/// Values of which only one member may be set: two managers' halves together are refused.
const UNIONS: [&str; 4] = ["strategy", "updateStrategy", "livenessProbe", "readinessProbe"];

/// Fields that name an element of a list; none when the list is one value.
pub(crate) fn keys(kind: &str, list: &str) -> &'static [&'static str] {
    let workload = WORKLOADS.contains(&kind);
    match list {
        "ownerReferences" => &["uid"],
        "groups" if kind == "PrometheusRule" => &["name"],
        "ports" if kind == "Service" => &["port", "protocol"],
        "ports" if workload => &["containerPort", "protocol"],
        "imagePullSecrets" if workload || kind == "ServiceAccount" => &["name"],
        "containers" | "initContainers" | "env" | "volumes" if workload => &["name"],
        "volumeMounts" if workload => &["mountPath"],
        "topologySpreadConstraints" if workload => &["topologyKey", "whenUnsatisfiable"],
        _ => &[],
    }
}

/// What tells an element of a list from the others.
pub(crate) fn identity(keys: &[&str], element: &Value) -> Vec<String> {
    let text = |key: &&str| match &element[*key] {
        Value::Null if *key == "protocol" => "TCP".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    keys.iter().map(text).collect()
}

/// Whether the field of this name is replaced as a whole.
pub(crate) fn is_atomic(field: &str) -> bool {
    ATOMIC.contains(&field)
}

/// Whether the field of this name holds one of several things.
pub(crate) fn is_union(field: &str) -> bool {
    UNIONS.contains(&field)
}

/// Whether the API server fills the field in, or it says nothing.
pub(crate) fn is_default(field: &str, value: &Value) -> bool {
    is_nothing(value)
        || value
            .as_str()
            .is_some_and(|text| DEFAULTS.contains(&(field, text)))
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether nobody but the operator may set the field, because with it an operand does not run as rendered. `path` is that of
/// the object that has the field.
pub(crate) fn is_reserved(kind: &str, path: &str, field: &str, value: &Value) -> bool {
    if is_nothing(value) || value.as_object().is_some_and(Map::is_empty) {
        return false;
    }
    let in_pod = path.strip_prefix(POD).filter(|_| WORKLOADS.contains(&kind));
    match (field, in_pod) {
        ("affinity" | "runtimeClassName" | "priorityClassName" | "nodeName", Some(""))
        | ("nodeAffinity" | "podAffinity" | "podAntiAffinity", Some(".affinity")) => true,
        // The operand talks to the API server with the token.
        ("automountServiceAccountToken", Some("")) => *value == Value::Bool(false),
        ("automountServiceAccountToken", _) => {
            kind == "ServiceAccount" && path.is_empty() && *value == Value::Bool(false)
        }
        ("command", Some(inner)) => inner.starts_with(".containers["),
        ("paused", None) => kind == "Deployment" && path == "spec" && *value == Value::Bool(true),
        // With it, another controller overwrites the rules.
        ("aggregationRule", None) => kind == "ClusterRole" && path.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_named_by_number_and_protocol_but_not_in_a_policy() {
        assert_eq!(keys("NetworkPolicy", "ports"), [""; 0]);
        let by = keys("Service", "ports");
        assert_eq!(
            identity(by, &json!({"port": 53})),
            identity(by, &json!({"port": 53, "protocol": "TCP"}))
        );
        assert_ne!(
            identity(by, &json!({"port": 53})),
            identity(by, &json!({"port": 53, "protocol": "UDP"}))
        );
    }

    #[test]
    fn what_stops_an_operand_is_reserved() {
        let container = "spec.template.spec.containers[speaker]";
        for (kind, path, field, value) in [
            ("Deployment", "spec", "paused", json!(true)),
            ("DaemonSet", POD, "runtimeClassName", json!("x")),
            ("DaemonSet", container, "command", json!(["true"])),
            ("ServiceAccount", "", "automountServiceAccountToken", json!(false)),
        ] {
            assert!(is_reserved(kind, path, field, &value), "{field}");
        }
        for (kind, path, field, value) in [
            ("Deployment", "spec", "paused", json!(false)),
            ("DaemonSet", POD, "affinity", json!({})),
            ("DaemonSet", POD, "dnsPolicy", json!("Default")),
            ("DaemonSet", container, "lifecycle", json!({"preStop": {}})),
            ("ServiceAccount", "", "automountServiceAccountToken", json!(true)),
        ] {
            assert!(!is_reserved(kind, path, field, &value), "{field}");
        }
    }
}
