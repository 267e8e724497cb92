//! The `ConfigurationState` of this speaker: whether this node could use the whole configuration.
//!
//! A task of its own. It watches the one object, so that it is made again when somebody deletes it, and writes only when
//! something differs. The object is owned by our pod and goes with it.

mod state;

use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use metallb_api::names::{field_managers, objects};
use metallb_api::{ConfigurationState, Raw};
use metallb_kubeio::{Event, WatchConfig, watch};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::state::Difference;
pub(super) use self::state::{Author, Report};

/// Several edits in a row cost one write.
const SETTLE: Duration = Duration::from_millis(300);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(10);

enum Message {
    Want(Report),
    PodUid(String),
}

/// The task, seen from outside.
pub(super) struct Reporting(mpsc::UnboundedSender<Message>);

impl Reporting {
    /// Starts the task; it writes nothing before it is told what.
    pub(super) fn start(client: Client, namespace: &str, author: Author) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let task = Task {
            name: format!("{}{}", objects::CONFIGURATION_STATE_SPEAKER_PREFIX, author.node),
            manager: format!("{}{}", field_managers::SPEAKER_PREFIX, author.node),
            api: Api::namespaced(client, namespace),
            author,
            wanted: None,
            stored: None,
            listed: false,
            due: None,
            retry: RETRY_FIRST,
        };
        tokio::spawn(task.run(inbox));
        Self(messages)
    }

    /// What the object should say from now on.
    pub(super) fn want(&self, report: Report) {
        self.send(Message::Want(report));
    }

    /// Our pod's UID, when it was not given.
    pub(super) fn pod_uid(&self, uid: &str) {
        self.send(Message::PodUid(uid.to_owned()));
    }

    fn send(&self, message: Message) {
        if self.0.send(message).is_err() {
            tracing::error!("the task that writes the ConfigurationState has ended");
        }
    }
}

struct Task {
    api: Api<Raw<ConfigurationState>>,
    name: String,
    manager: String,
    author: Author,
    wanted: Option<Report>,
    stored: Option<Raw<ConfigurationState>>,
    listed: bool,
    /// When to compare and write.
    due: Option<Instant>,
    retry: Duration,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let own = WatchConfig::default().fields(&format!("metadata.name={}", self.name));
        let mut objects = Box::pin(watch("own configuration state", self.api.clone(), own));
        let mut listing = None;
        loop {
            let due = self.due.filter(|_| self.listed);
            let wait = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Want(report)) => {
                        self.wanted = Some(report);
                        self.soon();
                    }
                    Some(Message::PodUid(uid)) => {
                        self.author.pod_uid = uid;
                        self.soon();
                    }
                    None => return,
                },
                Some(event) = objects.next() => {
                    match event {
                        Event::Init => listing = None,
                        Event::InitApply(object) => listing = Some(object),
                        Event::InitDone => {
                            self.listed = true;
                            self.stored = listing.take();
                        }
                        Event::Apply(object) => self.stored = Some(object),
                        Event::Delete(_) => self.stored = None,
                    }
                    self.soon();
                }
                () = wait => self.work().await,
            }
        }
    }

    fn soon(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    async fn work(&mut self) {
        self.due = None;
        let Some(report) = &self.wanted else { return };
        let Some(difference) = state::difference(self.stored.as_ref(), &self.name, report, &self.author)
        else {
            return;
        };
        let written = tokio::time::timeout(REQUEST, self.write(difference)).await;
        let error = match written {
            Ok(Ok(object)) => {
                self.stored = object.or_else(|| self.stored.take());
                self.retry = RETRY_FIRST;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REQUEST:?}"),
        };
        tracing::warn!(
            name = self.name,
            error,
            retry_s = self.retry.as_secs(),
            "the ConfigurationState could not be written"
        );
        self.due = Some(Instant::now() + self.retry);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    async fn write(&self, difference: Difference) -> Result<Option<Raw<ConfigurationState>>, kube::Error> {
        let mut after = None;
        if let Some(object) = difference.object {
            let parameters = PatchParams::apply(&self.manager).force();
            after = Some(
                self.api
                    .patch(&self.name, &parameters, &Patch::Apply(object))
                    .await?,
            );
        }
        if let Some(status) = difference.status {
            let parameters = PatchParams {
                field_manager: Some(self.manager.clone()),
                ..PatchParams::default()
            };
            let body = Patch::Merge(serde_json::json!({"status": status}));
            after = Some(self.api.patch_status(&self.name, &parameters, &body).await?);
        }
        Ok(after)
    }
}
