//! What the virtual API server says.

use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Config, Kind, Labels, ObjectRef, Source, Sources};
use metallb_speaker_core::election::{EXCLUDE_LABEL, Endpoints, NodeFacts, NodeName, ServiceFacts};
use metallb_speaker_core::{ServiceKey, WorldInput};
use serde_json::json;

use crate::NodeNumber;

const NAMESPACE: &str = "metallb-system";

/// A service of the simulation, from 0.
pub type ServiceNumber = usize;

/// One service.
#[derive(Clone, Debug)]
struct Service {
    /// `externalTrafficPolicy: Local`.
    local: bool,
    /// Nodes with a usable endpoint.
    endpoints: Vec<NodeNumber>,
}

/// The whole truth of the virtual API server.
#[derive(Clone, Debug)]
pub struct Facts {
    services: Vec<Service>,
    excluded: Vec<bool>,
    config: Arc<Config>,
}

/// The name of a node.
pub(crate) fn node_name(node: NodeNumber) -> NodeName {
    format!("n{node}").into()
}

impl Facts {
    /// `nodes` nodes and `services` services, each with an endpoint on every node; every other one is `Local`.
    pub fn new(nodes: usize, services: usize) -> Self {
        let service = |n: usize| Service {
            local: n % 2 == 1,
            endpoints: (0..nodes).collect(),
        };
        Self {
            services: (0..services).map(service).collect(),
            excluded: vec![false; nodes],
            config: config(),
        }
    }

    /// How many services there are.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// The address of a service.
    pub fn address(service: ServiceNumber) -> IpAddr {
        let number = u32::try_from(service).unwrap_or(u32::MAX);
        IpAddr::from((u32::from_be_bytes([10, 200, 0, 1]).wrapping_add(number)).to_be_bytes())
    }

    /// The key of a service.
    pub fn key(service: ServiceNumber) -> ServiceKey {
        ServiceKey::new("default", &format!("s{service}"))
    }

    /// Whether the node may own the service, by what the API server says.
    pub fn eligible(&self, service: ServiceNumber, node: NodeNumber) -> bool {
        let service = &self.services[service];
        !self.excluded[node]
            && !service.endpoints.is_empty()
            && (!service.local || service.endpoints.contains(&node))
    }

    /// Labels or unlabels a node as excluded from load balancers.
    pub(crate) fn exclude(&mut self, node: NodeNumber, excluded: bool) {
        self.excluded[node] = excluded;
    }

    /// Whether the node is labelled as excluded.
    pub(crate) fn is_excluded(&self, node: NodeNumber) -> bool {
        self.excluded[node]
    }

    /// Moves the endpoints of a service.
    pub(crate) fn place(&mut self, service: ServiceNumber, endpoints: Vec<NodeNumber>) {
        self.services[service].endpoints = endpoints;
    }

    /// Everything, as a speaker is told it.
    pub(crate) fn inputs(&self) -> Vec<WorldInput> {
        let mut inputs = vec![WorldInput::Config(Arc::clone(&self.config))];
        for (node, excluded) in self.excluded.iter().enumerate() {
            let label = excluded.then(|| (EXCLUDE_LABEL.to_owned(), String::new()));
            let facts = NodeFacts {
                labels: label.into_iter().collect(),
                network_unavailable: false,
            };
            inputs.push(WorldInput::Node(node_name(node), Some(facts)));
        }
        for (number, service) in self.services.iter().enumerate() {
            let endpoints = Endpoints {
                any: !service.endpoints.is_empty(),
                nodes: service.endpoints.iter().map(|node| node_name(*node)).collect(),
            };
            inputs.push(WorldInput::Endpoints(Self::key(number), endpoints));
            let facts = ServiceFacts {
                namespace: "default".into(),
                name: format!("s{number}").into(),
                labels: Labels::new(),
                addresses: vec![Self::address(number)],
                local: service.local,
                shared: false,
            };
            inputs.push(WorldInput::Service(Self::key(number), Some(facts)));
        }
        inputs
    }
}

fn config() -> Arc<Config> {
    let object = |kind| ObjectRef {
        kind,
        namespace: NAMESPACE.into(),
        name: "all".into(),
        uid: String::new(),
        created: 0,
        generation: 1,
    };
    let pool = json!({ "addresses": ["10.200.0.0/16"] });
    let sources = Sources {
        pools: vec![Source::from_json(
            object(Kind::IpAddressPool),
            Labels::new(),
            pool,
            None,
        )],
        l2_advertisements: vec![Source::from_json(
            object(Kind::L2Advertisement),
            Labels::new(),
            json!({}),
            None,
        )],
    };
    Arc::new(Config::from_sources(&sources, NAMESPACE).0)
}
