//! Settings that are accepted and have nothing to act on.

use crate::{plan::Desired, world::World};
use metallb_api::MetalLBSpec;
use metallb_render::{Kind, Object, operands};
use std::collections::BTreeSet;

/// A sentence for each setting that changes nothing.
pub(super) fn notes(desired: &Desired, world: &World) -> Vec<String> {
    let unknown: BTreeSet<&str> = operands(&desired.spec, &desired.installation)
        .iter()
        .map(Object::kind)
        .filter(|kind| kind.is_optional() && !world.is_served(*kind))
        .map(Kind::name)
        .collect();
    let unknown = unknown.into_iter().map(|kind| {
        format!(
            "there is no {kind} yet because the cluster does not know the kind: it comes with the Prometheus operator"
        )
    });
    unknown.chain(ignored(&desired.spec)).collect()
}

/// Fields of metallb-operator's that are there so that its manifests are accepted.
fn ignored(spec: &MetalLBSpec) -> Vec<String> {
    let mut notes = Vec::new();
    if !spec.image.is_empty() {
        notes.push("spec.image has no effect: images are part of the operator's release".to_owned());
    }
    let Some(config) = &spec.frrk8s_config else {
        return notes;
    };
    for (set, field) in [
        (!config.namespace.is_empty(), "namespace"),
        (config.secret_passthrough, "secretPassthrough"),
        (!config.always_block.is_empty(), "alwaysBlock"),
    ] {
        if set {
            notes.push(format!(
                "spec.frrk8sConfig.{field} has no effect: speakers run BGP themselves and accept no routes"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn settings_without_effect_are_named() {
        let fields = |spec: Value| -> Vec<String> {
            let spec: MetalLBSpec = serde_json::from_value(spec).unwrap();
            let notes = ignored(&spec);
            let field = |note: &String| note.split(' ').next().unwrap_or_default().to_owned();
            notes.iter().map(field).collect()
        };
        assert!(fields(json!({"logLevel": "debug"})).is_empty());
        assert_eq!(
            fields(json!({"image": "quay.io/metallb/speaker:main"})),
            ["spec.image"]
        );
        assert_eq!(
            fields(
                json!({"image": "x", "frrk8sConfig": {"namespace": "frr", "alwaysBlock": ["10.0.0.0/8"]}})
            ),
            [
                "spec.image",
                "spec.frrk8sConfig.namespace",
                "spec.frrk8sConfig.alwaysBlock"
            ]
        );
    }
}
