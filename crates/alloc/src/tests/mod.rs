//! Tables over a small world: an API server that stores services, and the allocator that writes to it.

mod choosing;
mod contract;
mod defects;
mod dual_stack;
mod lifecycle;
mod nodes;
mod random;
mod replicas;
mod reuse;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, Kind, Labels, ObjectRef, Sources};
use serde_json::{Value, json};

use crate::{
    Counters, FamilyPolicy, Input, Output, Policy, Port, Protocol, Request, Service, ServiceId, Sharing,
    World, wanted_ips,
};

/// A configuration of pools: name and spec.
pub(crate) fn config(pools: &[(&str, Value)]) -> Arc<Config> {
    let mut sources = Sources::default();
    for (name, spec) in pools {
        let object = ObjectRef {
            kind: Kind::IpAddressPool,
            namespace: "metallb-system".to_owned(),
            name: (*name).to_owned(),
            uid: String::new(),
            created: 0,
            generation: 1,
        };
        sources.add(object, Labels::new(), Ok(spec.clone()), None);
    }
    let (config, issues) = Config::from_sources(&sources, "metallb-system");
    assert_eq!(issues, [], "the pools of a test are valid");
    Arc::new(config)
}

/// A pool of these addresses, nothing else set.
pub(crate) fn at(addresses: &[&str]) -> Value {
    json!({"addresses": addresses})
}

pub(crate) fn id(text: &str) -> ServiceId {
    let (namespace, name) = text.split_once('/').unwrap_or(("d", text));
    ServiceId::new(namespace, name)
}

/// A LoadBalancer service with an IPv4 ClusterIP, port TCP/80 and no wishes. `text` is `name` or `namespace/name`.
pub(crate) fn service(text: &str) -> Service {
    let id = id(text);
    Service {
        uid: format!("uid-{id}").into(),
        created: 100,
        resource_version: "0".into(),
        load_balancer: true,
        class: None,
        request: Request {
            id,
            labels: Labels::new(),
            cluster_ips: vec![ip("10.96.0.1")],
            policy: FamilyPolicy::SingleStack,
            prefers_v6: false,
            wanted_ips: Ok(Vec::new()),
            wanted_pool: None,
            sharing: Sharing {
                ports: vec![port("TCP/80")],
                ..Sharing::default()
            },
        },
        ingress: Vec::new(),
        other_ingress: false,
        recorded_pool: None,
        deprecated_record: false,
        deprecated_annotations: String::new(),
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

pub(crate) fn port(text: &str) -> Port {
    let (protocol, number) = text.split_once('/').expect("PROTOCOL/number");
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => Protocol::Sctp,
    };
    Port {
        protocol,
        number: number.parse().expect("a number"),
    }
}

/// Wishes, chained.
pub(crate) trait Wishes {
    fn created(self, second: i64) -> Self;
    fn pool(self, name: &str) -> Self;
    fn ips(self, list: &str) -> Self;
    fn shares(self, key: &str, ports: &[&str]) -> Self;
    fn backend(self, text: &str) -> Self;
    fn cluster_ips(self, list: &[&str]) -> Self;
    fn policy(self, policy: FamilyPolicy) -> Self;
    fn label(self, key: &str, value: &str) -> Self;
    /// As it is after we wrote it.
    fn has(self, ips: &[&str], pool: &str) -> Self;
}

impl Wishes for Service {
    fn created(mut self, second: i64) -> Self {
        self.created = second;
        self
    }
    fn pool(mut self, name: &str) -> Self {
        self.request.wanted_pool = Some(name.to_owned());
        self
    }
    fn ips(mut self, list: &str) -> Self {
        self.request.wanted_ips = wanted_ips(Some(list), None);
        self
    }
    fn shares(mut self, key: &str, ports: &[&str]) -> Self {
        self.request.sharing.key = key.into();
        self.request.sharing.ports = ports.iter().map(|text| port(text)).collect();
        self
    }
    fn backend(mut self, text: &str) -> Self {
        self.request.sharing.backend = text.into();
        self
    }
    fn cluster_ips(mut self, list: &[&str]) -> Self {
        self.request.cluster_ips = list.iter().map(|text| ip(text)).collect();
        self
    }
    fn policy(mut self, policy: FamilyPolicy) -> Self {
        self.request.policy = policy;
        self
    }
    fn label(mut self, key: &str, value: &str) -> Self {
        self.request.labels.insert(key.to_owned(), value.to_owned());
        self
    }
    fn has(mut self, ips: &[&str], pool: &str) -> Self {
        self.ingress = ips.iter().map(|text| ip(text)).collect();
        self.recorded_pool = Some(pool.to_owned());
        self
    }
}

/// What the API server stores, and one allocator.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) stored: BTreeMap<ServiceId, Service>,
    config: Arc<Config>,
    namespaces: BTreeMap<String, Labels>,
    nodes: BTreeSet<IpAddr>,
    /// How often a service of this name was deleted.
    lives: BTreeMap<ServiceId, u32>,
    version: u64,
    /// `Reason service: message` since last taken.
    events: Vec<String>,
    /// Status writes since last taken.
    writes: usize,
    counters: BTreeMap<String, Counters>,
    warnings: BTreeMap<String, Vec<String>>,
    policy: Policy,
}

