//! Configuration objects as they are stored, and what was last valid in each.

use std::collections::{BTreeMap, BTreeSet};

use metallb_kubeio::ConfigObject;
use metallb_model::{Issue, Kind, ObjectRef, Sources};
use serde_json::Value;

use crate::legacy;

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ObjectKey {
    pub(crate) fn of(object: &ObjectRef) -> Self {
        Self {
            kind: object.kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }
}

/// A spec that was found valid: as it is recorded, and as it is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Valid {
    /// What goes into `status.lastValidSpec`, or as text into the annotation of the `ConfigMap`.
    pub(crate) record: Value,
    /// What is judged.
    pub(crate) spec: Value,
}

/// An object, and the newest spec of it that was found valid.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) now: ConfigObject,
    /// What this process found valid; the status follows a moment later.
    pub(crate) found_valid: Option<Valid>,
}

impl Stored {
    /// Last valid spec as it is read: what this process found, else what is recorded.
    pub(crate) fn last_valid(&self) -> Option<&Value> {
        let found = self.found_valid.as_ref().map(|valid| &valid.spec);
        found.or(self.now.last_valid.as_ref())
    }

    /// What is to be recorded as last valid: what this process found, else what is recorded.
    pub(crate) fn record(&self) -> Option<&Value> {
        let found = self.found_valid.as_ref().map(|valid| &valid.record);
        found.or(self.now.last_valid.as_ref())
    }

