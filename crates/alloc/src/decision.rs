//! Decisions and their reasons, as values that print themselves.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::Family;

use crate::request::{Port, ServiceId, WantedIpsError, list};

/// What a service gets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The service.
    pub service: ServiceId,
    /// What it holds from now on.
    pub verdict: Verdict,
    /// What it held before and had to give back.
    pub cleared: Option<Cleared>,
    /// What did not work out although the service has an address.
    pub note: Option<Note>,
}

/// Outcome of a [`Decision`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds addresses.
    Hold {
        /// One address, or one per family.
        ips: Vec<IpAddr>,
        /// The pool that has them all.
        pool: Arc<str>,
        /// Those of `ips` that are new.
        added: Vec<IpAddr>,
    },
    /// It waits, and is asked again when an address is freed or pools change.
    Pending(Pending),
}

/// Why a service has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The family is unknown without a ClusterIP.
    NoClusterIp,
    /// `RequireDualStack` with one ClusterIP.
    NotEnoughClusterIps,
    /// What it asks for cannot be read.
    Unreadable(WantedIpsError),
    /// Every candidate was refused.
    Refused(Vec<Refusal>),
}

/// Addresses that were taken from a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The addresses.
    pub ips: Vec<IpAddr>,
    /// Why.
    pub why: ClearReason,
}

/// Why addresses were taken from a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClearReason {
    /// They are not its any more, for this reason.
    Refused(Refusal),
    /// The service no longer has cluster IPs of these families.
    FamilyChanged,
    /// There was more than one address of a family.
    SeveralOfFamily,
    /// It requires two families and the pool has no address of the second.
    SecondFamilyMissing,
    /// The service now asks for this pool.
    OtherPoolWanted(String),
    /// The service now asks for these addresses.
    OtherIpsWanted(Vec<IpAddr>),
    /// There is no ClusterIP, or too few, so the service cannot hold an address.
    ClusterIpMissing,
}

/// A remark about a service that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `PreferDualStack`, but the pool has no address of the other family to give.
    SecondFamilyMissing {
        /// The family.
        family: Family,
        /// The pool of the first address.
        pool: Arc<str>,
    },
    /// `PreferDualStack`, but it asks for the one address that it has.
    OneAddressWanted,
    /// What it asks for cannot be read; it keeps what it has.
    Unreadable(WantedIpsError),
}

/// Why one candidate was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no valid pool at all.
    NoPools,
    /// The pool that was asked for does not exist, or none of its specs was ever valid.
    UnknownPool(String),
    /// No pool has the address.
    OutsidePools(IpAddr),
    /// The addresses are in different pools.
    TwoPools(Vec<IpAddr>),
    /// The pool avoids addresses that end in .0 or .255.
    Avoided {
        /// The address.
        ip: IpAddr,
        /// The pool.
        pool: String,
    },
    /// `serviceAllocation` of the pool does not admit the service.
    NotAdmitted(String),
    /// `autoAssign: false` and the service does not ask for the pool.
    NotAutomatic(String),
    /// The addresses asked for are in another pool than the one asked for.
    OtherPool {
        /// Addresses asked for.
        ips: Vec<IpAddr>,
        /// Their pool.
        pool: String,
        /// Pool asked for.
        wanted: String,
    },
    /// The addresses asked for have other families than the service.
    OtherFamily {
        /// Addresses asked for.
        ips: Vec<IpAddr>,
        /// Families of the service.
        families: Vec<Family>,
    },
    /// Another service holds the address.
    InUse {
        /// The address.
        ip: IpAddr,
        /// Who holds it.
        by: ServiceId,
        /// Why it cannot be shared.
        why: Conflict,
    },
    /// The pool has no range of the family.
    LacksFamily {
        /// The pool.
        pool: String,
        /// The family.
        family: Family,
    },
    /// Every address of the family is held by services that do not share with this one.
    Full {
        /// The pool.
        pool: String,
        /// The family.
        family: Family,
        /// Free addresses of it that are in use by nodes, and so given only to those who ask for them.
        withheld: usize,
    },
}

