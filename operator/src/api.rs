//! Requests: each with a deadline, none decided here.

use crate::plan::{Apply, Delete};
use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, ValidationDirective},
    core::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
};
use metallb_api::{MetalLB, Raw, names::field_managers};
use metallb_render::{Kind, ObjectId};
use serde_json::Value;
use std::{future::Future, time::Duration};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// How the API names a kind.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(kind.group(), "v1", kind.name()),
        kind.plural(),
    )
}

fn api(client: &Client, id: &ObjectId) -> Api<DynamicObject> {
    let resource = resource(id.kind);
    match &id.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Server-side apply. All of the object is ours, so conflicts are overruled.
pub(crate) async fn apply(client: &Client, apply: &Apply) -> anyhow::Result<DynamicObject> {
    let mut params = PatchParams::apply(field_managers::OPERATOR).force();
    params.field_validation = Some(ValidationDirective::Strict);
    let api = api(client, &apply.id);
    in_time(api.patch(&apply.id.name, &params, &Patch::Apply(&apply.body))).await
}

/// Deletes an object, unless it has been replaced by another of its name. Whether it was still there makes no difference.
pub(crate) async fn delete(client: &Client, delete: &Delete) -> anyhow::Result<()> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: delete.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    let api = api(client, &delete.id);
    match in_time_raw(api.delete(&delete.id.name, &params)).await {
        Ok(_) => Ok(()),
        Err(Failure::Api(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(()),
        Err(failure) => Err(failure.into_error()),
    }
}

/// Creates the Secret, unless there is one: a key is never overwritten.
pub(crate) async fn create_secret(client: &Client, secret: &Secret) -> anyhow::Result<()> {
    let namespace = secret
        .metadata
        .namespace
        .as_deref()
        .context("a Secret without a namespace")?;
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams {
        field_manager: Some(field_managers::OPERATOR.into()),
        ..Default::default()
    };
    match in_time_raw(api.create(&params, secret)).await {
        Ok(_) => Ok(()),
        Err(Failure::Api(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        Err(failure) => Err(failure.into_error()),
    }
}

/// Writes the status of a `MetalLB` resource, as it is there in this version.
pub(crate) async fn write_status(
    client: &Client,
    metallb: &Raw<MetalLB>,
    status: Value,
) -> anyhow::Result<Raw<MetalLB>> {
    let metadata = &metallb.metadata;
    let namespace = metadata
        .namespace
        .as_deref()
        .context("a MetalLB without a namespace")?;
    let name = metadata.name.as_deref().context("a MetalLB without a name")?;
    let api: Api<Raw<MetalLB>> = Api::namespaced(client.clone(), namespace);
    let body = serde_json::json!({ "metadata": {"uid": metadata.uid}, "status": status });
    let params = PatchParams {
        field_manager: Some(field_managers::OPERATOR.into()),
        ..Default::default()
    };
    in_time(api.patch_status(name, &params, &Patch::Merge(body))).await
}

enum Failure {
    Api(kube::Error),
    Late,
}

impl Failure {
    fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Api(kube::Error::Api(status)) => anyhow!("{} (HTTP {})", status.message, status.code),
            Failure::Api(error) => error.into(),
            Failure::Late => anyhow!("the API server did not answer within {} s", DEADLINE.as_secs()),
        }
    }
}

async fn in_time_raw<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(Failure::Api),
        Err(_) => Err(Failure::Late),
    }
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    in_time_raw(request).await.map_err(Failure::into_error)
}
