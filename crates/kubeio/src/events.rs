//! Events about objects: queued, sent in the background, repeats folded into one.
//!
//! They are written to `v1` with `source.component`, the form in which MetalLB's users and their scripts know them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Event as CoreEvent, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use tokio::sync::{mpsc, oneshot};

/// Events waiting to be sent. When the API server is away longer than this lasts, the newest are dropped and counted.
const QUEUE: usize = 1024;
/// How many events are remembered for folding repeats.
const REMEMBERED: usize = 512;
/// So many repeats of an event are written at once: who looks for the newest event finds it. Further ones are counted, and
/// written no sooner than [`QUIET`] after the last; after [`CALM`] without one it starts afresh.
const BURST: u32 = 5;
const QUIET: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(300);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The API server cuts nothing, it refuses: longer messages are shortened here.
const MESSAGE_MAX: usize = 1024;

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Something went as it should.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventKind {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

struct Queued {
    about: ObjectReference,
    kind: EventKind,
    reason: String,
    message: String,
}

enum Message {
    Event(Box<Queued>),
    /// Everything before this was tried.
    Flush(oneshot::Sender<()>),
}

/// Where a component drops its events. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct EventSink {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl EventSink {
    /// Starts the background writer on the current runtime. `component` is what `kubectl describe` prints under
    /// `From` (`metallb-controller`, `metallb-speaker`, `metallb-operator`), `instance` the pod or node.
    pub fn start(client: Client, component: &str, instance: &str) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            component: component.to_owned(),
            instance: instance.to_owned(),
            known: HashMap::new(),
            order: VecDeque::new(),
            sequence: 0,
        };
        tokio::spawn(writer.run(inbox));
        Self {
            queue,
            dropped: Arc::default(),
        }
    }

    /// Queues one event about `about`, which must carry kind, name and (for namespaced kinds) namespace; the UID makes
    /// `kubectl describe` find it.
    pub fn publish(
        &self,
        about: ObjectReference,
        kind: EventKind,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        let queued = Queued {
            about,
            kind,
            reason: reason.into(),
            message: shortened(message.into()),
        };
        if let Err(refused) = self.queue.try_send(Message::Event(Box::new(queued))) {
            let lost = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            let (mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message)) =
                refused;
            let Message::Event(event) = message else { return };
            tracing::warn!(
                reason = event.reason,
                message = event.message,
                lost,
                "an event was dropped: the queue is full"
            );
        }
    }

    /// Waits until what was published before is written, at most for `timeout`: for a process that is about to end. False when
    /// something may be lost.
    pub async fn flush(&self, timeout: Duration) -> bool {
        let (done, written) = oneshot::channel();
        let flushed = async { self.queue.send(Message::Flush(done)).await.is_ok() && written.await.is_ok() };
        let all = tokio::time::timeout(timeout, flushed).await.unwrap_or(false);
        if !all {
            tracing::warn!(
                waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                "some events were not written when the process stopped"
            );
        }
        all
    }

    /// How many events can be published now without one being dropped.
    pub fn room(&self) -> usize {
        self.queue.capacity()
    }

    /// Events dropped so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Whether the API server has refused for good. Anything else (no connection, overload, its own fault) passes.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 409 | 429))
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let cut = (0..=MESSAGE_MAX - '…'.len_utf8())
            .rev()
            .find(|at| message.is_char_boundary(*at))
            .unwrap_or(0);
        message.truncate(cut);
        message.push('…');
    }
    message
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Fold {
    uid: String,
    namespace: String,
    name: String,
    reason: String,
    message: String,
}

struct Known {
    event: String,
    count: i32,
    written: Timestamp,
    /// Repeats written since it was calm.
    repeats: u32,
}

impl Known {
    /// Counts a repeat; whether it is to be written now.
    fn repeat(&mut self, now: Timestamp) -> bool {
        self.count = self.count.saturating_add(1);
        let since = now.duration_since(self.written).unsigned_abs();
        if since >= CALM {
            self.repeats = 0;
        }
        if self.repeats >= BURST && since < QUIET {
            return false;
        }
        self.repeats = self.repeats.saturating_add(1);
        self.written = now;
        true
    }
}

