//! Who of several replicas works: drives the election over a Lease of the API server.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use metallb_lease::{Input, LeaseMachine, Output, Record, Timing};
use metallb_sansio::{Instant, Machine as _};
use tokio::sync::{oneshot, watch};

/// Longest time that releasing the Lease may take; after it the others wait for its expiry.
const RELEASE: Duration = Duration::from_secs(3);

/// Whether writes are allowed now. Every write asks right before it is sent.
#[derive(Clone)]
pub struct Fence(watch::Receiver<Option<tokio::time::Instant>>);

impl Fence {
    /// Whether this process leads, by its own monotonic clock.
    pub fn is_open(&self) -> bool {
        self.0
            .borrow()
            .is_some_and(|until| tokio::time::Instant::now() < until)
    }
}

/// Who takes part, and in which election.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// Names this process across restarts of its container: the UID of the pod.
    pub identity: String,
    /// The Lease goes when this goes.
    pub owner: Option<OwnerReference>,
    /// What the leader does, for log lines: "assigns addresses".
    pub work: &'static str,
}

/// A running election.
pub struct Election {
    fence: Fence,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Election {
    /// Takes part in the election on the current runtime. `tell` hears of every change: whether this process leads now. When it
    /// hears of a loss, the fence has fallen already.
    pub fn start(client: Client, candidate: Candidate, tell: impl Fn(bool) + Send + 'static) -> Self {
        let (open, fence) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let origin = tokio::time::Instant::now();
        let driver = Driver {
            api: Api::namespaced(client, &candidate.namespace),
            machine: LeaseMachine::new(&candidate.identity, Timing::default(), Instant::ZERO),
            origin,
            open,
            tell: Box::new(tell),
            candidate,
            seen: false,
            holder: None,
            acquired: None,
            failures: 0,
            stopping: false,
        };
        Self {
            fence: Fence(fence),
            stop,
            task: tokio::spawn(driver.run(stopped)),
        }
    }

    /// What writers ask.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Releases the Lease, if held. Call it when no write is under way any more.
    pub async fn stop(self) {
        if self.stop.send(()).is_err() {
            tracing::debug!("the election had ended already");
        }
        if tokio::time::timeout(RELEASE, self.task).await.is_err() {
            tracing::warn!("the Lease could not be released; another replica takes over when it expires");
        }
    }
}

/// The answer, or why there is none.
type Answer = Result<Input, String>;
type Request = Pin<Box<dyn Future<Output = Answer> + Send>>;

struct Driver {
    api: Api<Lease>,
    machine: LeaseMachine,
    origin: tokio::time::Instant,
    open: watch::Sender<Option<tokio::time::Instant>>,
    tell: Box<dyn Fn(bool) + Send>,
    candidate: Candidate,
    /// The Lease was there already.
    seen: bool,
    holder: Option<String>,
    /// Since when this process holds the Lease, for people who read it.
    acquired: Option<MicroTime>,
    /// Requests that failed since the last one that did not.
    failures: u32,
    stopping: bool,
}

impl Driver {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut request: Option<Request> = None;
        loop {
            while let Some(output) = self.machine.poll_output() {
                match output {
                    Output::Read => {
                        request = Some(Box::pin(bounded(read(
                            self.api.clone(),
                            self.candidate.lease.clone(),
                        ))));
                    }
                    Output::Write(record) => {
                        if record.version.is_empty() && self.seen && self.candidate.owner.take().is_some() {
                            tracing::warn!(
                                "the Lease was deleted, perhaps with an owner that is gone: it gets no owner any more"
                            );
                        }
                        request = Some(Box::pin(bounded(write(
                            self.api.clone(),
                            self.candidate.clone(),
                            record,
                            self.acquired.clone(),
                        ))));
                    }
                    Output::Leading => self.announce(true),
                    Output::Lost => self.announce(false),
                    Output::Stopped => return,
                }
            }
            self.publish();
            self.note_holder();
            let due = self
                .machine
                .poll_timeout()
                .map(|at| self.origin + (at - Instant::ZERO));
            let input = tokio::select! {
                answer = async { match request.as_mut() { Some(request) => request.await, None => std::future::pending().await } } => {
                    request = None;
                    Some(self.noted(answer))
                }
                () = async { match due { Some(due) => tokio::time::sleep_until(due).await, None => std::future::pending().await } } => None,
                _ = &mut stop, if !self.stopping => {
                    self.stopping = true;
                    Some(Input::Stop)
                }
            };
            let now = self.now();
            self.seen |= matches!(input, Some(Input::Read(Some(_)) | Input::Written(_)));
            match input {
                Some(input) => self.machine.handle(now, input),
                None => self.machine.handle_timeout(now),
            }
        }
    }

