//! The generated parts of the chart are what their sources say.

use std::fs;

use metallb_api::yaml;
use metallb_charts::{CHART, generated, root};
use serde_json::Value;

#[test]
fn the_generated_parts_are_up_to_date() {
    for (path, text) in generated(&root()).unwrap() {
        let there = fs::read_to_string(root().join(&path)).unwrap_or_default();
        assert!(there == text, "{path} is out of date: run `make chart`");
    }
}

#[test]
fn the_chart_has_the_products_version() {
    let text = fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    let chart: Value = yaml::from_str(&text).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], format!("v{}", env!("CARGO_PKG_VERSION")));
}
