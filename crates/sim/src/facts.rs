//! What the virtual API server says.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use metallb_model::{Config, Kind, Labels, ObjectRef, Source, Sources};
use metallb_speaker_core::election::{EXCLUDE_LABEL, Endpoints, NodeFacts, NodeName, ServiceFacts};
use metallb_speaker_core::{ServiceKey, WorldInput};
use serde_json::json;

use crate::NodeNumber;
use crate::host::{INTERFACE, SECOND_INTERFACE};

const NAMESPACE: &str = "metallb-system";
/// Nodes with this label are selected by the one `L2Advertisement`.
const EDGE_LABEL: &str = "example.com/edge";

/// A service of the simulation, from 0: every third has an IPv6 address, every second is `Local`, and every fourth is
/// announced on the second LAN where there is one.
pub type ServiceNumber = usize;

/// An address of the simulation: the one that the service of this number has, where nothing is shared.
pub type AddressNumber = usize;

/// Which services share addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// None: each has its own.
    #[default]
    Nothing,
    /// Two and two, one of each with an address of its own before the common one, and one with the common one only.
    Pairs,
    /// Each with the next: all are connected, though not all by one address.
    Chain,
}

impl Sharing {
    /// The addresses of a service, in order.
    fn addresses(self, service: ServiceNumber) -> Vec<AddressNumber> {
        match (self, service) {
            (Self::Pairs | Self::Chain, 1) => vec![0],
            (Self::Pairs | Self::Chain, 2) => vec![2, 0],
            (Self::Chain, 4) => vec![4, 2],
            (Self::Pairs | Self::Chain, 5) => vec![5, 4],
            _ => vec![service],
        }
    }
}

/// A watch of the API server. Each has a connection of its own, so that what it says arrives at a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Pools and advertisements, which never change here.
    Configuration,
    /// Nodes and their labels.
    Nodes,
    /// Endpoint slices.
    Endpoints,
    /// Services.
    Services,
}

impl Stream {
    /// All of them, in the order in which a speaker that starts takes them in.
    pub const ALL: [Self; 4] = [Self::Configuration, Self::Nodes, Self::Endpoints, Self::Services];
}

/// One service.
#[derive(Clone, Debug)]
struct Service {
    /// Its addresses, in order.
    addresses: Vec<AddressNumber>,
    /// It exists.
    present: bool,
    /// `externalTrafficPolicy: Local`.
    local: bool,
    /// Nodes with a usable endpoint.
    endpoints: BTreeSet<NodeNumber>,
}

/// One node.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// It has the label that excludes it from load balancers.
    excluded: bool,
    /// It has the label that the advertisement selects.
    edge: bool,
}

/// The whole truth of the virtual API server.
#[derive(Clone, Debug)]
pub struct Facts {
    services: Vec<Service>,
    nodes: Vec<Node>,
    config: Arc<Config>,
    second_lan: bool,
    /// Some services share addresses.
    shares: bool,
    /// Changes of all streams so far, from 1.
    revision: u64,
    /// The revision of the last change of each stream.
    versions: [u64; Stream::ALL.len()],
}

/// The name of a node.
pub(crate) fn node_name(node: NodeNumber) -> NodeName {
    format!("n{node}").into()
}

/// The number of a node.
pub(crate) fn node_number(name: &str) -> Option<NodeNumber> {
    name.strip_prefix('n')?.parse().ok()
}

impl Facts {
    /// `nodes` nodes and `services` services, each with an endpoint on every node; every other one is `Local`.
    pub fn new(nodes: usize, services: usize, second_lan: bool, sharing: Sharing) -> Self {
        let service = |n: usize| Service {
            addresses: sharing.addresses(n),
            present: true,
            local: n % 2 == 1,
            endpoints: (0..nodes).collect(),
        };
        Self {
            services: (0..services).map(service).collect(),
            nodes: vec![
                Node {
                    excluded: false,
                    edge: true
                };
                nodes
            ],
            config: config(second_lan),
            second_lan,
            shares: sharing != Sharing::Nothing,
            revision: 1,
            versions: [1; Stream::ALL.len()],
        }
    }

    /// How many services there are, present or not.
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// An address: that of the service, where nothing is shared.
    pub fn address(service: AddressNumber) -> IpAddr {
        let number = service as u16 + 1;
        let second = service % 4 == 3;
        let [high, low] = number.to_be_bytes();
        if service % 3 == 2 {
            Ipv6Addr::new(0x2001, 0xdb8, 0x200 + u16::from(second), 0, 0, 0, 0, number).into()
        } else {
            IpAddr::from([10, 200, high | if second { 0x80 } else { 0 }, low])
        }
    }

