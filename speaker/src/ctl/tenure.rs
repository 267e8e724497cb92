//! Strict mode's Leases: carries out what [`TenureMachine`] decides, and tells `wire` what may be answered for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use metallb_api::{MetalLB, names::objects};
use metallb_kubeio::lease::{lease_record, put_lease};
use metallb_kubeio::{Event, Relist, WatchConfig, watch};
use metallb_lease::{Subject, TenureInput, TenureMachine, TenureOutput, TenureTiming};
use metallb_sansio::Machine as _;
use metallb_speaker_core::Input;
use tokio::sync::{mpsc, oneshot};

use crate::wire::{Clock, Command};

/// How long giving the Leases back may take.
const RELEASE: Duration = Duration::from_millis(500);

/// What the engine wants: to answer for the address, or no longer.
type Want = (IpAddr, bool);
type Request = Pin<Box<dyn Future<Output = TenureInput> + Send>>;

/// The task, seen from outside.
pub(super) struct Tenure {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Tenure {
    /// Starts the task. The Leases belong to the `MetalLB` resource with the UID `owner`; to nobody, when that is empty.
    pub(super) fn start(
        client: Client,
        namespace: &str,
        node: &str,
        owner: &str,
        clock: Clock,
        wants: mpsc::UnboundedReceiver<Want>,
        wire: mpsc::Sender<Command>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = Task {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            machine: TenureMachine::new(node, TenureTiming::default(), clock.now()),
            clock,
            wire,
            requests: FuturesUnordered::new(),
            seen: BTreeMap::new(),
            owner: metallb(owner),
            held: false,
        };
        Self {
            stop,
            task: tokio::spawn(task.run(wants, stopped)),
        }
    }

    /// Gives the Leases back. Nothing may be answered for any more.
    pub(super) async fn stop(self) {
        if self.stop.send(()).is_err() {
            tracing::debug!("the Leases are not kept any more");
        }
        if tokio::time::timeout(RELEASE, self.task).await.is_err() {
            tracing::warn!("the Leases could not be given back; other nodes wait until they are over");
        }
    }
}

struct Task {
    api: Api<Lease>,
    namespace: String,
    machine: TenureMachine,
    clock: Clock,
    wire: mpsc::Sender<Command>,
    requests: FuturesUnordered<Request>,
    /// The Leases that are there, each with its owners.
    seen: BTreeMap<String, Option<Vec<OwnerReference>>>,
    owner: Option<OwnerReference>,
    /// This node has its tenure.
    held: bool,
}

impl Task {
    async fn run(mut self, mut wants: mpsc::UnboundedReceiver<Want>, mut stop: oneshot::Receiver<()>) {
        let mut relist = Relist::default();
        let mut leases: Pin<Box<dyn Stream<Item = Event<Lease>> + Send>> =
            Box::pin(watch("leases", self.api.clone(), WatchConfig::default()));
        let mut stopping = false;
        loop {
            if self.carry_out().await {
                return;
            }
            let timer = self.clock.until(self.machine.poll_timeout());
            let inputs: Vec<TenureInput> = tokio::select! {
                Some((address, wanted)) = wants.recv() => vec![TenureInput::Want(address, wanted)],
                Some(answer) = self.requests.next() => vec![answer],
                Some(event) = leases.next() => self.event(event, &mut relist),
                _ = &mut stop, if !stopping => {
                    stopping = true;
                    vec![TenureInput::Stop]
                }
                () = timer => Vec::new(),
            };
            let now = self.clock.now();
            if inputs.is_empty() {
                self.machine.handle_timeout(now);
            }
            for input in inputs {
                self.machine.handle(now, input);
            }
        }
    }

    /// Does what the machine wants; true when it is at its end.
    async fn carry_out(&mut self) -> bool {
        while let Some(output) = self.machine.poll_output() {
            let told = match output {
                TenureOutput::Read(subject) => {
                    self.requests
                        .push(bounded(subject.clone(), read(self.api.clone(), subject)));
                    continue;
                }
                TenureOutput::Write(subject, record) => {
                    let owner = owner(&record, self.seen.get(&subject.lease_name()), self.owner.as_ref());
                    let write = write(self.api.clone(), subject.clone(), record, owner);
                    self.requests.push(bounded(subject, write));
                    continue;
                }
                TenureOutput::Tenure(until) => {
                    if std::mem::replace(&mut self.held, until.is_some()) != until.is_some() {
                        if until.is_some() {
                            tracing::info!("this node holds its Lease: it may answer for addresses");
                        } else {
                            tracing::warn!(
                                "this node does not hold its Lease: it answers for no address (--l2-strict)"
                            );
                        }
                    }
                    Input::Tenure(until)
                }
                TenureOutput::Granted(address, granted) => Input::Granted(address, granted),
                TenureOutput::Holder(address, node) => Input::Holder(address, node),
                TenureOutput::Stopped => return true,
            };
            if self.wire.send(Command::Input(told)).await.is_err() {
                tracing::debug!("the wire thread has ended");
            }
        }
        false
    }

