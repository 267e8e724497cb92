//! A service as the allocator sees it.

use std::net::IpAddr;

use crate::request::Request;

/// A service: what it asks for, and what its status and annotations record.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the Unix epoch.
    pub created: i64,
    /// `metadata.resourceVersion`.
    pub resource_version: Box<str>,
    /// `spec.type` is LoadBalancer.
    pub load_balancer: bool,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// What it asks for.
    pub request: Request,
    /// Addresses in `status.loadBalancer.ingress`, in order.
    pub ingress: Vec<IpAddr>,
    /// `status.loadBalancer.ingress` has entries that are no plain address: another controller wrote them.
    pub other_ingress: bool,
    /// Annotation `metallb.io/ip-allocated-from-pool`.
    pub recorded_pool: Option<String>,
    /// The same annotation with the old prefix is there; it goes with the next write.
    pub deprecated_record: bool,
    /// Annotations with the old prefix that ask for something, as `old -> new` for a message; empty mostly.
    pub deprecated_annotations: String,
}

impl Service {
    /// Whether its status bears our mark.
    pub fn is_recorded(&self) -> bool {
        self.recorded_pool.is_some() || self.deprecated_record
    }

    /// Whether its status names anything at all.
    pub fn has_ingress(&self) -> bool {
        !self.ingress.is_empty() || self.other_ingress
    }

    /// Its resource version as a number; Kubernetes compares them so.
    pub(crate) fn version(&self) -> Option<u64> {
        self.resource_version.parse().ok()
    }

    /// Whether `self` was seen before `other`, by resource version. False when they cannot be compared.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        matches!((self.version(), other.version()), (Some(mine), Some(theirs)) if mine < theirs)
    }

    /// Same object, same content, whatever the resource version. Labels count as they are here.
    pub(crate) fn says_same(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.request == other.request
            && self.ingress == other.ingress
            && self.other_ingress == other.other_ingress
            && self.recorded_pool == other.recorded_pool
            && self.deprecated_record == other.deprecated_record
            && self.deprecated_annotations == other.deprecated_annotations
            && self.load_balancer == other.load_balancer
            && self.class == other.class
    }

    /// Order of seniority: of two services with one address the smaller keeps it.
    pub(crate) fn seniority(&self) -> (i64, &str) {
        (self.created, &self.uid)
    }
}
