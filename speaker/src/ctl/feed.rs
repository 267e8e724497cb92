//! From watch events to the planner's facts and the list of peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use metallb_api::names::{annotations, labels};
use metallb_api::{IPAddressPool, L2Advertisement, Raw};
use metallb_election::{NodeFacts, NodeName, ServiceFacts};
use metallb_kubeio::{Event, Relist, thin};
use metallb_model::{Config, Effect, Issue, Kind, L2AdvertisementSpec, PoolSpec, Source, Sources};
use metallb_speaker_core::{Directive, Planner, ServiceKey};

use super::endpoints::Slices;
use super::sources::source;

pub(super) const SERVICES: &str = "services";
pub(super) const SLICES: &str = "endpoint slices";
pub(super) const NODES: &str = "nodes";
pub(super) const PODS: &str = "speaker pods";
pub(super) const POOLS: &str = "address pools";
pub(super) const L2_ADVERTISEMENTS: &str = "l2 advertisements";
/// Everything that has to be listed once before anything is decided.
pub(super) const WATCHES: [&str; 6] = [SERVICES, SLICES, NODES, PODS, POOLS, L2_ADVERTISEMENTS];

/// An event of one of the watches.
pub(super) enum Seen {
    Service(Event<thin::Service>),
    Slice(Event<thin::EndpointSlice>),
    Node(Event<thin::Node>),
    Pod(Event<thin::Pod>),
    Pool(Event<Raw<IPAddressPool>>),
    L2Advertisement(Event<Raw<L2Advertisement>>),
}

struct Pod {
    node: NodeName,
    ip: IpAddr,
    uid: String,
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
    nodes: BTreeSet<NodeName>,
    pods: BTreeMap<String, Pod>,
    pods_changed: bool,
    pools: BTreeMap<String, Source<PoolSpec>>,
    advertisements: BTreeMap<String, Source<L2AdvertisementSpec>>,
    configuration_changed: bool,
    issues: Vec<Issue>,
}

