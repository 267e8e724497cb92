mod answers;
mod engine;
mod planner;
mod resolve;
mod shared;
mod sharing;
mod strangers;
mod survey;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;

use metallb_election::{Endpoints, NodeFacts, NodeName, ServiceFacts};
use metallb_model::{Config, Kind, Labels, ObjectRef, Source, Sources};
use serde_json::{Value, json};

fn source<T: serde::de::DeserializeOwned>(kind: Kind, spec: Value) -> Source<T> {
    let object = ObjectRef {
        kind,
        namespace: "metallb-system".into(),
        name: "all".into(),
        uid: String::new(),
        created: 0,
        generation: 1,
    };
    Source::from_json(object, Labels::new(), spec, None)
}

/// A pool 192.0.2.0/24 with one advertisement.
fn config(advertisement: Value) -> Arc<Config> {
    config_of(&["192.0.2.0/24"], advertisement)
}

/// A pool with one advertisement.
fn config_of(addresses: &[&str], advertisement: Value) -> Arc<Config> {
    let sources = Sources {
        pools: vec![source(Kind::IpAddressPool, json!({ "addresses": addresses }))],
        l2_advertisements: vec![source(Kind::L2Advertisement, advertisement)],
        ..Sources::default()
    };
    Arc::new(Config::from_sources(&sources, "metallb-system").0)
}

fn service(name: &str, addresses: &[&str]) -> ServiceFacts {
    ServiceFacts {
        namespace: "default".into(),
        name: name.into(),
        labels: Labels::new(),
        addresses: addresses
            .iter()
            .map(|address| address.parse().expect("address"))
            .collect(),
        local: false,
        shared: false,
    }
}

fn endpoints(nodes: &[&str]) -> Endpoints {
    let on: BTreeSet<NodeName> = nodes.iter().map(|node| NodeName::from(*node)).collect();
    Endpoints {
        any: !on.is_empty(),
        nodes: on,
    }
}

fn node() -> NodeFacts {
    NodeFacts::default()
}
