//! Everything the operator sees, and the judgements that need nothing else.

use crate::{
    cache::{Cache, Key},
    keys::Keys,
    throttle::News,
    view::{Pod, Refusal},
    watches::{METALLBS, PEERS, each},
};
use kube::core::DynamicObject;
use metallb_api::{BGPPeer, MetalLB, Raw, names::objects};
use metallb_kubeio::Event;
use metallb_render::{Kind, ObjectId, rbac};
use std::collections::{BTreeMap, BTreeSet};

/// A message of one of the watches.
#[derive(Debug)]
pub(crate) enum Input {
    MetalLb(Event<Raw<MetalLB>>),
    Owned(Kind, Event<DynamicObject>),
    Peer(Event<Raw<BGPPeer>>),
    Pod(Event<Pod>),
    Refusal(Event<Refusal>),
    /// The watch of this name is answered.
    Works(&'static str),
    /// The API server knows no such kind.
    NotServed(&'static str),
    /// We may not look.
    Forbidden(&'static str),
    /// The kinds of MetalLB that are served, by their plurals; subresources among them.
    Served(BTreeSet<String>),
}

/// Why a watch sees nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blind {
    /// The API server knows no such kind.
    NotServed,
    /// We may not look.
    Forbidden,
}

/// What the watches have shown.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) metallbs: Cache<Raw<MetalLB>>,
    pub(crate) owned: BTreeMap<Kind, Cache<DynamicObject>>,
    pub(crate) peers: Cache<Raw<BGPPeer>>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) refusals: Cache<Refusal>,
    /// Watches that see nothing.
    pub(crate) blind: BTreeMap<&'static str, Blind>,
    /// The membership keys.
    pub(crate) keys: Keys,
    /// What is served of MetalLB's kinds; `None` before the first answer.
    served: Option<BTreeSet<String>>,
}

/// What a `MetalLB` resource means to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the one that is obeyed.
    Rules,
    /// Its name is not `metallb`.
    WrongName,
    /// An older one rules.
    Second {
        /// Namespace of the one that rules.
        ruler: String,
    },
    /// It is being deleted.
    Deleting,
}

impl World {
    /// Returns what the message is worth.
    pub(crate) fn take(&mut self, input: Input) -> News {
        let changed = |changed: bool| if changed { News::Change } else { News::Nothing };
        match input {
            Input::MetalLb(event) => self.metallbs.take(event),
            Input::Owned(Kind::Secret, event) => {
                let event = each(event, |secret| self.keys.take(secret));
                self.owned.entry(Kind::Secret).or_default().take(event)
            }
            Input::Owned(kind, event) => self.owned.entry(kind).or_default().take(event),
            Input::Peer(event) => self.peers.take(event),
            // Nothing is put right for them: they say why something does not run.
            Input::Pod(event) => self.pods.take(event).min(News::Standing),
            Input::Refusal(event) => self.refusals.take(event).min(News::Standing),
            Input::Works(watch) => changed(self.blind.remove(watch).is_some()),
            Input::NotServed(watch) => {
                changed(self.blind.insert(watch, Blind::NotServed) != Some(Blind::NotServed))
            }
            Input::Forbidden(watch) => {
                changed(self.blind.insert(watch, Blind::Forbidden) != Some(Blind::Forbidden))
            }
            Input::Served(served) => changed(self.served.replace(served.clone()) != Some(served)),
        }
    }

