//! The configuration objects of this installation, kept as far as the one configuration needs them.

use std::collections::{BTreeMap, BTreeSet};

use metallb_kubeio::{ConfigEvent, ConfigObject};
use metallb_model::{Config, Issue, Kind, Labels, ObjectRef, Reason, Sources, Unreadable};
use serde_json::Value;

/// What is kept of an object: neither its status nor what its spec looked like.
#[derive(Debug, PartialEq)]
struct Stored {
    object: ObjectRef,
    labels: Labels,
    spec: Result<Value, Unreadable>,
    last_valid: Option<Value>,
}

/// Takes configuration events, makes configurations.
pub(super) struct Configuration {
    namespace: String,
    /// Objects of our own namespace. Those of others are the allocator's to answer.
    objects: BTreeMap<(Kind, String), Stored>,
    /// Names that the list under way has shown.
    listing: BTreeMap<Kind, BTreeSet<String>>,
    unlisted: BTreeSet<Kind>,
    changed: bool,
    issues: Vec<Issue>,
    idle: bool,
}

impl Configuration {
    /// One that has seen nothing.
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            objects: BTreeMap::new(),
            listing: BTreeMap::new(),
            unlisted: Kind::ALL.into(),
            changed: true,
            issues: Vec::new(),
            idle: true,
        }
    }

    /// Kinds that were not listed yet.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = Kind> {
        self.unlisted.iter().copied()
    }

    /// How many objects there are.
    pub(super) fn count(&self) -> usize {
        self.objects.len()
    }

    /// Takes an event; true when with it everything is listed for the first time.
    pub(super) fn take(&mut self, event: ConfigEvent) -> bool {
        match event {
            ConfigEvent::ListStarted(kind) => {
                self.listing.insert(kind, BTreeSet::new());
            }
            ConfigEvent::Found(object) => self.found(*object),
            ConfigEvent::Gone {
                kind,
                namespace,
                name,
            } => {
                if namespace == self.namespace {
                    if let Some(seen) = self.listing.get_mut(&kind) {
                        seen.remove(&name);
                    }
                    self.changed |= self.objects.remove(&(kind, name)).is_some();
                }
            }
            ConfigEvent::ListDone(kind) => {
                if let Some(seen) = self.listing.remove(&kind) {
                    let before = self.objects.len();
                    self.objects
                        .retain(|(known, name), _| *known != kind || seen.contains(name));
                    self.changed |= self.objects.len() != before;
                }
                return self.unlisted.remove(&kind) && self.unlisted.is_empty();
            }
        }
        false
    }

    fn found(&mut self, object: ConfigObject) {
        let ConfigObject {
            object,
            labels,
            spec,
            last_valid,
            ..
        } = object;
        if object.namespace != self.namespace {
            return;
        }
        if let Some(seen) = self.listing.get_mut(&object.kind) {
            seen.insert(object.name.clone());
        }
        let key = (object.kind, object.name.clone());
        let stored = Stored {
            object,
            labels,
            spec,
            last_valid,
        };
        if self.objects.get(&key) != Some(&stored) {
            self.objects.insert(key, stored);
            self.changed = true;
        }
    }

    /// The configuration, when it may be another than the last time.
    pub(super) fn settle(&mut self) -> Option<Config> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut sources = Sources::default();
        for stored in self.objects.values() {
            sources.add(
                stored.object.clone(),
                stored.labels.clone(),
                stored.spec.clone(),
                stored.last_valid.clone(),
            );
        }
        let (config, issues) = Config::from_sources(&sources, &self.namespace);
        for issue in issues.iter().filter(|issue| !self.known(issue)) {
            // The allocator tells the user by status and event; here is for whoever reads this log.
            tracing::info!(
                object = %issue.object,
                field = issue.field,
                reason = %issue.reason,
                message = issue.message,
                "configuration"
            );
        }
        self.issues = issues;
        self.idle = config.is_empty();
        Some(config)
    }

    /// Whether an issue of the last time says the same.
    fn known(&self, issue: &Issue) -> bool {
        let says = |issue: &Issue| (issue.reason, issue.effect);
        self.issues.iter().any(|known| {
            says(known) == says(issue)
                && known.object.uid == issue.object.uid
                && known.field == issue.field
                && known.message == issue.message
        })
    }

    /// What was found the last time.
    pub(super) fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// No pool is configured.
    pub(super) const fn idle(&self) -> bool {
        self.idle
    }

    /// Whether something is not in force as written.
    pub(super) fn stale(&self) -> bool {
        self.issues.iter().any(is_ours)
    }
}

