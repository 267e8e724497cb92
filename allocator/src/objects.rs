//! Configuration objects as they are stored, and what was last valid in each.

use std::collections::{BTreeMap, BTreeSet};

use kube::Resource;
use metallb_api::Raw;
use metallb_model::{Kind, L2AdvertisementSpec, Labels, ObjectRef, PoolSpec, Source, Sources};
use serde_json::Value;

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One object at one version.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) object: ObjectRef,
    pub(crate) labels: Labels,
    pub(crate) resource_version: String,
    pub(crate) spec: Value,
    pub(crate) status: Value,
}

impl Snapshot {
    /// From the lenient view of the kind.
    pub(crate) fn new<K: Resource<DynamicType = ()>>(kind: Kind, raw: Raw<K>) -> Self {
        let metadata = raw.metadata;
        Self {
            object: ObjectRef {
                kind,
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name.unwrap_or_default(),
                uid: metadata.uid.unwrap_or_default(),
                created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
                generation: metadata.generation.unwrap_or(0),
            },
            labels: metadata.labels.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            // A stored object without a spec says the same as one with an empty spec.
            spec: if raw.spec.is_null() {
                Value::Object(serde_json::Map::new())
            } else {
                raw.spec
            },
            status: raw.status,
        }
    }

    pub(crate) fn key(&self) -> ObjectKey {
        let ObjectRef {
            kind,
            namespace,
            name,
            ..
        } = self.object.clone();
        ObjectKey {
            kind,
            namespace,
            name,
        }
    }

    fn recorded(&self) -> Option<&Value> {
        self.status.get("lastValidSpec").filter(|spec| spec.is_object())
    }
}

/// An object, and the newest spec of it that was found valid.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) now: Snapshot,
    /// What this process found valid; the status follows a moment later.
    pub(crate) found_valid: Option<Value>,
}

impl Stored {
    /// Last valid spec: what this process found, else what the status records.
    pub(crate) fn last_valid(&self) -> Option<&Value> {
        self.found_valid.as_ref().or_else(|| self.now.recorded())
    }
}

/// What an event means for the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing new.
    None,
    /// Only the status: nothing to decide, perhaps something to repair.
    Status,
    /// The configuration may be another.
    Content,
}

/// All configuration objects of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    stored: BTreeMap<ObjectKey, Stored>,
    /// Keys that the list under way has shown, by kind.
    listing: BTreeMap<Kind, BTreeSet<ObjectKey>>,
}

impl Objects {
    /// A list of the kind begins.
    pub(crate) fn list_started(&mut self, kind: Kind) {
        self.listing.insert(kind, BTreeSet::new());
    }

    /// The list of the kind is complete; what it did not show is gone.
    pub(crate) fn list_done(&mut self, kind: Kind) -> Change {
        let Some(seen) = self.listing.remove(&kind) else {
            return Change::None;
        };
        let before = self.stored.len();
        self.stored
            .retain(|key, _| key.kind != kind || seen.contains(key));
        if self.stored.len() == before {
            Change::None
        } else {
            Change::Content
        }
    }

    /// An object as it is now.
    pub(crate) fn apply(&mut self, snapshot: Snapshot) -> Change {
        let key = snapshot.key();
        if let Some(seen) = self.listing.get_mut(&key.kind) {
            seen.insert(key.clone());
        }
        let Some(known) = self.stored.get_mut(&key) else {
            self.stored.insert(
                key,
                Stored {
                    now: snapshot,
                    found_valid: None,
                },
            );
            return Change::Content;
        };
        if known.now.object.uid != snapshot.object.uid {
            *known = Stored {
                now: snapshot,
                found_valid: None,
            };
            return Change::Content;
        }
        if is_older(&snapshot.resource_version, &known.now.resource_version) {
            return Change::None;
        }
        let content = known.now.spec != snapshot.spec || known.now.labels != snapshot.labels;
        let status =
            known.now.status != snapshot.status || known.now.object.generation != snapshot.object.generation;
        known.now = snapshot;
        match (content, status) {
            (true, _) => Change::Content,
            (false, true) => Change::Status,
            (false, false) => Change::None,
        }
    }

    /// An object is gone.
    pub(crate) fn delete(&mut self, key: &ObjectKey) -> Change {
        if self.stored.remove(key).is_some() {
            Change::Content
        } else {
            Change::None
        }
    }