    /// Watches whose first list is not complete. Nothing may be decided before: what is not known yet looks deleted.
    pub(crate) fn unsynced(&self) -> Vec<&'static str> {
        let mut waiting = Vec::new();
        if !self.metallbs.is_synced() {
            waiting.push(METALLBS);
        }
        waiting.extend(
            Kind::OWNED
                .iter()
                .filter(|kind| !self.owned.get(kind).is_some_and(Cache::is_synced))
                .map(|kind| kind.plural())
                // Without the Prometheus operator there can be none of its objects, and without the definition no peers.
                .chain((!self.peers.is_synced()).then_some(PEERS))
                .filter(|watch| !self.can_do_without(watch)),
        );
        waiting
    }

    fn can_do_without(&self, watch: &str) -> bool {
        let optional = watch == PEERS
            || Kind::OWNED
                .iter()
                .any(|kind| kind.is_optional() && kind.plural() == watch);
        optional && self.blind.get(watch) == Some(&Blind::NotServed)
    }

    /// Whether the API server knows the kind, as far as that is known.
    pub(crate) fn is_served(&self, kind: Kind) -> bool {
        self.blind.get(kind.plural()) != Some(&Blind::NotServed)
    }

    /// Watches that we may not make.
    pub(crate) fn forbidden(&self) -> Vec<&'static str> {
        let all = self.blind.iter();
        all.filter(|(_, why)| **why == Blind::Forbidden)
            .map(|(watch, _)| *watch)
            .collect()
    }

    /// Definitions that the operands need and that are not there, as plurals.
    pub(crate) fn missing_definitions(&self) -> Vec<&'static str> {
        let Some(served) = &self.served else {
            return Vec::new();
        };
        rbac::CONFIG_KINDS
            .into_iter()
            .chain(rbac::STATUS_KINDS)
            .filter(|plural| !served.contains(*plural))
            .collect()
    }

    /// Secrets that the peers of a namespace name, now or in what they last validly said, which stays in force.
    pub(crate) fn peer_secrets(&self, namespace: &str) -> BTreeSet<String> {
        let peers = self.peers.iter().filter(|((of, _), _)| of == namespace);
        peers
            .flat_map(|(_, peer)| [&peer.spec, &peer.status["lastValidSpec"]])
            .filter_map(|spec| spec["passwordSecret"]["name"].as_str())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The resource that is obeyed: the oldest one named `metallb`, in whichever namespace.
    pub(crate) fn ruler(&self) -> Option<(&Key, &Raw<MetalLB>)> {
        self.metallbs
            .iter()
            .filter(|((_, name), metallb)| {
                name == objects::METALLB && metallb.metadata.deletion_timestamp.is_none()
            })
            .min_by_key(|(_, metallb)| {
                let metadata = &metallb.metadata;
                (metadata.creation_timestamp.clone(), metadata.uid.clone())
            })
    }

    /// What the resource of that key means.
    pub(crate) fn standing(&self, key: &Key, metallb: &Raw<MetalLB>) -> Standing {
        if metallb.metadata.deletion_timestamp.is_some() {
            return Standing::Deleting;
        }
        if key.1 != objects::METALLB {
            return Standing::WrongName;
        }
        match self.ruler() {
            Some((ruler, _)) if ruler != key => Standing::Second {
                ruler: ruler.0.clone(),
            },
            _ => Standing::Rules,
        }
    }

    /// An owned object as it is in the cluster.
    pub(crate) fn live(&self, id: &ObjectId) -> Option<&DynamicObject> {
        self.owned.get(&id.kind)?.get(&key_of(id))
    }
}

/// Key of an object in its cache.
pub(crate) fn key_of(id: &ObjectId) -> Key {
    (id.namespace.clone().unwrap_or_default(), id.name.clone())
}