    /// What a watch event says about Leases that matter.
    fn event(&mut self, event: Event<Lease>, relist: &mut Relist) -> Vec<TenureInput> {
        let tell = |name: &str, record| {
            Subject::from_lease_name(name).map(|subject| TenureInput::Seen(subject, record))
        };
        let mut inputs = Vec::new();
        match event {
            Event::Init => relist.begin(),
            Event::InitApply(lease) | Event::Apply(lease) => {
                relist.saw(&lease);
                let (name, owners) = (lease.name_any(), lease.metadata.owner_references.clone());
                inputs.extend(tell(&name, Some(lease_record(lease))));
                if !inputs.is_empty() {
                    self.seen.insert(name, owners);
                }
            }
            Event::Delete(lease) => {
                self.seen.remove(&lease.name_any());
                inputs.extend(tell(&lease.name_any(), None));
            }
            Event::InitDone => {
                let namespace = &*self.namespace;
                for (_, name) in relist.gone(self.seen.keys().map(|name| (namespace, &**name))) {
                    self.seen.remove(&name);
                    inputs.extend(tell(&name, None));
                }
                inputs.push(TenureInput::Listed);
            }
        }
        inputs
    }
}

type Outcome = Result<TenureInput, kube::Error>;

/// The request, with an end.
fn bounded(subject: Subject, request: impl Future<Output = Outcome> + Send + 'static) -> Request {
    let longest = TenureTiming::default().request;
    Box::pin(async move {
        let lease = subject.lease_name();
        match tokio::time::timeout(longest, request).await {
            Ok(Ok(input)) => return input,
            Ok(Err(error)) => tracing::debug!(lease, %error, "a request for a Lease failed, trying again"),
            Err(_) => tracing::debug!(lease, "no answer within {longest:?}, trying again"),
        }
        TenureInput::Failed(subject)
    })
}

async fn read(api: Api<Lease>, subject: Subject) -> Outcome {
    let lease = api.get_opt(&subject.lease_name()).await?;
    Ok(TenureInput::Seen(subject, lease.map(lease_record)))
}

async fn write(
    api: Api<Lease>,
    subject: Subject,
    record: metallb_lease::Record,
    owner: Option<OwnerReference>,
) -> Outcome {
    let name = subject.lease_name();
    Ok(match put_lease(&api, &name, record, owner, None).await? {
        Some(record) => TenureInput::Written(subject, record),
        None => TenureInput::Conflict(subject),
    })
}

/// The owner to write into a Lease: ours into a new one, and in one that is there whatever it has. Some clusters
/// (`OwnerReferencesPermissionEnforcement`) let only those who may delete an object change its owners, and an owner is not worth a tenure.
fn owner(
    record: &metallb_lease::Record,
    seen: Option<&Option<Vec<OwnerReference>>>,
    ours: Option<&OwnerReference>,
) -> Option<OwnerReference> {
    match seen {
        Some(owners) if !record.version.is_empty() => owners.iter().flatten().next().cloned(),
        // It is new, or was a moment ago.
        _ => ours.cloned(),
    }
}

/// The `MetalLB` resource with this UID, as an owner that is not waited for.
fn metallb(uid: &str) -> Option<OwnerReference> {
    (!uid.is_empty()).then(|| OwnerReference {
        api_version: MetalLB::api_version(&()).into_owned(),
        kind: MetalLB::kind(&()).into_owned(),
        name: objects::METALLB.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_keeps_the_owner_that_it_was_made_with() {
        let (ours, theirs) = (metallb("ours"), metallb("theirs"));
        assert_eq!(metallb(""), None);
        let written = |version: &str, seen: Option<Option<Vec<OwnerReference>>>| {
            let record = metallb_lease::Record {
                version: version.into(),
                ..Default::default()
            };
            owner(&record, seen.as_ref(), ours.as_ref())
        };
        assert_eq!(written("", None), ours, "a new one");
        assert_eq!(
            written("", Some(theirs.clone().map(|one| vec![one]))),
            ours,
            "made again"
        );
        assert_eq!(written("7", None), ours, "just made, and not seen since");
        assert_eq!(written("7", Some(theirs.clone().map(|one| vec![one]))), theirs);
        assert_eq!(written("7", Some(None)), None);
    }
}
