//! The bundle and the catalog pass, and each check finds what it is for: cases of bad bundles, one a line.

use super::{all, bundle, of_catalog};
use crate::{
    bundle::{Contents, bundle as generated},
    catalog::{Entry, documents},
    release::{IMAGES, Release},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn contents(release: &Release) -> Contents {
    Contents::of(&generated(release).unwrap()).unwrap()
}

fn pinned(replaces: Option<&str>) -> Release {
    let digest = |name: &str| {
        (
            name.to_owned(),
            format!("registry.example/team/{name}@sha256:{}", "0".repeat(64)),
        )
    };
    let given: BTreeMap<String, String> = IMAGES.map(digest).into();
    Release::pinned("v0.1.0", replaces, None, &given).unwrap()
}

#[test]
fn there_is_nothing_to_complain_about() {
    for release in [
        Release::checked_in(),
        Release::previous(),
        pinned(Some("v0.0.9")),
        pinned(None),
    ] {
        let findings = bundle(&contents(&release));
        assert!(findings.is_empty(), "{}:\n{}", release.tag(), findings.join("\n"));
    }
}

type Case = (&'static str, fn(&mut Contents));

/// A field of the CSV, by JSON pointer.
fn at<'a>(bundle: &'a mut Contents, pointer: &str) -> &'a mut Value {
    bundle
        .csv
        .pointer_mut(pointer)
        .unwrap_or_else(|| panic!("the CSV has no {pointer}"))
}

fn annotate(bundle: &mut Contents, key: &str, value: &str) {
    bundle.csv["metadata"]["annotations"][key] = value.into();
}

/// Changes the list of examples.
fn example(bundle: &mut Contents, change: fn(&mut Vec<Value>)) {
    let mut examples = bundle.examples();
    change(&mut examples);
    let text = serde_json::to_string(&examples).unwrap();
    annotate(bundle, "alm-examples", &text);
}

const OWNED: &str = "/spec/customresourcedefinitions/owned";
const RULES: &str = "/spec/install/spec/clusterPermissions/0/rules";
const CONTAINER: &str = "/spec/install/spec/deployments/0/spec/template/spec/containers/0";

fn rule(bundle: &mut Contents, rule: Value) {
    at(bundle, RULES).as_array_mut().unwrap().push(rule);
}

