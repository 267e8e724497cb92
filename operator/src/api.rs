//! Requests: each with a deadline, none decided here.

use crate::{
    plan::{Apply, Delete},
    repair,
};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Namespace},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, ValidationDirective},
    core::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
};
use metallb_api::{
    MetalLB, Raw,
    names::{field_managers, objects},
};
use metallb_render::{Kind, ObjectId};
use serde_json::Value;
use std::{fmt, future::Future, time::Duration};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why a request did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// We lack the right.
    Forbidden(String),
    /// The namespace is being deleted: it takes nothing new, and what it has goes.
    Terminating,
    /// There is no such object.
    NotFound(String),
    /// The object is another one, or exists already.
    Conflict(String),
    /// The object would not be valid.
    Invalid {
        /// What the API server said.
        text: String,
        /// Whether all it said is that fields cannot be changed.
        immutable: bool,
    },
    /// Anything else the API server said, or that it said nothing.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Terminating => f.write_str("its namespace is being deleted"),
            Failure::Forbidden(text)
            | Failure::NotFound(text)
            | Failure::Conflict(text)
            | Failure::Invalid { text, .. }
            | Failure::Other(text) => f.write_str(text),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Failure::Other(chain(&error));
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let terminating = causes.clone().any(|cause| cause.reason == "NamespaceTerminating");
        let immutable = repair::only_immutable(causes.map(|cause| cause.message.as_str()));
        let text = format!("{} (HTTP {})", status.message, status.code);
        match status.code {
            403 if terminating => Failure::Terminating,
            403 => Failure::Forbidden(text),
            404 => Failure::NotFound(text),
            409 => Failure::Conflict(text),
            422 => Failure::Invalid { text, immutable },
            _ => Failure::Other(text),
        }
    }
}

/// The error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

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
pub(crate) async fn apply(client: &Client, apply: &Apply) -> Result<DynamicObject, Failure> {
    let mut params = PatchParams::apply(field_managers::OPERATOR).force();
    params.field_validation = Some(ValidationDirective::Strict);
    let api = api(client, &apply.id);
    in_time(api.patch(&apply.id.name, &params, &Patch::Apply(&apply.body))).await
}

/// Changes an object with JSON patch operations.
pub(crate) async fn change(
    client: &Client,
    id: &ObjectId,
    operations: Vec<Value>,
) -> Result<DynamicObject, Failure> {
    let operations = serde_json::from_value(operations.into())
        .map_err(|error| Failure::Other(format!("no JSON patch: {error}")))?;
    patch(client, id, &Patch::Json(operations)).await
}

/// Changes an object with a JSON merge patch.
pub(crate) async fn merge(client: &Client, id: &ObjectId, body: Value) -> Result<DynamicObject, Failure> {
    patch(client, id, &Patch::Merge(body)).await
}

async fn patch(client: &Client, id: &ObjectId, patch: &Patch<Value>) -> Result<DynamicObject, Failure> {
    let params = PatchParams {
        field_manager: Some(field_managers::OPERATOR.into()),
        ..Default::default()
    };
    in_time(api(client, id).patch(&id.name, &params, patch)).await
}

/// The object of that name, whoever made it. Listed, because the right to list is there for the watches anyway.
pub(crate) async fn find(client: &Client, id: &ObjectId) -> Result<Option<DynamicObject>, Failure> {
    let params = ListParams::default().fields(&format!("metadata.name={}", id.name));
    Ok(in_time(api(client, id).list(&params))
        .await?
        .items
        .into_iter()
        .next())
}

/// Deletes an object, unless it has been replaced by another of its name. Whether it was still there makes no difference.
pub(crate) async fn delete(client: &Client, delete: &Delete) -> Result<(), Failure> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: delete.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    let api = api(client, &delete.id);
    match in_time(api.delete(&delete.id.name, &params)).await {
        Ok(_) | Err(Failure::NotFound(_) | Failure::Conflict(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Creates the object, unless there is one. Returns what was made.
pub(crate) async fn create(
    client: &Client,
    id: &ObjectId,
    body: Value,
) -> Result<Option<DynamicObject>, Failure> {
    let object = serde_json::from_value(body)
        .map_err(|error| Failure::Other(format!("{id} cannot be made of this: {error}")))?;
    let params = PostParams {
        field_manager: Some(field_managers::OPERATOR.into()),
        ..Default::default()
    };
    match in_time(api(client, id).create(&params, &object)).await {
        Ok(created) => Ok(Some(created)),
        Err(Failure::Conflict(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// UID of a namespace.
pub(crate) async fn namespace_uid(client: &Client, name: &str) -> Result<Option<String>, Failure> {
    let api: Api<Namespace> = Api::all(client.clone());
    Ok(in_time(api.get_metadata(name)).await?.metadata.uid)
}

/// The operator's own Deployment, to which its Lease belongs; `None` when it runs otherwise.
pub(crate) async fn own_deployment(
    client: &Client,
    namespace: &str,
) -> Result<Option<OwnerReference>, Failure> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let found = in_time(api.get_metadata_opt(objects::OPERATOR_DEPLOYMENT)).await?;
    Ok(found
        .and_then(|found| found.metadata.uid)
        .map(|uid| OwnerReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: objects::OPERATOR_DEPLOYMENT.into(),
            uid,
            ..Default::default()
        }))
}

/// Writes the status of a `MetalLB` resource, as it is there in this version.
pub(crate) async fn write_status(
    client: &Client,
    metallb: &Raw<MetalLB>,
    status: Value,
) -> Result<Raw<MetalLB>, Failure> {
    let metadata = &metallb.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let api: Api<Raw<MetalLB>> = Api::namespaced(client.clone(), namespace);
    let body = serde_json::json!({ "metadata": {"uid": metadata.uid}, "status": status });
    let params = PatchParams {
        field_manager: Some(field_managers::OPERATOR.into()),
        ..Default::default()
    };
    in_time(api.patch_status(name, &params, &Patch::Merge(body))).await
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Other(format!(
            "the API server did not answer within {} s",
            DEADLINE.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vanishing_namespace_is_told_from_a_missing_right() {
        let failure =
            |status: Value| Failure::from(kube::Error::Api(serde_json::from_value(status).unwrap()));
        let vanishing = failure(
            json!({"code": 403, "status": "Failure", "reason": "Forbidden", "message": "unable to create new content",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "being terminated", "field": "metadata.namespace"}]}}),
        );
        assert_eq!(vanishing, Failure::Terminating);
        let lacking = failure(
            json!({"code": 403, "status": "Failure", "reason": "Forbidden", "message": "cannot patch"}),
        );
        assert_eq!(lacking, Failure::Forbidden("cannot patch (HTTP 403)".into()));
    }

    #[test]
    fn what_cannot_be_changed_is_told_from_what_is_wrong() {
        let immutable = |message: &str| {
            let status = json!({"code": 422, "status": "Failure", "reason": "Invalid", "message": "is invalid",
                "details": {"causes": [{"reason": "FieldValueInvalid", "message": message, "field": "roleRef"}]}});
            match Failure::from(kube::Error::Api(serde_json::from_value(status).unwrap())) {
                Failure::Invalid { immutable, .. } => immutable,
                other => panic!("{other}"),
            }
        };
        assert!(immutable("Invalid value: {}: cannot change roleRef"));
        assert!(!immutable(
            "Invalid value: \"\": may not be specified when `value` is not empty"
        ));
    }
}
