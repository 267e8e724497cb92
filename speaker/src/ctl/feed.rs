//! From watch events to the planner's facts and the list of peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use metallb_api::names::{annotations, labels};
use metallb_election::{NodeFacts, NodeName, ServiceFacts};
use metallb_kubeio::{ConfigEvent, Event, Relist, thin};
use metallb_speaker_core::{Directive, Planner, ServiceKey};

use super::configuration::Configuration;
use super::endpoints::Slices;
use super::lone;

pub(super) const SERVICES: &str = "services";
pub(super) const SLICES: &str = "endpoint slices";
pub(super) const NODES: &str = "nodes";
pub(super) const PODS: &str = "speaker pods";
pub(super) const CONFIGURATION: &str = "configuration";
/// The other speakers.
pub(super) const MEMBERSHIP: &str = "membership";
/// Everything that has to be listed once before anything is decided.
pub(super) const WATCHES: [&str; 5] = [SERVICES, SLICES, NODES, PODS, CONFIGURATION];

/// An event of one of the watches.
pub(super) enum Seen {
    Service(Event<thin::Service>),
    Slice(Event<thin::EndpointSlice>),
    Node(Event<thin::Node>),
    Pod(Event<thin::Pod>),
    Configuration(ConfigEvent),
}

struct Pod {
    node: NodeName,
    ip: IpAddr,
    uid: String,
    kind: Kind,
}

/// What a pod among the speakers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of ours.
    Ours,
    /// A speaker of Go `MetalLB`.
    Go {
        /// It announces.
        ready: bool,
    },
}