/// The name of a check, and what makes it complain.
#[rustfmt::skip] // one case a line
const CASES: &[Case] = &[
    ("csv: kind", |b| b.csv["kind"] = json!("ClusterVersion")),
    ("csv: name", |b| *at(b, "/metadata/name") = json!("MetalLB.v0.1.0")),
    ("csv: name", |b| *at(b, "/metadata/name") = json!(format!("{}.v0.1.0", "m".repeat(60)))),
    ("csv: name", |b| *at(b, "/spec/replaces") = json!("metallb_operator.v0.0.9")),
    ("csv: required fields", |b| *at(b, "/spec/install/strategy") = json!("")),
    ("csv: examples", |b| annotate(b, "alm-examples", "[{")),
    ("csv: examples", |b| example(b, |all| all[0]["kind"] = json!("MetalLBs"))),
    ("csv: examples", |b| example(b, |all| { all.pop(); })),
    ("csv: install modes", |b| *at(b, "/spec/installModes") = json!([])),
    ("csv: install modes", |b| at(b, "/spec/installModes").as_array_mut().unwrap().push(json!({"type": "AllNamespaces", "supported": true}))),
    ("csv: install modes", |b| b.csv["spec"]["webhookdefinitions"] = json!([{"conversionCRDs": ["bgppeers.metallb.io"]}])),
    ("csv: minKubeVersion", |b| *at(b, "/spec/minKubeVersion") = json!("1.31")),
    ("csv: annotations", |b| annotate(b, "olm.skiprange", ">=0.0.1 <0.1.0")),
    ("csv: annotations", |b| annotate(b, "olm.properties", "[]")),
    ("crd", |b| b.objects[0]["apiVersion"] = json!("apiextensions.k8s.io/v1beta1")),
    ("crd", |b| b.objects[0]["metadata"]["name"] = json!("pools.metallb.io")),
    ("crd", |b| b.objects[0]["spec"]["versions"][0]["storage"] = json!(b.objects[0]["spec"]["versions"][0]["storage"] == false)),
    ("crd", |b| b.objects[0]["spec"]["versions"][0]["schema"] = Value::Null),
    ("bundle: owned definitions", |b| { b.objects.pop(); }),
    ("bundle: owned definitions", |b| { at(b, OWNED).as_array_mut().unwrap().pop(); }),
    ("bundle: owned definitions", |b| b.objects.push(b.objects[0].clone())),
    ("bundle: service accounts", |b| b.objects.push(json!({"kind": "ServiceAccount", "metadata": {"name": "metallb-operator"}}))),
    ("bundle: size", |b| b.size = 1 << 20),
    ("bundle: related images", |b| { at(b, "/spec/relatedImages").as_array_mut().unwrap().pop(); }),
    ("bundle: related images", |b| *at(b, "/spec/relatedImages/0/image") = json!("operator:v0.1.0")),
    ("operatorhubv2: provider", |b| *at(b, "/spec/provider") = json!({})),
    ("operatorhubv2: maintainers", |b| *at(b, "/spec/maintainers/0/email") = json!("nobody")),
    ("operatorhubv2: maintainers", |b| *at(b, "/spec/maintainers") = json!([])),
    ("operatorhubv2: links", |b| *at(b, "/spec/links/0/url") = json!("docs/installing.md")),
    ("operatorhubv2: version", |b| *at(b, "/spec/version") = json!("v0.1.0")),
    ("operatorhubv2: icon", |b| *at(b, "/spec/icon") = json!([])),
    ("operatorhubv2: icon", |b| *at(b, "/spec/icon/0/mediatype") = json!("image/x-icon")),
    ("operatorhubv2: icon", |b| *at(b, "/spec/icon/0/base64data") = json!("<svg/>")),
    ("capabilities", |b| annotate(b, "capabilities", "Autopilot")),
    ("categories", |b| annotate(b, "categories", "Networking,Load Balancing")),
    ("good-practices: requests", |b| *at(b, CONTAINER) = json!({"name": "manager", "resources": {"requests": {"cpu": "1m"}}})),
    ("good-practices: channels", |b| b.annotations["operators.operatorframework.io.bundle.channels.v1"] = json!("stable,alpha")),
    ("good-practices: channels", |b| b.annotations["operators.operatorframework.io.bundle.channel.default.v1"] = json!("beta")),
    ("good-practices: descriptions", |b| *at(b, &format!("{OWNED}/3/description")) = json!("")),
    ("good-practices: rights on definitions", |b| rule(b, json!({"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get", "patch"]}))),
    ("good-practices: bundle name", |b| *at(b, "/metadata/name") = json!("metallb-operator-0.1.0")),
    ("alpha-deprecated-apis", |b| b.objects.push(json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget"}))),
    ("alpha-deprecated-apis", |b| rule(b, json!({"apiGroups": ["policy"], "resources": ["podsecuritypolicies"], "verbs": ["use"]}))),
    ("alpha-deprecated-apis", |b| {
        for api in at(b, OWNED).as_array_mut().unwrap() {
            api["resources"] = json!([{"kind": "Pod", "version": "v1"}]);
        }
    }),
    ("multiarch: labels", |b| *at(b, "/metadata/labels") = json!({"operatorframework.io/arch.amd64": "supported"})),
    ("check_required_fields", |b| *at(b, "/spec/displayName") = json!("A name that is longer than what fits on a card of a catalog")),
    ("check_required_fields", |b| *at(b, "/spec/description") = json!("Short.")),
    ("check_required_fields", |b| annotate(b, "containerImage", "quay.io/metallb-rs/operator")),
    ("check_required_fields", |b| annotate(b, "createdAt", "yesterday")),
    ("check_required_fields", |b| annotate(b, "repository", "")),
    ("check_required_fields", |b| *at(b, "/spec/keywords") = json!([])),
    ("check_operator_name", |b| b.annotations["operators.operatorframework.io.bundle.package.v1"] = json!("metallb")),
    ("check_operator_version_directory_name", |b| *at(b, "/spec/version") = json!("0.1.1")),
    ("check_network_policy_presence", |b| b.objects.push(json!({"kind": "NetworkPolicy", "metadata": {"name": "default-deny"}}))),
    ("check_api_version_constraints", |b| b.annotations["com.redhat.openshift.versions"] = json!("v4.12-v4.18")),
    ("check_api_version_constraints", |b| b.annotations["com.redhat.openshift.versions"] = json!("=v4.17")),
    ("check_api_version_constraints", |b| b.annotations["com.redhat.openshift.versions"] = json!("v4.18,v4.19")),
    ("check_api_version_constraints", |b| { b.annotations.as_object_mut().unwrap().remove("com.redhat.openshift.versions"); }),
    ("check_api_version_constraints", |b| *at(b, "/spec/minKubeVersion") = json!("1.31.1")),
    ("check_api_version_constraints", |b| *at(b, "/spec/minKubeVersion") = json!("1.31")),
    ("basic-check-spec", |b| example(b, |all| { all[0].as_object_mut().unwrap().remove("spec"); })),
    ("olm-bundle-validation", |b| b.annotations["operators.operatorframework.io.bundle.mediatype.v1"] = json!("plain")),
    ("olm-bundle-validation", |b| b.containerfile = b.containerfile.replace("LABEL operators.operatorframework.io.bundle.package.v1", "LABEL package")),
    ("olm-bundle-validation", |b| b.scorecard["stages"] = json!([])),
    ("olm-crds-have-validation", |b| example(b, |all| all[1]["spec"]["adresses"] = json!([]))),
    ("olm-crds-have-resources", |b| *at(b, &format!("{OWNED}/0/resources")) = json!([])),
    ("olm-spec-descriptors", |b| {
        for api in at(b, OWNED).as_array_mut().unwrap() {
            api["specDescriptors"] = json!([]);
        }
    }),
    ("olm-status-descriptors", |b| *at(b, &format!("{OWNED}/0/statusDescriptors")) = json!([])),
    ("olm-status-descriptors", |b| example(b, |all| all[0]["status"] = json!({"version": "v0.1.0"}))),
    ("olm: kinds", |b| b.objects.push(json!({"kind": "DaemonSet"}))),
    ("olm: no webhooks", |b| b.csv["spec"]["webhookdefinitions"] = json!([{"generateName": "v.metallb.io"}])),
    ("olm: no webhooks", |b| b.objects[0]["spec"]["conversion"] = json!({"strategy": "Webhook"})),
    ("olm: no dependencies", |b| at(b, "/spec/customresourcedefinitions")["required"] = json!([{"name": "frrconfigurations.frrk8s.metallb.io"}])),
    ("console: examples are admitted", |b| example(b, |all| all[1]["spec"]["addresses"] = json!(["192.0.2.0"]))),
    ("console: initialization resource", |b| annotate(b, "operatorframework.io/initialization-resource", "{}")),
    ("console: suggested namespace", |b| annotate(b, "operatorframework.io/suggested-namespace", "operators")),
    ("console: internal objects", |b| annotate(b, "operators.operatorframework.io/internal-objects", r#"["servicel2status.metallb.io"]"#)),
    ("console: features", |b| annotate(b, "features.operators.openshift.io/cnf", "no")),
    ("console: features", |b| annotate(b, "features.operators.openshift.io/disconnected", "true")),
];

#[test]
fn each_check_finds_what_it_is_for() {
    let good = contents(&Release::checked_in());
    for (i, (name, spoil)) in CASES.iter().enumerate() {
        let check = all()
            .find(|check| check.name == *name)
            .unwrap_or_else(|| panic!("there is no check {name}"));
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(!(check.find)(&bad).is_empty(), "case {i}: {name} says nothing");
    }
}

#[test]
fn each_check_has_a_case() {
    for check in all() {
        assert!(
            CASES.iter().any(|(name, _)| *name == check.name),
            "no case for {}",
            check.name
        );
    }
}

fn entry(release: &Release) -> Entry {
    Entry {
        image: release.tagged_image("metallb-operator-bundle"),
        contents: contents(release),
    }
}

fn catalog() -> Vec<Entry> {
    [Release::checked_in(), Release::previous()]
        .map(|release| entry(&release))
        .into()
}

fn judged(bundles: &[Entry]) -> Vec<String> {
    of_catalog(&documents(bundles).unwrap(), bundles)
}

#[test]
fn there_is_nothing_to_complain_about_in_the_catalog() {
    let findings = judged(&catalog());
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn the_first_version_of_a_catalog_replaces_nothing() {
    let findings = judged(&[entry(&pinned(None))]);
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    let findings = judged(&[entry(&pinned(Some("v0.0.9")))]);
    assert!(
        findings[0].starts_with("check_replaces_availability: "),
        "{findings:?}"
    );
}

#[test]
fn what_is_replaced_is_for_the_same_versions_of_openshift() {
    for (new, old, available) in [
        ("v4.19", "v4.18", true),
        ("v4.18", "v4.18-v4.20", false),
        ("v4.18", "v4.19", false),
        ("=v4.20", "v4.18-v4.20", true),
    ] {
        let mut bundles = catalog();
        for (bundle, range) in bundles.iter_mut().zip([new, old]) {
            bundle.contents.annotations["com.redhat.openshift.versions"] = json!(range);
        }
        let findings = judged(&bundles);
        assert_eq!(
            findings.is_empty(),
            available,
            "{new} replaces {old}: {findings:?}"
        );
    }
}

type CatalogCase = (&'static str, fn(&mut Vec<Value>));

/// Documents of the catalog: the package, the channel (first 0.0.9, then 0.1.0), the bundles in the same order.
#[rustfmt::skip] // one case a line
const CATALOG_CASES: &[CatalogCase] = &[
    ("opm validate: package", |d| d[0]["defaultChannel"] = json!("alpha")),
    ("opm validate: package", |d| d[0]["icon"] = Value::Null),
    ("opm validate: package", |d| d[2]["package"] = json!("metallb")),
    ("opm validate: package", |d| { d.remove(0); }),
    ("opm validate: channel", |d| { d[1]["entries"][1].as_object_mut().unwrap().remove("replaces"); }),
    ("opm validate: bundles", |d| { d.pop(); }),
    ("opm validate: bundles", |d| { d[1]["entries"].as_array_mut().unwrap().pop(); }),
    ("opm validate: bundles", |d| d[3]["properties"] = json!([])),
    ("check_dangling_bundles", |d| d[1]["entries"].as_array_mut().unwrap().push(json!({"name": "metallb-operator.v0.0.8"}))),
    ("check_upgrade_graph_loop", |d| d[1]["entries"][0]["replaces"] = json!("metallb-operator.v0.1.0")),
    ("check_replaces_availability", |d| d[1]["entries"][0]["replaces"] = json!("metallb-operator.v0.0.8")),
    ("check_operator_name_unique", |d| d[1]["entries"][0]["name"] = json!("metallb.v0.0.9")),
    ("images", |d| d[2]["image"] = json!("")),
    ("images", |d| d[2]["relatedImages"] = json!([])),
    ("check_olm_bundle_object_in_fbc", |d| d[2]["properties"][0]["type"] = json!("olm.bundle.object")),
    ("skipRange", |d| d[1]["entries"][1]["skipRange"] = json!(">=0.0.1 <=0.1.0")),
    ("skipRange", |d| d[1]["entries"][1]["skipRange"] = json!(">=0.0.10 <0.1.0")),
    ("skipRange", |d| d[1]["entries"][1]["skipRange"] = json!("before 0.1.0")),
];

#[test]
fn each_check_of_catalogs_finds_what_it_is_for() {
    let bundles = catalog();
    let good = documents(&bundles).unwrap();
    for (i, (check, spoil)) in CATALOG_CASES.iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        let findings = of_catalog(&bad, &bundles);
        let prefix = format!("{check}: ");
        assert!(
            findings.iter().any(|finding| finding.starts_with(&prefix)),
            "case {i}: {check} says nothing; the others: {findings:?}"
        );
    }
}
