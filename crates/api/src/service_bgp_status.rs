//! `ServiceBGPStatus`: to which peers a node announces a service.

use crate::service_l2_status::NoSpec;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Top-level fields of `ServiceBGPStatus`. There is nothing to wish for, so `spec` stays empty.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceBGPStatus",
    plural = "servicebgpstatuses",
    namespaced,
    no_spec,
    status = "ServiceBGPStatusStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "To which BGP peers a node announces the addresses of a service. Written by that node's speaker.",
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Service Name", type_ = "string", json_path = ".status.serviceName"),
    printcolumn(
        name = "Service Namespace",
        type_ = "string",
        json_path = ".status.serviceNamespace"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBGPStatusFields {
    /// Empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<NoSpec>,
}

/// To whom a node announces a service. Node and service never change in one object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBGPStatusStatus {
    /// The node that announces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "node cannot change"}]))]
    pub node: String,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "serviceName cannot change"}]))]
    pub service_name: String,
    /// Namespace of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "serviceNamespace cannot change"}]))]
    pub service_namespace: String,
    /// Names of the peers that the service is announced to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
}
