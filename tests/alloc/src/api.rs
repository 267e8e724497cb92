//! Objects as JSON, in and out of an API server.

use anyhow::{Context, Result};
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// What the API server says to a request: the object, or its refusal (a status code below 500).
pub type Answer = std::result::Result<Value, u16>;

/// Sends one request.
///
/// # Errors
/// The API server cannot be reached, or fails itself.
pub async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    let content = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let what = format!("{method} {path}");
    let bytes = body.map(ToString::to_string).unwrap_or_default().into_bytes();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", content)
        .body(bytes)
        .with_context(|| what.clone())?;
    match client.request::<Value>(request).await {
        Ok(value) => Ok(Ok(value)),
        Err(kube::Error::Api(status)) if status.code < 500 => Ok(Err(status.code)),
        Err(error) => Err(error).context(what),
    }
}

/// Path of a service, or of a namespace's services when the name is empty.
pub fn service(namespace: &str, name: &str) -> String {
    path(&format!("/api/v1/namespaces/{namespace}/services"), name)
}

/// Path of a namespace, or of all.
pub fn namespace(name: &str) -> String {
    path("/api/v1/namespaces", name)
}

/// Path of an `IPAddressPool`, or of all in the components' namespace.
pub fn pool(name: &str) -> String {
    let all = format!(
        "/apis/metallb.io/v1beta1/namespaces/{}/ipaddresspools",
        crate::plane::NAMESPACE
    );
    path(&all, name)
}

fn path(all: &str, name: &str) -> String {
    if name.is_empty() {
        all.to_owned()
    } else {
        format!("{all}/{name}")
    }
}

/// Makes the object or, if it is there, patches it.
///
/// # Errors
/// As [`send`].
pub async fn upsert(client: &Client, all: &str, name: &str, object: &Value, patch: &Value) -> Result<Answer> {
    let answer = send(client, Method::PATCH, &path(all, name), Some(patch)).await?;
    if answer == Err(404) {
        return send(client, Method::POST, all, Some(object)).await;
    }
    Ok(answer)
}
