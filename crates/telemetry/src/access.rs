//! Who may read a guarded path: a bearer token is reviewed, and the answer remembered for a moment.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ring::digest;
use tokio::{sync::Semaphore, time::Instant};

/// How long a granted token is believed without another review; a token that was taken back is refused after it.
const GRANTED: Duration = Duration::from_secs(60);
/// How long a refusal stands, so that a scraper with a bad token costs the API server little.
const REFUSED: Duration = Duration::from_secs(10);
/// Longest time a review may take.
const REVIEW: Duration = Duration::from_secs(5);
/// Reviews under way at a time.
const CONCURRENT: usize = 2;
/// Answers that are remembered.
const REMEMBERED: usize = 64;

/// What became of a request for access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The token's owner may read the path.
    Granted,
    /// Nobody knows the token.
    Unauthenticated,
    /// The token's owner, named here, may not.
    Forbidden(String),
}

/// The answer to a review under way; an error means that nobody could be asked.
pub type Reviewing = Pin<Box<dyn Future<Output = Result<Access, String>> + Send>>;

/// Answers by digest of token and path, and until when they stand.
type Known = BTreeMap<Vec<u8>, (Access, Instant)>;

/// Asks whether the owner of a token (first argument) may `GET` a path (second argument).
type Review = Arc<dyn Fn(String, String) -> Reviewing + Send + Sync>;

/// Guards paths by reviews. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    review: Review,
    under_way: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// Asks `review(token, path)` about tokens that are not known.
    pub fn new(review: impl Fn(String, String) -> Reviewing + Send + Sync + 'static) -> Self {
        Self {
            review: Arc::new(review),
            under_way: Arc::new(Semaphore::new(CONCURRENT)),
            known: Arc::default(),
        }
    }

    /// Whether a request with this `Authorization` header may read `path`.
    ///
    /// # Errors
    /// Why nobody could tell.
    pub async fn check(&self, authorization: Option<&str>, path: &str) -> Result<Access, String> {
        let Some(token) = authorization.and_then(bearer) else {
            return Ok(Access::Unauthenticated);
        };
        // Tokens themselves are not kept.
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(token.as_bytes());
        context.update(b"\n");
        context.update(path.as_bytes());
        let key = context.finish().as_ref().to_vec();
        if let Some(known) = self.recall(&key) {
            return Ok(known);
        }
        let reviewed = async {
            let _permit = self
                .under_way
                .acquire()
                .await
                .map_err(|error| error.to_string())?;
            // Another request of the same scraper may have been answered while this one waited.
            if let Some(known) = self.recall(&key) {
                return Ok(known);
            }
            let access = (self.review)(token.to_owned(), path.to_owned()).await?;
            self.remember(key.clone(), access.clone());
            Ok(access)
        };
        tokio::time::timeout(REVIEW, reviewed)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {REVIEW:?}")))
    }

    fn recall(&self, key: &[u8]) -> Option<Access> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(key)
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(access, _)| access.clone())
    }

    fn remember(&self, key: Vec<u8>, access: Access) {
        let now = Instant::now();
        let until = now
            + match access {
                Access::Granted => GRANTED,
                _ => REFUSED,
            };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| now < *until);
        }
        // Still full: the flood of tokens is what is forgotten, not the scrapers that are known.
        if known.len() < REMEMBERED {
            known.insert(key, (access, until));
        }
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 section 2.1; the scheme in any case, RFC 9110 section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn guard() -> (Guard, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let guard = Guard::new(move |token, path| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match token.as_str() {
                    "prometheus" if path == "/metrics" => Ok(Access::Granted),
                    "stuck" => std::future::pending().await,
                    "away" => Err("connection refused".to_owned()),
                    "stranger" => Ok(Access::Unauthenticated),
                    other => Ok(Access::Forbidden(other.to_owned())),
                }
            })
        });
        (guard, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_for_a_moment() {
        let (guard, asked) = guard();
        let ask = async |header: Option<&'static str>| guard.check(header, "/metrics").await;
        for header in [None, Some("Basic dTpw"), Some("Bearer"), Some("Bearer  ")] {
            assert_eq!(ask(header).await, Ok(Access::Unauthenticated), "{header:?}");
        }
        assert_eq!(
            asked.load(Ordering::Relaxed),
            0,
            "without a token nobody is asked"
        );
        for (header, answer) in [
            ("Bearer prometheus", Access::Granted),
            ("bearer prometheus", Access::Granted),
            ("Bearer stranger", Access::Unauthenticated),
            ("Bearer bob", Access::Forbidden("bob".into())),
        ] {
            assert_eq!(ask(Some(header)).await, Ok(answer.clone()));
            assert_eq!(ask(Some(header)).await, Ok(answer));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert_eq!(
            guard.check(Some("Bearer prometheus"), "/other").await,
            Ok(Access::Forbidden("prometheus".into())),
            "an answer is for one path"
        );
        tokio::time::advance(GRANTED + REFUSED).await;
        assert_eq!(ask(Some("Bearer prometheus")).await, Ok(Access::Granted));
        assert_eq!(asked.load(Ordering::Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_can_tell_is_not_remembered_and_does_not_block() {
        let (guard, asked) = guard();
        for _ in 0..2 {
            assert!(guard.check(Some("Bearer away"), "/metrics").await.is_err());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let stuck = guard.check(Some("Bearer stuck"), "/metrics").await;
        assert!(stuck.unwrap_err().contains("no answer"));
        assert_eq!(
            guard.check(Some("Bearer prometheus"), "/metrics").await,
            Ok(Access::Granted)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_tokens_takes_no_memory() {
        let (guard, _) = guard();
        assert_eq!(
            guard.check(Some("Bearer prometheus"), "/metrics").await,
            Ok(Access::Granted)
        );
        for n in 0..3 * REMEMBERED {
            let header = format!("Bearer t{n}");
            guard.check(Some(&header), "/metrics").await.expect("an answer");
        }
        let known = guard.known.lock().expect("no panic");
        assert_eq!(known.len(), REMEMBERED);
    }
}
