//! Interface names that are never announced on.

use std::fmt;

use metallb_model::DEFAULT_EXCLUDED_INTERFACES;
use regex_lite::Regex;

/// A pattern that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "announcedInterfacesToExclude: {:?} is not a regular expression: {}",
            self.pattern, self.reason
        )
    }
}

impl std::error::Error for InvalidPattern {}

/// Patterns for interface names; a name that any of them matches anywhere is excluded.
#[derive(Clone, Debug)]
pub struct Exclusions(Vec<Regex>);

impl Exclusions {
    /// Compiles patterns. Those that are no regular expression are left out and returned beside the rest: one typo
    /// must not make every interface of a container runtime announce.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> (Self, Vec<InvalidPattern>) {
        let mut compiled = Vec::new();
        let mut invalid = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            match Regex::new(pattern) {
                Ok(regex) => compiled.push(regex),
                Err(error) => {
                    invalid.push(InvalidPattern {
                        pattern: pattern.to_owned(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        (Self(compiled), invalid)
    }

    /// Whether the interface must not be used.
    pub fn excludes(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }
}

impl Default for Exclusions {
    fn default() -> Self {
        Self::new(DEFAULT_EXCLUDED_INTERFACES).0
    }
}

impl PartialEq for Exclusions {
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .map(Regex::as_str)
            .eq(other.0.iter().map(Regex::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_patterns_compile_and_spare_real_nics() {
        let (default, invalid) = Exclusions::new(DEFAULT_EXCLUDED_INTERFACES);
        assert_eq!(invalid, vec![]);
        for name in [
            "lo",
            "docker0",
            "veth1a2b",
            "cali0",
            "cni0",
            "flannel.1",
            "kube-ipvs0",
            "lxc1",
            "dummy0",
        ] {
            assert!(default.excludes(name), "{name}");
        }
        for name in ["eth0", "ens3", "bond0", "lo1", "br0", "wlan0", "lan0"] {
            assert!(!default.excludes(name), "{name}");
        }
    }

    #[test]
    fn a_typo_is_named_and_the_other_patterns_hold() {
        let (exclusions, invalid) = Exclusions::new(["^a(", "^b"]);
        assert_eq!(invalid.len(), 1);
        assert!(invalid[0].to_string().contains("\"^a(\""), "{}", invalid[0]);
        assert!(exclusions.excludes("b0") && !exclusions.excludes("a0"));
        assert_eq!(exclusions, Exclusions::new(["^b"]).0);
    }
}
