//! Watches that never end: streaming lists where the API server has them, pauses and log lines where it fails.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::{Stream, StreamExt as _, future, stream};
use kube::{Api, Resource, ResourceExt as _};
use kube_runtime::watcher::{self, Config, Event};
use serde::de::DeserializeOwned;

use crate::outage::{Failure, Patience};

/// Page of the list fall-back. Small pages keep the parse garbage small: it is the transient, not the kept objects,
/// that decides a speaker's memory.
const PAGE: u32 = 50;

/// Set once the API server has refused a streaming list (feature gate `WatchList` off, as by default in 1.33): the
/// watcher itself would ask in the same way for ever.
static STREAMING_REFUSED: AtomicBool = AtomicBool::new(false);

type Inner<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// What a watch sees.
#[derive(Debug)]
pub enum Observed<K> {
    /// What kube's watcher says.
    Event(Event<K>),
    /// The API server knows no such kind (404). Repeated at every attempt.
    NotServed,
    /// We may not look (403). Repeated at every attempt.
    Forbidden,
}

struct State<K> {
    api: Api<K>,
    config: Config,
    inner: Inner<K>,
    streaming: bool,
    patience: Patience,
    /// Due before the next attempt.
    pause: Option<Failure>,
    /// The last answer was "too old": twice in a row is no progress.
    expired: bool,
}

/// Watches `api` for ever. `what` names the watch in log lines (`"services"`).
///
/// Errors are logged and tried again; a returning API server is noticed within two seconds by all watches of the process
/// together. As in kube, `Init` opens a fresh list, `InitApply` carries its objects, and after `InitDone` whatever was
/// not listed is gone ([`Relist`] helps).
pub fn watch<K>(what: &'static str, api: Api<K>, config: Config) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    observe(what, api, config).filter_map(|observed| {
        future::ready(match observed {
            Observed::Event(event) => Some(event),
            Observed::NotServed | Observed::Forbidden => None,
        })
    })
}

/// As [`watch`], with refusals told. After a refusal comes a fresh list, so that its end is noticed.
pub fn observe<K>(what: &'static str, api: Api<K>, config: Config) -> impl Stream<Item = Observed<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let streaming = !STREAMING_REFUSED.load(Ordering::Relaxed);
    let state = State {
        inner: start(&api, &config, streaming),
        api,
        config,
        streaming,
        patience: Patience::new(),
        pause: None,
        expired: false,
    };
    stream::unfold(state, move |mut state| async move {
        loop {
            if let Some(failure) = state.pause.take() {
                state.patience.pause(failure).await;
            }
            state.patience.attempt();
            let error = match state.inner.next().await {
                Some(Ok(event)) => {
                    // `Init` may come before any request was sent.
                    if !matches!(event, Event::Init) {
                        state.expired = false;
                        let failures = state.patience.success();
                        if failures > 0 {
                            tracing::info!(watch = what, failures, "the watch works again");
                        }
                    }
                    return Some((Observed::Event(event), state));
                }
                Some(Err(error)) => error,
                None => {
                    state.restart();
                    continue;
                }
            };
            match classify(&error) {
                Answer::NoStreaming if state.streaming => {
                    STREAMING_REFUSED.store(true, Ordering::Relaxed);
                    tracing::info!(
                        watch = what,
                        "the API server has no streaming lists; listing in pages"
                    );
                    state.streaming = false;
                    state.restart();
                }
                // A restarted API server knows no history: that is an answer, the list is fetched at once.
                Answer::Expired if !std::mem::replace(&mut state.expired, true) => {
                    tracing::debug!(watch = what, %error, "too old to continue; listing again");
                    state.restart();
                }
                Answer::NotServed => {
                    if state.patience.failures() == 0 {
                        tracing::info!(
                            watch = what,
                            "the kind is not served; asking again now and then, in case its CRD is installed"
                        );
                    }
                    state.restart();
                    state.pause = Some(Failure::Refused);
                    return Some((Observed::NotServed, state));
                }
                Answer::Forbidden => {
                    state.report(what, &error);
                    state.restart();
                    state.pause = Some(Failure::Refused);
                    return Some((Observed::Forbidden, state));
                }
                Answer::NoStreaming | Answer::Expired | Answer::None => {
                    state.report(what, &error);
                    state.pause = Some(Failure::Unreachable);
                }
            }
        }
    })
}

