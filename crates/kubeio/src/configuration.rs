//! All that configures `MetalLB`, as one stream: every kind, and the legacy `ConfigMap` `config`.
//!
//! Objects are handed over one by one and kept nowhere here. A kind whose CRD is not installed is an empty list until it is.

use std::collections::VecDeque;

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{Api, Client, ResourceExt as _, api::ApiResource};
use metallb_model::{Kind, Labels, ObjectRef, Unreadable};
use serde_json::{Map, Value};

use crate::{
    Event, WatchConfig,
    text::from_yaml,
    watch::{Observed, observe},
};

mod object;
use object::Stored;

/// Annotation on the `ConfigMap`: the text that was last found valid. On the object itself, so that nobody sees more than before.
pub const LAST_VALID_CONFIG: &str = "metallb.io/last-valid-config";
/// Name of the legacy `ConfigMap`, and of its key.
pub const CONFIG: &str = "config";

/// Refusals in a row before the next best place is tried. A returning API server refuses for a moment what it will grant, so
/// whoever was let in before waits longer.
const REFUSALS: u32 = 2;
const REFUSALS_ONCE_LISTED: u32 = 6;
/// Rounds through all places, without being let in anywhere, before a deprecated kind counts as unused.
const ROUNDS: u32 = 4;
/// "No such kind" in a row before the objects that there were count as gone.
const CONFIRMATIONS: u32 = 3;

/// What happened to the configuration.
#[derive(Debug)]
pub enum ConfigEvent {
    /// A fresh list of the kind begins; a list that was under way is void.
    ListStarted(Kind),
    /// An object as it is now, from a list or a change.
    Found(Box<ConfigObject>),
    /// An object is gone. It may have been unknown.
    Gone {
        /// Its kind.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The list is complete: what it did not show is gone. Also for a kind that is not served.
    ListDone(Kind),
}

/// One object at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigObject {
    /// Which object.
    pub object: ObjectRef,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// What it says: `spec`, or the JSON of the YAML under `data.config`.
    pub spec: Result<Value, Unreadable>,
    /// What to record when `spec` is found valid: `spec`, or the YAML text as a JSON string.
    pub raw_spec: Value,
    /// What was last recorded as valid, in the form of `spec`.
    pub last_valid: Option<Value>,
    /// `status`; `Null` for the `ConfigMap`.
    pub status: Value,
}

/// Watches all configuration for ever: every kind in all namespaces where we may, else in our own, the `ConfigMap` by its name in
/// our own.
#[expect(
    clippy::needless_pass_by_value,
    reason = "clients are handed over by value everywhere"
)]
pub fn watch_configuration(client: Client, namespace: &str) -> BoxStream<'static, ConfigEvent> {
    watch_all(&client, namespace, Place::Everywhere)
}

/// The same for whoever does not answer objects in other namespaces: in our own only, for which less has to be granted.
#[expect(
    clippy::needless_pass_by_value,
    reason = "clients are handed over by value everywhere"
)]
pub fn watch_own_configuration(client: Client, namespace: &str) -> BoxStream<'static, ConfigEvent> {
    watch_all(&client, namespace, Place::OwnNamespace)
}

fn watch_all(client: &Client, namespace: &str, first: Place) -> BoxStream<'static, ConfigEvent> {
    let kinds = Kind::ALL.into_iter();
    let watches =
        kinds.map(|kind| watch_kind(client.clone(), namespace.to_owned(), Reading::new(kind, first)).boxed());
    stream::select_all(watches).boxed()
}

struct Watched {
    client: Client,
    namespace: String,
    reading: Reading,
    objects: BoxStream<'static, Observed<Stored>>,
    told: VecDeque<ConfigEvent>,
}

fn watch_kind(client: Client, namespace: String, reading: Reading) -> impl Stream<Item = ConfigEvent> + Send {
    let watched = Watched {
        objects: objects(&client, &namespace, reading.kind, reading.place),
        client,
        namespace,
        reading,
        told: VecDeque::new(),
    };
    stream::unfold(watched, |mut watched| async move {
        loop {
            if let Some(event) = watched.told.pop_front() {
                return Some((event, watched));
            }
            let observed = watched.objects.next().await?;
            if let Some(place) = watched.reading.take(observed, &mut watched.told) {
                let kind = watched.reading.kind;
                tracing::info!(%kind, ?place, "we may not read this kind as asked; trying elsewhere");
                watched.objects = objects(&watched.client, &watched.namespace, kind, place);
            }
        }
    })
}

fn objects(
    client: &Client,
    namespace: &str,
    kind: Kind,
    place: Place,
) -> BoxStream<'static, Observed<Stored>> {
    let resource = resource(kind);
    let api: Api<Stored> = match place {
        Place::Everywhere => Api::all_with(client.clone(), &resource),
        Place::OwnNamespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let config = if kind == Kind::ConfigMap {
        WatchConfig::default().fields(&format!("metadata.name={CONFIG}"))
    } else {
        WatchConfig::default()
    };
    observe(kind.as_str(), api, config).boxed()
}

