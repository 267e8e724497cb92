//! `ServiceL2Status`: which node answers for a service.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Top-level fields of `ServiceL2Status`. There is nothing to wish for, so `spec` stays empty.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceL2Status",
    plural = "servicel2statuses",
    namespaced,
    no_spec,
    status = "ServiceL2StatusStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Which node answers ARP and NDP for the addresses of a service. Written by that node's speaker.",
    printcolumn(name = "Allocated Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Service Name", type_ = "string", json_path = ".status.serviceName"),
    printcolumn(
        name = "Service Namespace",
        type_ = "string",
        json_path = ".status.serviceNamespace"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceL2StatusFields {
    /// Empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<NoSpec>,
}

/// An empty spec.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct NoSpec {}

/// Which node answers, and where. Node and service never change in one object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceL2StatusStatus {
    /// The node that answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "node cannot change: a new owner writes a new object"}]))]
    pub node: String,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "serviceName cannot change"}]))]
    pub service_name: String,
    /// Namespace of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "serviceNamespace cannot change"}]))]
    pub service_namespace: String,
    /// The interfaces it answers on, when they are restricted; empty when it is all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceInfo>,
    /// Stations outside the cluster that have one of the service's addresses too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<AddressConflict>,
}

/// A station outside the cluster that has an address of the service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AddressConflict {
    /// The address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Hardware address of the station.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// The interface of the node on which it was heard.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
}

/// A network interface.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceInfo {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}
