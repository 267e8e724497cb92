//! `AddressPool` objects and pools of the `ConfigMap`: pools that carry their protocol.

use serde::{Deserialize, Serialize};

use crate::bgp::ParsedBgp;
use crate::claims::{Names, RangeMap};
use crate::issue::{Finding, Reason};
use crate::settle::{Contender, Origin};
use crate::{IpRange, Labels, Pool, PoolSpec};

/// `spec` of an `AddressPool`, v1alpha1 or v1beta1, as written.
///
/// `spec.name` of v1alpha1 is not read: the pool's name is `metadata.name`, which it had to equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressPoolSpec {
    /// `layer2` or `bgp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// CIDRs and `start-end` ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    /// False: only services that ask for this pool or one of its addresses get one. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Never choose IPv4 addresses that end in .0 or .255. Only the `ConfigMap` and early objects have it.
    #[serde(rename = "avoidBuggyIPs", skip_serializing_if = "Option::is_none")]
    pub avoid_buggy_ips: Option<bool>,
    /// How BGP advertises the addresses; none means one advertisement with default values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp_advertisements: Option<Vec<PoolBgpSpec>>,
}

/// One entry of `spec.bgpAdvertisements` of an `AddressPool` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolBgpSpec {
    /// IPv4 prefix length to advertise. Default 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_length: Option<i64>,
    /// IPv6 prefix length to advertise. Default 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_length_v6: Option<i64>,
    /// `LOCAL_PREF` towards iBGP peers. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<i64>,
    /// Communities or aliases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub communities: Option<Vec<String>>,
}

/// A pool and how it is announced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolEntry {
    pub(crate) pool: Pool,
    pub(crate) announce: Announce,
}

/// How a pool is announced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Announce {
    /// As advertisement objects say.
    ByObjects,
    /// On layer 2, everywhere. Advertisement objects do not apply.
    Layer2,
    /// By BGP, in these ways. Advertisement objects do not apply.
    Bgp(Vec<ParsedBgp>),
}

impl PoolEntry {
    /// An `IPAddressPool`.
    pub(crate) fn parse(name: &str, labels: &Labels, spec: &PoolSpec) -> Result<Self, Finding> {
        let pool = Pool::parse(name, labels, spec)?;
        Ok(Self {
            pool,
            announce: Announce::ByObjects,
        })
    }

    /// A pool that carries its protocol. `origin` is how its advertisements are called: `AddressPool` or `ConfigMap`.
    pub(crate) fn parse_with_protocol(
        name: &str,
        labels: &Labels,
        origin: &str,
        spec: &AddressPoolSpec,
    ) -> Result<Self, Finding> {
        if name.is_empty() {
            let message = "is missing; give the pool a name";
            return Err(Finding::new("metadata.name", Reason::MissingField, message));
        }
        let pool = Pool::parse(
            name,
            labels,
            &PoolSpec {
                addresses: spec.addresses.clone().unwrap_or_default(),
                auto_assign: spec.auto_assign,
                avoid_buggy_ips: spec.avoid_buggy_ips,
                service_allocation: None,
            },
        )?;
        let advertisements = spec.bgp_advertisements.as_deref().unwrap_or_default();
        let announce = match spec.protocol.as_deref().unwrap_or_default() {
            "layer2" if advertisements.is_empty() => Announce::Layer2,
            "layer2" => {
                let message = "are for protocol bgp; remove them or set the protocol to bgp";
                return Err(Finding::new(
                    "spec.bgpAdvertisements",
                    Reason::ConflictingFields,
                    message,
                ));
            }
            "bgp" => Announce::Bgp(ParsedBgp::of_pool(&pool, origin, advertisements)?),
            "" => {
                let message = "is missing; write layer2 or bgp";
                return Err(Finding::new("spec.protocol", Reason::MissingField, message));
            }
            other => {
                let message = format!("is \"{other}\"; write layer2 or bgp");
                return Err(Finding::new("spec.protocol", Reason::InvalidValue, message));
            }
        };
        Ok(Self { pool, announce })
    }
}

/// What pools have taken.
#[derive(Default)]
pub(crate) struct PoolLedger {
    names: Names,
    ranges: RangeMap,
}

/// How two pools are in conflict.
pub(crate) enum PoolClash {
    Name,
    Addresses { mine: IpRange, theirs: IpRange },
}

impl Contender for PoolEntry {
    type Ledger = PoolLedger;
    type Clash = PoolClash;

    fn clash(&self, ledger: &PoolLedger) -> Option<(usize, PoolClash)> {
        if let Some(owner) = ledger.names.get(&self.pool.name) {
            return Some((*owner, PoolClash::Name));
        }
        self.pool.ranges.iter().find_map(|mine| {
            ledger
                .ranges
                .overlapping(mine)
                .map(|(theirs, owner)| (owner, PoolClash::Addresses { mine: *mine, theirs }))
        })
    }

    fn take(&self, ledger: &mut PoolLedger, index: usize) {
        ledger.names.insert(self.pool.name.clone(), index);
        for range in &self.pool.ranges {
            ledger.ranges.insert(range, index);
        }
    }

    fn release(&self, ledger: &mut PoolLedger, _index: usize) {
        ledger.names.remove(&self.pool.name);
        for range in &self.pool.ranges {
            ledger.ranges.remove(range);
        }
    }

    fn same_claims(&self, other: &Self) -> bool {
        self.pool.name == other.pool.name && self.pool.ranges == other.pool.ranges
    }

    fn explain(&self, clash: &PoolClash, winner: &Self, winner_origin: &Origin) -> Finding {
        let (name, other) = (&self.pool.name, &winner.pool.name);
        match clash {
            PoolClash::Name => {
                let message = format!(
                    "{} has a pool named {name} too; rename or remove one of them",
                    winner_origin.object
                );
                Finding::new("metadata.name", Reason::NameClash, message)
            }
            PoolClash::Addresses { mine, theirs } => {
                let index = self.pool.ranges.iter().position(|range| range == mine);
                let both = mine.overlap(theirs).unwrap_or(*mine);
                let message = format!(
                    "{mine} of pool {name} overlaps {theirs} of pool {other} ({}): both hold {both}; take {both} \
                     out of one of them",
                    winner_origin.object
                );
                let field = format!("spec.addresses[{}]", index.unwrap_or_default());
                Finding::new(field, Reason::AddressOverlap, message)
            }
        }
    }
}
