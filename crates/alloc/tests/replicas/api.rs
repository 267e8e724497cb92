//! An API server with services and one Lease.

use std::collections::BTreeMap;
use std::net::IpAddr;

use metallb_alloc::{Service, ServiceId, StatusWrite};
use metallb_lease::{Input, Record};

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Box<Service>),
    Gone(ServiceId, Box<str>),
}

/// What a write of a status led to.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Written, or refused and then read.
    Is(Box<Service>),
    Gone,
}

#[derive(Default)]
pub(crate) struct Api {
    version: u64,
    pub(crate) services: BTreeMap<ServiceId, Service>,
    /// Everything that happened to services, for watches.
    pub(crate) log: Vec<Change>,
    lease: Option<Record>,
}

impl Api {
    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// A user writes a service; its status stays.
    pub(crate) fn put(&mut self, mut service: Service) {
        if let Some(known) = self.services.get(&service.request.id) {
            service.ingress.clone_from(&known.ingress);
            service.recorded_pool.clone_from(&known.recorded_pool);
        }
        self.store(service);
    }

    pub(crate) fn delete(&mut self, id: &ServiceId) {
        if let Some(service) = self.services.remove(id) {
            self.version += 1;
            self.log.push(Change::Gone(id.clone(), service.uid));
        }
    }

    /// A write of a status; true when it went through.
    pub(crate) fn write(&mut self, write: &StatusWrite) -> (bool, Answer) {
        let Some(known) = self.services.get(&write.service) else {
            return (false, Answer::Gone);
        };
        let mut service = known.clone();
        let fits = known.resource_version == write.resource_version;
        if fits {
            service.ingress.clone_from(&write.ips);
            service.recorded_pool.clone_from(&write.pool);
            self.store(service.clone());
            service = self.services[&write.service].clone();
        }
        (fits, Answer::Is(Box::new(service)))
    }

    fn store(&mut self, mut service: Service) {
        service.resource_version = self.next().into();
        self.log.push(Change::Put(Box::new(service.clone())));
        self.services.insert(service.request.id.clone(), service);
    }

    pub(crate) fn read_lease(&self) -> Input {
        Input::Read(self.lease.clone())
    }

    pub(crate) fn write_lease(&mut self, mut record: Record) -> Input {
        let stored = self.lease.as_ref().map_or("", |lease| &lease.version);
        if stored != record.version {
            return Input::Conflict;
        }
        record.version = self.next();
        self.lease = Some(record.clone());
        Input::Written(record)
    }

    /// Pairs of services that have one address and must not.
    pub(crate) fn doubles(&self) -> Vec<(ServiceId, ServiceId)> {
        let mut users: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
        let mut doubles = Vec::new();
        for service in self.services.values() {
            for ip in &service.ingress {
                let others = users.entry(*ip).or_default();
                let unrelated = others.iter().filter(|other| !related(other, service));
                doubles.extend(unrelated.map(|other| (other.request.id.clone(), service.request.id.clone())));
                others.push(service);
            }
        }
        doubles
    }
}

/// Whether two services may use one address.
fn related(a: &Service, b: &Service) -> bool {
    let (a, b) = (&a.request.sharing, &b.request.sharing);
    !a.key.is_empty()
        && a.key == b.key
        && a.backend == b.backend
        && !a.ports.iter().any(|port| b.ports.contains(port))
}