    /// The number of an address.
    pub(crate) fn service_of(address: IpAddr) -> Option<AddressNumber> {
        let number = match address {
            IpAddr::V4(ip) => {
                let [_, _, high, low] = ip.octets();
                u16::from_be_bytes([high & 0x7f, low])
            }
            IpAddr::V6(ip) => ip.segments()[7],
        };
        let service = usize::from(number).checked_sub(1)?;
        (Self::address(service) == address).then_some(service)
    }

    /// The interface on which it is announced.
    pub(crate) fn interface(&self, service: AddressNumber) -> u32 {
        if self.second_lan && service % 4 == 3 {
            SECOND_INTERFACE
        } else {
            INTERFACE
        }
    }

    /// The key of a service.
    pub fn key(service: ServiceNumber) -> ServiceKey {
        ServiceKey::new("default", &format!("s{service}"))
    }

    /// The addresses of a service, in order.
    pub fn addresses(&self, service: ServiceNumber) -> &[AddressNumber] {
        &self.services[service].addresses
    }

    /// Whether the node may own the service, were it alone.
    fn eligible_alone(&self, service: ServiceNumber, node: NodeNumber) -> bool {
        let service = &self.services[service];
        let Node { excluded, edge } = self.nodes[node];
        service.present
            && edge
            && !excluded
            && !service.endpoints.is_empty()
            && (!service.local || service.endpoints.contains(&node))
    }

    /// Whether anybody may announce the service.
    pub(crate) fn is_announced(&self, service: ServiceNumber) -> bool {
        (0..self.nodes.len()).any(|node| self.eligible_alone(service, node))
    }

    /// The services that are announced and connected with an address: they have it, or share one with others that do.
    fn group(&self, address: AddressNumber) -> Vec<ServiceNumber> {
        let mut addresses = BTreeSet::from([address]);
        loop {
            let connected = |n: &ServiceNumber| self.addresses(*n).iter().any(|a| addresses.contains(a));
            let announced = (0..self.services.len()).filter(|n| self.is_announced(*n));
            let group: Vec<ServiceNumber> = announced.filter(connected).collect();
            let all = group.iter().flat_map(|n| self.addresses(*n)).copied();
            let all: BTreeSet<AddressNumber> = all.chain([address]).collect();
            if all == addresses {
                return group;
            }
            addresses = all;
        }
    }

    /// Whether the node may own the address: it may own one of the services that are connected with it.
    pub fn eligible(&self, address: AddressNumber, node: NodeNumber) -> bool {
        self.worth(address, node) > 0
    }

    /// How many of the services that are connected with the address the node may own: who may own more comes before who may
    /// own fewer.
    pub(crate) fn worth(&self, address: AddressNumber, node: NodeNumber) -> usize {
        if !self.shares {
            return usize::from(self.eligible_alone(address, node));
        }
        let group = self.group(address);
        group.iter().filter(|n| self.eligible_alone(**n, node)).count()
    }

    /// The address that decides the rank of all services that are connected with this one.
    pub(crate) fn ranked_by(&self, address: AddressNumber) -> AddressNumber {
        if !self.shares {
            return address;
        }
        let group = self.group(address).into_iter();
        let firsts = group.map(|service| self.addresses(service)[0]);
        firsts
            .min_by_key(|first| Self::address(*first))
            .unwrap_or(address)
    }

    /// The next revision, of a change of this stream.
    fn revise(&mut self, stream: Stream) {
        self.revision += 1;
        self.versions[stream as usize] = self.revision;
    }

    /// The revision of the last change of what this stream tells.
    pub(crate) fn version(&self, stream: Stream) -> u64 {
        self.versions[stream as usize]
    }

    /// Whether the service is there.
    pub(crate) fn is_present(&self, service: ServiceNumber) -> bool {
        self.services[service].present
    }

    /// Creates or deletes a service.
    pub(crate) fn offer(&mut self, service: ServiceNumber, present: bool) {
        self.services[service].present = present;
        self.revise(Stream::Services);
    }

    /// Labels or unlabels a node as excluded from load balancers.
    pub(crate) fn exclude(&mut self, node: NodeNumber, excluded: bool) {
        self.nodes[node].excluded = excluded;
        self.revise(Stream::Nodes);
    }