/// Where a kind is found in the API.
pub fn resource(kind: Kind) -> ApiResource {
    let (group, version, plural) = match kind {
        Kind::IpAddressPool => (metallb_api::names::GROUP, "v1beta1", "ipaddresspools"),
        Kind::L2Advertisement => (metallb_api::names::GROUP, "v1beta1", "l2advertisements"),
        Kind::BgpAdvertisement => (metallb_api::names::GROUP, "v1beta1", "bgpadvertisements"),
        Kind::BgpPeer => (metallb_api::names::GROUP, "v1beta2", "bgppeers"),
        Kind::BfdProfile => (metallb_api::names::GROUP, "v1beta1", "bfdprofiles"),
        Kind::Community => (metallb_api::names::GROUP, "v1beta1", "communities"),
        Kind::AddressPool => (metallb_api::names::GROUP, "v1beta1", "addresspools"),
        Kind::ConfigMap => ("", "v1", "configmaps"),
    };
    let gvk = kube::api::GroupVersionKind::gvk(group, version, kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, plural)
}

/// Where one kind is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    OwnNamespace,
}

/// What the watch of one kind means, without any I/O.
#[derive(Debug)]
struct Reading {
    kind: Kind,
    place: Place,
    /// Only at home from the start.
    home: bool,
    /// A list was complete once.
    listed: bool,
    refusals: u32,
    rounds: u32,
    unserved: u32,
}

impl Reading {
    fn new(kind: Kind, first: Place) -> Self {
        let home = kind == Kind::ConfigMap || first == Place::OwnNamespace;
        Self {
            kind,
            place: if home { Place::OwnNamespace } else { first },
            home,
            listed: false,
            refusals: 0,
            rounds: 0,
            unserved: 0,
        }
    }

    /// Takes one observation; where to watch from now on when that changes.
    fn take(&mut self, observed: Observed<Stored>, told: &mut VecDeque<ConfigEvent>) -> Option<Place> {
        let kind = self.kind;
        match observed {
            Observed::NotServed => {
                self.unserved += 1;
                if !self.listed || self.unserved == CONFIRMATIONS {
                    self.empty(told);
                }
                None
            }
            Observed::Forbidden => self.refused(told),
            Observed::Event(event) => {
                if !matches!(event, Event::Init) {
                    (self.refusals, self.rounds, self.unserved) = (0, 0, 0);
                }
                match event {
                    Event::Init => told.push_back(ConfigEvent::ListStarted(kind)),
                    Event::InitApply(object) | Event::Apply(object) => told.push_back(self.found(object)),
                    Event::Delete(object) => told.push_back(self.gone(&object)),
                    Event::InitDone => {
                        self.listed = true;
                        told.push_back(ConfigEvent::ListDone(kind));
                    }
                }
                None
            }
        }
    }

    fn refused(&mut self, told: &mut VecDeque<ConfigEvent>) -> Option<Place> {
        self.refusals += 1;
        let enough = if self.listed {
            REFUSALS_ONCE_LISTED
        } else {
            REFUSALS
        };
        if self.refusals < enough {
            return None;
        }
        self.refusals = 0;
        self.rounds += 1;
        let deprecated = matches!(self.kind, Kind::AddressPool | Kind::ConfigMap);
        if !self.listed && deprecated && self.rounds == ROUNDS {
            // Roles made for MetalLB 0.13 and later do not know it.
            tracing::warn!(
                kind = %self.kind,
                "we may not read this kind (get, list, watch); taken as unused. If it is used, grant that"
            );
            self.empty(told);
        }
        if self.home {
            return None;
        }
        self.place = match self.place {
            Place::Everywhere => Place::OwnNamespace,
            Place::OwnNamespace => Place::Everywhere,
        };
        Some(self.place)
    }

    fn empty(&mut self, told: &mut VecDeque<ConfigEvent>) {
        self.listed = true;
        told.extend([
            ConfigEvent::ListStarted(self.kind),
            ConfigEvent::ListDone(self.kind),
        ]);
    }

    fn found(&self, object: Stored) -> ConfigEvent {
        // A ConfigMap that only has the name is somebody else's.
        if self.kind == Kind::ConfigMap && object.config_text().is_none() {
            return self.gone(&object);
        }
        ConfigEvent::Found(Box::new(config_object(self.kind, object)))
    }

    fn gone(&self, object: &Stored) -> ConfigEvent {
        ConfigEvent::Gone {
            kind: self.kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

fn config_object(kind: Kind, stored: Stored) -> ConfigObject {
    let (spec, raw_spec, last_valid) = if let Some(text) = stored.config_text() {
        let recorded = stored.annotations().get(LAST_VALID_CONFIG);
        let last_valid = recorded.and_then(|text| from_yaml(text).ok());
        let spec = from_yaml(text).map_err(|message| Unreadable {
            field: format!("data.{CONFIG}"),
            message,
        });
        (spec, Value::String(text.to_owned()), last_valid)
    } else {
        // A stored object without a spec says the same as one with an empty spec.
        let spec = match &stored.spec {
            Value::Null => Value::Object(Map::new()),
            spec => spec.clone(),
        };
        let recorded = stored.status.get("lastValidSpec");
        let last_valid = recorded.filter(|spec| spec.is_object()).cloned();
        (Ok(spec.clone()), spec, last_valid)
    };
    let Stored { metadata, status, .. } = stored;
    ConfigObject {
        object: ObjectRef {
            kind,
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            generation: metadata.generation.unwrap_or_default(),
        },
        labels: metadata.labels.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        spec,
        raw_spec,
        last_valid,
        status,
    }
}

#[cfg(test)]
mod tests;
