//! The key of the speakers' membership, as a Secret. Whoever makes it (operator or allocator) makes the same one.

use crate::names::objects;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use std::collections::BTreeMap;

/// Random bytes that a key is made of.
pub const KEY_BYTES: usize = 16;

/// The key's text: base64 without padding, 22 characters, as MetalLB's own keys are.
pub fn secret_data(random: [u8; KEY_BYTES]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(22);
    for chunk in random.chunks(3) {
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

/// The Secret with this metadata around random bytes from outside. It is created once and never overwritten: another key
/// would part the speakers that have it from those that do not yet.
pub fn secret(metadata: ObjectMeta, random: [u8; KEY_BYTES]) -> Secret {
    Secret {
        metadata,
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(
            objects::MEMBERLIST_SECRET_KEY.to_owned(),
            ByteString(secret_data(random).into_bytes()),
        )])),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_base64_without_padding() {
        assert_eq!(secret_data([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(secret_data([255; 16]), "/////////////////////w");
        assert_eq!(secret_data(*b"sixteen bytes ok"), "c2l4dGVlbiBieXRlcyBvaw");
    }

    #[test]
    fn the_key_is_text_under_metallbs_name() {
        let metadata = ObjectMeta {
            name: Some("memberlist".into()),
            ..Default::default()
        };
        let secret = secret(metadata, *b"sixteen bytes ok");
        assert_eq!(secret.metadata.name.as_deref(), Some("memberlist"));
        assert_eq!(secret.data.unwrap()["secretkey"].0, b"c2l4dGVlbiBieXRlcyBvaw");
    }
}
