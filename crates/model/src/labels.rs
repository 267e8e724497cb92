//! Labels and label selectors, as `metav1.LabelSelector` defines them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::issue::{Finding, Reason};

/// `metadata.labels` of an object.
pub type Labels = BTreeMap<String, String>;

/// `metav1.LabelSelector` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelectorSpec {
    /// Labels that must be there with exactly these values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements; all must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<ExpressionSpec>>,
}

impl SelectorSpec {
    /// The same with the values of expressions in order, and empty lists as none.
    fn normal(&self) -> Self {
        let expressions = self.match_expressions.iter().flatten().cloned();
        let expressions: Vec<ExpressionSpec> = expressions
            .map(|mut expression| {
                if let Some(values) = &mut expression.values {
                    values.sort();
                }
                expression.values = expression.values.filter(|values| !values.is_empty());
                expression
            })
            .collect();
        Self {
            match_labels: self.match_labels.clone().filter(|labels| !labels.is_empty()),
            match_expressions: Some(expressions).filter(|list| !list.is_empty()),
        }
    }
}

/// `metav1.LabelSelectorRequirement` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExpressionSpec {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values of `In` and `NotIn`; empty for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// Why a selector is malformed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// The key is no label key.
    #[error("\"{0}\" is not a label key: write [prefix/]name with letters, digits, '-', '_' and '.'")]
    Key(String),
    /// The value is no label value.
    #[error(
        "\"{value}\" of key \"{key}\" is not a label value: at most 63 letters, digits, '-', '_' and '.'"
    )]
    Value {
        /// Label key.
        key: String,
        /// The wrong value.
        value: String,
    },
    /// Unknown operator.
    #[error("operator \"{operator}\" of key \"{key}\" is unknown: use In, NotIn, Exists or DoesNotExist")]
    Operator {
        /// Label key.
        key: String,
        /// As written.
        operator: String,
    },
    /// `In` or `NotIn` without values.
    #[error("operator {operator} of key \"{key}\" needs at least one value")]
    NoValues {
        /// Label key.
        key: String,
        /// As written.
        operator: String,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("operator {operator} of key \"{key}\" takes no values")]
    Values {
        /// Label key.
        key: String,
        /// As written.
        operator: String,
    },
    /// The same expression, or the same value in one, twice.
    #[error("the expression on key \"{0}\" repeats an entry")]
    Duplicate(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

/// A validated label selector. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Sorted, so that selectors that say the same in another order are equal.
    requirements: BTreeSet<(String, Requirement)>,
}

impl Selector {
    /// Validates a selector.
    pub fn new(spec: &SelectorSpec) -> Result<Self, SelectorError> {
        let mut requirements = BTreeSet::new();
        for (key, value) in spec.match_labels.iter().flatten() {
            check_key(key)?;
            check_value(key, value)?;
            requirements.insert((key.clone(), Requirement::In(BTreeSet::from([value.clone()]))));
        }
        let mut seen = BTreeSet::new();
        for expression in spec.match_expressions.iter().flatten() {
            let requirement = Requirement::new(expression)?;
            if !seen.insert((expression.key.clone(), requirement.clone())) {
                return Err(SelectorError::Duplicate(expression.key.clone()));
            }
            requirements.insert((expression.key.clone(), requirement));
        }
        Ok(Self { requirements })
    }

    /// Whether an object with these labels is selected. As in Kubernetes, `NotIn` holds for an absent key.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|(key, requirement)| {
            let value = labels.get(key);
            match requirement {
                Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                Requirement::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
                Requirement::Exists => value.is_some(),
                Requirement::DoesNotExist => value.is_none(),
            }
        })
    }

    /// Validates a list of alternatives; a repeated one is refused, as the Go version does.
    pub(crate) fn list(specs: Option<&Vec<SelectorSpec>>, field: &str) -> Result<Vec<Self>, Finding> {
        let mut selectors: Vec<Self> = Vec::new();
        // As written, not as it selects: the same said in labels and in expressions is no repetition for Go.
        let mut seen: BTreeMap<SelectorSpec, usize> = BTreeMap::new();
        for (index, spec) in specs.into_iter().flatten().enumerate() {
            let field = format!("{field}[{index}]");
            let selector =
                Self::new(spec).map_err(|error| Finding::new(&field, Reason::InvalidSelector, error))?;
            if let Some(first) = seen.insert(spec.normal(), index) {
                let message = format!("repeats the selector at index {first}; remove one of them");
                return Err(Finding::new(field, Reason::DuplicateEntry, message));
            }
            selectors.push(selector);
        }
        Ok(selectors)
    }
}

impl Requirement {
    fn new(spec: &ExpressionSpec) -> Result<Self, SelectorError> {
        check_key(&spec.key)?;
        let key = || spec.key.clone();
        let operator = || spec.operator.clone();
        let written = spec.values.as_deref().unwrap_or_default();
        for value in written {
            check_value(&spec.key, value)?;
        }
        let values: BTreeSet<String> = written.iter().cloned().collect();
        if values.len() != written.len() {
            return Err(SelectorError::Duplicate(key()));
        }
        match spec.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => Err(SelectorError::NoValues {
                key: key(),
                operator: operator(),
            }),
            "In" => Ok(Self::In(values)),
            "NotIn" => Ok(Self::NotIn(values)),
            "Exists" | "DoesNotExist" if !values.is_empty() => Err(SelectorError::Values {
                key: key(),
                operator: operator(),
            }),
            "Exists" => Ok(Self::Exists),
            "DoesNotExist" => Ok(Self::DoesNotExist),
            _ => Err(SelectorError::Operator {
                key: key(),
                operator: operator(),
            }),
        }
    }
}

/// `validation.IsQualifiedName` of apimachinery: optional DNS-1123 subdomain, `/`, name of at most 63 characters.
fn check_key(key: &str) -> Result<(), SelectorError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_ok = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    });
    if prefix_ok && !name.is_empty() && is_label_name(name) {
        Ok(())
    } else {
        Err(SelectorError::Key(key.to_owned()))
    }
}

fn check_value(key: &str, value: &str) -> Result<(), SelectorError> {
    if value.is_empty() || is_label_name(value) {
        Ok(())
    } else {
        Err(SelectorError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

fn is_label_name(text: &str) -> bool {
    text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}