    /// Whether the node is labelled as excluded.
    pub(crate) fn is_excluded(&self, node: NodeNumber) -> bool {
        self.nodes[node].excluded
    }

    /// Gives a node the label that the advertisement selects, or takes it away.
    pub(crate) fn label(&mut self, node: NodeNumber, edge: bool) {
        self.nodes[node].edge = edge;
        self.revise(Stream::Nodes);
    }

    /// Whether the node has the label that the advertisement selects.
    pub(crate) fn is_labelled(&self, node: NodeNumber) -> bool {
        self.nodes[node].edge
    }

    /// Moves the endpoints of a service.
    pub(crate) fn place(&mut self, service: ServiceNumber, endpoints: BTreeSet<NodeNumber>) {
        self.services[service].endpoints = endpoints;
        self.revise(Stream::Endpoints);
    }

    /// What a stream says, as a speaker is told it.
    pub(crate) fn inputs(&self, stream: Stream) -> Vec<WorldInput> {
        let mut inputs = vec![WorldInput::At(self.version(stream))];
        inputs.extend(self.facts_of(stream));
        inputs
    }

    fn facts_of(&self, stream: Stream) -> Vec<WorldInput> {
        match stream {
            Stream::Configuration => vec![WorldInput::Config(Arc::clone(&self.config))],
            Stream::Nodes => self
                .nodes
                .iter()
                .enumerate()
                .map(|(number, node)| node.input(number))
                .collect(),
            Stream::Endpoints => {
                let endpoints = self.services.iter().map(|service| Endpoints {
                    any: !service.endpoints.is_empty(),
                    nodes: service.endpoints.iter().map(|node| node_name(*node)).collect(),
                });
                let numbered = endpoints.enumerate();
                numbered
                    .map(|(number, all)| WorldInput::Endpoints(Self::key(number), all))
                    .collect()
            }
            Stream::Services => self
                .services
                .iter()
                .enumerate()
                .map(|(number, service)| service.input(number))
                .collect(),
        }
    }
}

impl Node {
    fn input(self, number: NodeNumber) -> WorldInput {
        let labels: [(bool, &str); 2] = [(self.excluded, EXCLUDE_LABEL), (self.edge, EDGE_LABEL)];
        let labels: Labels = labels
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, key)| ((*key).to_owned(), String::new()))
            .collect();
        WorldInput::Node(
            node_name(number),
            Some(NodeFacts {
                labels,
                ..NodeFacts::default()
            }),
        )
    }
}

impl Service {
    fn input(&self, number: ServiceNumber) -> WorldInput {
        let facts = self.present.then(|| ServiceFacts {
            namespace: "default".into(),
            name: format!("s{number}").into(),
            labels: Labels::new(),
            addresses: self
                .addresses
                .iter()
                .map(|address| Facts::address(*address))
                .collect(),
            local: self.local,
            shared: false,
        });
        WorldInput::Service(Facts::key(number), facts)
    }
}

fn config(second_lan: bool) -> Arc<Config> {
    let object = |kind, name: &str| ObjectRef {
        kind,
        namespace: NAMESPACE.into(),
        name: name.into(),
        uid: String::new(),
        created: 0,
        generation: 1,
    };
    let mut sources = Sources::default();
    for (name, interface, addresses) in [
        ("first", "eth0", ["10.200.0.0/17", "2001:db8:200::/64"]),
        ("second", "eth1", ["10.200.128.0/17", "2001:db8:201::/64"]),
    ] {
        let pool = json!({ "addresses": addresses });
        let mut advertisement = json!({
            "ipAddressPools": [name],
            "nodeSelectors": [{ "matchLabels": { EDGE_LABEL: "" } }],
        });
        if second_lan {
            advertisement["interfaces"] = json!([interface]);
        }
        let pool = Source::from_json(object(Kind::IpAddressPool, name), Labels::new(), pool, None);
        sources.pools.push(pool);
        let object = object(Kind::L2Advertisement, name);
        let advertisement = Source::from_json(object, Labels::new(), advertisement, None);
        sources.l2_advertisements.push(advertisement);
    }
    let (config, issues) = Config::from_sources(&sources, NAMESPACE);
    assert!(
        issues.is_empty(),
        "the simulation's own configuration is valid: {issues:?}"
    );
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_to_their_services() {
        for service in 0..2_000 {
            assert_eq!(Facts::service_of(Facts::address(service)), Some(service));
        }
        assert_eq!(Facts::service_of(IpAddr::from([10, 200, 255, 1])), None);
    }
}
