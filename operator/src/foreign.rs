//! Whether an object that is in the way belongs to MetalLB, so that it may be taken over, or to somebody else.

use kube::core::DynamicObject;
use metallb_api::names::{GROUP, field_managers, labels};

/// Label with the name of what an object is part of, as Helm charts set it.
const NAME: &str = "app.kubernetes.io/name";
/// How all names begin that MetalLB and its operator give to what is theirs alone.
const METALLB: &str = "metallb";

/// Whom an object belongs to, if not to MetalLB: its owner or who wrote it.
///
/// MetalLB's is what bears a label of it, what a `MetalLB` resource or the bundle of an operator of MetalLB owns, what our
/// operator wrote, and what has a name that nobody else would choose.
pub(crate) fn stranger(object: &DynamicObject) -> Option<String> {
    let metadata = &object.metadata;
    let label = |key: &str| {
        metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let managers = metadata.managed_fields.as_deref().unwrap_or_default();
    let managers = || managers.iter().filter_map(|entry| entry.manager.as_deref());
    let is_metallbs = label(labels::APP) == Some(METALLB)
        || label(NAME) == Some(METALLB)
        || label(labels::MANAGED_BY) == Some(labels::MANAGED_BY_OPERATOR)
        || label(labels::METALLB_UID).is_some()
        || metadata
            .name
            .as_ref()
            .is_some_and(|name| name.starts_with(METALLB))
        || owners.iter().any(|owner| {
            let ours = owner.api_version.starts_with(GROUP) && owner.kind == "MetalLB";
            // The ServiceAccounts of the operands came with the bundle of metallb-operator.
            ours || owner.kind == "ClusterServiceVersion" && owner.name.starts_with(METALLB)
        })
        || managers().any(|manager| manager == field_managers::OPERATOR);
    if is_metallbs {
        return None;
    }
    if let Some(owner) = owners.first() {
        return Some(format!("{} {}", owner.kind, owner.name));
    }
    if let Some(by) = label(labels::MANAGED_BY) {
        return Some(format!("managed by {by}"));
    }
    let first = managers().next();
    Some(first.map_or_else(
        || "it bears no mark of MetalLB".into(),
        |manager| format!("written by {manager}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn whose(metadata: &Value) -> Option<String> {
        stranger(&serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    #[test]
    fn what_bears_a_mark_of_metallb_is_taken_over() {
        let owner = |kind: &str, name: &str, version: &str| json!({"name": "speaker", "ownerReferences": [{"kind": kind, "name": name, "uid": "u", "apiVersion": version}]});
        for metadata in [
            json!({"name": "speaker", "labels": {"app": "metallb"}}),
            json!({"name": "speaker", "labels": {"app.kubernetes.io/name": "metallb"}}),
            json!({"name": "speaker", "managedFields": [{"manager": "kubectl"}, {"manager": "metallb-operator"}]}),
            json!({"name": "metallb-excludel2"}),
            owner("MetalLB", "metallb", "metallb.io/v1beta1"),
            owner(
                "ClusterServiceVersion",
                "metallb-operator.v0.15.2",
                "operators.coreos.com/v1alpha1",
            ),
        ] {
            assert_eq!(whose(&metadata), None, "{metadata}");
        }
    }

    #[test]
    fn what_is_somebody_elses_is_told_with_a_name() {
        for (metadata, who) in [
            (
                json!({"name": "controller", "labels": {"app.kubernetes.io/managed-by": "Helm", "app": "shop"}}),
                "managed by Helm",
            ),
            (
                json!({"name": "controller", "ownerReferences": [{"kind": "Shop", "name": "s", "uid": "u", "apiVersion": "v1"}]}),
                "Shop s",
            ),
            (
                json!({"name": "controller", "managedFields": [{"manager": "kubectl-create"}]}),
                "written by kubectl-create",
            ),
            (json!({"name": "controller"}), "it bears no mark of MetalLB"),
        ] {
            assert_eq!(whose(&metadata).as_deref(), Some(who));
        }
    }
}
