//! `olm/`: what a user of OLM creates, and the catalog that it leads to.

use crate::{
    bundle::{self, CHANNEL, Contents, DISPLAY_NAME, PACKAGE, PROVIDER},
    catalog::{self, DIRECTORY, Entry},
    generate::{Files, header},
    release::Release,
};
use metallb_api::{names::objects, yaml};
use metallb_render::{Object, operator};
use serde_json::{Value, json};

/// The `CatalogSource`, and the image it names.
const CATALOG: &str = "metallb-operator-catalog";
/// The bundle image.
const BUNDLE: &str = "metallb-operator-bundle";
/// Where OLM looks for catalogs that all namespaces may use.
const CATALOG_NAMESPACE: &str = "olm";
/// Where the operator runs in the examples: not where MetalLB does.
const OPERATOR_NAMESPACE: &str = "my-metallb-operator";

/// All generated files below `olm/`.
pub(crate) fn olm(release: &Release, previous: &Release) -> anyhow::Result<Files> {
    let mut entries = Vec::new();
    for release in [previous, release] {
        entries.push(Entry {
            image: release.tagged_image(BUNDLE),
            contents: Contents::of(&bundle::bundle(release)?)?,
        });
    }
    let mut files = catalog::catalog("olm/", &entries)?;
    let mut file = |name: &str, about: &str, objects: &[Value]| -> anyhow::Result<()> {
        let text = header("olm") + about + &yaml::to_string_all(objects)?;
        files.insert(format!("olm/{name}.yaml"), text);
        Ok(())
    };
    file(
        "catalogsource",
        "# The catalog, for every namespace of the cluster. It needs an OLM of 2024 or later, which brings the server itself.\n",
        &[catalog_source(release)],
    )?;
    file(
        "metallb-operator",
        "# The operator in a namespace of its own, and the namespace for a MetalLB resource: config/samples/metallb.yaml.\n",
        &installation(&json!({})),
    )?;
    file(
        "metallb-operator-target-namespaces",
        "# As metallb-operator.yaml, with an OperatorGroup that names its targets, as was usual for MetalLB up to v0.12. The operator\n\
         # serves a MetalLB resource in any namespace all the same.\n",
        &installation(&json!({"targetNamespaces": [OPERATOR_NAMESPACE]})),
    )?;
    Ok(files)
}

fn catalog_source(release: &Release) -> Value {
    json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "CatalogSource",
        "metadata": {"name": CATALOG, "namespace": CATALOG_NAMESPACE},
        "spec": {
            "displayName": DISPLAY_NAME,
            "publisher": PROVIDER,
            "sourceType": "grpc",
            "image": release.tagged_image(CATALOG),
            "grpcPodConfig": {
                // Its pod keeps to what any namespace admits.
                "securityContextConfig": "restricted",
                // The image holds files and no server.
                "extractContent": {"catalogDir": DIRECTORY},
            },
            "updateStrategy": {"registryPoll": {"interval": "30m"}},
        },
    })
}

fn installation(group: &Value) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": OPERATOR_NAMESPACE});
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": OPERATOR_NAMESPACE},
    });
    vec![
        namespace,
        Object::Namespace(operator::namespace(objects::DEFAULT_NAMESPACE)).to_value(),
        json!({
            "apiVersion": "operators.coreos.com/v1",
            "kind": "OperatorGroup",
            "metadata": metadata(OPERATOR_NAMESPACE),
            "spec": group,
        }),
        json!({
            "apiVersion": "operators.coreos.com/v1alpha1",
            "kind": "Subscription",
            "metadata": metadata(PACKAGE),
            "spec": {
                "name": PACKAGE,
                "channel": CHANNEL,
                "source": CATALOG,
                "sourceNamespace": CATALOG_NAMESPACE,
                "installPlanApproval": "Automatic",
            },
        }),
    ]
}