impl<K> State<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// From the list on.
    fn restart(&mut self) {
        self.inner = start(&self.api, &self.config, self.streaming);
    }

    /// The first failure of an outage is worth a warning; what follows is the same outage.
    fn report(&self, what: &'static str, error: &watcher::Error) {
        let failures = self.patience.failures();
        let error = with_causes(error);
        if failures == 0 || failures.is_multiple_of(50) {
            tracing::warn!(watch = what, error, failures, "the watch failed, trying again");
        } else {
            tracing::debug!(watch = what, error, failures, "the watch failed, trying again");
        }
    }
}

fn start<K>(api: &Api<K>, config: &Config, streaming: bool) -> Inner<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = if streaming {
        config.clone().streaming_lists()
    } else {
        config.clone().page_size(PAGE)
    };
    Box::pin(watcher::watcher(api.clone(), config))
}

/// The error and what is behind it: "client error (Connect)" alone tells nobody what to do.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// What the API server has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing that tells anything about the request.
    None,
    /// It does not know streaming lists.
    NoStreaming,
    /// What we know is too old to go on from.
    Expired,
    NotServed,
    Forbidden,
}

fn classify(error: &watcher::Error) -> Answer {
    let started = matches!(
        error,
        watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_)
    );
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => return Answer::None,
    };
    match code {
        400 | 422 if started => Answer::NoStreaming,
        410 => Answer::Expired,
        404 => Answer::NotServed,
        403 => Answer::Forbidden,
        _ => Answer::None,
    }
}

/// Namespace and name, the key of an object within its kind.
pub type Key = (String, String);

/// Follows a fresh list: what was known before and is not listed again was deleted while nobody looked.
///
/// Holds keys only while a list is under way.
#[derive(Debug, Default)]
pub struct Relist {
    seen: Option<BTreeSet<Key>>,
}

impl Relist {
    /// `Event::Init`: a list begins.
    pub fn begin(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    /// `Event::InitApply`: `object` is still there.
    pub fn saw<K: Resource>(&mut self, object: &K) {
        if let Some(seen) = &mut self.seen {
            seen.insert((object.namespace().unwrap_or_default(), object.name_any()));
        }
    }

    /// `Event::InitDone`: those of `known` that the list did not hold.
    pub fn gone<'a>(&mut self, known: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Key> {
        let Some(seen) = self.seen.take() else {
            return Vec::new();
        };
        known
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .filter(|key| !seen.contains(key))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::Namespace;
    use kube::core::Status;

    #[test]
    fn answers_are_told_from_silence() {
        let status = |code| {
            Box::new(Status {
                code,
                ..Status::default()
            })
        };
        let api = |code| kube::Error::Api(status(code));
        let silent = kube::Error::LinesCodecMaxLineLengthExceeded;
        for (error, answer) in [
            (watcher::Error::InitialListFailed(api(404)), Answer::NotServed),
            (watcher::Error::WatchStartFailed(api(404)), Answer::NotServed),
            (watcher::Error::WatchStartFailed(api(403)), Answer::Forbidden),
            (watcher::Error::WatchStartFailed(api(422)), Answer::NoStreaming),
            (watcher::Error::WatchStartFailed(api(410)), Answer::Expired),
            (watcher::Error::WatchError(status(410)), Answer::Expired),
            (watcher::Error::InitialListFailed(api(410)), Answer::Expired),
            (watcher::Error::InitialListFailed(api(400)), Answer::None),
            (watcher::Error::WatchError(status(500)), Answer::None),
            (watcher::Error::WatchStartFailed(api(503)), Answer::None),
            (watcher::Error::WatchFailed(silent), Answer::None),
            (watcher::Error::NoResourceVersion, Answer::None),
        ] {
            assert_eq!(classify(&error), answer, "{error}");
        }
    }

    #[test]
    fn relist_names_what_vanished_and_only_after_a_list() {
        let named = |name: &str| Namespace {
            metadata: kube::api::ObjectMeta {
                name: Some(name.into()),
                ..Default::default()
            },
        };
        let mut relist = Relist::default();
        assert!(
            relist.gone([("", "a")].into_iter()).is_empty(),
            "no list was begun"
        );
        relist.begin();
        relist.saw(&named("a"));
        assert_eq!(
            relist.gone([("", "a"), ("", "b")].into_iter()),
            [(String::new(), "b".to_owned())]
        );
        assert!(
            relist.gone([("", "b")].into_iter()).is_empty(),
            "the list is over"
        );
    }
}
