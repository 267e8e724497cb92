//! Usable endpoints of each service, from its slices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metallb_election::{Endpoints, NodeName};
use metallb_kubeio::thin;
use metallb_speaker_core::ServiceKey;

/// What is kept of a slice.
#[derive(Debug, PartialEq, Eq)]
struct Slice {
    any: bool,
    nodes: Vec<NodeName>,
}

/// The slices of all services, compactly.
#[derive(Debug, Default)]
pub(super) struct Slices {
    services: BTreeMap<ServiceKey, BTreeMap<Box<str>, Slice>>,
    /// One allocation for each node's name.
    names: BTreeSet<NodeName>,
}

impl Slices {
    /// The slice is there; the service whose endpoints may have changed.
    pub(super) fn apply(&mut self, slice: &thin::EndpointSlice, service: &str) -> Option<ServiceKey> {
        let namespace = slice.metadata.namespace.as_deref()?;
        let name = slice.metadata.name.as_deref()?;
        let usable = || slice.endpoints.iter().filter(|endpoint| endpoint.usable());
        let nodes: BTreeSet<&str> = usable()
            .filter_map(|endpoint| endpoint.node_name.as_deref())
            .collect();
        let kept = Slice {
            any: usable().next().is_some(),
            nodes: nodes.into_iter().map(|n| self.intern(n)).collect(),
        };
        let key = ServiceKey::new(namespace, service);
        let slices = self.services.entry(key.clone()).or_default();
        if slices.get(name) == Some(&kept) {
            return None;
        }
        slices.insert(name.into(), kept);
        Some(key)
    }

    fn intern(&mut self, name: &str) -> NodeName {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name = NodeName::from(name);
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The slice is gone; the services whose endpoints may have changed.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Vec<ServiceKey> {
        let mut touched = Vec::new();
        self.services.retain(|key, slices| {
            if key.namespace() == namespace && slices.remove(name).is_some() {
                touched.push(key.clone());
            }
            !slices.is_empty()
        });
        touched
    }

    /// All slices, as namespace and name.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.services
            .iter()
            .flat_map(|(key, slices)| slices.keys().map(|name| (key.namespace(), &**name)))
    }

    /// The usable endpoints of a service over all its slices.
    pub(super) fn of(&self, service: &ServiceKey) -> Endpoints {
        let mut all = Endpoints::default();
        for slice in self.services.get(service).into_iter().flat_map(BTreeMap::values) {
            all.any |= slice.any;
            all.nodes.extend(slice.nodes.iter().cloned());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, endpoints: &[(&str, bool)]) -> thin::EndpointSlice {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(node, ready)| serde_json::json!({"nodeName": node, "conditions": {"ready": ready}}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "default", "name": name},
            "addressType": "IPv4",
            "endpoints": endpoints,
        }))
        .expect("slice")
    }

    #[test]
    fn endpoints_are_the_union_of_slices() {
        let mut slices = Slices::default();
        let key = ServiceKey::new("default", "web");
        assert_eq!(
            slices.apply(&slice("a", &[("n1", true), ("n2", false)]), "web"),
            Some(key.clone())
        );
        assert_eq!(
            slices.apply(&slice("b", &[("n3", true)]), "web"),
            Some(key.clone())
        );
        assert_eq!(
            slices.apply(&slice("b", &[("n3", true), ("n3", true)]), "web"),
            None,
            "nothing new"
        );
        let nodes = ["n1", "n3"].map(NodeName::from).into();
        assert_eq!(slices.of(&key), Endpoints { any: true, nodes });
        assert_eq!(slices.remove("default", "a"), vec![key.clone()]);
        assert_eq!(slices.remove("other", "b"), vec![]);
        assert_eq!(slices.remove("default", "b"), vec![key.clone()]);
        assert_eq!(slices.of(&key), Endpoints::default());
        assert_eq!(slices.names().count(), 0);
    }
}
