//! Secrets that `BGPPeer` objects refer to. They are read one by one (`get` by name): nothing here may list or watch Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use metallb_model::{SecretFacts, Sources};
use tokio::time::Instant;

/// A Secret that is there is looked at again after this time.
const PRESENT: Duration = Duration::from_secs(60);
/// One that is missing, or cannot be read, after this time at first, and twice as long each time up to [`PRESENT`].
const MISSING: Duration = Duration::from_secs(5);
/// Longest time a request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, PartialEq)]
enum Found {
    /// Nobody knows yet.
    Nothing,
    /// It does not exist.
    Missing,
    /// It does.
    Present(SecretFacts),
}

/// What is known of one Secret.
#[derive(Debug)]
struct Known {
    found: Found,
    asked: bool,
    /// When to ask again; `None` while a request is under way.
    due: Option<Instant>,
    pause: Duration,
}

/// All Secrets that are referred to.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    known: BTreeMap<String, Known>,
}

impl Secrets {
    /// These are referred to from now on, no others.
    pub(crate) fn want(&mut self, names: &BTreeSet<&str>, now: Instant) {
        self.known.retain(|name, _| names.contains(name.as_str()));
        for name in names {
            self.known.entry((*name).to_owned()).or_insert(Known {
                found: Found::Nothing,
                asked: false,
                due: Some(now),
                pause: MISSING,
            });
        }
    }

    /// Who is to be asked about now; counts as under way.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<String> {
        let due = self.known.iter_mut();
        due.filter(|(_, known)| known.due.is_some_and(|due| due <= now))
            .map(|(name, known)| {
                known.due = None;
                name.clone()
            })
            .collect()
    }

    /// An answer. Returns whether anything is new, and when to ask again.
    pub(crate) fn answered(
        &mut self,
        name: &str,
        answer: Result<Option<SecretFacts>, String>,
        now: Instant,
    ) -> (bool, Option<Duration>) {
        let Some(known) = self.known.get_mut(name) else {
            return (false, None);
        };
        let first = !std::mem::replace(&mut known.asked, true);
        let pause = if matches!(answer, Ok(Some(_))) {
            known.pause = MISSING;
            PRESENT
        } else {
            let pause = known.pause;
            known.pause = (pause * 2).min(PRESENT);
            pause
        };
        known.due = Some(now + pause);
        let changed = match answer {
            Ok(facts) => {
                let found = facts.map_or(Found::Missing, Found::Present);
                let changed = known.found != found;
                known.found = found;
                changed
            }
            // What was known before still is.
            Err(error) => {
                if first {
                    tracing::warn!(
                        error,
                        name,
                        "a Secret that a BGPPeer refers to could not be read, trying again"
                    );
                }
                false
            }
        };
        (changed || first, Some(pause))
    }

    /// Whether each was asked about at least once.
    pub(crate) fn all_asked(&self) -> bool {
        self.known.values().all(|known| known.asked)
    }

    /// Puts in what is known. While something is not, references are not judged.
    pub(crate) fn fill(&self, sources: &mut Sources) {
        sources.secrets_known = self.known.values().all(|known| known.found != Found::Nothing);
        sources.secrets = self
            .known
            .iter()
            .filter_map(|(name, known)| match &known.found {
                Found::Present(facts) => Some((name.clone(), facts.clone())),
                Found::Nothing | Found::Missing => None,
            })
            .collect();
    }
}

/// Reads one Secret.
pub(crate) async fn read(client: Client, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let facts = |secret: Secret| SecretFacts {
        type_: secret.type_.unwrap_or_default(),
        has_password: secret.data.is_some_and(|data| data.contains_key("password")),
    };
    match tokio::time::timeout(REQUEST, api.get_opt(name)).await {
        Ok(Ok(secret)) => Ok(secret.map(facts)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_at_first_sight_then_ever_more_seldom_while_missing() {
        let mut secrets = Secrets::default();
        let mut now = Instant::now();
        assert!(
            secrets.all_asked() && secrets.due(now).is_empty(),
            "nobody refers to any: silence"
        );
        let mut sources = Sources::default();
        secrets.fill(&mut sources);
        assert!(sources.secrets_known);

        secrets.want(&BTreeSet::from(["bgp"]), now);
        assert_eq!(secrets.due(now), ["bgp"]);
        assert!(secrets.due(now).is_empty(), "under way");
        secrets.fill(&mut sources);
        assert!(!sources.secrets_known && !secrets.all_asked());
        let mut pauses = Vec::new();
        for round in 0..6 {
            let (news, pause) = secrets.answered("bgp", Ok(None), now);
            assert_eq!(news, round == 0, "said once");
            let pause = pause.expect("again");
            pauses.push(pause.as_secs());
            assert!(secrets.due(now).is_empty());
            now += pause;
            assert_eq!(secrets.due(now), ["bgp"]);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        secrets.fill(&mut sources);
        assert!(sources.secrets_known && sources.secrets.is_empty());

        let facts = SecretFacts {
            type_: "kubernetes.io/basic-auth".into(),
            has_password: true,
        };
        assert_eq!(
            secrets.answered("bgp", Ok(Some(facts.clone())), now),
            (true, Some(PRESENT))
        );
        assert_eq!(
            secrets.answered("bgp", Err("away".into()), now),
            (false, Some(MISSING))
        );
        secrets.fill(&mut sources);
        assert_eq!(
            sources.secrets.get("bgp"),
            Some(&facts),
            "an outage takes nothing away"
        );
        secrets.want(&BTreeSet::new(), now);
        assert_eq!(secrets.answered("bgp", Ok(None), now), (false, None));
    }
}
