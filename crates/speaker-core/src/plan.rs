//! What the half that watches the API server tells the half that must be fast.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::{Eligibility, Group};

/// A service, as `namespace/name` in one allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey(Arc<str>);

impl ServiceKey {
    /// The key of a service; neither part may contain a slash (Kubernetes forbids it).
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may own a service's addresses: everything but who is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The addresses, at least one.
    pub addresses: Arc<[IpAddr]>,
    /// Candidates and excluded nodes; shared between services for which they are equal.
    pub eligibility: Arc<Eligibility>,
    /// What it decides together with others that share addresses with it, and would decide otherwise alone.
    pub group: Option<Arc<Group>>,
}

impl Plan {
    /// That of a service that shares no address, or only with others that have the same addresses and candidates.
    pub const fn new(addresses: Arc<[IpAddr]>, eligibility: Arc<Eligibility>) -> Self {
        Self {
            addresses,
            eligibility,
            group: None,
        }
    }

    /// The address that decides the rank. All services that share addresses have the same, and no others.
    pub fn first(&self) -> IpAddr {
        self.group.as_ref().map_or(self.addresses[0], |group| group.first)
    }
}

/// One change of plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The service.
    pub service: ServiceKey,
    /// Its plan; `None` when nobody announces it any more.
    pub plan: Option<Plan>,
    /// How fresh it is: the greater, the fresher, over all speakers; 0 when unknown. See [`crate::Planner::at`].
    pub version: u64,
}
