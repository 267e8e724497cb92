//! Everything the operator sees, and the judgements that need nothing else.

use crate::{
    cache::{Cache, Key},
    view::{Pod, Refusal},
};
use kube::core::DynamicObject;
use metallb_api::{MetalLB, Raw, names::objects};
use metallb_kubeio::Event;
use metallb_render::{Kind, ObjectId};
use std::collections::BTreeMap;

/// A message of one of the watches.
#[derive(Debug)]
pub(crate) enum Input {
    MetalLb(Event<Raw<MetalLB>>),
    Owned(Kind, Event<DynamicObject>),
    Pod(Event<Pod>),
    Refusal(Event<Refusal>),
}

/// What the watches have shown.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) metallbs: Cache<Raw<MetalLB>>,
    pub(crate) owned: BTreeMap<Kind, Cache<DynamicObject>>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) refusals: Cache<Refusal>,
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
    pub(crate) fn take(&mut self, input: Input) {
        match input {
            Input::MetalLb(event) => self.metallbs.take(event),
            Input::Owned(kind, event) => self.owned.entry(kind).or_default().take(event),
            Input::Pod(event) => self.pods.take(event),
            Input::Refusal(event) => self.refusals.take(event),
        }
    }

    /// Watches whose first list is not complete. Nothing may be decided before: what is not known yet looks deleted.
    pub(crate) fn unsynced(&self) -> Vec<&'static str> {
        let mut waiting = Vec::new();
        if !self.metallbs.is_synced() {
            waiting.push("metallbs");
        }
        waiting.extend(
            Kind::OWNED
                .iter()
                .filter(|kind| !self.owned.get(kind).is_some_and(Cache::is_synced))
                .map(|kind| kind.plural()),
        );
        waiting
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
        assert_eq!(world.unsynced().len(), 1 + Kind::OWNED.len());
        world.take(Input::MetalLb(Event::Init));
        world.take(Input::MetalLb(Event::InitDone));
        for kind in Kind::OWNED {
            assert!(!world.unsynced().is_empty());
            world.take(Input::Owned(kind, Event::Init));
            world.take(Input::Owned(kind, Event::InitDone));
        }
        assert_eq!(world.unsynced(), Vec::<&str>::new());
    }
}
