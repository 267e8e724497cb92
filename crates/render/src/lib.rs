//! Operands as typed objects: a `MetalLB` resource in, Kubernetes objects out.
//!
//! Pure: no API, no clock, no randomness. [`operands`] says what must exist for an installation, whoever installs it: the
//! operator applies the objects, `xtask manifests` writes the same ones to `config/manifests/`. [`operator`] renders the
//! operator itself.
//!
//! Rights are part of the rendering ([`rbac`]), so that a binary and what it may do always come from one version.

mod controller;
mod memberlist;
mod monitoring;
mod network_policy;
mod object;
pub mod operator;
mod pod;
pub mod rbac;
mod speaker;
#[cfg(test)]
mod tests;

pub use controller::deployment as controller_deployment;
pub use memberlist::{KEY_BYTES, secret as memberlist_secret};
pub use object::{Custom, Kind, Object, ObjectId};
pub use speaker::daemon_set as speaker_daemon_set;

use k8s_openapi::{
    api::core::v1::ServiceAccount,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use metallb_api::{
    MetalLBSpec,
    names::{self, labels, objects},
};
use std::collections::{BTreeMap, BTreeSet};

/// Images of the operands, as complete references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Of the Deployment `controller`.
    pub controller: String,
    /// Of the DaemonSet `speaker`.
    pub speaker: String,
}

/// Port numbers of the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Metrics of both.
    pub metrics: u16,
    /// `/healthz` and `/readyz` of both.
    pub health: u16,
    /// Membership of the speakers.
    pub memberlist: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports {
            metrics: names::ports::METRICS,
            health: names::ports::HEALTH,
            memberlist: names::ports::MEMBERLIST,
        }
    }
}

/// Who installs the operands, which decides how they are marked and who makes the membership key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installer {
    /// The operator, for the `MetalLB` resource with this UID: it owns what is namespaced. What is not belongs to the
    /// namespace, so that it goes with it when no operator is left to remove it.
    Operator {
        /// UID of the `MetalLB` resource.
        uid: String,
        /// UID of its namespace; empty while it is not known.
        namespace_uid: String,
        /// Secrets with passwords that `BGPPeer`s of the namespace name: those and no others may be read by the speakers.
        speaker_secrets: BTreeSet<String>,
    },
    /// A person, with `kubectl apply`. The controller makes the membership key.
    Manifests,
}

/// Everything that is not in the `MetalLB` spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Namespace of all that is namespaced.
    pub namespace: String,
    /// Images.
    pub images: Images,
    /// Ports.
    pub ports: Ports,
    /// Who installs.
    pub installer: Installer,
}

/// All objects of an installation but the membership key ([`memberlist_secret`]), in the order in which they should be
/// applied: rights before the workloads that need them.
pub fn operands(spec: &MetalLBSpec, installation: &Installation) -> Vec<Object> {
    let mut all = vec![
        Object::ServiceAccount(service_account(objects::CONTROLLER, installation)),
        Object::ServiceAccount(service_account(objects::SPEAKER, installation)),
    ];
    all.extend(rbac::operand_objects(spec, installation));
    all.push(Object::ConfigMap(speaker::exclude_l2_config_map(
        spec,
        installation,
    )));
    all.extend(network_policy::object(spec, installation));
    all.extend(monitoring::objects(spec, installation));
    all.push(Object::Deployment(controller::deployment(spec, installation)));
    all.push(Object::DaemonSet(speaker::daemon_set(spec, installation)));
    all
}

/// The flavour of BGP that a spec selects. An empty one selects `frr`, as metallb-operator does.
pub fn bgp_backend(spec: &MetalLBSpec) -> &str {
    if spec.bgp_backend.is_empty() {
        "frr"
    } else {
        &spec.bgp_backend
    }
}

/// Name of a cluster-scoped object: the namespace goes in front, so that two installations (an old one and its
/// replacement) never fight over one object.
pub fn cluster_name(namespace: &str, name: &str) -> String {
    format!("{namespace}:{name}")
}

impl Installation {
    /// Labels of a component's objects. The first two are the selector of the workloads, which can never change.
    pub(crate) fn labels(&self, component: Option<&str>) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([(labels::APP.to_owned(), labels::APP_METALLB.to_owned())]);
        if let Some(component) = component {
            all.insert(labels::COMPONENT.into(), component.into());
        }
        if let Installer::Operator { uid, .. } = &self.installer {
            all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_OPERATOR.into());
            all.insert(labels::METALLB_UID.into(), uid.clone());
        }
        all
    }

    /// Metadata of a namespaced object.
    pub(crate) fn namespaced(&self, name: &str, component: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(component)),
            owner_references: self.owner().map(|owner| vec![owner]),
            ..Default::default()
        }
    }

    /// Metadata of a cluster-scoped object. It can have no namespaced owner: labels find it when it is to go, and where no
    /// operator is left to look for them it goes with the namespace.
    pub(crate) fn cluster_scoped(&self, name: &str, component: Option<&str>) -> ObjectMeta {
        let namespace = match &self.installer {
            Installer::Operator { namespace_uid, .. } if !namespace_uid.is_empty() => Some(OwnerReference {
                api_version: "v1".into(),
                kind: "Namespace".into(),
                name: self.namespace.clone(),
                uid: namespace_uid.clone(),
                ..Default::default()
            }),
            _ => None,
        };
        ObjectMeta {
            name: Some(cluster_name(&self.namespace, name)),
            labels: Some(self.labels(component)),
            owner_references: namespace.map(|owner| vec![owner]),
            ..Default::default()
        }
    }

    fn owner(&self) -> Option<OwnerReference> {
        match &self.installer {
            Installer::Operator { uid, .. } => Some(OwnerReference {
                api_version: "metallb.io/v1beta1".into(),
                kind: "MetalLB".into(),
                name: objects::METALLB.into(),
                uid: uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }),
            Installer::Manifests => None,
        }
    }
}

fn service_account(name: &str, installation: &Installation) -> ServiceAccount {
    ServiceAccount {
        metadata: installation.namespaced(name, Some(name)),
        ..Default::default()
    }
}
