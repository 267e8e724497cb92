//! Services, and what else decides about them: namespaces and nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use metallb_alloc::{Input, ServiceId};
use metallb_kubeio::{Event, thin};

use super::App;
use crate::happening::{Happening, ServiceAnswer};
use crate::run::{NAMESPACES, NODES, SERVICES};
use crate::service::{convert, id_of};
use crate::writer;

impl App {
    pub(super) fn service(&mut self, event: Event<thin::Service>) {
        let input = match event {
            Event::Init => Input::ListStarted,
            Event::InitApply(service) => Input::Listed(Box::new(convert(service))),
            Event::InitDone => {
                self.synced.services = true;
                self.around.health.ready(SERVICES);
                Input::ListDone
            }
            Event::Apply(service) => Input::Applied(Box::new(convert(service))),
            Event::Delete(service) => {
                let id = id_of(&service);
                self.services.forget(&id);
                self.telling.forget(&id);
                let uid = service.metadata.uid.unwrap_or_default().into();
                Input::Gone { service: id, uid }
            }
        };
        self.around.metrics.updates.inc();
        self.world.handle(input);
    }

    pub(super) fn namespace(&mut self, event: Event<thin::Namespace>) {
        let (object, present) = match event {
            // A namespace that vanished unseen has no services left whose pools could be judged by its labels.
            Event::Init => return,
            Event::InitDone => {
                self.synced.namespaces = true;
                self.around.health.ready(NAMESPACES);
                return;
            }
            Event::InitApply(object) | Event::Apply(object) => (object, true),
            Event::Delete(object) => (object, false),
        };
        let labels = present.then(|| object.metadata.labels.unwrap_or_default());
        self.world
            .handle(Input::Namespace(object.metadata.name.unwrap_or_default(), labels));
    }

    pub(super) fn node(&mut self, event: Event<thin::Node>) {
        let changed = match event {
            Event::Init => {
                // Nodes that are gone are not listed again; those that are come right after.
                self.node_addresses.clear();
                false
            }
            Event::InitDone => {
                self.synced.nodes = true;
                self.around.health.ready(NODES);
                true
            }
            Event::InitApply(node) => {
                self.set_node(node);
                false
            }
            Event::Apply(node) => self.set_node(node),
            Event::Delete(node) => self
                .node_addresses
                .remove(&node.metadata.name.unwrap_or_default())
                .is_some(),
        };
        if changed {
            let all = self.node_addresses.values().flatten().copied().collect();
            self.world.handle(Input::Reserved(all));
        }
    }

    fn set_node(&mut self, node: thin::Node) -> bool {
        let addresses: BTreeSet<IpAddr> = node
            .status
            .addresses
            .iter()
            .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|address| address.address.parse().ok())
            .collect();
        let name = node.metadata.name.unwrap_or_default();
        self.node_addresses.insert(name, addresses.clone()) != Some(addresses)
    }

    pub(super) fn service_written(&mut self, id: &ServiceId, answer: ServiceAnswer) {
        match answer {
            ServiceAnswer::Written(service) => {
                let service = convert(*service);
                let content = (&service.ingress, &service.recorded_pool);
                self.services
                    .wrote(id, writer::digest(&content), tokio::time::Instant::now());
                self.telling.settled(id);
                self.world.handle(Input::Read(Box::new(service)));
                self.ask_for_write(id.clone());
            }
            ServiceAnswer::Is(service) => {
                self.services.done(id);
                let service = convert(*service);
                self.world.handle(Input::Read(Box::new(service)));
                // A conflict may have changed nothing that matters, then only the version is new.
                self.ask_for_write(id.clone());
            }
            ServiceAnswer::Gone => {
                self.services.done(id);
                // Nothing is concluded: the watch tells what is gone, and another of this name may exist already.
                self.telling.forget(id);
            }
            ServiceAnswer::Failed(error) => {
                self.around.metrics.update_errors.inc();
                let pause = self.services.failed(id);
                tracing::warn!(service = %id, error, ?pause, "the status could not be written, trying again");
                self.around
                    .writer
                    .later(pause, Happening::RetryService(id.clone()));
            }
        }
    }

    pub(super) fn ask_for_write(&mut self, id: ServiceId) {
        let Some(pause) = self.services.push_calmly(id.clone(), tokio::time::Instant::now()) else {
            return;
        };
        if self.world.status_write(&id).is_some() {
            tracing::warn!(service = %id, ?pause, "another controller keeps changing the status of this service; writing it more seldom");
            self.around.writer.later(pause, Happening::RetryService(id));
        }
    }
}
