//! What the pipelines say to the `ci.yaml` that a submission has beside its versions. It names people, so it is not generated:
//! `olm/README.md` has the example that submitters copy.

use super::{text, unless};
use metallb_api::yaml;
use serde_json::{Value, json};
use std::fs;

/// What is wrong with a `ci.yaml`, each finding with the name of its check. It is for submissions of bundles: a catalog of one's own
/// (`fbc`) would need templates that nothing here makes.
fn complaints(ci: &Value) -> Vec<String> {
    let graph = &ci["updateGraph"];
    let reviewers = &ci["reviewers"];
    let named = reviewers
        .as_array()
        .is_some_and(|names| !names.is_empty() && names.iter().all(|name| !text(name).is_empty()));
    [
        unless(
            ["replaces-mode", "semver-mode"].contains(&text(graph)),
            format!("check_ci_upgrade_graph: updateGraph {graph} must be replaces-mode or semver-mode"),
        ),
        unless(
            reviewers.is_null() || named,
            format!("check_schema_operator_ci_config: reviewers {reviewers} must be a list with a name"),
        ),
        unless(
            ci["merge"].is_null() || ci["merge"].is_boolean(),
            "check_schema_operator_ci_config: merge must be true or false",
        ),
        unless(
            ci["fbc"].is_null(),
            "check_schema_operator_ci_config: fbc needs catalog_mapping and its templates",
        ),
    ]
    .concat()
}

#[test]
fn the_example_passes() {
    let page = fs::read_to_string(crate::repository().join("olm/README.md")).unwrap();
    let (_, rest) = page.split_once("```yaml\n").expect("no example of ci.yaml");
    let (example, _) = rest.split_once("```").unwrap();
    let example: Value = yaml::from_str(example).unwrap();
    assert_eq!(complaints(&example), Vec::<String>::new());
    assert!(example["reviewers"].is_array());
}

#[test]
fn each_check_finds_what_it_is_for() {
    for (bad, check) in [
        (json!({}), "check_ci_upgrade_graph"),
        (json!({"updateGraph": "replaces"}), "check_ci_upgrade_graph"),
        (
            json!({"updateGraph": "semver-mode", "reviewers": []}),
            "check_schema_operator_ci_config",
        ),
        (
            json!({"updateGraph": "semver-mode", "merge": "yes"}),
            "check_schema_operator_ci_config",
        ),
        (
            json!({"updateGraph": "semver-mode", "fbc": {"enabled": true}}),
            "check_schema_operator_ci_config",
        ),
    ] {
        let findings = complaints(&bad);
        assert!(
            findings.len() == 1 && findings[0].starts_with(check),
            "{bad}: {findings:?}"
        );
    }
}
