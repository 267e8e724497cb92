//! YAML that users wrote, as JSON.
//!
//! The text is whatever somebody put into a `ConfigMap`: it may be a bomb (a few lines of aliases that stand for billions of
//! values). So it is bounded before it is parsed, and what it stands for is counted while it is read.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Longest text in bytes: a `ConfigMap` holds no more.
pub const TEXT_MAX: usize = 1 << 20;
/// Values and indicators in a text. The parser keeps some hundred bytes for each.
const VALUES_MAX: usize = 150_000;
/// Brackets within brackets: the parser's work grows with their square.
const NESTING_MAX: usize = 1_000;
/// Bytes of all scalars together, aliases written out.
const BYTES_MAX: usize = 2 << 20;

/// The JSON that `text` stands for. An empty text is an empty object, as `MetalLB` had it; keys that are numbers or booleans are
/// read as text, `<<` merges.
///
/// # Errors
/// A sentence that says where the text is no YAML, or which bound it breaks.
pub fn from_yaml(text: &str) -> Result<Value, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("the text has {} bytes, more than {TEXT_MAX}", text.len()));
    }
    if indicators(text) > VALUES_MAX {
        return Err(format!("the text has more than {VALUES_MAX} values"));
    }
    if nesting(text) > NESTING_MAX {
        return Err(format!(
            "the text has more than {NESTING_MAX} brackets within each other"
        ));
    }
    match metallb_api::yaml::from_str::<Bounded>(text) {
        Ok(Bounded(Value::Null)) => Ok(Value::Object(Map::new())),
        Ok(Bounded(value)) => Ok(value),
        Err(error) => Err(error.to_string()),
    }
}

/// An upper bound for the values of a text, without parsing: each needs one of these, or a line of its own.
fn indicators(text: &str) -> usize {
    let bytes = text.as_bytes();
    let separates = |at: usize| bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace);
    let mut count = 1;
    for (at, byte) in bytes.iter().enumerate() {
        count += match byte {
            b'[' | b']' | b'{' | b'}' | b',' | b'\n' => 1,
            b':' | b'-' | b'?' if separates(at) => 1,
            _ => 0,
        };
    }
    count
}

/// An upper bound for the depth of brackets, without parsing (brackets in quotes count too).
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

struct Bounded(Value);

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let budget = Budget {
            values: Cell::new(VALUES_MAX),
            bytes: Cell::new(BYTES_MAX),
        };
        Read(&budget).deserialize(from).map(Bounded)
    }
}

/// What may still be made.
struct Budget {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    fn spend<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let (values, left) = (
            self.values.get().checked_sub(1),
            self.bytes.get().checked_sub(bytes),
        );
        let (Some(values), Some(left)) = (values, left) else {
            return Err(E::custom(format_args!(
                "with its aliases written out it has more than {VALUES_MAX} values or {BYTES_MAX} bytes"
            )));
        };
        self.values.set(values);
        self.bytes.set(left);
        Ok(())
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Read<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.deserialize(from)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(value.into())
    }

    // Beyond 64 bits: as text, which no number field takes.
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(0)?;
        // JSON has no infinity and no NaN.
        Ok(Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut fields = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = map.next_key_seed(self)? {
            let key = match key {
                Value::String(text) => text,
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(A::Error::custom(format_args!("{key} cannot be a key")));
                }
                scalar => scalar.to_string(),
            };
            let value = map.next_value_seed(self)?;
            if key == "<<" {
                merged.push(value);
            } else if fields.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
        }
        for value in merged {
            merge(&mut fields, value).map_err(A::Error::custom)?;
        }
        Ok(Value::Object(fields))
    }
}

/// YAML's merge key: what is not there itself is taken from the map, or from the first of several maps that has it.
fn merge(into: &mut Map<String, Value>, value: Value) -> Result<(), &'static str> {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                into.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) => list.into_iter().try_for_each(|value| match value {
            Value::Object(_) => merge(into, value),
            _ => Err("<< merges maps only"),
        }),
        _ => Err("<< merges maps only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fmt::Write as _;

    #[test]
    fn yaml_reads_as_json() {
        for (text, value) in [
            ("", json!({})),
            ("# nothing\n", json!({})),
            (
                "a: 1\nb: [x, 2.5, true, null]\n",
                json!({"a": 1, "b": ["x", 2.5, true, null]}),
            ),
            (
                "c:\n  no-export: 65535:65281\n  65000: '1:2'\n",
                json!({"c": {"no-export": "65535:65281", "65000": "1:2"}}),
            ),
            ("auto-assign: yes\n", json!({"auto-assign": "yes"})),
            (
                "n: 99999999999999999999999\n",
                json!({"n": "99999999999999999999999"}),
            ),
            (
                "base: &b {x: 1, y: 2}\nd:\n  <<: *b\n  y: 3\n",
                json!({"base": {"x": 1, "y": 2}, "d": {"x": 1, "y": 3}}),
            ),
            ("- a\n", json!(["a"])),
        ] {
            assert_eq!(from_yaml(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        for (text, part) in [
            ("a: [1\nb: 2\n", "line 2"),
            ("a: 1\na: 2\n", "the key \"a\" is there twice"),
            ("? [a]\n: 1\n", "[\"a\"] cannot be a key"),
            ("d: {<<: 7}\n", "<< merges maps only"),
            ("a: *nothing\n", "unknown anchor"),
            ("\tx: 1\n", "YAML"),
        ] {
            let error = from_yaml(text).expect_err(text);
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_are_refused_before_they_take_memory() {
        let laughs = {
            let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
            for n in 1..12 {
                let refer = vec![format!("*a{}", n - 1); 9].join(", ");
                writeln!(text, "a{n}: &a{n} [{refer}]").expect("a string");
            }
            text
        };
        let wide = format!(
            "a: &a [{}]\nb: [{}]\n",
            "x, ".repeat(20_000),
            "*a, ".repeat(20_000)
        );
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(20_000));
        let cases = [
            ("laughs", laughs, "repetition limit"),
            ("wide", wide, "aliases written out"),
            ("long", long, "aliases written out"),
            ("deep", "[".repeat(100_000), "within each other"),
            (
                "deep and closed",
                "[".repeat(900) + &"]".repeat(900),
                "recursion limit",
            ),
            (
                "deep in blocks",
                (0..1000).map(|n| " ".repeat(n) + "a:\n").collect(),
                "recursion limit",
            ),
            ("flow", "[".repeat(TEXT_MAX), "more than 150000 values"),
            ("lists", "[],".repeat(TEXT_MAX / 3), "more than 150000 values"),
            ("lines", "\n".repeat(TEXT_MAX), "more than 150000 values"),
            ("too long", "a".repeat(TEXT_MAX + 1), "bytes, more than"),
        ];
        for (name, text, part) in cases {
            let error = from_yaml(&text).expect_err(name);
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn a_large_honest_configuration_is_read() {
        let mut text = "address-pools:\n".to_owned();
        for n in 0..10_000 {
            let (third, second) = (n % 256, n / 256);
            writeln!(
                text,
                "- name: pool-{n}\n  protocol: layer2\n  addresses:\n  - 10.{second}.{third}.0/28"
            )
            .expect("a string");
        }
        assert!(text.len() < TEXT_MAX, "{}", text.len());
        let value = from_yaml(&text).expect("honest");
        assert_eq!(value["address-pools"].as_array().map(Vec::len), Some(10_000));
    }
}
