//! What Kubernetes says about fields: which lists are merged by a key, which values are replaced as a whole, which fields the
//! API server fills in, and which ones nobody else may set.

use serde_json::Value;

const WORKLOADS: [&str; 2] = ["Deployment", "DaemonSet"];

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

/// What the API server fills in, wherever the field is. One that is missing here costs an apply that changes nothing, after
/// which it is known.
const DEFAULTS: [(&str, &str); 29] = [
    ("apiGroup", ""),
    ("apiGroup", "rbac.authorization.k8s.io"),
    ("apiVersion", "v1"),
    ("protocol", "TCP"),
    ("operator", "Equal"),
    ("action", "replace"),
    // Of workloads,
    ("type", "RollingUpdate"),
    ("maxSurge", "0"),
    ("maxSurge", "25%"),
    ("maxUnavailable", "1"),
    ("maxUnavailable", "25%"),
    ("revisionHistoryLimit", "10"),
    ("progressDeadlineSeconds", "600"),
    // of pods,
    ("dnsPolicy", "ClusterFirst"),
    ("restartPolicy", "Always"),
    ("schedulerName", "default-scheduler"),
    ("terminationGracePeriodSeconds", "30"),
    ("defaultMode", "420"),
    // of containers,
    ("imagePullPolicy", "Always"),
    ("imagePullPolicy", "IfNotPresent"),
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
    // of probes,
    ("scheme", "HTTP"),
    ("failureThreshold", "3"),
    ("periodSeconds", "10"),
    ("successThreshold", "1"),
    ("timeoutSeconds", "1"),
    // and of Services.
    ("internalTrafficPolicy", "Cluster"),
    ("sessionAffinity", "None"),
];

/// What the API server fills in from what is rendered, or allots.
const DERIVED: [&str; 8] = [
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
    "policyTypes",
    "targetPort",
    // With hostNetwork, that of the container.
    "hostPort",
    // The former name of serviceAccountName.
    "serviceAccount",
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

/// Whether the field of this name, of an object, is what the object does: all in it is ours.
pub(crate) fn is_ours(field: &str) -> bool {
    ["spec", "data", "binaryData"].contains(&field)
}

/// Whether the API server fills the field in, or it says nothing.
pub(crate) fn is_default(field: &str, value: &Value) -> bool {
    let text = match value {
        Value::Object(members) => return members.iter().all(|(field, value)| is_default(field, value)),
        Value::Array(list) if list.is_empty() => return true,
        Value::Null | Value::Bool(false) => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let says_nothing = text.is_empty() && field != TOKEN || text == "true" && field == TOKEN;
    says_nothing || DERIVED.contains(&field) || DEFAULTS.contains(&(field, &text))
}

/// Whether the operand's account gets a token, with which the operand talks to the API server: it does, unless this is `false`.
const TOKEN: &str = "automountServiceAccountToken";

/// Whether nobody but the operator may set the field, although it is not in what is ours as a whole. `path` is that of the
/// object that has the field.
pub(crate) fn is_reserved(kind: &str, path: &str, field: &str, value: &Value) -> bool {
    if !path.is_empty() || is_default(field, value) {
        return false;
    }
    match field {
        TOKEN => kind == "ServiceAccount",
        // With it, another controller overwrites the rules.
        "aggregationRule" => kind == "ClusterRole",
        // Nothing else could be put right.
        "immutable" | "binaryData" => kind == "ConfigMap",
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
    fn what_says_nothing_or_what_is_said_anyway_is_a_default() {
        for (field, value) in [
            ("affinity", json!({})),
            ("paused", json!(false)),
            ("dnsPolicy", json!("ClusterFirst")),
            ("automountServiceAccountToken", json!(true)),
            ("clusterIPs", json!(["10.0.0.1"])),
            (
                "strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
            ),
            (
                "securityContext",
                json!({"privileged": false, "capabilities": {"add": []}}),
            ),
        ] {
            assert!(is_default(field, &value), "{field}");
        }
        for (field, value) in [
            ("affinity", json!({"nodeAffinity": {"x": 1}})),
            ("paused", json!(true)),
            ("automountServiceAccountToken", json!(false)),
            ("dnsPolicy", json!("None")),
            ("strategy", json!({"type": "Recreate"})),
            ("securityContext", json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
            ("resources", json!({"limits": {"memory": "8Mi"}})),
        ] {
            assert!(!is_default(field, &value), "{field}");
        }
    }

    #[test]
    fn some_fields_beside_the_spec_are_reserved() {
        let not = json!(false);
        assert!(is_reserved(
            "ServiceAccount",
            "",
            "automountServiceAccountToken",
            &not
        ));
        assert!(!is_reserved(
            "ServiceAccount",
            "",
            "automountServiceAccountToken",
            &json!(true)
        ));
        assert!(!is_reserved(
            "ServiceAccount",
            "",
            "secrets",
            &json!([{"name": "token"}])
        ));
        let aggregated = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        assert!(is_reserved("ClusterRole", "", "aggregationRule", &aggregated));
        assert!(is_reserved("ConfigMap", "", "immutable", &json!(true)));
    }
}