impl Cluster {
    /// A leading allocator with these pools and no service.
    pub(crate) fn new(pools: &[(&str, Value)]) -> Self {
        Self::with(Policy::default(), pools)
    }

    /// The same with another policy.
    pub(crate) fn with(policy: Policy, pools: &[(&str, Value)]) -> Self {
        let mut cluster = Self {
            world: World::new(policy.clone()),
            warnings: BTreeMap::new(),
            policy,
            stored: BTreeMap::new(),
            config: config(pools),
            namespaces: BTreeMap::new(),
            nodes: BTreeSet::new(),
            lives: BTreeMap::new(),
            version: 0,
            events: Vec::new(),
            writes: 0,
            counters: BTreeMap::new(),
        };
        cluster.restart();
        cluster
    }

    /// A new process: it knows nothing but what is stored.
    pub(crate) fn restart(&mut self) {
        self.world = World::new(self.policy.clone());
        self.counters.clear();
        self.warnings.clear();
        self.world.handle(Input::ListStarted);
        for service in self.stored.values() {
            self.world.handle(Input::Listed(Box::new(service.clone())));
        }
        assert_eq!(
            self.world.drain(),
            [],
            "nothing is decided while lists are incomplete"
        );
        self.world.handle(Input::ListDone);
        for (name, labels) in &self.namespaces {
            self.world
                .handle(Input::Namespace(name.clone(), Some(labels.clone())));
        }
        self.world.handle(Input::Config(self.config.clone()));
        self.world.handle(Input::Reserved(self.nodes.clone()));
        self.world.handle(Input::Synced);
        assert_eq!(
            self.world.drain(),
            [],
            "nothing is decided by a replica that does not lead"
        );
        self.world.handle(Input::Leading(true));
        self.settle();
    }

    /// Stores a service and lets the allocator act. What is stored already keeps its status.
    pub(crate) fn apply(&mut self, service: Service) {
        self.put(service);
        self.settle();
    }

    /// Stores a service and tells the allocator, which does not act yet.
    pub(crate) fn put(&mut self, mut service: Service) {
        let id = service.request.id.clone();
        if let Some(lives) = self.lives.get(&id) {
            // No two objects ever have the same UID.
            service.uid = format!("{}-{lives}", service.uid).into();
        }
        if let Some(known) = self.stored.get(&id).filter(|known| known.uid == service.uid) {
            service.ingress.clone_from(&known.ingress);
            service.other_ingress = known.other_ingress;
            service.recorded_pool.clone_from(&known.recorded_pool);
            service.created = known.created;
        }
        self.store(service);
    }

    /// Stores a service with the status that it carries.
    pub(crate) fn store(&mut self, mut service: Service) {
        self.version += 1;
        service.resource_version = self.version.to_string().into();
        self.stored.insert(service.request.id.clone(), service.clone());
        self.world.handle(Input::Applied(Box::new(service)));
    }

    pub(crate) fn delete(&mut self, name: &str) {
        if let Some(stored) = self.stored.remove(&id(name)) {
            *self.lives.entry(id(name)).or_default() += 1;
            self.world.handle(Input::Gone {
                service: id(name),
                uid: stored.uid,
            });
        }
        self.settle();
    }

    pub(crate) fn configure(&mut self, pools: &[(&str, Value)]) {
        self.config = config(pools);
        self.world.handle(Input::Config(self.config.clone()));
        self.settle();
    }