/// Why two services cannot use one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The holder has no sharing key.
    NotShared,
    /// This service has no sharing key.
    NoKey,
    /// Different sharing keys.
    OtherKey,
    /// Different backends, or one with externalTrafficPolicy Local and one without.
    OtherBackend,
    /// The same port.
    SamePort(Port),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotShared => f.write_str("which does not share it (no allow-shared-ip annotation)"),
            Self::NoKey => f.write_str("and this service has no allow-shared-ip annotation"),
            Self::OtherKey => f.write_str("with another value of the allow-shared-ip annotation"),
            Self::OtherBackend => f.write_str(
                "and the two have different externalTrafficPolicy, or policy Local with different selectors",
            ),
            Self::SamePort(port) => write!(f, "which opens the same port {port}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPools => f.write_str("there is no valid IPAddressPool"),
            Self::UnknownPool(pool) => write!(f, "there is no valid IPAddressPool {pool}"),
            Self::OutsidePools(ip) => write!(f, "{ip} is in no IPAddressPool"),
            Self::TwoPools(ips) => write!(f, "{} are not in one IPAddressPool", list(ips)),
            Self::Avoided { ip, pool } => {
                write!(f, "{ip} ends in .0 or .255 and pool {pool} has avoidBuggyIPs")
            }
            Self::NotAdmitted(pool) => {
                write!(f, "serviceAllocation of pool {pool} does not admit this service")
            }
            Self::NotAutomatic(pool) => write!(f, "pool {pool} has autoAssign false and is not asked for"),
            Self::OtherPool { ips, pool, wanted } => {
                write!(
                    f,
                    "{} belongs to pool {pool}, but pool {wanted} is asked for",
                    list(ips)
                )
            }
            Self::OtherFamily { ips, families } => {
                let families: Vec<String> = families.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{} is asked for, but the service is {}",
                    list(ips),
                    families.join(" and ")
                )
            }
            Self::InUse { ip, by, why } => write!(f, "{ip} is held by service {by}, {why}"),
            Self::LacksFamily { pool, family } => write!(f, "pool {pool} has no {family} addresses"),
            Self::Full {
                pool,
                family,
                withheld,
            } => {
                write!(f, "pool {pool} has no free {family} address")?;
                match withheld {
                    0 => Ok(()),
                    1 => f.write_str(", but for one that a node of the cluster uses"),
                    _ => write!(f, ", but for {withheld} that nodes of the cluster use"),
                }
            }
        }
    }
}

/// Refusals that a message spells out; a cluster can have hundreds of pools.
const SPELLED_OUT: usize = 4;

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClusterIp => {
                f.write_str("the service has no ClusterIP, so its address family is unknown")
            }
            Self::NotEnoughClusterIps => {
                f.write_str("ipFamilyPolicy is RequireDualStack, but the service has one ClusterIP")
            }
            Self::Unreadable(error) => error.fmt(f),
            Self::Refused(refusals) => {
                f.write_str("no available IPs: ")?;
                for (index, refusal) in refusals.iter().take(SPELLED_OUT).enumerate() {
                    write!(f, "{}{refusal}", if index == 0 { "" } else { "; " })?;
                }
                match refusals.len().saturating_sub(SPELLED_OUT) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more pools"),
                }
            }
        }
    }
}

impl fmt::Display for ClearReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::SeveralOfFamily => f.write_str("a service has at most one address of a family"),
            Self::FamilyChanged => f.write_str("the service has no ClusterIP of that family"),
            Self::SecondFamilyMissing => f.write_str(
                "ipFamilyPolicy is RequireDualStack and the pool has no address of the second family",
            ),
            Self::OtherPoolWanted(pool) => write!(f, "pool {pool} is asked for"),
            Self::OtherIpsWanted(ips) => write!(f, "{} is asked for", list(ips)),
            Self::ClusterIpMissing => f.write_str("the service lacks a ClusterIP"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecondFamilyMissing { family, pool } => {
                write!(f, "pool {pool} has no {family} address to give in addition")
            }
            Self::OneAddressWanted => f.write_str(
                "ipFamilyPolicy is PreferDualStack, but one address is asked for; ask for two, or for none",
            ),
            Self::Unreadable(error) => write!(f, "{error}; the present address stays"),
        }
    }
}
