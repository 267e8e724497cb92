//! Why a service is not announced, why a node does not own it.

use std::fmt;
use std::net::IpAddr;

/// Why a service is announced by nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No address is assigned.
    NoAddress,
    /// The address is in no pool, or the two addresses are not in one pool.
    NotInPool(IpAddr),
    /// No `L2Advertisement` is for this pool and service.
    NoAdvertisement {
        /// Pool of the service.
        pool: String,
    },
    /// The service shares its address, and an advertisement chooses by service: its neighbours on the address might be
    /// announced differently.
    SharedWithServiceSelectors {
        /// The advertisement.
        advertisement: String,
    },
    /// No endpoint is ready or serving.
    NoEndpoints,
    /// Every node is excluded.
    NoCandidate,
}

impl Refusal {
    /// The word for logs and machine readers; `MetalLB`'s where it has one.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoAddress => "noIPAllocated",
            Self::NotInPool(_) => "ipNotAllowed",
            Self::NoAdvertisement { .. } => "noMatchingAdvertisement",
            Self::SharedWithServiceSelectors { .. } => "sharedIPWithServiceSelector",
            Self::NoEndpoints => "noEndpoints",
            Self::NoCandidate => "noCandidateNode",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address is assigned yet"),
            Self::NotInPool(address) => {
                write!(
                    f,
                    "address {address} is in no IPAddressPool together with the service's others"
                )
            }
            Self::NoAdvertisement { pool } => write!(
                f,
                "no L2Advertisement is for pool {pool} and this service; create one, or check its selectors"
            ),
            Self::SharedWithServiceSelectors { advertisement } => write!(
                f,
                "the service shares its address, but L2Advertisement {advertisement} has serviceSelectors: \
                 remove these or the annotation allow-shared-ip"
            ),
            Self::NoEndpoints => f.write_str("no endpoint is ready or serving"),
            Self::NoCandidate => f.write_str("every node is excluded"),
        }
    }
}

/// Why a node may not own a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exclusion {
    /// The node's condition `NetworkUnavailable` is true.
    NetworkUnavailable,
    /// The node carries [`EXCLUDE_LABEL`](crate::EXCLUDE_LABEL).
    ExcludeLabel,
    /// The node has the taint `node.kubernetes.io/out-of-service`.
    OutOfService,
    /// The node selectors of no advertisement for this service select it.
    NotSelected,
    /// `externalTrafficPolicy: Local`, and no endpoint of the service on the node is ready or serving.
    NoLocalEndpoint,
    /// Ready speakers of Go `MetalLB` run on other nodes that may own the service, and announce it among themselves.
    GoSpeakersFirst,
    /// The service shares addresses with others, and fewer of them may be announced from there than from elsewhere.
    SharedAddress,
}

impl Exclusion {
    /// The word for logs and machine readers; `MetalLB`'s where it has one.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NetworkUnavailable => "nodeNetworkUnavailable",
            Self::ExcludeLabel => "nodeLabeledExcludeBalancers",
            Self::OutOfService => "nodeOutOfService",
            Self::NotSelected => "notSelectedByAdvertisement",
            Self::NoLocalEndpoint => "noLocalEndpoints",
            Self::GoSpeakersFirst => "goSpeakersFirst",
            Self::SharedAddress => "sharedAddressElsewhere",
        }
    }
}

/// How a node stands in the election for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It owns the addresses.
    Owner,
    /// It owns the addresses, although it should not for this reason: nobody else may either, or the service shares an address
    /// and no node may announce all that do.
    OwnerDespite(Exclusion),
    /// It is next when those before it fall out; 1 is the owner's successor.
    Standby {
        /// Place behind the owner.
        place: usize,
    },
    /// It would be a candidate, but membership does not see it alive.
    NotAlive,
    /// It would be a candidate, but none of the interfaces it may use is usable.
    NoInterface,
    /// It may not own them.
    Excluded(Exclusion),
}

impl Standing {
    /// The word for logs and machine readers.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Owner | Self::OwnerDespite(_) => "owner",
            Self::Standby { .. } => "notOwner",
            Self::NotAlive => "notAlive",
            Self::NoInterface => "noUsableInterface",
            Self::Excluded(exclusion) => exclusion.reason(),
        }
    }
}
