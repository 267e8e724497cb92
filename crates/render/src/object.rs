//! The kinds that are rendered, and what names one object.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// A kind that is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `rbac.authorization.k8s.io/v1` Role.
    Role,
    /// `rbac.authorization.k8s.io/v1` `RoleBinding`.
    RoleBinding,
    /// `rbac.authorization.k8s.io/v1` ClusterRole.
    ClusterRole,
    /// `rbac.authorization.k8s.io/v1` `ClusterRoleBinding`.
    ClusterRoleBinding,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `v1` Service.
    Service,
    /// `networking.k8s.io/v1` `NetworkPolicy`.
    NetworkPolicy,
    /// `monitoring.coreos.com/v1` `ServiceMonitor`.
    ServiceMonitor,
    /// `monitoring.coreos.com/v1` `PodMonitor`.
    PodMonitor,
    /// `monitoring.coreos.com/v1` `PrometheusRule`.
    PrometheusRule,
}

impl Kind {
    /// Kinds that the operator owns objects of, in the order in which they are pruned: workloads first, so that speakers
    /// withdraw while they still have their rights.
    pub const OWNED: [Kind; 14] = [
        Kind::DaemonSet,
        Kind::Deployment,
        Kind::ServiceMonitor,
        Kind::PodMonitor,
        Kind::PrometheusRule,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::ConfigMap,
        Kind::Secret,
        Kind::RoleBinding,
        Kind::Role,
        Kind::ClusterRoleBinding,
        Kind::ClusterRole,
        Kind::ServiceAccount,
    ];

    /// Group, kind and plural.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        const RBAC: &str = "rbac.authorization.k8s.io";
        const MONITORING: &str = "monitoring.coreos.com";
        match self {
            Kind::Namespace => ("", "Namespace", "namespaces"),
            Kind::ServiceAccount => ("", "ServiceAccount", "serviceaccounts"),
            Kind::ConfigMap => ("", "ConfigMap", "configmaps"),
            Kind::Secret => ("", "Secret", "secrets"),
            Kind::Service => ("", "Service", "services"),
            Kind::Role => (RBAC, "Role", "roles"),
            Kind::RoleBinding => (RBAC, "RoleBinding", "rolebindings"),
            Kind::ClusterRole => (RBAC, "ClusterRole", "clusterroles"),
            Kind::ClusterRoleBinding => (RBAC, "ClusterRoleBinding", "clusterrolebindings"),
            Kind::Deployment => ("apps", "Deployment", "deployments"),
            Kind::DaemonSet => ("apps", "DaemonSet", "daemonsets"),
            Kind::NetworkPolicy => ("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
            Kind::ServiceMonitor => (MONITORING, "ServiceMonitor", "servicemonitors"),
            Kind::PodMonitor => (MONITORING, "PodMonitor", "podmonitors"),
            Kind::PrometheusRule => (MONITORING, "PrometheusRule", "prometheusrules"),
        }
    }

    /// API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.names().0
    }

    /// `apiVersion` of the kind.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        }
    }

    /// The kind's name.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// The resource's name in URLs and RBAC rules.
    pub fn plural(self) -> &'static str {
        self.names().2
    }

    /// Whether objects of the kind are in a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Kind::Namespace | Kind::ClusterRole | Kind::ClusterRoleBinding
        )
    }

    /// Whether a cluster may do without the kind: those of the Prometheus operator.
    pub fn is_optional(self) -> bool {
        matches!(
            self,
            Kind::ServiceMonitor | Kind::PodMonitor | Kind::PrometheusRule
        )
    }
}

/// Names one object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Kind.
    pub kind: Kind,
    /// Namespace; `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.name(), self.name),
            None => write!(f, "{} {}", self.kind.name(), self.name),
        }
    }
}

/// A rendered object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// A Namespace.
    Namespace(Namespace),
    /// A ServiceAccount.
    ServiceAccount(ServiceAccount),
    /// A ConfigMap.
    ConfigMap(ConfigMap),
    /// A Secret.
    Secret(Secret),
    /// A Role.
    Role(Role),
    /// A `RoleBinding`.
    RoleBinding(RoleBinding),
    /// A ClusterRole.
    ClusterRole(ClusterRole),
    /// A `ClusterRoleBinding`.
    ClusterRoleBinding(ClusterRoleBinding),
    /// A Deployment.
    Deployment(Deployment),
    /// A DaemonSet.
    DaemonSet(DaemonSet),
    /// A Service.
    Service(Service),
    /// A `NetworkPolicy`.
    NetworkPolicy(NetworkPolicy),
    /// An object of a kind that no Kubernetes has by itself.
    Custom(Custom),
}

/// An object of a kind that no Kubernetes has by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Custom {
    api_version: String,
    #[serde(serialize_with = "name_of")]
    kind: Kind,
    metadata: ObjectMeta,
    spec: Value,
}

impl Custom {
    /// An object of `kind`.
    pub(crate) fn new(kind: Kind, metadata: ObjectMeta, spec: Value) -> Self {
        Custom {
            api_version: kind.api_version(),
            kind,
            metadata,
            spec,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn name_of<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl Object {
    /// Kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Namespace(_) => Kind::Namespace,
            Object::ServiceAccount(_) => Kind::ServiceAccount,
            Object::ConfigMap(_) => Kind::ConfigMap,
            Object::Secret(_) => Kind::Secret,
            Object::Role(_) => Kind::Role,
            Object::RoleBinding(_) => Kind::RoleBinding,
            Object::ClusterRole(_) => Kind::ClusterRole,
            Object::ClusterRoleBinding(_) => Kind::ClusterRoleBinding,
            Object::Deployment(_) => Kind::Deployment,
            Object::DaemonSet(_) => Kind::DaemonSet,
            Object::Service(_) => Kind::Service,
            Object::NetworkPolicy(_) => Kind::NetworkPolicy,
            Object::Custom(custom) => custom.kind,
        }
    }

    /// What names the object.
    pub fn id(&self) -> ObjectId {
        let metadata = match self {
            Object::Namespace(o) => &o.metadata,
            Object::ServiceAccount(o) => &o.metadata,
            Object::ConfigMap(o) => &o.metadata,
            Object::Secret(o) => &o.metadata,
            Object::Role(o) => &o.metadata,
            Object::RoleBinding(o) => &o.metadata,
            Object::ClusterRole(o) => &o.metadata,
            Object::ClusterRoleBinding(o) => &o.metadata,
            Object::Deployment(o) => &o.metadata,
            Object::DaemonSet(o) => &o.metadata,
            Object::Service(o) => &o.metadata,
            Object::NetworkPolicy(o) => &o.metadata,
            Object::Custom(o) => &o.metadata,
        };
        ObjectId {
            kind: self.kind(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Body for server-side apply: exactly the fields that are set, with `apiVersion` and `kind`.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("typed objects have string keys")
    }
}
