//! The key of the speakers' membership.

use crate::Installation;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use metallb_api::names::{labels, objects};
use std::collections::BTreeMap;

/// Random bytes that a key is made of.
pub const KEY_BYTES: usize = 16;

/// The Secret `metallb-memberlist` around random bytes from outside. It is created once and never overwritten: another key
/// would part the speakers that have it from those that do not yet.
pub fn secret(installation: &Installation, random: [u8; KEY_BYTES]) -> Secret {
    Secret {
        metadata: installation.namespaced(objects::MEMBERLIST_SECRET, Some(labels::COMPONENT_SPEAKER)),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(
            objects::MEMBERLIST_SECRET_KEY.to_owned(),
            ByteString(unpadded_base64(random).into_bytes()),
        )])),
        ..Default::default()
    }
}

/// Text, as MetalLB's keys are: 22 characters for 16 bytes.
fn unpadded_base64(bytes: [u8; KEY_BYTES]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for sextet in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * sextet) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::unpadded_base64;

    #[test]
    fn keys_are_base64_without_padding() {
        assert_eq!(unpadded_base64([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(unpadded_base64([255; 16]), "/////////////////////w");
        assert_eq!(unpadded_base64(*b"sixteen bytes ok"), "c2l4dGVlbiBieXRlcyBvaw");
    }
}
