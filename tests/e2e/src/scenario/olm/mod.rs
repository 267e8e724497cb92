//! Installed through OLM: catalogs, bundles and approvals as users have them, on a cluster where nothing of ours is.
//!
//! OLM is brought up for a scenario and taken off at its end: it watches every namespace and would install again what other
//! scenarios take away.

pub mod demo;
mod install;
mod leftovers;
mod release;
mod rollout;
mod s1;
pub mod scorecard;
mod transfer;
mod upgrade;

pub use s1::s1;
pub use upgrade::upgrade;

use std::time::Duration;

use super::clean::OPERATOR;

/// The operator's package, and the beginning of its versions' names.
const PACKAGE: &str = "metallb-operator";
/// OLM asks again after seconds, and unpacks a bundle in a job of its own.
const PATIENCE: Duration = Duration::from_secs(240);
