//! Where in its object a thing is written, and so how its fields are called.

use crate::issue::Finding;

/// Where in its object a thing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The object is the thing.
    Object,
    /// An entry of the `ConfigMap`, such as `data.config: address-pools[2]`.
    Entry(String),
    /// An alias of the `ConfigMap`, which has no fields.
    Alias(String),
}

impl Place {
    pub(crate) fn entry(path: String) -> Self {
        Self::Entry(path)
    }

    pub(crate) fn alias(path: String) -> Self {
        Self::Alias(path)
    }

    /// Path of the thing itself.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Object => "spec",
            Self::Entry(path) | Self::Alias(path) => path,
        }
    }

    /// The finding with its field, which is named as in a custom resource, named as it is written here.
    pub(crate) fn locate(&self, mut finding: Finding) -> Finding {
        match self {
            Self::Object => {}
            Self::Entry(path) => {
                let field = finding.field.strip_prefix("spec").unwrap_or(&finding.field);
                let field = field.strip_prefix("metadata").unwrap_or(field);
                finding.field = format!("{path}{}", hyphenated(field));
            }
            Self::Alias(path) => finding.field.clone_from(path),
        }
        finding
    }
}

/// `.bgpAdvertisements[0].aggregationLengthV6` as `.bgp-advertisements[0].aggregation-length-v6`.
fn hyphenated(field: &str) -> String {
    let mut out = String::with_capacity(field.len() + 4);
    let mut after_capital = false;
    for c in field.chars() {
        if c.is_ascii_uppercase() && !after_capital && !out.is_empty() {
            out.push('-');
        }
        after_capital = c.is_ascii_uppercase();
        out.push(c.to_ascii_lowercase());
    }
    // The two keys that do not follow the rule.
    out.replace("local-pref", "localpref")
        .replace("ebgp-multi-hop", "ebgp-multihop")
}