impl Feed {
    /// One that has seen nothing. `class` is the load-balancer class to serve, empty for services without one.
    pub(super) fn new(
        planner: Arc<Mutex<Planner>>,
        namespace: &str,
        class: &str,
        membership_port: u16,
    ) -> Self {
        Self {
            planner,
            namespace: namespace.to_owned(),
            class: class.to_owned(),
            membership_port,
            unlisted: WATCHES.into(),
            relists: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: Slices::default(),
            nodes: BTreeSet::new(),
            pods: BTreeMap::new(),
            pods_changed: false,
            pools: BTreeMap::new(),
            advertisements: BTreeMap::new(),
            configuration_changed: true,
            issues: Vec::new(),
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
                    .iter()
                    .map(|name| (String::new(), name.to_string()))
                    .collect()
            }),
            Seen::Pod(event) => self.follow(PODS, event, Self::pod, Self::pod_gone, |feed| {
                feed.pods
                    .keys()
                    .map(|name| (feed.namespace.clone(), name.clone()))
                    .collect()
            }),
            Seen::Pool(event) => self.follow(POOLS, event, Self::pool, Self::pool_gone, |feed| {
                feed.pools
                    .keys()
                    .map(|name| (feed.namespace.clone(), name.clone()))
                    .collect()
            }),
            Seen::L2Advertisement(event) => {
                let known = |feed: &Self| {
                    let names = feed.advertisements.keys();
                    names.map(|name| (feed.namespace.clone(), name.clone())).collect()
                };
                let (apply, gone) = (Self::advertisement, Self::advertisement_gone);
                self.follow(L2_ADVERTISEMENTS, event, apply, gone, known)
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
                apply(self, object);
            }
            Event::Apply(object) => apply(self, object),
            Event::Delete(object) => {
                gone(self, &object.namespace().unwrap_or_default(), &object.name_any());
            }
            Event::InitDone => {
                let known = known(self);
                let relist = self.relists.entry(watch).or_default();
                for (namespace, name) in relist.gone(known.iter().map(|(ns, name)| (&**ns, &**name))) {
                    gone(self, &namespace, &name);
                }
                return self.unlisted.remove(watch).then_some(watch);
            }
        }
        None
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
        self.nodes.insert(Arc::clone(&name));
        let conditions = &node.status.conditions;
        let network_unavailable = conditions
            .iter()
            .any(|c| c.type_ == "NetworkUnavailable" && c.status == "True");
        let facts = NodeFacts {
            labels: node.metadata.labels.unwrap_or_default(),
            network_unavailable,
            ..NodeFacts::default()
        };
        self.planner().node(name, Some(facts));
    }

    fn node_gone(&mut self, _: &str, name: &str) {
        self.nodes.remove(name);
        self.planner().node(name.into(), None);
    }

    fn pod(&mut self, pod: thin::Pod) {
        let name = pod.name_any();
        let over = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
        let ip = pod.status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
        let before = self.pods.remove(&name).map(|pod| (pod.node, pod.ip));
        if let (false, Some(node), Some(ip)) = (over, pod.spec.node_name.as_deref(), ip) {
            let uid = pod.metadata.uid.unwrap_or_default();
            self.pods.insert(
                name.clone(),
                Pod {
                    node: node.into(),
                    ip,
                    uid,
                },
            );
        }
        let after = self.pods.get(&name).map(|pod| (Arc::clone(&pod.node), pod.ip));
        self.pods_changed |= before != after;
    }

    fn pod_gone(&mut self, _: &str, name: &str) {
        self.pods_changed |= self.pods.remove(name).is_some();
    }

    fn pool(&mut self, pool: Raw<IPAddressPool>) {
        let source = source(Kind::IpAddressPool, pool);
        self.pools.insert(source.object.name.clone(), source);
        self.configuration_changed = true;
    }

    fn pool_gone(&mut self, _: &str, name: &str) {
        self.configuration_changed |= self.pools.remove(name).is_some();
    }

    fn advertisement(&mut self, advertisement: Raw<L2Advertisement>) {
        let source = source(Kind::L2Advertisement, advertisement);
        self.advertisements.insert(source.object.name.clone(), source);
        self.configuration_changed = true;
    }

    fn advertisement_gone(&mut self, _: &str, name: &str) {
        self.configuration_changed |= self.advertisements.remove(name).is_some();
    }

    /// All speakers and where their membership listens, when that changed since the last time and was listed at all.
    pub(super) fn peers(&mut self) -> Option<BTreeMap<NodeName, SocketAddr>> {
        if self.unlisted.contains(PODS) || !std::mem::take(&mut self.pods_changed) {
            return None;
        }
        let pods = self.pods.values();
        Some(
            pods.map(|pod| {
                (
                    Arc::clone(&pod.node),
                    SocketAddr::new(pod.ip, self.membership_port),
                )
            })
            .collect(),
        )
    }

    /// Whether an object is not in force as written.
    pub(super) fn configuration_stale(&self) -> bool {
        self.issues.iter().any(|issue| issue.effect != Effect::Warning)
    }

    /// The plans that changed.
    pub(super) fn settle(&mut self) -> Vec<Directive> {
        if std::mem::take(&mut self.configuration_changed) {
            let sources = Sources {
                pools: self.pools.values().cloned().collect(),
                l2_advertisements: self.advertisements.values().cloned().collect(),
            };
            let (config, issues) = Config::from_sources(&sources, &self.namespace);
            for issue in issues.iter().filter(|issue| !self.issues.contains(issue)) {
                // The allocator tells the user by status and event; here is for whoever reads this log.
                tracing::info!(object = %issue.object, field = issue.field, message = issue.message, "configuration");
            }
            self.issues = issues;
            self.planner().config(Arc::new(config));
        }
        self.planner().settle()
    }
}
