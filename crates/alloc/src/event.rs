//! Events on services, with `MetalLB`'s reasons.

use std::fmt;

use crate::decision::{ClearReason, Decision, Note, Pending, Verdict};
use crate::request::{ServiceId, list};

/// `type` of a Kubernetes Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Normal.
    Normal,
    /// Warning.
    Warning,
}

/// `reason` of an Event on a service; `MetalLB`'s texts, which dashboards and scripts match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// Addresses were assigned.
    IpAllocated,
    /// No address could be assigned.
    AllocationFailed,
    /// Addresses were taken away.
    ClearAssignment,
    /// `PreferDualStack` has to do with one address.
    AdditionalAssignFailed,
    /// What the service asks for cannot be read; it keeps its address.
    LoadBalancerFailed,
    /// A status named more than one address of a family.
    NoLbIpsIpFamily,
    /// `RequireDualStack` with one ClusterIP.
    NotEnoughClusterIps,
    /// An annotation with the old prefix is in use.
    DeprecatedAnnotation,
}

impl EventReason {
    /// Text of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpAllocated => "IPAllocated",
            Self::AllocationFailed => "AllocationFailed",
            Self::ClearAssignment => "ClearAssignment",
            Self::AdditionalAssignFailed => "AdditionalAssignFailed",
            Self::LoadBalancerFailed => "LoadBalancerFailed",
            Self::NoLbIpsIpFamily => "nolbIPsIPFamily",
            Self::NotEnoughClusterIps => "not enough clusterips",
            Self::DeprecatedAnnotation => "deprecatedAnnotation",
        }
    }

    /// `type` that goes with the reason.
    pub fn severity(self) -> Severity {
        match self {
            Self::IpAllocated | Self::ClearAssignment | Self::AdditionalAssignFailed => Severity::Normal,
            Self::AllocationFailed
            | Self::LoadBalancerFailed
            | Self::NoLbIpsIpFamily
            | Self::NotEnoughClusterIps
            | Self::DeprecatedAnnotation => Severity::Warning,
        }
    }
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An Event to write on a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The service.
    pub service: ServiceId,
    /// Its `metadata.uid`.
    pub uid: Box<str>,
    /// Reason and, through it, type.
    pub reason: EventReason,
    /// Sentence for a person.
    pub message: String,
}

/// What a decision has to say to the owner of the service: changes, and the one thing that is wrong, if any.
pub(crate) struct Announcement {
    pub(crate) changes: Vec<(EventReason, String)>,
    pub(crate) problem: Option<(EventReason, String)>,
}

impl Announcement {
    pub(crate) fn of(decision: &Decision) -> Self {
        let mut changes = Vec::new();
        if let Some(cleared) = &decision.cleared {
            let message = format!("Took back {}: {}", list(&cleared.ips), cleared.why);
            let reason = match cleared.why {
                ClearReason::SeveralOfFamily => EventReason::NoLbIpsIpFamily,
                _ => EventReason::ClearAssignment,
            };
            changes.push((reason, message));
        }
        let problem = match &decision.verdict {
            Verdict::Hold { ips, pool, added } => {
                if !added.is_empty() {
                    let additional = if added.len() < ips.len() {
                        "additional "
                    } else {
                        ""
                    };
                    let message = format!("Assigned {additional}IP {} from pool {pool}", list(added));
                    changes.push((EventReason::IpAllocated, message));
                }
                decision.note.as_ref().map(|note| {
                    let reason = match note {
                        Note::SecondFamilyMissing { .. } | Note::OneAddressWanted => {
                            EventReason::AdditionalAssignFailed
                        }
                        Note::Unreadable(_) => EventReason::LoadBalancerFailed,
                    };
                    (reason, note.to_string())
                })
            }
            // Kubernetes gives every such service a ClusterIP right after; there is nothing to tell its owner.
            Verdict::Pending(Pending::NoClusterIp) => None,
            Verdict::Pending(pending) => {
                let reason = match pending {
                    Pending::NotEnoughClusterIps => EventReason::NotEnoughClusterIps,
                    _ => EventReason::AllocationFailed,
                };
                Some((
                    reason,
                    format!("Failed to allocate an IP for {}: {pending}", decision.service),
                ))
            }
        };
        Self { changes, problem }
    }
}
