//! OLM's objects but for its CRDs.

use serde_json::{Value, json};

use super::{NAMESPACE, OPERATORS, VERSION, images::Images};

const ACCOUNT: &str = "olm-operator-serviceaccount";
const RBAC: &str = "rbac.authorization.k8s.io";

/// What must be there before its own resources can be: namespaces, rights, olm-operator, catalog-operator.
pub(super) fn programs(images: &Images) -> Value {
    let namespace = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "latest"}}})
    };
    let mut items = vec![
        namespace(NAMESPACE),
        namespace(OPERATORS),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}}),
    ];
    if let Value::Array(rights) = rights()["items"].take() {
        items.extend(rights);
    }
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}});
    let operator = container(
        "olm-operator",
        &images.olm,
        &["/bin/olm", "--namespace", NAMESPACE],
        "160Mi",
        &probe,
    );
    let catalog = container(
        "catalog-operator",
        &images.olm,
        &[
            "/bin/catalog",
            "--namespace",
            NAMESPACE,
            "--opmImage",
            &images.opm,
            "--util-image",
            &images.util,
            "--set-workload-user-id=true",
        ],
        "80Mi",
        &probe,
    );
    items.push(deployment("olm-operator", &operator));
    items.push(deployment("catalog-operator", &catalog));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// The rights of its programs, and what users get to see of its kinds.
pub(super) fn rights() -> Value {
    let role = "system:controller:operator-lifecycle-manager";
    let aggregate = |name: &str, to: &[&str], rules: Value| {
        let labels: serde_json::Map<String, Value> = to
            .iter()
            .map(|role| (format!("{RBAC}/aggregate-to-{role}"), json!("true")))
            .collect();
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": name, "labels": labels}, "rules": rules})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": role}, "rules": [
            {"apiGroups": ["*"], "resources": ["*"], "verbs":
                ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "escalate", "bind"]},
            {"nonResourceURLs": ["*"], "verbs": ["*"]}]},
        {"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": format!("olm-operator-binding-{NAMESPACE}")},
         "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
         "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]},
        aggregate("aggregate-olm-edit", &["admin", "edit"], json!([
            {"apiGroups": ["operators.coreos.com"], "resources": ["subscriptions"], "verbs": ["create", "update", "patch", "delete"]},
            {"apiGroups": ["operators.coreos.com"], "resources": ["clusterserviceversions", "catalogsources", "installplans"], "verbs": ["delete"]}])),
        aggregate("aggregate-olm-view", &["admin", "edit", "view"], json!([
            {"apiGroups": ["operators.coreos.com"], "resources":
                ["clusterserviceversions", "catalogsources", "installplans", "subscriptions", "operatorgroups"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["packages.operators.coreos.com"], "resources": ["packagemanifests", "packagemanifests/icon"], "verbs": ["get", "list", "watch"]}])),
    ]})
}

/// Its own resources: its configuration, the `OperatorGroup` of each of its namespaces, and packageserver, which it installs itself.
pub(super) fn resources(images: &Images) -> Value {
    let group = |name: &str, namespace: &str, spec: Value| {
        json!({"apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "operators.coreos.com/v1", "kind": "OLMConfig", "metadata": {"name": "cluster"}},
        group("global-operators", OPERATORS, json!({})),
        group("olm-operators", NAMESPACE, json!({"targetNamespaces": [NAMESPACE]})),
        package_server(images),
    ]})
}

/// An aggregated API needs certificates: OLM makes them, as for any operator that asks for one.
fn package_server(images: &Images) -> Value {
    const PORT: u16 = 5443;
    let port = PORT.to_string();
    let probe = json!({"httpGet": {"path": "/healthz", "port": PORT, "scheme": "HTTPS"}});
    let server = container(
        "packageserver",
        &images.olm,
        &[
            "/bin/package-server",
            "--secure-port",
            &port,
            "--global-namespace",
            NAMESPACE,
        ],
        "50Mi",
        &probe,
    );
    let modes = [
        "OwnNamespace",
        "SingleNamespace",
        "MultiNamespace",
        "AllNamespaces",
    ]
    .map(|name| json!({"type": name, "supported": true}));
    let read = json!(["get", "list", "watch"]);
    json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {"name": "packageserver", "namespace": NAMESPACE, "labels": {"olm.version": VERSION}},
        "spec": {
            "displayName": "Package Server",
            "description": "What the catalogs offer, as resources.",
            "version": VERSION,
            "maturity": "alpha",
            "provider": {"name": "The lab"},
            "installModes": modes,
            "install": {"strategy": "deployment", "spec": {
                "clusterPermissions": [{"serviceAccountName": ACCOUNT, "rules": [
                    {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create", "get"]},
                    {"apiGroups": [""], "resources": ["configmaps"], "verbs": read},
                    {"apiGroups": ["operators.coreos.com"], "resources": ["catalogsources"], "verbs": read},
                    {"apiGroups": ["packages.operators.coreos.com"], "resources": ["packagemanifests"], "verbs": ["get", "list"]}]}],
                "deployments": [{"name": "packageserver", "spec": deployment("packageserver", &server)["spec"]}]}},
            "apiservicedefinitions": {"owned": [{
                "group": "packages.operators.coreos.com", "version": "v1", "kind": "PackageManifest", "name": "packagemanifests",
                "displayName": "PackageManifest", "description": "A package of a catalog.",
                "deploymentName": "packageserver", "containerPort": PORT}]},
        },
    })
}

fn container(name: &str, image: &str, command: &[&str], memory: &str, probe: &Value) -> Value {
    let mut ready = probe.clone();
    ready["periodSeconds"] = 2.into();
    json!({
        "name": name,
        "image": image,
        "command": command,
        "env": [
            {"name": "OPERATOR_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "OPERATOR_NAME", "value": name}],
        "resources": {"requests": {"cpu": "10m", "memory": memory}},
        "livenessProbe": probe,
        "readinessProbe": ready,
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    })
}

fn deployment(name: &str, container: &Value) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "serviceAccountName": ACCOUNT,
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}]}}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_kind_and_a_name() {
        let images = Images {
            olm: "olm".into(),
            util: "util".into(),
            opm: "opm".into(),
            coredns: "coredns".into(),
            definitions: "crds".into(),
        };
        for list in [programs(&images), rights(), resources(&images)] {
            for item in list["items"].as_array().unwrap() {
                assert!(
                    item["kind"].is_string() && item["metadata"]["name"].is_string(),
                    "{item}"
                );
            }
        }
    }
}