/// The taint by which an administrator says that a node is down for good.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A resource version as the number that it is. Others mean no age at all.
fn number(resource_version: Option<&String>) -> u64 {
    resource_version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Takes watch events, keeps of each object only what decides ownership.
pub(super) struct Feed {
    planner: Arc<Mutex<Planner>>,
    namespace: String,
    class: String,
    membership_port: u16,
    unlisted: BTreeSet<&'static str>,
    relists: BTreeMap<&'static str, Relist>,
    /// UIDs of the services that are ours, for events.
    services: BTreeMap<ServiceKey, Box<str>>,
    slices: Slices,
    /// The addresses of each node inside the cluster.
    nodes: BTreeMap<NodeName, Box<[IpAddr]>>,
    pods: BTreeMap<String, Pod>,
    pods_changed: bool,
    /// Name of our own pod.
    own_pod: String,
    /// Our own pod has the label that tells ours from Go's: so others without it are not ours.
    labelled: bool,
    /// Nodes with a ready speaker of Go `MetalLB`.
    go: BTreeSet<NodeName>,
    configuration: Configuration,
    /// The freshest of what was seen, and of the configuration.
    freshest: u64,
    configuration_version: u64,
    /// Plans are narrowed to their first in rank: there is no membership.
    lone: bool,
}

impl Feed {
    /// One that has seen nothing. `class` is the load-balancer class to serve, empty for services without one;
    /// `membership_port` that of all speakers, `None` without membership.
    pub(super) fn new(
        planner: Arc<Mutex<Planner>>,
        namespace: &str,
        own_pod: &str,
        class: &str,
        membership_port: Option<u16>,
    ) -> Self {
        Self {
            planner,
            namespace: namespace.to_owned(),
            class: class.to_owned(),
            membership_port: membership_port.unwrap_or_default(),
            unlisted: WATCHES.into(),
            relists: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: Slices::default(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            pods_changed: false,
            own_pod: own_pod.to_owned(),
            labelled: false,
            go: BTreeSet::new(),
            configuration: Configuration::new(namespace),
            freshest: 0,
            configuration_version: 0,
            lone: membership_port.is_none(),
        }
    }

    /// Whether everything was listed once.
    pub(super) fn synced(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// UID of a service of ours.
    pub(super) fn uid(&self, key: &ServiceKey) -> Option<&str> {
        self.services.get(key).map(|uid| &**uid)
    }

    /// UID of the pod with this name.
    pub(super) fn own_pod_uid(&self, name: &str) -> Option<&str> {
        self.pods.get(name).map(|pod| pod.uid.as_str())
    }

    /// Takes an event; the name of its watch when that is now listed for the first time.
    pub(super) fn take(&mut self, seen: Seen) -> Option<&'static str> {
        match seen {
            Seen::Service(event) => self.follow(SERVICES, event, Self::service, Self::service_gone, |feed| {
                feed.services
                    .keys()
                    .map(|key| (key.namespace().to_owned(), key.name().to_owned()))
                    .collect()
            }),
            Seen::Slice(event) => self.follow(SLICES, event, Self::slice, Self::slice_gone, |feed| {
                feed.slices
                    .names()
                    .map(|(ns, name)| (ns.to_owned(), name.to_owned()))
                    .collect()
            }),
            Seen::Node(event) => self.follow(NODES, event, Self::node, Self::node_gone, |feed| {
                feed.nodes
                    .keys()
                    .map(|name| (String::new(), name.to_string()))
                    .collect()
            }),
            Seen::Pod(event) => self.follow(PODS, event, Self::pod, Self::pod_gone, |feed| {
                feed.pods
                    .keys()
                    .map(|name| (feed.namespace.clone(), name.clone()))
                    .collect()
            }),
            Seen::Configuration(event) => {
                let version = match &event {
                    ConfigEvent::Found(object) => number(Some(&object.resource_version)),
                    _ => 0,
                };
                let before = self.configuration.count();
                let all = self.configuration.take(event);
                // What is gone went after all that was seen of it.
                let gone = self.configuration.count() < before;
                let version = if gone { self.freshest + 1 } else { version };
                self.freshest = self.freshest.max(version);
                self.configuration_version = self.configuration_version.max(version);
                (all && self.unlisted.remove(CONFIGURATION)).then_some(CONFIGURATION)
            }
        }
    }

    /// The protocol of a watch, once for all kinds.
    fn follow<K: kube::Resource>(
        &mut self,
        watch: &'static str,
        event: Event<K>,
        apply: fn(&mut Self, K),
        gone: fn(&mut Self, &str, &str),
        known: impl Fn(&Self) -> Vec<(String, String)>,
    ) -> Option<&'static str> {
        match event {
            Event::Init => self.relists.entry(watch).or_default().begin(),
            Event::InitApply(object) => {
                self.relists.entry(watch).or_default().saw(&object);
                self.as_fresh_as(&object);
                apply(self, object);
            }
            Event::Apply(object) => {
                self.as_fresh_as(&object);
                apply(self, object);
            }
            Event::Delete(object) => {
                self.as_fresh_as(&object);
                gone(self, &object.namespace().unwrap_or_default(), &object.name_any());
            }
            Event::InitDone => {
                let known = known(self);
                // They went after all that was seen of them.
                self.planner().at(self.freshest + 1);
                let relist = self.relists.entry(watch).or_default();
                for (namespace, name) in relist.gone(known.iter().map(|(ns, name)| (&**ns, &**name))) {
                    gone(self, &namespace, &name);
                }
                return self.unlisted.remove(watch).then_some(watch);
            }
        }
        None
    }

    /// What is told to the planner next is of the age of this object.
    fn as_fresh_as<K: kube::Resource>(&mut self, object: &K) {
        let version = number(object.meta().resource_version.as_ref());
        self.freshest = self.freshest.max(version);
        self.planner().at(version);
    }

    fn planner(&self) -> MutexGuard<'_, Planner> {
        self.planner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn service(&mut self, service: thin::Service) {
        let namespace = service.namespace().unwrap_or_default();
        let name = service.name_any();
        let key = ServiceKey::new(&namespace, &name);
        let ours = service.spec.type_ == "LoadBalancer"
            && service.spec.load_balancer_class.as_deref().unwrap_or_default() == self.class;
        let ingress = &service.status.load_balancer.ingress;
        let addresses: Vec<IpAddr> = ingress
            .iter()
            .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
            .collect();
        if !ours || addresses.is_empty() {
            self.services.remove(&key);
            self.planner().service(key, None);
            return;
        }
        self.services
            .insert(key.clone(), service.metadata.uid.unwrap_or_default().into());
        let sharing = service.metadata.annotations.as_ref().and_then(|all| {
            all.get(annotations::ALLOW_SHARED_IP)
                .or_else(|| all.get(annotations::DEPRECATED_ALLOW_SHARED_IP))
        });
        let shared = sharing.is_some_and(|key| !key.is_empty());
        let facts = ServiceFacts {
            namespace: namespace.into(),
            name: name.into(),
            labels: service.metadata.labels.unwrap_or_default(),
            addresses,
            local: service.spec.external_traffic_policy.as_deref() == Some("Local"),
            shared,
        };
        self.planner().service(key, Some(facts));
    }

    fn service_gone(&mut self, namespace: &str, name: &str) {
        let key = ServiceKey::new(namespace, name);
        self.services.remove(&key);
        self.planner().service(key, None);
    }

    #[expect(clippy::needless_pass_by_value, reason = "as for every other kind")]
    fn slice(&mut self, slice: thin::EndpointSlice) {
        let service = slice
            .labels()
            .get(labels::SLICE_SERVICE_NAME)
            .cloned()
            .unwrap_or_default();
        if let Some(key) = self.slices.apply(&slice, &service) {
            let endpoints = self.slices.of(&key);
            self.planner().endpoints(&key, endpoints);
        }
    }

    fn slice_gone(&mut self, namespace: &str, name: &str) {
        for key in self.slices.remove(namespace, name) {
            let endpoints = self.slices.of(&key);
            self.planner().endpoints(&key, endpoints);
        }
    }

    fn node(&mut self, node: thin::Node) {
        let name = NodeName::from(node.name_any());
        let addresses = node.status.addresses.iter();
        let inside = addresses.filter(|address| address.type_ == "InternalIP");
        let inside = inside.filter_map(|address| address.address.parse().ok());
        self.nodes.insert(Arc::clone(&name), inside.collect());
        let is = |condition: &str| {
            let mut conditions = node.status.conditions.iter();
            conditions.any(|c| c.type_ == condition && c.status == "True")
        };
        let facts = NodeFacts {
            network_unavailable: is("NetworkUnavailable"),
            out_of_service: node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE),
            shunned: node.spec.unschedulable || !is("Ready"),
            foreign_speaker: self.go.contains(&name),
            labels: node.metadata.labels.unwrap_or_default(),
        };
        self.planner().node(name, Some(facts));
    }

    fn node_gone(&mut self, _: &str, name: &str) {
        self.nodes.remove(name);
        self.planner().node(name.into(), None);
    }

    fn pod(&mut self, pod: thin::Pod) {
        let name = pod.name_any();
        let ours = pod.labels().get(labels::ENGINE).map(String::as_str) == Some(labels::ENGINE_RUST);
        if ours && name == self.own_pod {
            self.labelled = true;
            self.pods_changed = true;
        }
        let ready = || {
            let mut conditions = pod.status.conditions.iter();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        // Without labels to choose by, these are any pods of the namespace.
        let kind = if ours || self.lone {
            Kind::Ours
        } else {
            Kind::Go { ready: ready() }
        };
        let over = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
        let ip = pod.status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
        let what = |pod: &Pod| (Arc::clone(&pod.node), pod.ip, pod.kind);
        let before = self.pods.remove(&name).as_ref().map(what);
        if let (false, Some(node), Some(ip)) = (over, pod.spec.node_name.as_deref(), ip) {
            let uid = pod.metadata.uid.unwrap_or_default();
            let node = node.into();
            self.pods.insert(name.clone(), Pod { node, ip, uid, kind });
        }
        let after = self.pods.get(&name).map(what);
        self.pods_changed |= before != after;
        self.follow_go();
    }

    fn pod_gone(&mut self, _: &str, name: &str) {
        self.pods_changed |= self.pods.remove(name).is_some();
        self.follow_go();
    }

    /// Tells the planner where ready speakers of Go `MetalLB` run.
    fn follow_go(&mut self) {
        let ready = |pod: &&Pod| self.labelled && pod.kind == Kind::Go { ready: true };
        let now = self.pods.values().filter(ready).map(|pod| Arc::clone(&pod.node));
        let now: BTreeSet<NodeName> = now.collect();
        for node in now.symmetric_difference(&self.go) {
            tracing::info!(
                node = &**node,
                there = now.contains(node),
                "a ready speaker of Go MetalLB on this node"
            );
            self.planner().foreign_speaker(node, now.contains(node));
        }
        self.go = now;
    }

    /// Our own speakers.
    fn ours(&self) -> impl Iterator<Item = &Pod> {
        let ours = |pod: &&Pod| !self.labelled || pod.kind == Kind::Ours;
        self.pods.values().filter(ours)
    }

    /// Addresses of nodes without a speaker of ours: what these nodes say on the LAN is no stranger's word, and membership
    /// does not tell their hardware addresses.
    pub(super) fn strangers(&self) -> BTreeSet<IpAddr> {
        let covered: BTreeSet<&str> = self.ours().map(|pod| &*pod.node).collect();
        let others = self.nodes.iter().filter(|(name, _)| !covered.contains(&***name));
        others
            .flat_map(|(_, addresses)| addresses.iter().copied())
            .collect()
    }

    /// All speakers and where their membership listens, when that changed since the last time and was listed at all.
    pub(super) fn peers(&mut self) -> Option<BTreeMap<NodeName, SocketAddr>> {
        if self.lone || self.unlisted.contains(PODS) || !std::mem::take(&mut self.pods_changed) {
            return None;
        }
        Some(
            self.ours()
                .map(|pod| {
                    (
                        Arc::clone(&pod.node),
                        SocketAddr::new(pod.ip, self.membership_port),
                    )
                })
                .collect(),
        )
    }

    /// The configuration, for reading.
    pub(super) const fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The plans that changed, and whether the configuration was read again.
    pub(super) fn settle(&mut self) -> (Vec<Directive>, bool) {
        let config = self.configuration.settle();
        let reread = config.is_some();
        let mut planner = self.planner();
        if let Some(config) = config {
            planner.at(self.configuration_version);
            planner.config(Arc::new(config));
        }
        let mut directives = planner.settle();
        drop(planner);
        if self.lone {
            directives = directives.into_iter().map(lone::decided).collect();
        }
        (directives, reread)
    }
}

#[cfg(test)]
mod tests;
