//! YAML in and out.
//!
//! The only module that names the YAML library: it is archived upstream, so it is fed trusted text only (what this project
//! generates, and files that an administrator mounts) and can be replaced in one place.

use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// Text that is no YAML, or not of the wanted shape. Says where.
#[derive(Debug)]
pub struct Error(serde_yaml::Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "YAML: {}", self.0)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// One document as text, ending in a newline.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    serde_yaml::to_string(value).map_err(Error)
}

/// Several documents as one text, each introduced by `---`.
pub fn to_string_all<T: Serialize>(values: &[T]) -> Result<String, Error> {
    let mut text = String::new();
    for value in values {
        text.push_str("---\n");
        text.push_str(&to_string(value)?);
    }
    Ok(text)
}

/// Reads one document.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_yaml::from_str(text).map_err(Error)
}

/// Reads all documents of a text; empty ones (a file that begins with `---`, comments only) are left out.
pub fn from_str_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = <serde_yaml::Value as serde::Deserialize>::deserialize(document).map_err(Error)?;
        if !value.is_null() {
            values.push(serde_yaml::from_value(value).map_err(Error)?);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn documents_round_trip_and_empty_ones_are_left_out() {
        let values = vec![json!({"a": 1}), json!({"b": ["x", "y"]})];
        let text = to_string_all(&values).unwrap();
        assert_eq!(from_str_all::<Value>(&text).unwrap(), values);
        assert_eq!(
            from_str_all::<Value>("---\n# nothing\n---\na: 1\n---\n").unwrap(),
            vec![json!({"a": 1})]
        );
    }

    #[test]
    fn an_error_says_where() {
        let error = from_str::<Value>("a: [1\nb: 2\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