    /// Takes a judgement: `errors` are what is wrong with the present spec.
    fn judged(&mut self, errors: &[&Issue]) {
        let Ok(present) = &self.now.spec else { return };
        let valid = if errors.is_empty() {
            Valid {
                record: self.now.raw_spec.clone(),
                spec: present.clone(),
            }
        } else if self.now.object.kind == Kind::ConfigMap {
            // Its entries are judged one by one, and so are they remembered.
            let Some(spec) = legacy::in_force(present, self.last_valid(), errors) else {
                return;
            };
            Valid {
                record: Value::String(spec.to_string()),
                spec,
            }
        } else {
            return;
        };
        if self.found_valid.as_ref() != Some(&valid) {
            self.found_valid = Some(valid);
        }
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
    pub(crate) fn apply(&mut self, now: ConfigObject) -> Change {
        let key = ObjectKey::of(&now.object);
        if let Some(seen) = self.listing.get_mut(&key.kind) {
            seen.insert(key.clone());
        }
        let found_valid = None;
        let Some(known) = self.stored.get_mut(&key) else {
            self.stored.insert(key, Stored { now, found_valid });
            return Change::Content;
        };
        let before = &known.now;
        if before.object.uid != now.object.uid {
            *known = Stored { now, found_valid };
            return Change::Content;
        }
        if is_older(&now.resource_version, &before.resource_version) {
            return Change::None;
        }
        // Another replica may have recorded what this one falls back to.
        let record = before.last_valid != now.last_valid;
        let content =
            before.spec != now.spec || before.labels != now.labels || (record && known.found_valid.is_none());
        let status =
            record || before.status != now.status || before.object.generation != now.object.generation;
        known.now = now;
        match (content, status) {
            (true, _) => Change::Content,
            (false, true) => Change::Status,
            (false, false) => Change::None,
        }
    }

    /// A write of ours went through: the object is at this version now, with this status and this last valid spec.
    pub(crate) fn written(
        &mut self,
        key: &ObjectKey,
        uid: &str,
        version: String,
        status: Value,
        last_valid: Option<Value>,
    ) {
        if let Some(known) = self.stored.get_mut(key)
            && known.now.object.uid == uid
            && is_older(&known.now.resource_version, &version)
        {
            known.now.resource_version = version;
            known.now.status = status;
            known.now.last_valid = last_valid;
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
        for stored in self.stored.values() {
            let ConfigObject {
                object, labels, spec, ..
            } = &stored.now;
            sources.add(
                object.clone(),
                labels.clone(),
                spec.clone(),
                stored.last_valid().cloned(),
            );
        }
        sources
    }

    /// Takes the judgement of all objects: their issues, by object. While `secrets_asked` is false nobody has looked for Secrets yet,
    /// and what may refer to them has not been judged in full.
    pub(crate) fn judged(&mut self, issues: &BTreeMap<ObjectRef, Vec<Issue>>, secrets_asked: bool) {
        let all = self.stored.values_mut();
        for stored in all.filter(|stored| secrets_asked || stored.now.object.kind != Kind::BgpPeer) {
            let issues = issues.get(&stored.now.object).into_iter().flatten();
            let errors: Vec<&Issue> = issues.filter(|issue| issue.is_error()).collect();
            stored.judged(&errors);
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Stored> {
        self.stored.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.stored.keys()
    }
}

/// Whether the first version is older than the second. False when they cannot be compared.
pub(crate) fn is_older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

/// The issues by object.
pub(crate) fn by_object(issues: Vec<Issue>) -> BTreeMap<ObjectRef, Vec<Issue>> {
    let mut sorted: BTreeMap<ObjectRef, Vec<Issue>> = BTreeMap::new();
    for issue in issues {
        sorted.entry(issue.object.clone()).or_default().push(issue);
    }
    sorted
}

#[cfg(test)]
pub(crate) mod tests {
    use metallb_model::{Config, Effect, Labels, Reason};
    use serde_json::json;

    use super::*;

    pub(crate) fn object(kind: Kind, name: &str, version: u64, spec: Value, status: Value) -> ConfigObject {
        ConfigObject {
            object: ObjectRef {
                kind,
                namespace: "metallb-system".to_owned(),
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                created: 1,
                generation: 1,
            },
            labels: Labels::new(),
            resource_version: version.to_string(),
            raw_spec: spec.clone(),
            spec: Ok(spec),
            last_valid: status.get("lastValidSpec").cloned(),
            status,
        }
    }

    pub(crate) fn pool(name: &str, version: u64, spec: Value, status: Value) -> ConfigObject {
        object(Kind::IpAddressPool, name, version, spec, status)
    }

    fn judge(objects: &mut Objects) -> (Config, Vec<Issue>) {
        let (config, issues) = Config::from_sources(&objects.sources(), "metallb-system");
        objects.judged(&by_object(issues.clone()), true);
        (config, issues)
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
        judge(&mut objects);
        // The status still records the spec before.
        objects.apply(pool("a", 2, json!({"addresses": ["junk"]}), recorded));
        let (config, issues) = judge(&mut objects);
        assert_eq!(issues[0].reason, Reason::InvalidAddress);
        assert_eq!(issues[0].effect, Effect::LastValid);
        assert!(config.pool_of("10.0.9.1".parse().expect("an address")).is_some());
    }

    #[test]
    fn a_recreated_object_starts_anew() {
        let mut objects = Objects::default();
        objects.apply(pool("a", 1, json!({"addresses": ["10.0.0.0/24"]}), Value::Null));
        judge(&mut objects);
        let mut again = pool("a", 9, json!({"addresses": ["junk"]}), Value::Null);
        again.object.uid = "another".to_owned();
        objects.apply(again);
        let (config, _) = judge(&mut objects);
        assert!(config.is_empty());
    }

    #[test]
    fn a_standby_follows_what_the_leader_records() {
        let mut objects = Objects::default();
        let bad = json!({"addresses": ["junk"]});
        objects.apply(pool("a", 1, bad.clone(), Value::Null));
        assert!(judge(&mut objects).0.is_empty());
        let recorded = json!({"lastValidSpec": {"addresses": ["10.0.0.0/24"]}});
        assert_eq!(
            objects.apply(pool("a", 2, bad.clone(), recorded.clone())),
            Change::Content
        );
        assert!(!judge(&mut objects).0.is_empty());
        // The own write, before the watch shows it.
        let key = objects.keys().next().expect("one").clone();
        objects.written(&key, "uid-a", "3".into(), json!({"x": 1}), None);
        objects.written(&key, "another", "9".into(), Value::Null, None);
        let now = &objects.get(&key).expect("there").now;
        assert_eq!(
            (now.resource_version.as_str(), &now.status),
            ("3", &json!({"x": 1}))
        );
        assert_eq!(objects.apply(pool("a", 2, bad, recorded)), Change::None, "older");
    }

    #[test]
    fn a_peer_is_not_found_valid_before_its_secret_was_looked_for() {
        let mut objects = Objects::default();
        let peer = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "passwordSecret": {"name": "pw"}});
        objects.apply(object(Kind::BgpPeer, "p", 1, peer, Value::Null));
        let key = objects.keys().next().expect("one").clone();
        objects.judged(&BTreeMap::new(), false);
        assert_eq!(objects.get(&key).expect("there").last_valid(), None);
        objects.judged(&BTreeMap::new(), true);
        assert!(objects.get(&key).expect("there").last_valid().is_some());
    }
}