    /// The objects as sources of the configuration.
    pub(crate) fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        for (key, stored) in &self.stored {
            match key.kind {
                Kind::IpAddressPool => sources.pools.push(source::<PoolSpec>(stored)),
                Kind::L2Advertisement => {
                    sources
                        .l2_advertisements
                        .push(source::<L2AdvertisementSpec>(stored));
                }
            }
        }
        sources
    }

    /// Notes that the present specs of these objects were found valid.
    pub(crate) fn found_valid(&mut self, is_valid: impl Fn(&ObjectRef) -> bool) {
        for stored in self.stored.values_mut() {
            if is_valid(&stored.now.object) && stored.found_valid.as_ref() != Some(&stored.now.spec) {
                stored.found_valid = Some(stored.now.spec.clone());
            }
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Stored> {
        self.stored.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.stored.keys()
    }
}

fn source<T: serde::de::DeserializeOwned>(stored: &Stored) -> Source<T> {
    let Snapshot {
        object, labels, spec, ..
    } = stored.now.clone();
    Source::from_json(object, labels, spec, stored.last_valid().cloned())
}

/// Whether the first version is older than the second. False when they cannot be compared.
fn is_older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

#[cfg(test)]
pub(crate) mod tests {
    use metallb_model::{Effect, Reason};
    use serde_json::json;

    use super::*;

    pub(crate) fn pool(name: &str, version: u64, spec: Value, status: Value) -> Snapshot {
        Snapshot {
            object: ObjectRef {
                kind: Kind::IpAddressPool,
                namespace: "metallb-system".to_owned(),
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                created: 1,
                generation: 1,
            },
            labels: Labels::new(),
            resource_version: version.to_string(),
            spec,
            status,
        }
    }

    #[test]
    fn what_an_event_means() {
        let mut objects = Objects::default();
        let good = json!({"addresses": ["10.0.0.0/24"]});
        assert_eq!(
            objects.apply(pool("a", 5, good.clone(), Value::Null)),
            Change::Content
        );
        assert_eq!(
            objects.apply(pool("a", 6, good.clone(), Value::Null)),
            Change::None
        );
        assert_eq!(
            objects.apply(pool("a", 7, good.clone(), json!({"assignedIPv4": 1}))),
            Change::Status
        );
        assert_eq!(
            objects.apply(pool("a", 6, json!({}), Value::Null)),
            Change::None,
            "older than known"
        );
        assert_eq!(
            objects.apply(pool("a", 8, json!({}), Value::Null)),
            Change::Content
        );
        objects.list_started(Kind::IpAddressPool);
        assert_eq!(objects.apply(pool("b", 9, good, Value::Null)), Change::Content);
        assert_eq!(
            objects.list_done(Kind::IpAddressPool),
            Change::Content,
            "a is gone"
        );
        assert_eq!(
            objects.keys().map(|key| key.name.as_str()).collect::<Vec<_>>(),
            ["b"]
        );
    }

    #[test]
    fn a_typo_right_after_a_valid_edit_falls_back_to_that_edit() {
        let mut objects = Objects::default();
        let recorded = json!({"lastValidSpec": {"addresses": ["10.0.0.0/24"]}});
        objects.apply(pool(
            "a",
            1,
            json!({"addresses": ["10.0.9.0/24"]}),
            recorded.clone(),
        ));
        objects.found_valid(|_| true);
        // The status still records the spec before.
        objects.apply(pool("a", 2, json!({"addresses": ["junk"]}), recorded));
        let (config, issues) = metallb_model::Config::from_sources(&objects.sources(), "metallb-system");
        assert_eq!(issues[0].reason, Reason::InvalidAddress);
        assert_eq!(issues[0].effect, Effect::LastValid);
        assert!(config.pool_of("10.0.9.1".parse().expect("an address")).is_some());
    }

    #[test]
    fn a_recreated_object_starts_anew() {
        let mut objects = Objects::default();
        objects.apply(pool("a", 1, json!({"addresses": ["10.0.0.0/24"]}), Value::Null));
        objects.found_valid(|_| true);
        let mut again = pool("a", 9, json!({"addresses": ["junk"]}), Value::Null);
        again.object.uid = "another".to_owned();
        objects.apply(again);
        let (config, _) = metallb_model::Config::from_sources(&objects.sources(), "metallb-system");
        assert!(config.is_empty());
    }
}
