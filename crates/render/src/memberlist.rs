//! The key of the speakers' membership, marked as part of an installation.

use crate::Installation;
use k8s_openapi::api::core::v1::Secret;
use metallb_api::{
    memberlist,
    names::{labels, objects},
};

pub use memberlist::KEY_BYTES;

/// The Secret `metallb-memberlist` around random bytes from outside.
pub fn secret(installation: &Installation, random: [u8; KEY_BYTES]) -> Secret {
    memberlist::secret(
        installation.namespaced(objects::MEMBERLIST_SECRET, Some(labels::COMPONENT_SPEAKER)),
        random,
    )
}
