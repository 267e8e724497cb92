//! The parts of `config/charts/metallb` that are generated, and what its tests need.
//!
//! Templates are written by hand; what must be the same as in the plain manifests and is long is generated from
//! `config/crd` and `config/manifests/metallb-native.yaml`: the CRDs, the rules of the roles, the excluded interfaces.

mod generate;
mod helm;
mod objects;

pub use generate::{CHART, generated};
pub use helm::{Helm, metallb_chart};
pub use objects::{by_id, native, normalised};

/// Root of the checkout.
pub use metallb_e2e::checkout::root;
