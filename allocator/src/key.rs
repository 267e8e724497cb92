//! The speakers' membership key, in installations that no operator looks after.
//!
//! It belongs to the Deployment and to the speakers' DaemonSet: it goes with the last of the two, so that nothing is left of
//! an installation that is removed, and speakers keep it while only the Deployment is replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use metallb_api::memberlist;
use metallb_api::names::{field_managers, labels};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use crate::owner::{Owner, look};

/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);
/// Somebody may have replaced a workload, or deleted the Secret.
const LOOK: Duration = Duration::from_secs(60);

/// Where the key is, and whose it is. An empty name stands for nothing.
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) secret: String,
    pub(crate) deployment: String,
    pub(crate) daemon_set: String,
}

/// What is to be done about the key.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Make(Vec<OwnerReference>),
    /// All owners that it shall have.
    Own(Vec<OwnerReference>),
}

/// Makes the Secret with a random key unless there is one, and sees to it that it is there and has its owners, for ever. A
/// key is never overwritten, and a Secret that somebody else made is never touched.
pub(crate) async fn keep(client: Client, place: Place) {
    let mut told = false;
    loop {
        let pause = match look_after(&client, &place).await {
            Ok(()) => {
                told = false;
                LOOK
            }
            Err(error) => {
                if !told {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        name = place.secret,
                        "the membership key is not as it should be; without one, speakers talk in the clear"
                    );
                }
                told = true;
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn look_after(client: &Client, place: &Place) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    let there = api
        .get_metadata_opt(&place.secret)
        .await
        .context("read the Secret")?
        .map(|secret| secret.metadata);
    let deployment = match place.deployment.as_str() {
        "" => Owner::Unknown,
        name => look::<Deployment>(client.clone(), &place.namespace, name).await,
    };
    let daemon_set = match place.daemon_set.as_str() {
        "" => Owner::Unknown,
        name => look::<DaemonSet>(client.clone(), &place.namespace, name).await,
    };
    match decide(there.as_ref(), deployment, daemon_set) {
        Step::Nothing => Ok(()),
        Step::Make(owners) => make(&api, &place.secret, owners).await,
        Step::Own(owners) => {
            let metadata = there.unwrap_or_default();
            let patch = json!({"metadata": {
                // Somebody who changed the owners meanwhile is not undone.
                "resourceVersion": metadata.resource_version,
                "ownerReferences": owners,
            }});
            api.patch_metadata(&place.secret, &parameters(), &Patch::Merge(patch))
                .await
                .context("give the Secret its owners")?;
            tracing::info!(name = place.secret, "the membership key has its owners");
            Ok(())
        }
    }
}

fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(field_managers::CONTROLLER.to_owned()),
        ..PatchParams::default()
    }
}

fn decide(there: Option<&ObjectMeta>, deployment: Owner, daemon_set: Owner) -> Step {
    // Without its Deployment this process is about to end: what it made now would be left behind.
    if deployment == Owner::Gone {
        return Step::Nothing;
    }
    let owners = [deployment, daemon_set]
        .into_iter()
        .filter_map(|owner| match owner {
            Owner::There(reference) => Some(reference),
            Owner::Gone | Owner::Unknown => None,
        });
    let Some(secret) = there else {
        return Step::Make(owners.collect());
    };
    if !is_ours(secret) || secret.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    let mut all = secret.owner_references.clone().unwrap_or_default();
    let before = all.len();
    for owner in owners {
        if all.iter().all(|known| known.uid != owner.uid) {
            all.push(owner);
        }
    }
    if all.len() == before {
        Step::Nothing
    } else {
        Step::Own(all)
    }
}

fn marks() -> BTreeMap<String, String> {
    BTreeMap::from([(
        labels::MANAGED_BY.to_owned(),
        labels::MANAGED_BY_CONTROLLER.to_owned(),
    )])
}

fn is_ours(secret: &ObjectMeta) -> bool {
    let found = secret.labels.as_ref();
    marks()
        .iter()
        .all(|(label, value)| found.and_then(|all| all.get(label)) == Some(value))
}

async fn make(api: &Api<Secret>, name: &str, owners: Vec<OwnerReference>) -> anyhow::Result<()> {
    let mut random = [0; memberlist::KEY_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .ok()
        .context("the kernel gave no random bytes")?;
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(marks()),
        owner_references: Some(owners).filter(|owners| !owners.is_empty()),
        ..ObjectMeta::default()
    };
    let parameters = PostParams {
        field_manager: Some(field_managers::CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    match api
        .create(&parameters, &memberlist::secret(metadata, random))
        .await
    {
        Ok(_) => tracing::info!(name, "made the membership key"),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).context("create the Secret"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn reference(uid: &str) -> OwnerReference {
        OwnerReference {
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }
    }

    fn there(uid: &str) -> Owner {
        Owner::There(reference(uid))
    }

    fn references(uids: &[&str]) -> Vec<OwnerReference> {
        uids.iter().map(|uid| reference(uid)).collect()
    }

    fn ours(uids: &[&str]) -> ObjectMeta {
        ObjectMeta {
            labels: Some(marks()),
            owner_references: Some(references(uids)),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn the_key_is_made_and_owned() {
        let (deployment, daemon_set) = (|| there("deploy"), || there("set"));
        let cases = [
            (
                "first start",
                None,
                deployment(),
                daemon_set(),
                Step::Make(references(&["deploy", "set"])),
            ),
            (
                "no speakers yet",
                None,
                deployment(),
                Owner::Gone,
                Step::Make(references(&["deploy"])),
            ),
            (
                "no right to read owners",
                None,
                Owner::Unknown,
                Owner::Unknown,
                Step::Make(Vec::new()),
            ),
            ("being removed", None, Owner::Gone, Owner::Gone, Step::Nothing),
            (
                "being removed, with speakers",
                None,
                Owner::Gone,
                daemon_set(),
                Step::Nothing,
            ),
            (
                "as it should be",
                Some(ours(&["deploy", "set"])),
                deployment(),
                daemon_set(),
                Step::Nothing,
            ),
            (
                "the speakers came later",
                Some(ours(&["deploy"])),
                deployment(),
                daemon_set(),
                Step::Own(references(&["deploy", "set"])),
            ),
            (
                "the Deployment was replaced",
                Some(ours(&["old", "set"])),
                deployment(),
                daemon_set(),
                Step::Own(references(&["old", "set", "deploy"])),
            ),
            (
                "made by hand",
                Some(ObjectMeta::default()),
                deployment(),
                daemon_set(),
                Step::Nothing,
            ),
            (
                "on its way out",
                Some(ObjectMeta {
                    deletion_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
                    ..ours(&[])
                }),
                deployment(),
                daemon_set(),
                Step::Nothing,
            ),
        ];
        for (what, secret, deployment, daemon_set, step) in cases {
            assert_eq!(decide(secret.as_ref(), deployment, daemon_set), step, "{what}");
        }
    }
}
