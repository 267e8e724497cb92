use serde_json::json;

use super::labels;
use crate::{Selector, SelectorSpec};

fn selector(value: serde_json::Value) -> Result<Selector, String> {
    let spec: SelectorSpec = serde_json::from_value(value).expect("shape of a selector");
    Selector::new(&spec).map_err(|error| error.to_string())
}

#[test]
fn selects_as_kubernetes_does() {
    let with = labels([("app", "web"), ("tier", "front"), ("empty", "")]);
    for (spec, expected) in [
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (json!({"matchLabels": {"app": "web", "tier": "back"}}), false),
        (
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
            false,
        ),
        (
            json!({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["web"]}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "absent", "operator": "In", "values": [""]}]}),
            false,
        ),
        (
            json!({"matchExpressions": [{"key": "empty", "operator": "In", "values": [""]}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
            false,
        ),
        (
            json!({"matchLabels": {"app": "web"},
                   "matchExpressions": [{"key": "absent", "operator": "Exists"}]}),
            false,
        ),
    ] {
        let text = spec.to_string();
        assert_eq!(
            selector(spec).map(|selector| selector.matches(&with)),
            Ok(expected),
            "{text}"
        );
    }
}

#[test]
fn refuses_malformed_selectors() {
    let long = "x".repeat(64);
    for (spec, hint) in [
        (json!({"matchLabels": {"": "a"}}), "is not a label key"),
        (json!({"matchLabels": {"a b": "a"}}), "is not a label key"),
        (json!({"matchLabels": {"UPPER.io/a": "a"}}), "is not a label key"),
        (json!({"matchLabels": {"a.io/": "a"}}), "is not a label key"),
        (
            json!({"matchLabels": {"a": long.clone()}}),
            "is not a label value",
        ),
        (json!({"matchLabels": {"a": "-b"}}), "is not a label value"),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}),
            "unknown",
        ),
        (json!({"matchExpressions": [{"key": "a"}]}), "unknown"),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "at least one value",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
            "no values",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "b"]}]}),
            "repeats",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "Exists"},
                                        {"key": "a", "operator": "Exists"}]}),
            "repeats",
        ),
    ] {
        let text = spec.to_string();
        let error = selector(spec).expect_err(&text);
        assert!(error.contains(hint), "{text}: {error}");
    }
}
