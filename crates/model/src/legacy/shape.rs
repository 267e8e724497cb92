//! The keys of the text, and how its YAML is read: as `gopkg.in/yaml.v2` did, strictly.

use serde_json::{Map, Number, Value};

use crate::issue::{Finding, Reason};

/// One key of an entry.
pub(super) struct Field {
    /// Spellings; the first is the present one.
    names: &'static [&'static str],
    /// Name in the custom resource; empty: known, but nothing follows from it.
    becomes: &'static str,
    shape: Shape,
}

/// What a value must be.
enum Shape {
    /// A text. YAML reads some plain texts as numbers or booleans: those are taken as written.
    Text,
    /// A text; the empty one counts as unset.
    OptionalText,
    /// `layer2`, `bgp`, or `arp` and `ndp` of v0.2.
    Protocol,
    Integer,
    /// True or false, also as YAML 1.1 spells them.
    Boolean,
    Texts,
    Entries(&'static [Field]),
    /// Text to text.
    Labels,
}

const fn field(names: &'static [&'static str], becomes: &'static str, shape: Shape) -> Field {
    Field {
        names,
        becomes,
        shape,
    }
}

/// An entry of `address-pools`.
pub(super) const POOL: [Field; 7] = [
    field(&["name"], "", Shape::Text),
    field(&["protocol"], "protocol", Shape::Protocol),
    field(&["addresses", "cidr"], "addresses", Shape::Texts),
    field(&["avoid-buggy-ips"], "avoidBuggyIPs", Shape::Boolean),
    field(&["auto-assign"], "autoAssign", Shape::Boolean),
    field(
        &["bgp-advertisements", "advertisements"],
        "bgpAdvertisements",
        Shape::Entries(&ADVERTISEMENT),
    ),
    field(&["arp-network"], "", Shape::Text),
];

const ADVERTISEMENT: [Field; 4] = [
    field(&["aggregation-length"], "aggregationLength", Shape::Integer),
    field(&["aggregation-length-v6"], "aggregationLengthV6", Shape::Integer),
    field(&["localpref"], "localPref", Shape::Integer),
    field(&["communities"], "communities", Shape::Texts),
];

/// An entry of `peers`.
pub(super) const PEER: [Field; 12] = [
    field(&["my-asn"], "myASN", Shape::Integer),
    field(&["peer-asn"], "peerASN", Shape::Integer),
    field(&["peer-address"], "peerAddress", Shape::Text),
    field(&["source-address"], "sourceAddress", Shape::Text),
    field(&["peer-port"], "peerPort", Shape::Integer),
    field(&["hold-time"], "holdTime", Shape::OptionalText),
    field(&["keepalive-time"], "keepaliveTime", Shape::OptionalText),
    field(&["router-id"], "routerID", Shape::Text),
    field(
        &["node-selectors"],
        "nodeSelectors",
        Shape::Entries(&NODE_SELECTOR),
    ),
    field(&["password"], "password", Shape::Text),
    field(&["bfd-profile"], "bfdProfile", Shape::Text),
    field(&["ebgp-multihop"], "ebgpMultiHop", Shape::Boolean),
];

const NODE_SELECTOR: [Field; 2] = [
    field(&["match-labels"], "matchLabels", Shape::Labels),
    field(
        &["match-expressions"],
        "matchExpressions",
        Shape::Entries(&EXPRESSION),
    ),
];

const EXPRESSION: [Field; 3] = [
    field(&["key"], "key", Shape::Text),
    field(&["operator"], "operator", Shape::Text),
    field(&["values"], "values", Shape::Texts),
];

/// An entry of `bfd-profiles`.
pub(super) const BFD_PROFILE: [Field; 8] = [
    field(&["name"], "", Shape::Text),
    field(&["receive-interval"], "receiveInterval", Shape::Integer),
    field(&["transmit-interval"], "transmitInterval", Shape::Integer),
    field(&["detect-multiplier"], "detectMultiplier", Shape::Integer),
    field(&["echo-interval"], "echoInterval", Shape::Integer),
    field(&["echo-mode"], "echoMode", Shape::Boolean),
    field(&["passive-mode"], "passiveMode", Shape::Boolean),
    field(&["minimum-ttl"], "minimumTtl", Shape::Integer),
];

