//! What a watch has shown, by namespace and name.

use kube::Resource;
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
    /// Follows the watch.
    pub(crate) fn take(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.relist.begin(),
            Event::InitApply(object) => {
                self.relist.saw(&object);
                self.put(object);
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
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => {
                let key = key(&object);
                // A late message about a predecessor of the same name says nothing about the present one.
                if self
                    .objects
                    .get(&key)
                    .is_none_or(|known| known.meta().uid == object.meta().uid)
                {
                    self.objects.remove(&key);
                }
            }
        }
    }

    /// Takes an object from a watch or from the answer to a write; an older version than the known one is ignored, because
    /// an answer overtakes the watch.
    pub(crate) fn put(&mut self, object: K) {
        let key = key(&object);
        let stale = self
            .objects
            .get(&key)
            .is_some_and(|known| known.meta().uid == object.meta().uid && version(&object) < version(known));
        if !stale {
            self.objects.insert(key, object);
        }
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
