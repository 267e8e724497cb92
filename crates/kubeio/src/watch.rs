//! Watches that never end: streaming lists where the API server has them, back-off and log lines where it fails.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use kube::{Api, Resource, ResourceExt as _};
use kube_runtime::watcher::{self, Config, Event};
use serde::de::DeserializeOwned;

/// Page of the list fall-back. Small pages keep the parse garbage small: it is the transient, not the kept objects,
/// that decides a speaker's memory.
const PAGE: u32 = 50;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// A returning API server is noticed within this time by every watch.
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Set once the API server has refused a streaming list (feature gate `WatchList` off, as by default in 1.33): the
/// watcher itself would ask in the same way for ever.
static STREAMING_REFUSED: AtomicBool = AtomicBool::new(false);

type Inner<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

struct State<K> {
    api: Api<K>,
    config: Config,
    inner: Inner<K>,
    streaming: bool,
    failures: u32,
}

/// Watches `api` for ever. `what` names the watch in log lines (`"services"`).
///
/// Errors are logged and retried with a jittered back-off of at most eight seconds. As in kube, `Init` opens a fresh
/// list, `InitApply` carries its objects, and after `InitDone` whatever was not listed is gone ([`Relist`] helps).
pub fn watch<K>(what: &'static str, api: Api<K>, config: Config) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let streaming = !STREAMING_REFUSED.load(Ordering::Relaxed);
    let state = State {
        inner: start(&api, &config, streaming),
        api,
        config,
        streaming,
        failures: 0,
    };
    stream::unfold(state, move |mut state| async move {
        loop {
            let error = match state.inner.next().await {
                Some(Ok(event)) => {
                    if state.failures > 0 && !matches!(event, Event::Init) {
                        tracing::info!(watch = what, failures = state.failures, "the watch works again");
                        state.failures = 0;
                    }
                    return Some((event, state));
                }
                Some(Err(error)) => error,
                None => {
                    state.inner = start(&state.api, &state.config, state.streaming);
                    continue;
                }
            };
            if state.streaming && refuses_streaming(&error) {
                STREAMING_REFUSED.store(true, Ordering::Relaxed);
                tracing::info!(
                    watch = what,
                    "the API server has no streaming lists; listing in pages"
                );
                state.streaming = false;
                state.inner = start(&state.api, &state.config, false);
                continue;
            }
            let pause = backoff(state.failures, jitter_source());
            report(what, &error, state.failures, pause);
            state.failures = state.failures.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    })
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

fn refuses_streaming(error: &watcher::Error) -> bool {
    let (watcher::Error::WatchStartFailed(source) | watcher::Error::WatchFailed(source)) = error else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if matches!(status.code, 400 | 422))
}

/// The first failure of an outage is worth a warning; what follows is the same outage.
fn report(what: &'static str, error: &watcher::Error, failures: u32, pause: Duration) {
    let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    if is_not_found(error) {
        if failures == 0 {
            tracing::info!(
                watch = what,
                "the kind is not served yet; is its CRD installed? asking again"
            );
        }
    } else if failures == 0 || failures.is_multiple_of(20) {
        tracing::warn!(watch = what, %error, failures, retry_ms, "the watch failed, trying again");
    } else {
        tracing::debug!(watch = what, %error, failures, retry_ms, "the watch failed, trying again");
    }
}

fn is_not_found(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if status.code == 404)
}

/// Exponential from [`BACKOFF_FIRST`] to [`BACKOFF_MAX`], the upper half of each step left to `jitter` (0..=255).
fn backoff(failures: u32, jitter: u8) -> Duration {
    let step = BACKOFF_FIRST
        .saturating_mul(1 << failures.min(10))
        .min(BACKOFF_MAX);
    step / 2 + step / 2 * u32::from(jitter) / 255
}

/// Low bits of the clock: enough to keep a cluster's watches from asking in step after an outage.
fn jitter_source() -> u8 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| (since.subsec_nanos() >> 10) as u8)
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

    #[test]
    fn backoff_grows_to_its_cap_and_never_reaches_zero() {
        assert_eq!(backoff(0, 0), BACKOFF_FIRST / 2);
        assert_eq!(backoff(0, 255), BACKOFF_FIRST);
        assert!(backoff(3, 128) > backoff(2, 128));
        assert_eq!(backoff(40, 255), BACKOFF_MAX);
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
