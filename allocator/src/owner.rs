//! What the Lease and the `ConfigurationState` belong to: they go when the Deployment goes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client};

/// Longest time that the start waits for the answer.
const REQUEST: Duration = Duration::from_secs(3);

/// A reference to the Deployment `name`; `None` when there is no such name, or it cannot be read: then nobody owns what this
/// process writes, and it stays when MetalLB is removed.
pub(crate) async fn deployment(client: Client, namespace: &str, name: &str) -> Option<OwnerReference> {
    if name.is_empty() {
        return None;
    }
    let api: Api<Deployment> = Api::namespaced(client, namespace);
    match tokio::time::timeout(REQUEST, api.get_metadata(name)).await {
        Ok(Ok(found)) => Some(OwnerReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: name.to_owned(),
            uid: found.metadata.uid?,
            ..OwnerReference::default()
        }),
        Ok(Err(error)) => {
            tracing::info!(%error, name, "the own Deployment cannot be read: Lease and ConfigurationState get no owner");
            None
        }
        Err(_) => {
            tracing::info!(
                name,
                "no answer about the own Deployment: Lease and ConfigurationState get no owner"
            );
            None
        }
    }
}
