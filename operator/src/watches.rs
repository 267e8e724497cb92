//! The watches: what the operator sees.

use crate::{
    api,
    view::{Pod, Refusal},
    world::Input,
};
use futures::{Stream, StreamExt as _, stream};
use kube::{Api, Client, Resource, core::DynamicObject};
use metallb_api::{
    BGPPeer, MetalLB, Raw,
    names::{labels, objects},
};
use metallb_kubeio::{Event, Observed, WatchConfig, observe};
use metallb_render::Kind;
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, future, pin::Pin, time::Duration};

/// How often it is asked which of MetalLB's kinds the API server serves. Asked and not watched: a watch would bring every
/// definition of the cluster, with all that people have annotated it with.
const ASK_FOR_KINDS: Duration = Duration::from_secs(10);
const GROUP_VERSION: &str = "metallb.io/v1beta1";

type Inputs = Pin<Box<dyn Stream<Item = Input> + Send>>;

/// The watch of the resources themselves, without which nothing can be said.
pub(crate) const METALLBS: &str = "metallbs";
/// The watch of the peers whose passwords speakers read.
pub(crate) const PEERS: &str = "bgppeers";

/// All watches as one stream.
pub(crate) fn inputs(client: &Client) -> impl Stream<Item = Input> + Unpin + use<> {
    let mut all: Vec<Inputs> = Vec::new();
    let metallbs: Api<Raw<MetalLB>> = Api::all(client.clone());
    all.push(told(METALLBS, metallbs, WatchConfig::default(), Input::MetalLb));
    for kind in Kind::OWNED {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &api::resource(kind));
        all.push(told(kind.plural(), api, selection(kind), move |event| {
            Input::Owned(kind, each(event, |object| object.metadata.managed_fields = None))
        }));
    }
    let peers: Api<Raw<BGPPeer>> = Api::all(client.clone());
    all.push(told(PEERS, peers, WatchConfig::default(), Input::Peer));
    let pods: Api<Pod> = Api::all(client.clone());
    let of_operands = format!("{}={}", labels::APP, labels::APP_METALLB);
    let of_operands = WatchConfig::default().labels(&of_operands);
    all.push(told("pods", pods, of_operands, Input::Pod));
    let refusals: Api<Refusal> = Api::all(client.clone());
    let of_speakers = format!(
        "involvedObject.kind=DaemonSet,involvedObject.name={},reason=FailedCreate",
        objects::SPEAKER
    );
    let of_speakers = WatchConfig::default().fields(&of_speakers);
    all.push(told("events", refusals, of_speakers, Input::Refusal));
    all.push(served(client.clone()));
    stream::select_all(all)
}

/// A watch with its refusals.
fn told<K>(
    what: &'static str,
    api: Api<K>,
    config: WatchConfig,
    input: impl Fn(Event<K>) -> Input + Send + 'static,
) -> Inputs
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    observe(what, api, config)
        .flat_map(move |observed| match observed {
            // A list has to begin to be let in: before, nothing was asked yet.
            Observed::Event(Event::Init) => stream::iter(vec![input(Event::Init)]),
            Observed::Event(event) => stream::iter(vec![Input::Works(what), input(event)]),
            Observed::NotServed => stream::iter(vec![Input::NotServed(what)]),
            Observed::Forbidden => stream::iter(vec![Input::Forbidden(what)]),
        })
        .boxed()
}

/// Which of MetalLB's kinds are served, whenever that changes.
fn served(client: Client) -> Inputs {
    let answers = stream::unfold((client, Duration::ZERO), |(client, pause)| async move {
        tokio::time::sleep(pause).await;
        let answer = client.list_api_group_resources(GROUP_VERSION).await;
        Some((answer, (client, ASK_FOR_KINDS)))
    });
    let served = answers.filter_map(|answer| {
        future::ready(match answer {
            Ok(list) => Some(list.resources.into_iter().map(|resource| resource.name).collect()),
            // The group is gone with the last definition.
            Err(kube::Error::Api(status)) if status.code == 404 => Some(BTreeSet::new()),
            Err(_) => None,
        })
    });
    let mut last = None;
    served
        .filter(move |served: &BTreeSet<String>| {
            let news = last.as_ref() != Some(served);
            last = Some(served.clone());
            future::ready(news)
        })
        .map(Input::Served)
        .boxed()
}

fn selection(kind: Kind) -> WatchConfig {
    match kind {
        // By name, because the right to list Secrets is given for this name only.
        Kind::Secret => {
            WatchConfig::default().fields(&format!("metadata.name={}", objects::MEMBERLIST_SECRET))
        }
        _ => WatchConfig::default().labels(&format!(
            "{}={},{}",
            labels::MANAGED_BY,
            labels::MANAGED_BY_OPERATOR,
            labels::METALLB_UID
        )),
    }
}

/// The event with its objects changed.
pub(crate) fn each<K>(event: Event<K>, mut change: impl FnMut(&mut K)) -> Event<K> {
    let mut changed = |mut object: K| {
        change(&mut object);
        object
    };
    match event {
        Event::Apply(object) => Event::Apply(changed(object)),
        Event::Delete(object) => Event::Delete(changed(object)),
        Event::InitApply(object) => Event::InitApply(changed(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}