struct Writer {
    client: Client,
    component: String,
    instance: String,
    known: HashMap<Fold, Known>,
    order: VecDeque<Fold>,
    sequence: u64,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        while let Some(message) = inbox.recv().await {
            let event = match message {
                Message::Event(event) => event,
                Message::Flush(done) => {
                    if done.send(()).is_err() {
                        tracing::debug!("whoever waited for the events has given up");
                    }
                    continue;
                }
            };
            let mut pause = RETRY_FIRST;
            // What happens while the API server is away is what people look for afterwards: it waits in the queue.
            while let Err(error) = self.write(&event).await {
                let final_word = is_final(&error);
                tracing::warn!(
                    %error,
                    kind = event.about.kind,
                    namespace = event.about.namespace,
                    name = event.about.name,
                    reason = event.reason,
                    message = event.message,
                    retry = !final_word,
                    "an event could not be written"
                );
                if final_word {
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }

    async fn write(&mut self, event: &Queued) -> Result<(), kube::Error> {
        // Events about cluster-scoped objects live in `default`, as client-go's do.
        let namespace = event
            .about
            .namespace
            .clone()
            .filter(|ns| !ns.is_empty())
            .unwrap_or_else(|| "default".into());
        let api: Api<CoreEvent> = Api::namespaced(self.client.clone(), &namespace);
        let fold = Fold {
            uid: event.about.uid.clone().unwrap_or_default(),
            namespace: namespace.clone(),
            name: event.about.name.clone().unwrap_or_default(),
            reason: event.reason.clone(),
            message: event.message.clone(),
        };
        let now = Timestamp::now();
        if let Some(known) = self.known.get_mut(&fold) {
            if !known.repeat(now) {
                return Ok(());
            }
            let patch = serde_json::json!({ "count": known.count, "lastTimestamp": Time(now) });
            match api
                .patch(&known.event, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => return Ok(()),
                // Events are deleted after an hour: write a new one.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        self.sequence += 1;
        let name = format!(
            "{}.{:x}{:x}",
            fold.name,
            now.as_nanosecond(),
            self.sequence & 0xff
        );
        api.create(&PostParams::default(), &self.body(event, &namespace, &name, now))
            .await?;
        self.remember(
            fold,
            Known {
                event: name,
                count: 1,
                written: now,
                repeats: 0,
            },
        );
        Ok(())
    }

    fn body(&self, event: &Queued, namespace: &str, name: &str, now: Timestamp) -> CoreEvent {
        CoreEvent {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..Default::default()
            },
            involved_object: event.about.clone(),
            type_: Some(event.kind.as_str().to_owned()),
            reason: Some(event.reason.clone()),
            message: Some(event.message.clone()),
            action: Some(event.reason.clone()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: None,
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.instance.clone()),
            ..Default::default()
        }
    }

    fn remember(&mut self, fold: Fold, known: Known) {
        if self.known.insert(fold.clone(), known).is_none() {
            self.order.push_back(fold);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn only_a_refusal_is_final() {
        let answer = |code| {
            kube::Error::Api(Box::new(Status {
                code,
                ..Status::default()
            }))
        };
        for (code, verdict) in [
            (403, true),
            (404, true),
            (422, true),
            (401, false),
            (409, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(is_final(&answer(code)), verdict, "{code}");
        }
        assert!(
            !is_final(&kube::Error::LinesCodecMaxLineLengthExceeded),
            "no answer is no refusal"
        );
    }

    #[test]
    fn repeats_are_written_at_once_until_they_are_a_flood() {
        let start = Timestamp::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut known = Known {
            event: "e".into(),
            count: 1,
            written: start,
            repeats: 0,
        };
        for second in 1..=u64::from(BURST) {
            assert!(known.repeat(at(second)), "repeat {second}");
        }
        assert!(!known.repeat(at(6)));
        assert!(!known.repeat(at(64)));
        assert!(known.repeat(at(65)), "a minute after the last that was written");
        assert!(!known.repeat(at(66)));
        assert_eq!(known.count, 10, "those that were not written count too");
        assert!(known.repeat(at(400)) && known.repeat(at(401)), "calm again");
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        assert_eq!(shortened("short".into()), "short");
        let long = shortened("ä".repeat(900));
        assert!(long.len() <= MESSAGE_MAX && long.ends_with('…'));
    }
}
