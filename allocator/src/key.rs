//! The speakers' membership key, in installations that no operator looks after.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::Context as _;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use metallb_api::names::objects::MEMBERLIST_SECRET_KEY;
use ring::rand::{SecureRandom as _, SystemRandom};

const KEY_BYTES: usize = 16;
const AGAIN: Duration = Duration::from_secs(10);

/// Makes the Secret `name` with a random key unless there is one, whatever it holds: a key is never overwritten. Tries
/// until it is there.
pub(crate) async fn ensure(client: Client, namespace: String, name: String) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    loop {
        match make(&api, &name).await {
            Ok(()) => return,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    name,
                    "there is no membership key; speakers talk in the clear until there is one"
                );
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn make(api: &Api<Secret>, name: &str) -> anyhow::Result<()> {
    if api.get_opt(name).await.context("read the Secret")?.is_some() {
        return Ok(());
    }
    let mut random = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .ok()
        .context("the kernel gave no random bytes")?;
    match api.create(&PostParams::default(), &secret(name, random)).await {
        Ok(_) => tracing::info!(name, "made the membership key"),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).context("create the Secret"),
    }
    Ok(())
}

fn secret(name: &str, random: [u8; KEY_BYTES]) -> Secret {
    let mut text = String::new();
    for byte in random {
        // Writing to a String does not fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(
            MEMBERLIST_SECRET_KEY.to_owned(),
            ByteString(text.into_bytes()),
        )])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_text_under_metallbs_name() {
        let secret = secret("memberlist", *b"\x00\xff23456789abcdef");
        let data = secret.data.unwrap();
        assert_eq!(
            data["secretkey"].0,
            b"00ff32333435363738396162636465666"[..32].to_vec()
        );
    }
}
