//! Structural schemas: pruning, defaults, validation.

use crate::properties;
use regex_lite::Regex;
use serde_json::{Map, Value};

/// Drops what the schema does not know, and nulls where none is allowed, as the API server does before anything else.
pub fn prune(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let known = properties(schema);
            let values = schema
                .get("additionalProperties")
                .filter(|extra| !extra.is_boolean());
            let keeps_all = schema["x-kubernetes-preserve-unknown-fields"] == true
                || schema["additionalProperties"] == true
                || schema["x-kubernetes-embedded-resource"] == true;
            fields.retain(
                |name, value| match known.and_then(|known| known.get(name)).or(values) {
                    Some(schema) if value.is_null() => schema["nullable"] == true,
                    Some(schema) => {
                        prune(value, schema);
                        true
                    }
                    None => keeps_all,
                },
            );
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(item, &schema["items"])),
        _ => {}
    }
}

/// Fills in the defaults of fields that are missing in objects that are there.
pub fn fill_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, schema) in properties(schema).into_iter().flatten() {
                if let Some(default) = schema.get("default")
                    && !fields.contains_key(name)
                {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill_defaults(value, schema);
                }
            }
            if let Some(schema) = schema
                .get("additionalProperties")
                .filter(|extra| extra.is_object())
            {
                fields.values_mut().for_each(|value| fill_defaults(value, schema));
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| fill_defaults(item, &schema["items"])),
        _ => {}
    }
}

/// What is wrong with a value, one sentence for each problem, in the API server's words.
pub fn problems(value: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check("", value, schema, &mut found);
    found
}

fn check(path: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    let mut say = |problem: String| {
        found.push(if path.is_empty() {
            problem
        } else {
            format!("{path}: {problem}")
        });
    };
    if schema["x-kubernetes-int-or-string"] == true {
        if !(value.is_string() || value.is_i64()) {
            say("must be of type integer or string".into());
        }
    } else if let Some(type_) = schema.get("type").and_then(Value::as_str)
        && !is_of_type(value, type_)
    {
        say(format!("must be of type {type_}"));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        say(format!(
            "Unsupported value: {value}: supported values: {}",
            allowed.join(", ")
        ));
    }
    match value {
        Value::Number(_) => number(value, schema, &mut say),
        Value::String(text) => string(text, schema, &mut say),
        Value::Array(items) => {
            list(items, schema, &mut say);
            for (i, twin) in duplicates(items, schema) {
                found.push(format!("{path}[{i}]: Duplicate value: {twin}"));
            }
            for (i, item) in items.iter().enumerate() {
                check(&format!("{path}[{i}]"), item, &schema["items"], found);
            }
        }
        Value::Object(fields) => object(path, fields, schema, found),
        _ => {}
    }
}

fn is_of_type(value: &Value, type_: &str) -> bool {
    match type_ {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn number(value: &Value, schema: &Value, say: &mut dyn FnMut(String)) {
    let given = value.as_f64().unwrap_or(f64::NAN);
    let (low, high) = match schema["format"].as_str() {
        Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => (f64::MIN, f64::MAX),
    };
    if given < low || given > high || (schema["type"] == "integer" && value.as_i64().is_none()) {
        say(format!(
            "Checked value must be of type integer with format {}",
            schema["format"]
        ));
    }
    if let Some(minimum) = schema["minimum"].as_f64()
        && given < minimum
    {
        say(format!("should be greater than or equal to {minimum}"));
    }
    if let Some(maximum) = schema["maximum"].as_f64()
        && given > maximum
    {
        say(format!("should be less than or equal to {maximum}"));
    }
}

fn string(text: &str, schema: &Value, say: &mut dyn FnMut(String)) {
    let length = text.chars().count() as u64;
    if let Some(longest) = schema["maxLength"].as_u64()
        && length > longest
    {
        say(format!("Too long: may not be more than {longest} bytes"));
    }
    if let Some(shortest) = schema["minLength"].as_u64()
        && length < shortest
    {
        say(format!("should be at least {shortest} chars long"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
    {
        say(format!("should match '{pattern}'"));
    }
}

fn list(items: &[Value], schema: &Value, say: &mut dyn FnMut(String)) {
    let length = items.len() as u64;
    if let Some(most) = schema["maxItems"].as_u64()
        && length > most
    {
        say(format!("Too many: must have at most {most} items"));
    }
    if let Some(fewest) = schema["minItems"].as_u64()
        && length < fewest
    {
        say(format!("should have at least {fewest} items"));
    }
}

/// Items of a `set`, or keys of a `map`, that were there before: their index and what is repeated.
fn duplicates(items: &[Value], schema: &Value) -> Vec<(usize, Value)> {
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
            Some(
                keys.iter()
                    .filter_map(Value::as_str)
                    .map(|key| item[key].clone())
                    .collect(),
            )
        }
        _ => None,
    };
    let keys: Vec<Option<Value>> = items.iter().map(key).collect();
    keys.iter()
        .enumerate()
        .filter(|(i, key)| key.is_some() && keys[..*i].contains(key))
        .filter_map(|(i, key)| Some((i, key.clone()?)))
        .collect()
}

fn object(path: &str, fields: &Map<String, Value>, schema: &Value, found: &mut Vec<String>) {
    let at = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            found.push(format!("{}: Required value", at(name)));
        }
    }
    if let Some(most) = schema["maxProperties"].as_u64()
        && fields.len() as u64 > most
    {
        found.push(format!("{path}: Too many: must have at most {most} items"));
    }
    let values = schema
        .get("additionalProperties")
        .filter(|extra| extra.is_object());
    for (name, value) in fields {
        if let Some(schema) = properties(schema).and_then(|known| known.get(name)).or(values) {
            check(&at(name), value, schema, found);
        }
    }
}
