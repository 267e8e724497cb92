//! The speakers' membership key, in installations that no operator looks after.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use metallb_api::memberlist;
use ring::rand::{SecureRandom as _, SystemRandom};

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
    let mut random = [0; memberlist::KEY_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .ok()
        .context("the kernel gave no random bytes")?;
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    match api
        .create(&PostParams::default(), &memberlist::secret(metadata, random))
        .await
    {
        Ok(_) => tracing::info!(name, "made the membership key"),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).context("create the Secret"),
    }
    Ok(())
}