/// Whether this installation's configuration is not in force as written. An object of another namespace may belong to another one.
pub(super) fn is_ours(issue: &Issue) -> bool {
    issue.is_error() && issue.reason != Reason::WrongNamespace
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn object(kind: Kind, name: &str, spec: Value) -> ConfigObject {
        ConfigObject {
            object: ObjectRef {
                kind,
                namespace: "m".into(),
                name: name.into(),
                uid: name.into(),
                created: 1,
                generation: 1,
            },
            labels: Labels::new(),
            resource_version: "1".into(),
            raw_spec: spec.clone(),
            spec: Ok(spec),
            last_valid: None,
            status: Value::Null,
        }
    }

    fn pool(name: &str, range: &str) -> ConfigEvent {
        let spec = json!({"addresses": [range]});
        ConfigEvent::Found(Box::new(object(Kind::IpAddressPool, name, spec)))
    }

    fn pools(configuration: &mut Configuration) -> Option<Vec<String>> {
        let config = configuration.settle()?;
        Some(config.pools().map(|pool| pool.name.clone()).collect())
    }

    #[test]
    fn a_fresh_list_replaces_what_was_known() {
        let mut configuration = Configuration::new("m");
        configuration.take(ConfigEvent::ListStarted(Kind::IpAddressPool));
        configuration.take(pool("a", "192.0.2.0/28"));
        configuration.take(pool("b", "192.0.2.16/28"));
        for kind in Kind::ALL {
            let last = kind == Kind::ALL[Kind::ALL.len() - 1];
            assert_eq!(configuration.take(ConfigEvent::ListDone(kind)), last, "{kind}");
        }
        assert_eq!(pools(&mut configuration), Some(vec!["a".into(), "b".into()]));
        assert!(!configuration.idle() && !configuration.stale());
        // Nothing new, then a list without `a`.
        configuration.take(pool("a", "192.0.2.0/28"));
        assert_eq!(pools(&mut configuration), None);
        configuration.take(ConfigEvent::ListStarted(Kind::IpAddressPool));
        configuration.take(pool("b", "192.0.2.16/28"));
        assert!(
            !configuration.take(ConfigEvent::ListDone(Kind::IpAddressPool)),
            "not the first time"
        );
        assert_eq!(pools(&mut configuration), Some(vec!["b".into()]));
        configuration.take(ConfigEvent::Gone {
            kind: Kind::IpAddressPool,
            namespace: "m".into(),
            name: "b".into(),
        });
        assert_eq!(pools(&mut configuration), Some(Vec::new()));
        assert!(configuration.idle());
    }

    #[test]
    fn objects_of_other_namespaces_are_not_looked_at() {
        let mut configuration = Configuration::new("other");
        assert_eq!(pools(&mut configuration), Some(Vec::new()));
        configuration.take(pool("a", "junk"));
        assert_eq!(pools(&mut configuration), None);
        assert!(!configuration.stale());
    }

    #[test]
    fn every_source_gives_pools_and_a_typo_leaves_what_was_valid() {
        let mut configuration = Configuration::new("m");
        let legacy = json!({"address-pools": [{"name": "old", "protocol": "layer2", "addresses": ["198.51.100.0/28"]}]});
        let config_map = object(Kind::ConfigMap, "config", legacy);
        configuration.take(ConfigEvent::Found(Box::new(config_map)));
        let spec = json!({"protocol": "layer2", "addresses": ["203.0.113.0/28"]});
        let address_pool = object(Kind::AddressPool, "older", spec);
        configuration.take(ConfigEvent::Found(Box::new(address_pool)));
        let mut typo = object(Kind::IpAddressPool, "new", json!({"addresses": ["192.0.2.0/99"]}));
        typo.last_valid = Some(json!({"addresses": ["192.0.2.0/28"]}));
        configuration.take(ConfigEvent::Found(Box::new(typo)));
        let config = configuration.settle().expect("changed");
        for address in ["198.51.100.1", "203.0.113.1", "192.0.2.1"] {
            let address = address.parse().expect("an address");
            assert!(config.pool_of(address).is_some(), "{address}");
        }
        assert!(configuration.stale());
        assert_eq!(configuration.settle(), None);
    }
}
