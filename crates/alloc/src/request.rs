//! What a service asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Family, Labels};
use thiserror::Error;

/// `namespace/name` of a service. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(Arc<str>);

impl ServiceId {
    /// Id from its parts. Neither may hold a `/`; Kubernetes names never do.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// Namespace of the service.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Name of the service in its namespace.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl AsRef<str> for ServiceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, also when the port names none.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port that a service opens on its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port number, 1..=65535.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}

/// What decides whether two services may use one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Value of annotation `allow-shared-ip`; empty does not share.
    pub key: Box<str>,
    /// Selector as text with externalTrafficPolicy Local, else empty: all traffic of an address goes to one set of nodes.
    pub backend: Box<str>,
    /// Ports of the service; they must differ from those of the others on the address.
    pub ports: Vec<Port>,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// One address, of the family of the ClusterIP.
    #[default]
    SingleStack,
    /// Two addresses of one pool where possible, else one.
    PreferDualStack,
    /// Two addresses of one pool or none.
    RequireDualStack,
}

/// Why the addresses that a service asks for cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WantedIpsError {
    /// Asked for in two ways.
    #[error("annotation metallb.io/loadBalancerIPs and spec.loadBalancerIP are both set; keep one")]
    Twice,
    /// An entry of the annotation is no address.
    #[error("annotation metallb.io/loadBalancerIPs holds \"{0}\", which is not an IP address")]
    Annotation(String),
    /// The field holds no address.
    #[error("spec.loadBalancerIP holds \"{0}\", which is not an IP address")]
    Field(String),
    /// More than one address of a family, so also more than two.
    #[error(
        "annotation metallb.io/loadBalancerIPs holds more than one {0} address; at most one per family is possible"
    )]
    SameFamily(Family),
}

/// Addresses that a service asks for, at most one per family; empty: any address.
/// `annotation` is `loadBalancerIPs`, `field` is `spec.loadBalancerIP`; an empty text counts as unset.
pub fn wanted_ips(annotation: Option<&str>, field: Option<&str>) -> Result<Vec<IpAddr>, WantedIpsError> {
    let set = |text: &&str| !text.is_empty();
    match (annotation.filter(set), field.filter(set)) {
        (Some(_), Some(_)) => Err(WantedIpsError::Twice),
        (None, None) => Ok(Vec::new()),
        (None, Some(text)) => {
            // Go's parser reads IPv4-mapped IPv6 as IPv4.
            let ip: IpAddr = text.parse().map_err(|_| WantedIpsError::Field(text.to_owned()))?;
            Ok(vec![ip.to_canonical()])
        }
        (Some(list), None) => {
            let mut ips = Vec::new();
            let mut families = BTreeSet::new();
            for text in list.split(',').map(str::trim) {
                let ip: IpAddr = text
                    .parse()
                    .map_err(|_| WantedIpsError::Annotation(text.to_owned()))?;
                let ip = ip.to_canonical();
                if !families.insert(Family::of(ip)) {
                    return Err(WantedIpsError::SameFamily(Family::of(ip)));
                }
                ips.push(ip);
            }
            Ok(ips)
        }
    }
}

/// What a service asks for, read once at the edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The service.
    pub id: ServiceId,
    /// `metadata.labels`, for pools that select services.
    pub labels: Labels,
    /// `spec.clusterIPs`; their families are the families of the service.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ipFamilyPolicy`.
    pub policy: FamilyPolicy,
    /// `spec.ipFamilies[0]` is IPv6: the family to prefer when only one can be had.
    pub prefers_v6: bool,
    /// Addresses asked for; see [`wanted_ips`].
    pub wanted_ips: Result<Vec<IpAddr>, WantedIpsError>,
    /// Annotation `address-pool`.
    pub wanted_pool: Option<String>,
    /// With whom it may share.
    pub sharing: Sharing,
}

impl Request {
    /// Families of the service: those of its cluster IPs, IPv4 first.
    pub fn families(&self) -> &'static [Family] {
        let has = |family| self.cluster_ips.iter().any(|ip| Family::of(*ip) == family);
        match (has(Family::V4), has(Family::V6)) {
            (true, true) => &[Family::V4, Family::V6],
            (true, false) => &[Family::V4],
            (false, true) => &[Family::V6],
            (false, false) => &[],
        }
    }

    /// The family to prefer when only one can be had.
    pub(crate) fn preferred_family(&self) -> Family {
        if self.prefers_v6 { Family::V6 } else { Family::V4 }
    }

    /// What others on an address have to share; `None`: it shares with nobody.
    pub(crate) fn terms(&self) -> Option<Arc<Sharing>> {
        (!self.sharing.key.is_empty()).then(|| Arc::new(self.sharing.clone()))
    }
}

/// Addresses as a person reads them.
pub(crate) fn list(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
