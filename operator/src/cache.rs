//! What a watch has shown, by namespace and name.

use crate::throttle::News;
use kube::{Resource, api::ObjectMeta};
use metallb_kubeio::{Event, Relist};
use std::collections::BTreeMap;

/// Namespace (empty for cluster-scoped objects) and name.
pub(crate) type Key = (String, String);

/// The objects of one watch.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    objects: BTreeMap<Key, K>,
    relist: Relist,
    synced: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache {
            objects: BTreeMap::new(),
            relist: Relist::default(),
            synced: false,
        }
    }
}

impl<K: Resource> Cache<K> {
    /// Follows the watch. Returns what the message is worth.
    pub(crate) fn take(&mut self, event: Event<K>) -> News {
        match event {
            Event::Init => {
                self.relist.begin();
                News::Nothing
            }
            Event::InitApply(object) => {
                self.relist.saw(&object);
                self.put(object)
            }
            Event::InitDone => {
                let known = self
                    .objects
                    .keys()
                    .map(|(namespace, name)| (namespace.as_str(), name.as_str()));
                for key in self.relist.gone(known) {
                    self.objects.remove(&key);
                }
                self.synced = true;
                News::Change
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => {
                let key = key(&object);
                // A late message about a predecessor of the same name says nothing about the present one.
                let known = self.objects.get(&key);
                if known.is_some_and(|known| known.meta().uid == object.meta().uid) {
                    self.objects.remove(&key);
                    News::Change
                } else {
                    News::Nothing
                }
            }
        }
    }

    /// Takes an object from a watch or from the answer to a write; an older version than the known one is ignored, because
    /// an answer overtakes the watch. Returns what it is worth.
    pub(crate) fn put(&mut self, object: K) -> News {
        let key = key(&object);
        let news = match self.objects.get(&key) {
            Some(known) if known.meta().uid == object.meta().uid => {
                if version(&object) < version(known) {
                    return News::Nothing;
                }
                news(known, &object)
            }
            _ => News::Change,
        };
        self.objects.insert(key, object);
        news
    }

    /// Forgets an object that a write has removed.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.objects.remove(key);
    }

    /// Whether the first list is complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// The object of that key.
    pub(crate) fn get(&self, key: &Key) -> Option<&K> {
        self.objects.get(key)
    }

    /// All objects, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &K)> {
        self.objects.iter()
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// What another version of a known object is worth. A status leaves the generation as it is, where there is one.
fn news<K: Resource>(known: &K, object: &K) -> News {
    let as_wanted = |meta: &ObjectMeta| ObjectMeta {
        resource_version: None,
        managed_fields: None,
        ..meta.clone()
    };
    let (known_meta, meta) = (known.meta(), object.meta());
    if meta.resource_version.is_some() && meta.resource_version == known_meta.resource_version {
        News::Nothing
    } else if meta.generation.is_some() && as_wanted(known_meta) == as_wanted(meta) {
        News::Standing
    } else {
        News::Change
    }
}

/// Resource versions of one kind are ordered numbers.
fn version<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("ns".into()),
                uid: Some(uid.into()),
                resource_version: Some(version.into()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn versions(cache: &Cache<ConfigMap>) -> Vec<(String, String)> {
        cache
            .iter()
            .map(|((_, name), object)| (name.clone(), object.metadata.resource_version.clone().unwrap()))
            .collect()
    }

    #[test]
    fn a_list_removes_what_it_does_not_hold() {
        let mut cache = Cache::default();
        cache.take(Event::Apply(object("a", "1", "1")));
        cache.take(Event::Init);
        cache.take(Event::InitApply(object("b", "2", "2")));
        assert!(!cache.is_synced());
        cache.take(Event::InitDone);
        assert!(cache.is_synced());
        assert_eq!(versions(&cache), [("b".into(), "2".into())]);
    }

    #[test]
    fn an_echo_is_no_news_and_a_status_is_less_than_a_change() {
        let mut cache = Cache::default();
        let of = |version: &str, generation| ConfigMap {
            metadata: ObjectMeta {
                generation,
                ..object("a", "1", version).metadata
            },
            ..Default::default()
        };
        assert_eq!(cache.put(of("1", Some(1))), News::Change);
        assert_eq!(
            cache.take(Event::Apply(of("1", Some(1)))),
            News::Nothing,
            "our own"
        );
        assert_eq!(cache.take(Event::Apply(of("2", Some(1)))), News::Standing);
        assert_eq!(cache.take(Event::Apply(of("3", Some(2)))), News::Change);
        let mut labelled = of("4", Some(2));
        labelled.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(cache.take(Event::Apply(labelled)), News::Change);
        cache.put(object("b", "2", "5"));
        assert_eq!(
            cache.take(Event::Apply(object("b", "2", "6"))),
            News::Change,
            "without a generation it may be anything"
        );
        assert_eq!(cache.take(Event::Delete(object("b", "2", "6"))), News::Change);
        assert_eq!(
            cache.take(Event::Delete(object("b", "2", "6"))),
            News::Nothing,
            "nobody knew it"
        );
    }

    #[test]
    fn late_messages_change_nothing() {
        let mut cache = Cache::default();
        cache.put(object("a", "1", "9"));
        cache.take(Event::Apply(object("a", "1", "8")));
        assert_eq!(versions(&cache), [("a".into(), "9".into())]);
        cache.take(Event::Apply(object("a", "2", "3")));
        assert_eq!(
            versions(&cache),
            [("a".into(), "3".into())],
            "a new object of the name"
        );
        cache.take(Event::Delete(object("a", "1", "10")));
        assert_eq!(versions(&cache), [("a".into(), "3".into())], "the old one's end");
        cache.take(Event::Delete(object("a", "2", "11")));
        assert_eq!(versions(&cache), []);
    }
}
