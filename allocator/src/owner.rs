//! What the objects that this process writes belong to: they go when their owners go.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// Longest time that is waited for the answer.
const REQUEST: Duration = Duration::from_secs(3);

/// What the API server says about a possible owner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owner {
    /// It is there.
    There(OwnerReference),
    /// There is none of this name, or it is being deleted.
    Gone,
    /// It may not be read, or there was no answer.
    Unknown,
}

/// Looks a possible owner up by its name.
pub(crate) async fn look<K>(client: Client, namespace: &str, name: &str) -> Owner
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client, namespace);
    let kind = K::kind(&());
    match tokio::time::timeout(REQUEST, api.get_metadata_opt(name)).await {
        Ok(Ok(Some(found))) if found.metadata.deletion_timestamp.is_none() => match found.metadata.uid {
            Some(uid) => Owner::There(OwnerReference {
                api_version: K::api_version(&()).into_owned(),
                kind: kind.into_owned(),
                name: name.to_owned(),
                uid,
                ..OwnerReference::default()
            }),
            None => Owner::Unknown,
        },
        Ok(Ok(_)) => Owner::Gone,
        Ok(Err(error)) => {
            tracing::info!(%error, %kind, name, "an owner cannot be read");
            Owner::Unknown
        }
        Err(_) => {
            tracing::info!(%kind, name, "no answer about an owner");
            Owner::Unknown
        }
    }
}

/// The own Deployment, which Lease and `ConfigurationState` belong to; `None` when there is no such name, or it cannot be
/// read: then nobody owns them, and they stay when MetalLB is removed.
pub(crate) async fn deployment(client: Client, namespace: &str, name: &str) -> Option<OwnerReference> {
    if name.is_empty() {
        return None;
    }
    match look::<Deployment>(client, namespace, name).await {
        Owner::There(owner) => Some(owner),
        Owner::Gone | Owner::Unknown => {
            tracing::info!(name, "Lease and ConfigurationState get no owner");
            None
        }
    }
}
