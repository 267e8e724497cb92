//! Address pools.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::claims::RangeMap;
use crate::issue::{Finding, Reason};
use crate::labels::SelectorSpec;
use crate::{Family, IpRange, Labels, Selector};

/// `spec` of an `IPAddressPool`, v1beta1, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSpec {
    /// CIDRs and `start-end` ranges; `null` is an empty list.
    #[serde(deserialize_with = "null_is_default")]
    pub addresses: Vec<String>,
    /// False: only services that ask for this pool or one of its addresses get one. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Never choose IPv4 addresses that end in .0 or .255. Default false.
    #[serde(rename = "avoidBuggyIPs", skip_serializing_if = "Option::is_none")]
    pub avoid_buggy_ips: Option<bool>,
    /// Which services may use the pool, and how it ranks among their pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocationSpec>,
}

/// `spec.serviceAllocation` of an `IPAddressPool` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAllocationSpec {
    /// Lower wins, 0 (default) ranks last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Namespaces by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Namespaces by label, in addition to those by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selectors: Option<Vec<SelectorSpec>>,
    /// Services by label; any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selectors: Option<Vec<SelectorSpec>>,
}

/// A validated address pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// `metadata.name`; unique.
    pub name: String,
    /// `metadata.labels`, for advertisements that select pools.
    pub labels: Labels,
    /// Ranges in the order written, without overlap. Addresses are chosen in this order.
    pub ranges: Vec<IpRange>,
    /// Whether services that do not ask for the pool may get an address of it.
    pub auto_assign: bool,
    /// Never choose IPv4 addresses that end in .0 or .255.
    pub avoid_buggy_ips: bool,
    /// Restriction to some services; `None` is open to all.
    pub allocation: Option<ServiceAllocation>,
}

/// Which services may use a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Lower wins, 0 ranks last: compare [`ServiceAllocation::rank`].
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label.
    pub service_selectors: Vec<Selector>,
}

impl ServiceAllocation {
    /// Sort key of the priority: smaller comes first, an unset priority (0) last.
    pub fn rank(&self) -> (bool, i64) {
        (self.priority == 0, self.priority)
    }

    /// Whether a service in this namespace and with these labels may use the pool.
    ///
    /// Namespaces by name and by label add up; services must match in addition. A selector that matches no namespace
    /// admits no service (the Go version then admits every service that names the pool).
    pub fn admits(&self, namespace: &str, namespace_labels: &Labels, service_labels: &Labels) -> bool {
        let by_namespace = self.namespaces.is_empty() && self.namespace_selectors.is_empty()
            || self.namespaces.contains(namespace)
            || self
                .namespace_selectors
                .iter()
                .any(|selector| selector.matches(namespace_labels));
        by_namespace
            && (self.service_selectors.is_empty()
                || self
                    .service_selectors
                    .iter()
                    .any(|selector| selector.matches(service_labels)))
    }
}

impl Pool {
    /// Whether the pool holds the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip))
    }

    /// Whether the pool holds any address of the family.
    pub fn has_family(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| range.family() == family)
    }

    /// Whether the allocator must not choose `ip` on its own although the pool holds it.
    pub fn avoids(&self, ip: IpAddr) -> bool {
        self.avoid_buggy_ips && matches!(ip, IpAddr::V4(ip) if matches!(ip.octets()[3], 0 | 255))
    }

    /// Validates what one object alone can tell.
    pub(crate) fn parse(name: &str, labels: &Labels, spec: &PoolSpec) -> Result<Self, Finding> {
        if spec.addresses.is_empty() {
            let message = "is empty; list at least one CIDR or range";
            return Err(Finding::new("spec.addresses", Reason::InvalidAddress, message));
        }
        let mut ranges: Vec<IpRange> = Vec::with_capacity(spec.addresses.len());
        let mut seen = RangeMap::default();
        for (index, text) in spec.addresses.iter().enumerate() {
            let field = || format!("spec.addresses[{index}]");
            let range: IpRange = text
                .parse()
                .map_err(|error| Finding::new(field(), Reason::InvalidAddress, error))?;
            if let Some((known, earlier)) = seen.overlapping(&range) {
                let both = known.overlap(&range).unwrap_or(range);
                let message = format!(
                    "{range} and {known} (index {earlier}) both hold {both}; list every address once"
                );
                return Err(Finding::new(field(), Reason::AddressOverlap, message));
            }
            seen.insert(&range, index);
            ranges.push(range);
        }
        Ok(Self {
            name: name.to_owned(),
            labels: labels.clone(),
            ranges,
            auto_assign: spec.auto_assign.unwrap_or(true),
            avoid_buggy_ips: spec.avoid_buggy_ips.unwrap_or(false),
            allocation: spec
                .service_allocation
                .as_ref()
                .map(ServiceAllocation::parse)
                .transpose()?,
        })
    }
}

impl ServiceAllocation {
    fn parse(spec: &ServiceAllocationSpec) -> Result<Self, Finding> {
        let field = |name: &str| format!("spec.serviceAllocation.{name}");
        Ok(Self {
            priority: spec.priority.unwrap_or(0),
            namespaces: unique(spec.namespaces.as_ref(), &field("namespaces"))?,
            namespace_selectors: Selector::list(
                spec.namespace_selectors.as_ref(),
                &field("namespaceSelectors"),
            )?,
            service_selectors: Selector::list(spec.service_selectors.as_ref(), &field("serviceSelectors"))?,
        })
    }
}

/// A list of names as a set; a repeated name is refused, as the Go version does.
pub(crate) fn unique(names: Option<&Vec<String>>, field: &str) -> Result<BTreeSet<String>, Finding> {
    let mut set = BTreeSet::new();
    for (index, name) in names.into_iter().flatten().enumerate() {
        if !set.insert(name.clone()) {
            let message = format!("lists \"{name}\" a second time; remove one");
            return Err(Finding::new(
                format!("{field}[{index}]"),
                Reason::DuplicateEntry,
                message,
            ));
        }
    }
    Ok(set)
}

/// Go reads `null` as the zero value.
fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