    /// An outage is worth one line when it begins and one when it ends.
    fn noted(&mut self, answer: Answer) -> Input {
        let failures = std::mem::take(&mut self.failures);
        match answer {
            Ok(input) => {
                if failures > 0 {
                    tracing::info!(failures, "requests for the Lease are answered again");
                }
                input
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error, "a request for the Lease failed, trying again");
                } else {
                    tracing::debug!(error, failures, "a request for the Lease failed, trying again");
                }
                self.failures = failures.saturating_add(1);
                Input::Failed
            }
        }
    }

    fn now(&self) -> Instant {
        let elapsed = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn announce(&self, leading: bool) {
        if leading {
            tracing::info!(work = self.candidate.work, "leading: this replica does the work");
        } else if self.stopping {
            tracing::info!("giving up leadership");
        } else {
            tracing::warn!(
                work = self.candidate.work,
                "no longer leading: another replica does the work, or the API server is away"
            );
        }
        // Before the news: nobody who hears of lost leadership may find the fence open.
        self.publish();
        (self.tell)(leading);
    }

    fn publish(&self) {
        let until = self
            .machine
            .leading_until()
            .map(|at| self.origin + (at - Instant::ZERO));
        self.open
            .send_if_modified(|known| std::mem::replace(known, until) != until);
    }

    /// Says who leads when that changes, so that a standby's log explains itself.
    fn note_holder(&mut self) {
        let holder = self.machine.holder();
        if self.holder.as_deref() != holder {
            self.holder = holder.map(str::to_owned);
            let own = self.holder.as_deref() == Some(self.candidate.identity.as_str());
            self.acquired = own.then(|| MicroTime(Timestamp::now()));
            tracing::info!(
                holder = self.holder.as_deref().unwrap_or("nobody"),
                "the Lease has a new holder"
            );
        }
    }
}

async fn bounded(request: impl Future<Output = Answer>) -> Answer {
    let longest = Timing::default().request;
    tokio::time::timeout(longest, request)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {longest:?}")))
}

async fn read(api: Api<Lease>, name: String) -> Answer {
    match api.get_opt(&name).await {
        Ok(lease) => Ok(Input::Read(lease.map(lease_record))),
        Err(error) => Err(error.to_string()),
    }
}

async fn write(api: Api<Lease>, candidate: Candidate, wanted: Record, acquired: Option<MicroTime>) -> Answer {
    match put_lease(&api, &candidate.lease, wanted, candidate.owner, acquired).await {
        Ok(Some(record)) => Ok(Input::Written(record)),
        Ok(None) => Ok(Input::Conflict),
        Err(error) => Err(error.to_string()),
    }
}

/// Creates the Lease when `wanted` has no version, else replaces that very version. What there is now; `None`: the Lease is at
/// another version, exists already or no longer, and reading tells. `acquired` is for people who read it; now, when
/// it is not given.
///
/// # Errors
/// There was no answer, or another refusal; the write may have happened.
pub async fn put_lease(
    api: &Api<Lease>,
    name: &str,
    wanted: Record,
    owner: Option<OwnerReference>,
    acquired: Option<MicroTime>,
) -> Result<Option<Record>, kube::Error> {
    let now = MicroTime(Timestamp::now());
    let create = wanted.version.is_empty();
    let body = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: (!create).then_some(wanted.version),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(wanted.holder),
            lease_duration_seconds: i32::try_from(wanted.seconds).ok(),
            lease_transitions: i32::try_from(wanted.transitions).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    let parameters = PostParams::default();
    let answer = if create {
        api.create(&parameters, &body).await
    } else {
        api.replace(name, &parameters, &body).await
    };
    match answer {
        Ok(lease) => Ok(Some(lease_record(lease))),
        // 409: another version, or it exists; 404: deleted meanwhile.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The parts of a Lease that decide.
pub fn lease_record(lease: Lease) -> Record {
    let spec = lease.spec.unwrap_or_default();
    let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
    Record {
        version: lease.metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        seconds: number(spec.lease_duration_seconds),
        transitions: number(spec.lease_transitions),
    }
}
