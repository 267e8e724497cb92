//! BGP communities and their aliases.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::claims::Names;
use crate::issue::{Finding, Reason};
use crate::settle::{Contender, Origin};

/// `spec` of a `Community` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommunitySpec {
    /// Aliases that the object defines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communities: Option<Vec<CommunityAliasSpec>>,
}

/// One alias as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommunityAliasSpec {
    /// Name that advertisements use; unique over all objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `A:B` or `large:A:B:C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A BGP community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997: `A:B`, 16 bits each.
    Standard(u16, u16),
    /// RFC 8092: `large:A:B:C`, 32 bits each.
    Large(u32, u32, u32),
}

/// Why a text is no community.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommunityError {
    /// It has the form of a community, with a part that is out of range or no number.
    #[error(
        "\"{0}\" is not a community: write A:B with numbers up to 65535, or large:A:B:C with numbers up to 4294967295"
    )]
    Value(String),
    /// It has not the form of a community; it may be an alias.
    #[error("\"{0}\" is neither a community (A:B or large:A:B:C) nor a known alias")]
    Form(String),
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let wrong = || CommunityError::Value(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [a, b] => Ok(Self::Standard(
                number(a).ok_or_else(wrong)?,
                number(b).ok_or_else(wrong)?,
            )),
            ["large", a, b, c] => Ok(Self::Large(
                number(a).ok_or_else(wrong)?,
                number(b).ok_or_else(wrong)?,
                number(c).ok_or_else(wrong)?,
            )),
            [_, _, _, _] => Err(wrong()),
            _ => Err(CommunityError::Form(text.to_owned())),
        }
    }
}

/// Digits only: `parse` alone takes a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

impl fmt::Display for Community {
    /// As configured, so that it can be read again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(a, b) => write!(f, "{a}:{b}"),
            Self::Large(a, b, c) => write!(f, "large:{a}:{b}:{c}"),
        }
    }
}

/// Aliases that one source defines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Aliases(pub(crate) BTreeMap<String, Community>);

impl Aliases {
    pub(crate) fn parse(spec: &CommunitySpec) -> Result<Self, Finding> {
        let mut aliases = BTreeMap::new();
        for (index, alias) in spec.communities.iter().flatten().enumerate() {
            let field = |name: &str| format!("spec.communities[{index}].{name}");
            let name = alias.name.clone().unwrap_or_default();
            let text = alias.value.as_deref().unwrap_or_default();
            let community = text.parse().map_err(|error| {
                let message = match error {
                    CommunityError::Value(_) => error.to_string(),
                    CommunityError::Form(text) => {
                        format!("\"{text}\" is not a community: write A:B or large:A:B:C")
                    }
                };
                Finding::new(field("value"), Reason::InvalidCommunity, message)
            })?;
            if aliases.insert(name.clone(), community).is_some() {
                let message = format!("defines alias \"{name}\" a second time; remove one");
                return Err(Finding::new(field("name"), Reason::DuplicateEntry, message));
            }
        }
        Ok(Self(aliases))
    }
}

impl Contender for Aliases {
    type Ledger = Names;
    type Clash = String;

    fn clash(&self, ledger: &Names) -> Option<(usize, String)> {
        self.0
            .keys()
            .find_map(|name| ledger.get(name).map(|owner| (*owner, name.clone())))
    }

    fn take(&self, ledger: &mut Names, index: usize) {
        ledger.extend(self.0.keys().map(|name| (name.clone(), index)));
    }

    fn release(&self, ledger: &mut Names, _index: usize) {
        for name in self.0.keys() {
            ledger.remove(name);
        }
    }

    fn same_claims(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }

    fn explain(&self, name: &String, _winner: &Self, winner_origin: &Origin) -> Finding {
        let message = format!(
            "alias \"{name}\" is defined by {} too; rename or remove one of them",
            winner_origin.object
        );
        Finding::new("spec.communities", Reason::NameClash, message)
    }
}
