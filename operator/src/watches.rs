//! The watches: what the operator sees.

use crate::{
    api,
    view::{Pod, Refusal},
    world::Input,
};
use futures::{Stream, StreamExt as _, stream};
use kube::{Api, Client, core::DynamicObject};
use metallb_api::{
    MetalLB, Raw,
    names::{labels, objects},
};
use metallb_kubeio::{Event, WatchConfig, watch};
use metallb_render::Kind;
use std::pin::Pin;

/// All watches as one stream.
pub(crate) fn inputs(client: &Client) -> impl Stream<Item = Input> + Unpin + use<> {
    let mut all: Vec<Pin<Box<dyn Stream<Item = Input> + Send>>> = Vec::new();
    let metallbs: Api<Raw<MetalLB>> = Api::all(client.clone());
    all.push(
        watch("metallbs", metallbs, WatchConfig::default())
            .map(Input::MetalLb)
            .boxed(),
    );
    for kind in Kind::OWNED {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &api::resource(kind));
        let owned = watch(kind.plural(), api, selection(kind));
        all.push(
            owned
                .map(move |event| Input::Owned(kind, each(event, |object| slim(kind, object))))
                .boxed(),
        );
    }
    let pods: Api<Pod> = Api::all(client.clone());
    let of_operands = format!("{}={}", labels::APP, labels::APP_METALLB);
    let pods = watch("pods", pods, WatchConfig::default().labels(&of_operands));
    all.push(pods.map(Input::Pod).boxed());
    let refusals: Api<Refusal> = Api::all(client.clone());
    let of_speakers = format!(
        "involvedObject.kind=DaemonSet,involvedObject.name={},reason=FailedCreate",
        objects::SPEAKER
    );
    let refusals = watch("events", refusals, WatchConfig::default().fields(&of_speakers));
    all.push(refusals.map(Input::Refusal).boxed());
    stream::select_all(all)
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

/// Leaves out what is not looked at, above all the key itself.
fn slim(kind: Kind, object: &mut DynamicObject) {
    object.metadata.managed_fields = None;
    if let (Kind::Secret, Some(fields)) = (kind, object.data.as_object_mut()) {
        fields.remove("data");
    }
}

fn each<K>(event: Event<K>, change: impl Fn(&mut K)) -> Event<K> {
    let changed = |mut object: K| {
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
