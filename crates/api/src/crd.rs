//! The `CustomResourceDefinitions` of all kinds.

use crate::{
    AddressPool, BFDProfile, BGPAdvertisement, BGPPeer, Community, ConfigurationState, IPAddressPool,
    L2Advertisement, MetalLB, ServiceBGPStatus, ServiceL2Status,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// Every definition, in the order of their names.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        address_pool(),
        finish(BFDProfile::crd()),
        finish(BGPAdvertisement::crd()),
        bgp_peer(),
        finish(Community::crd()),
        finish(ConfigurationState::crd()),
        finish(IPAddressPool::crd()),
        finish(L2Advertisement::crd()),
        finish(MetalLB::crd()),
        finish(ServiceBGPStatus::crd()),
        finish(ServiceL2Status::crd()),
    ];
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}

/// Definitions that an installation without the operator needs: all but `MetalLB`.
pub fn operands() -> Vec<CustomResourceDefinition> {
    all()
        .into_iter()
        .filter(|crd| crd.spec.names.kind != "MetalLB")
        .collect()
}

/// Two versions, one schema: the union of both, so that the conversion strategy `None` is right.
fn bgp_peer() -> CustomResourceDefinition {
    let mut crd = finish(BGPPeer::crd());
    serve_also(&mut crd, "v1beta1");
    deprecate(
        &mut crd.spec.versions[0],
        "metallb.io/v1beta1 BGPPeer is deprecated: write metallb.io/v1beta2",
    );
    crd
}

/// The same, and both versions are deprecated with the kind.
fn address_pool() -> CustomResourceDefinition {
    let mut crd = finish(AddressPool::crd());
    serve_also(&mut crd, "v1alpha1");
    for version in &mut crd.spec.versions {
        deprecate(
            version,
            "AddressPool is deprecated: write an IPAddressPool, and an L2Advertisement or BGPAdvertisement that names it",
        );
    }
    crd
}

/// Serves the stored version's schema under another version too.
fn serve_also(crd: &mut CustomResourceDefinition, version: &str) {
    let other = CustomResourceDefinitionVersion {
        name: version.into(),
        storage: false,
        ..crd.spec.versions[0].clone()
    };
    crd.spec.versions.insert(0, other);
}

fn deprecate(version: &mut CustomResourceDefinitionVersion, warning: &str) {
    version.deprecated = Some(true);
    version.deprecation_warning = Some(warning.into());
}

/// What the derived definition lacks to be what people write against.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for version in &mut crd.spec.versions {
        let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        root.title = None;
        if let Some(properties) = &mut root.properties {
            for (field, schema) in what_every_object_has() {
                properties.insert(field.into(), schema);
            }
        }
        // A manifest that says nothing in its spec need not have one, unless the kind asks for a field.
        let spec_asks = root
            .properties
            .as_ref()
            .and_then(|properties| properties.get("spec"))
            .is_some_and(|spec| {
                spec.required
                    .as_ref()
                    .is_some_and(|required| !required.is_empty())
            });
        if !spec_asks {
            root.required = root.required.take().map(|mut required| {
                required.retain(|field| field != "spec");
                required
            });
        }
        root.required = root.required.take().filter(|required| !required.is_empty());
        tidy(root);
    }
    crd
}

/// What the derived schema leaves out because the API server adds it; tools that read the definition alone need it.
fn what_every_object_has() -> [(&'static str, JSONSchemaProps); 3] {
    let field = |type_: &str, description: &str| JSONSchemaProps {
        type_: Some(type_.into()),
        description: Some(description.into()),
        ..Default::default()
    };
    [
        (
            "apiVersion",
            field("string", "Group and version of the object's schema."),
        ),
        ("kind", field("string", "Kind of the object.")),
        (
            "metadata",
            JSONSchemaProps {
                type_: Some("object".into()),
                ..Default::default()
            },
        ),
    ]
}

/// Optional fields are left out, not `null`; selectors are replaced as a whole by server-side apply, as in core types.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // Doc comments are wrapped for the source; `kubectl explain` wraps for the terminal.
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    // The API server warns of formats it does not know; Rust's unsigned ones mean nothing to it.
    schema.format = schema.format.take().and_then(|format| match format.as_str() {
        "uint16" => None,
        // What fits says so, as MetalLB's schemas do.
        "uint32" if schema.maximum.is_some_and(|max| max <= f64::from(i32::MAX)) => Some("int32".into()),
        "uint32" | "uint64" => Some("int64".into()),
        _ => Some(format),
    });
    schema.default = schema.default.take().filter(|default| !default.0.is_null());
    if let Some(properties) = &mut schema.properties {
        if properties.len() == 2
            && let Some(expressions) = properties.get_mut("matchExpressions")
        {
            expressions.x_kubernetes_list_type = Some("atomic".into());
            schema.x_kubernetes_map_type = Some("atomic".into());
        }
        properties.values_mut().for_each(tidy);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(extra) = &mut schema.additional_properties
        && let JSONSchemaPropsOrBool::Schema(values) = extra
    {
        tidy(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn walk<'a>(path: &str, value: &'a Value, visit: &mut dyn FnMut(&str, &'a Value)) {
        visit(path, value);
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(key, v)| walk(&format!("{path}/{key}"), v, visit)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(i, v)| walk(&format!("{path}/{i}"), v, visit)),
            _ => {}
        }
    }

    #[test]
    fn schemas_are_structural_and_explained() {
        for crd in all() {
            let name = crd.metadata.name.clone().unwrap();
            let crd = serde_json::to_value(&crd).unwrap();
            walk(&name, &crd, &mut |path, value| {
                let key = path.rsplit('/').next().unwrap();
                assert!(
                    !matches!(key, "nullable" | "$ref" | "oneOf" | "definitions"),
                    "{path}"
                );
                if matches!(key, "anyOf" | "allOf") {
                    panic!("{path}: {value}");
                }
                // `kubectl explain` shows a description for each field; that of metadata is the API server's own.
                if path.rsplit('/').nth(1) == Some("properties") && key != "metadata" {
                    let description = value["description"].as_str().unwrap_or_default();
                    assert!(!description.trim().is_empty(), "{path} has no description");
                }
            });
        }
    }

    /// `kubectl apply` (client side) stores the whole object in an annotation of at most 256 KiB.
    #[test]
    fn every_definition_fits_what_kubectl_apply_stores() {
        for crd in all() {
            let size = serde_json::to_string(&crd).unwrap().len();
            assert!(size < 200_000, "{}: {size}", crd.metadata.name.unwrap());
        }
    }

    #[test]
    fn a_spec_is_required_only_where_a_field_of_it_is() {
        let required = |crd: CustomResourceDefinition| {
            let schema = crd.spec.versions[0]
                .schema
                .clone()
                .unwrap()
                .open_api_v3_schema
                .unwrap();
            schema.required.unwrap_or_default()
        };
        let with_spec: Vec<String> = all()
            .into_iter()
            .filter(|c| required(c.clone()).contains(&"spec".into()))
            .map(|c| c.spec.names.kind)
            .collect();
        assert_eq!(with_spec, ["AddressPool", "BGPPeer", "IPAddressPool"]);
    }

    #[test]
    fn peers_are_served_in_two_versions_without_conversion() {
        let crd = bgp_peer();
        let versions: Vec<_> = crd
            .spec
            .versions
            .iter()
            .map(|v| (v.name.as_str(), v.served, v.storage))
            .collect();
        assert_eq!(versions, [("v1beta1", true, false), ("v1beta2", true, true)]);
        assert!(crd.spec.conversion.is_none());
    }
}