    pub(crate) fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels: Labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        self.namespaces.insert(name.to_owned(), labels.clone());
        self.world.handle(Input::Namespace(name.to_owned(), Some(labels)));
        self.settle();
    }

    /// Addresses of the nodes.
    pub(crate) fn nodes(&mut self, addresses: &[&str]) {
        self.nodes = addresses.iter().map(|text| ip(text)).collect();
        self.world.handle(Input::Reserved(self.nodes.clone()));
        self.settle();
    }

    /// Lets the allocator decide and write until it is content.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            let outputs = self.world.drain();
            if outputs.is_empty() {
                self.check();
                return;
            }
            for output in outputs {
                if let Some(id) = self.note(output) {
                    self.write(&id);
                }
            }
        }
        panic!("the allocator does not come to rest");
    }

    /// Keeps what is told; returns what is to be written.
    pub(crate) fn note(&mut self, output: Output) -> Option<ServiceId> {
        match output {
            Output::Write(id) => return Some(id),
            Output::Event(event) => {
                self.events
                    .push(format!("{} {}: {}", event.reason, event.service, event.message));
            }
            Output::Counters(pool, Some(counters)) => {
                self.counters.insert(pool, counters);
            }
            Output::Counters(pool, None) => {
                self.counters.remove(&pool);
            }
            Output::PoolWarnings(pool, warnings) => {
                self.warnings.insert(pool, warnings);
            }
            Output::Decided(_) => {}
        }
        None
    }

    pub(crate) fn write(&mut self, id: &ServiceId) {
        let Some(write) = self.world.status_write(id) else {
            return;
        };
        let Some(stored) = self.stored.get(id) else { return };
        let mut service = stored.clone();
        if stored.resource_version == write.resource_version {
            self.writes += 1;
            self.version += 1;
            service.ingress = write.ips;
            service.other_ingress = false;
            service.recorded_pool = write.pool;
            service.resource_version = self.version.to_string().into();
            if write.remove_deprecated_record {
                service.deprecated_record = false;
            }
            self.stored.insert(id.clone(), service.clone());
        }
        // Written or, after a conflict, read.
        self.world.handle(Input::Applied(Box::new(service)));
    }

    /// Addresses in the stored status, comma separated; empty when pending.
    pub(crate) fn has(&self, name: &str) -> String {
        let service = self
            .stored
            .get(&id(name))
            .unwrap_or_else(|| panic!("no service {name}"));
        service
            .ingress
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Addresses of several services.
    pub(crate) fn have(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.has(name)).collect()
    }

    pub(crate) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn take_writes(&mut self) -> usize {
        std::mem::take(&mut self.writes)
    }

    pub(crate) fn counters(&self, pool: &str) -> Counters {
        self.counters
            .get(pool)
            .copied()
            .unwrap_or_else(|| panic!("no pool {pool}"))
    }

    /// What must hold whenever the allocator is content.
    pub(crate) fn check(&self) {
        let mut users: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
        let mut per_pool: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
        for service in self
            .stored
            .values()
            .filter(|service| service.recorded_pool.is_some())
            .filter(|service| self.policy.classes.admits(service.class.as_deref()))
        {
            let request = &service.request;
            assert_eq!(
                self.world.status_write(&request.id),
                None,
                "{} is left wrong",
                request.id
            );
            let pool = self
                .config
                .pool_of_all(&service.ingress)
                .unwrap_or_else(|| panic!("{} has {:?}, which is in no pool", request.id, service.ingress));
            assert_eq!(
                service.recorded_pool.as_deref(),
                Some(pool.name.as_str()),
                "{}",
                request.id
            );
            assert!(
                service.ingress.iter().all(|ip| !pool.avoids(*ip)),
                "{}",
                request.id
            );
            per_pool.entry(&pool.name).or_default().2 += 1;
            for ip in &service.ingress {
                let on = users.entry(*ip).or_default();
                for other in on.iter() {
                    let (a, b) = (&request.sharing, &other.request.sharing);
                    let disjoint = !a.ports.iter().any(|port| b.ports.contains(port));
                    assert!(
                        !a.key.is_empty() && a.key == b.key && a.backend == b.backend && disjoint,
                        "{} and {} share {ip}",
                        request.id,
                        other.request.id
                    );
                }
                on.push(service);
            }
        }
        for ip in users.keys() {
            let pool = self.config.pool_of(*ip).expect("checked above");
            let counts = per_pool.entry(&pool.name).or_default();
            if ip.is_ipv4() {
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
        }
        for (pool, counters) in &self.counters {
            let expected = per_pool.get(pool.as_str()).copied().unwrap_or_default();
            let counted = (counters.assigned_v4, counters.assigned_v6, counters.services);
            assert_eq!(counted, expected, "counters of {pool}");
        }
    }
}
