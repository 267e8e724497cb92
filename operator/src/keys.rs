//! The membership keys: what was seen of them, and what is wrong with a Secret that should hold one.

use kube::core::DynamicObject;
use metallb_api::names::{labels, objects};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Data of a Secret, which is never printed.
struct Key64(Value);

impl fmt::Debug for Key64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

#[derive(Debug)]
struct Known {
    /// UID of the resource that the key was made for.
    made_for: String,
    /// UID of the Secret that it was last in.
    secret: Option<String>,
    data: Key64,
}

/// What was seen of the Secrets with membership keys, by namespace.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: BTreeMap<String, Known>,
    /// Where the Secret has no key in it.
    empty: BTreeSet<String>,
}

/// What a Secret that is there lacks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyRepair {
    /// Merge patch for its metadata. Lists are in it as a whole, so it also names the version that was looked at.
    pub(crate) metadata: Value,
    /// Whether there is no key in it.
    pub(crate) lacks_key: bool,
}

impl Keys {
    /// Takes the key out of a Secret.
    pub(crate) fn take(&mut self, secret: &mut DynamicObject) {
        let data = secret
            .data
            .as_object_mut()
            .and_then(|fields| fields.remove("data"))
            .unwrap_or_default();
        let Some(namespace) = secret.metadata.namespace.clone() else {
            return;
        };
        if data[objects::MEMBERLIST_SECRET_KEY]
            .as_str()
            .is_none_or(str::is_empty)
        {
            // The key that was there before is still the best one.
            self.empty.insert(namespace);
            return;
        }
        self.empty.remove(&namespace);
        // Of one that has lost its marks it is known what it was made for.
        let made_for = marks_of(secret)
            .next()
            .map(str::to_owned)
            .or_else(|| self.same(secret).map(|known| known.made_for.clone()));
        if let Some(made_for) = made_for {
            let known = Known {
                made_for,
                secret: secret.metadata.uid.clone(),
                data: Key64(data),
            };
            self.known.insert(namespace, known);
        }
    }

    /// The data of the Secret that was last seen in a namespace for the resource with this UID: a key that somebody has deleted
    /// comes back as it was. With another one, speakers would not understand each other until all nodes have it.
    pub(crate) fn last(&self, namespace: &str, uid: &str) -> Option<&Value> {
        let known = self.known.get(namespace)?;
        (known.made_for == uid).then_some(&known.data.0)
    }

    /// What has to be put back into the Secret that is there, given the metadata that it was made with. Marks come back only to
    /// the one that was made for the same resource; a key is needed by the speakers whoever made the Secret. A key that is
    /// there is never changed: somebody may have put another one there on purpose.
    pub(crate) fn repair(&self, live: &DynamicObject, uid: &str, metadata: &Value) -> Option<KeyRepair> {
        let namespace = live.metadata.namespace.as_deref().unwrap_or_default();
        let lacks_key = self.empty.contains(namespace);
        let mut marked = marks_of(live).peekable();
        let is_ours = if marked.peek().is_some() {
            marked.any(|of| of == uid)
        } else {
            self.same(live).is_some_and(|known| known.made_for == uid)
        };
        let mut marks = Map::new();
        if is_ours {
            let present = live.metadata.labels.clone().unwrap_or_default();
            let wanted = metadata["labels"].as_object().into_iter().flatten();
            let missing: Map<String, Value> = wanted
                .filter(|(key, value)| present.get(*key).map(String::as_str) != value.as_str())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if !missing.is_empty() {
                marks.insert("labels".into(), missing.into());
            }
            let mut owners = json!(live.metadata.owner_references.clone().unwrap_or_default());
            if let (Some(owners), Some(wanted)) =
                (owners.as_array_mut(), metadata["ownerReferences"].as_array())
            {
                let missing: Vec<Value> = wanted
                    .iter()
                    .filter(|owner| !owners.iter().any(|other| other["uid"] == owner["uid"]))
                    .cloned()
                    .collect();
                if !missing.is_empty() {
                    owners.extend(missing);
                    marks.insert("ownerReferences".into(), owners.clone().into());
                }
            }
        }
        if marks.is_empty() && !lacks_key {
            return None;
        }
        if let Some(version) = &live.metadata.resource_version {
            marks.insert("resourceVersion".into(), version.clone().into());
        }
        Some(KeyRepair {
            metadata: marks.into(),
            lacks_key,
        })
    }

    /// What is known of the very Secret.
    fn same(&self, secret: &DynamicObject) -> Option<&Known> {
        let metadata = &secret.metadata;
        self.known
            .get(metadata.namespace.as_deref()?)
            .filter(|known| metadata.uid.is_some() && known.secret == metadata.uid)
    }
}