/// What names an object of a cache.
pub(crate) fn id_of(kind: Kind, (namespace, name): &Key) -> ObjectId {
    ObjectId {
        kind,
        namespace: kind.is_namespaced().then(|| namespace.clone()),
        name: name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metallb(namespace: &str, name: &str, created: &str) -> Raw<MetalLB> {
        serde_json::from_value(
            json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"),
            "creationTimestamp": created}}),
        )
        .unwrap()
    }

    #[test]
    fn the_oldest_of_the_right_name_rules_wherever_it_is() {
        let mut world = World::default();
        for resource in [
            metallb("a", "other", "2020-01-01T00:00:00Z"),
            metallb("b", "metallb", "2022-01-01T00:00:00Z"),
            metallb("c", "metallb", "2021-01-01T00:00:00Z"),
        ] {
            world.take(Input::MetalLb(Event::Apply(resource)));
        }
        let standings: Vec<Standing> = world
            .metallbs
            .iter()
            .map(|(key, m)| world.standing(key, m))
            .collect();
        assert_eq!(
            standings,
            [
                Standing::WrongName,
                Standing::Second { ruler: "c".into() },
                Standing::Rules
            ]
        );

        let mut dying = metallb("c", "metallb", "2021-01-01T00:00:00Z");
        dying.metadata.deletion_timestamp = dying.metadata.creation_timestamp.clone();
        world.take(Input::MetalLb(Event::Apply(dying)));
        let standings: Vec<Standing> = world
            .metallbs
            .iter()
            .map(|(key, m)| world.standing(key, m))
            .collect();
        assert_eq!(
            standings,
            [Standing::WrongName, Standing::Rules, Standing::Deleting]
        );
    }

    #[test]
    fn nothing_is_decided_before_all_lists_are_complete() {
        let mut world = World::default();
        assert_eq!(world.unsynced().len(), 2 + Kind::OWNED.len());
        world.take(Input::MetalLb(Event::Init));
        world.take(Input::MetalLb(Event::InitDone));
        for kind in Kind::OWNED {
            assert!(!world.unsynced().is_empty());
            if kind.is_optional() {
                world.take(Input::NotServed(kind.plural()));
                continue;
            }
            world.take(Input::Owned(kind, Event::Init));
            world.take(Input::Owned(kind, Event::InitDone));
        }
        assert_eq!(world.unsynced(), ["bgppeers"]);
        world.take(Input::Peer(Event::Init));
        world.take(Input::Peer(Event::InitDone));
        assert_eq!(world.unsynced(), Vec::<&str>::new());

        // The Prometheus operator comes: its objects have to be known before anything is decided about them.
        world.take(Input::Works("podmonitors"));
        assert_eq!(world.unsynced(), ["podmonitors"]);
    }

    #[test]
    fn a_watch_that_is_refused_is_known_until_it_works() {
        let mut world = World::default();
        world.take(Input::Forbidden("daemonsets"));
        world.take(Input::NotServed("servicemonitors"));
        assert_eq!(world.forbidden(), ["daemonsets"]);
        assert!(!world.is_served(Kind::ServiceMonitor) && world.is_served(Kind::DaemonSet));
        assert!(world.unsynced().contains(&"daemonsets"));
        world.take(Input::Works("daemonsets"));
        assert_eq!(world.forbidden(), Vec::<&str>::new());
    }

    #[test]
    fn missing_definitions_are_named_once_it_is_known_which_are_there() {
        let mut world = World::default();
        assert_eq!(world.missing_definitions(), Vec::<&str>::new());
        let all = rbac::CONFIG_KINDS.into_iter().chain(rbac::STATUS_KINDS);
        let but_one: BTreeSet<String> = all
            .filter(|kind| *kind != "communities")
            .map(str::to_owned)
            .collect();
        world.take(Input::Served(but_one));
        assert_eq!(world.missing_definitions(), ["communities"]);
    }

    #[test]
    fn passwords_of_peers_are_known_by_the_names_of_their_secrets() {
        let mut world = World::default();
        for (namespace, name, body) in [
            (
                "a",
                "p1",
                json!({"spec": {"passwordSecret": {"name": "new"}}, "status": {"lastValidSpec": {"passwordSecret": {"name": "old"}}}}),
            ),
            ("a", "p2", json!({"spec": {"passwordSecret": {"name": "new"}}})),
            (
                "a",
                "p3",
                json!({"spec": {"password": "x", "passwordSecret": {}}}),
            ),
            (
                "b",
                "p4",
                json!({"spec": {"passwordSecret": {"name": "elsewhere"}}}),
            ),
        ] {
            let mut object = body;
            object["metadata"] = json!({"namespace": namespace, "name": name});
            world.take(Input::Peer(Event::Apply(serde_json::from_value(object).unwrap())));
        }
        assert_eq!(Vec::from_iter(world.peer_secrets("a")), ["new", "old"]);
        assert!(world.peer_secrets("c").is_empty());
    }
}