/// An entry as the spec of its custom resource.
pub(super) fn rewrite(entry: &Value, fields: &[Field], path: &str) -> Result<Map<String, Value>, Finding> {
    let empty = Map::new();
    let entry = match entry {
        Value::Object(entry) => entry,
        Value::Null => &empty,
        other => return Err(expected("a mapping of keys to values", other, path.to_owned())),
    };
    let mut spec = Map::new();
    let mut spelled: Vec<(&str, &str)> = Vec::new();
    for (key, value) in entry {
        let path = format!("{path}.{}", shown(key));
        let Some(field) = fields.iter().find(|field| field.names.contains(&key.as_str())) else {
            let known: Vec<&str> = fields.iter().map(|field| field.names[0]).collect();
            let message = format!("is no key of this entry; known are {}", known.join(", "));
            return Err(Finding::new(path, Reason::UnknownField, message));
        };
        if let Some((_, other)) = spelled.iter().find(|(name, _)| *name == field.names[0]) {
            let message = format!("says the same as {other}; remove one of them");
            return Err(Finding::new(path, Reason::DuplicateEntry, message));
        }
        spelled.push((field.names[0], key));
        if let Some(value) = field.shape.read(value, &path)?
            && !field.becomes.is_empty()
        {
            spec.insert(field.becomes.to_owned(), value);
        }
    }
    Ok(spec)
}

impl Shape {
    /// The value for the custom resource; `None` for null, which says nothing.
    fn read(&self, value: &Value, path: &str) -> Result<Option<Value>, Finding> {
        if value.is_null() {
            return Ok(None);
        }
        let wrong = |what: &str| expected(what, value, path.to_owned());
        Ok(Some(match self {
            Self::Text => Value::String(text(value).ok_or_else(|| wrong("a text"))?),
            Self::OptionalText => match text(value).ok_or_else(|| wrong("a text"))? {
                text if text.is_empty() => return Ok(None),
                text => Value::String(text),
            },
            Self::Protocol => {
                let protocol = text(value).ok_or_else(|| wrong("layer2 or bgp"))?;
                Value::String(match protocol.as_str() {
                    "arp" | "ndp" => "layer2".to_owned(),
                    _ => protocol,
                })
            }
            Self::Integer => {
                Value::Number(integer(value).ok_or_else(|| wrong("a whole number without quotes"))?)
            }
            Self::Boolean => Value::Bool(boolean(value).ok_or_else(|| wrong("true or false"))?),
            Self::Texts => {
                let list = value.as_array().ok_or_else(|| wrong("a list of texts"))?;
                let read = |(index, item): (usize, &Value)| {
                    let item_text = if item.is_null() {
                        Some(String::new())
                    } else {
                        text(item)
                    };
                    item_text
                        .map(Value::String)
                        .ok_or_else(|| expected("a text", item, format!("{path}[{index}]")))
                };
                Value::Array(list.iter().enumerate().map(read).collect::<Result<_, _>>()?)
            }
            Self::Entries(fields) => {
                let list = value.as_array().ok_or_else(|| wrong("a list of mappings"))?;
                let read =
                    |(index, item)| rewrite(item, fields, &format!("{path}[{index}]")).map(Value::Object);
                Value::Array(list.iter().enumerate().map(read).collect::<Result<_, _>>()?)
            }
            Self::Labels => {
                let labels = value
                    .as_object()
                    .ok_or_else(|| wrong("a mapping of labels to values"))?;
                let read = |(key, value): (&String, &Value)| {
                    let text = if value.is_null() {
                        Some(String::new())
                    } else {
                        text(value)
                    };
                    text.map(|text| (key.clone(), Value::String(text)))
                        .ok_or_else(|| expected("a text", value, format!("{path}.{}", shown(key))))
                };
                Value::Object(labels.iter().map(read).collect::<Result<_, _>>()?)
            }
        }))
    }
}

/// A scalar as the text that it was. Null is the empty text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn integer(value: &Value) -> Option<Number> {
    let number = value.as_number()?;
    if number.is_i64() || number.is_u64() {
        return Some(number.clone());
    }
    // YAML reads 1e3 as a float; the Go version took it for the integer.
    let float = number
        .as_f64()
        .filter(|float| float.fract() == 0.0 && float.abs() < 9.0e15)?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    Some(Number::from(float as i64))
}

/// YAML 1.1 has more spellings than the parser knows; they arrive as texts.
fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => match text.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A key for a message: shortened, without control characters.
pub(super) fn shown(key: &str) -> String {
    let mut shown: String = key.chars().filter(|c| !c.is_control()).take(64).collect();
    if shown.len() < key.len() {
        shown.push('…');
    }
    shown
}

/// The value itself is not shown: it may be a password.
fn expected(what: &str, value: &Value, path: String) -> Finding {
    let is = match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    let message = format!("is {is}; it must be {what}");
    Finding::new(path, Reason::InvalidSpec, message)
}