/// UIDs of the `MetalLB` resources that the object was made for, as its label says, and its owners.
fn marks_of(object: &DynamicObject) -> impl Iterator<Item = &str> {
    let metadata = &object.metadata;
    let label = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::METALLB_UID));
    let owners = metadata.owner_references.iter().flatten();
    let owners = owners.filter(|owner| owner.kind == "MetalLB");
    label
        .into_iter()
        .chain(owners.map(|owner| &owner.uid))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: &str = r#"{"labels": {"metallb.io/metallb-uid": "u", "app": "metallb"},
        "ownerReferences": [{"kind": "MetalLB", "uid": "u", "name": "metallb", "apiVersion": "metallb.io/v1beta1"}]}"#;

    fn marks() -> Value {
        serde_json::from_str(MARKS).unwrap()
    }

    fn secret(uid: &str, marks: &Value, data: &Value) -> DynamicObject {
        let mut secret =
            json!({"metadata": {"namespace": "ns", "name": "metallb-memberlist", "uid": uid}, "data": data});
        for (field, value) in marks.as_object().unwrap() {
            secret["metadata"][field] = value.clone();
        }
        serde_json::from_value(secret).unwrap()
    }

    fn key(text: &str) -> Value {
        json!({"secretkey": text})
    }

    #[test]
    fn a_key_is_remembered_for_the_resource_it_was_made_for() {
        let mut keys = Keys::default();
        keys.take(&mut secret("s", &marks(), &key("a2V5")));
        assert!(!format!("{keys:?}").contains("a2V5"));
        assert_eq!(keys.last("ns", "u"), Some(&key("a2V5")));
        assert_eq!(keys.last("ns", "another"), None);
        assert_eq!(keys.last("elsewhere", "u"), None);
    }

    #[test]
    fn a_key_that_was_emptied_comes_back_and_one_that_was_changed_stays() {
        let mut keys = Keys::default();
        keys.take(&mut secret("s", &marks(), &key("a2V5")));
        for data in [key(""), json!({"other": "x"}), json!(null)] {
            let mut live = secret("s", &marks(), &data);
            keys.take(&mut live);
            let repair = keys.repair(&live, "u", &marks()).unwrap();
            assert!(repair.lacks_key);
            assert_eq!(repair.metadata, json!({}));
            assert_eq!(keys.last("ns", "u"), Some(&key("a2V5")));
        }
        let mut live = secret("s", &marks(), &key("bmV3"));
        keys.take(&mut live);
        assert_eq!(keys.repair(&live, "u", &marks()), None);
        assert_eq!(keys.last("ns", "u"), Some(&key("bmV3")));
    }

    #[test]
    fn marks_come_back_to_the_secret_that_had_them() {
        let mut keys = Keys::default();
        let bare = || secret("s", &json!({}), &key("a2V5"));
        keys.take(&mut bare());
        assert_eq!(keys.repair(&bare(), "u", &marks()), None, "somebody else's");
        keys.take(&mut secret("s", &marks(), &key("a2V5")));
        keys.take(&mut bare());
        assert_eq!(
            keys.repair(&bare(), "u", &marks()).unwrap().metadata,
            marks(),
            "remembered"
        );
        let another = secret("t", &json!({}), &key("a2V5"));
        assert_eq!(
            keys.repair(&another, "u", &marks()),
            None,
            "another of the same name"
        );

        let keys = Keys::default();
        let mut half = marks();
        half["labels"] = json!({"app": "metallb"});
        let repair = keys
            .repair(&secret("s", &half, &key("a2V5")), "u", &marks())
            .unwrap();
        assert_eq!(
            repair.metadata,
            json!({"labels": {"metallb.io/metallb-uid": "u"}})
        );
        let theirs = json!({"labels": {"metallb.io/metallb-uid": "u"}, "ownerReferences": [
            {"kind": "X", "uid": "x", "name": "x", "apiVersion": "v1"}]});
        let repair = keys
            .repair(&secret("s", &theirs, &key("a2V5")), "u", &marks())
            .unwrap();
        assert_eq!(repair.metadata["ownerReferences"].as_array().unwrap().len(), 2);
        let mut others = marks();
        others["labels"]["metallb.io/metallb-uid"] = "another".into();
        others["ownerReferences"][0]["uid"] = "another".into();
        assert_eq!(
            keys.repair(&secret("s", &others, &key("a2V5")), "u", &marks()),
            None
        );
    }
}
