//! What this node owns, as far as statuses, events and metrics have to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_api::AddressConflict;
use metallb_speaker_core::{ServiceKey, ServiceReport, Unanswered};

use super::metrics::Metrics;
use crate::wire::Conflict;

/// A service that this node owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// UID of the service, for events.
    pub(super) uid: String,
    /// Its addresses.
    pub(super) addresses: Arc<[IpAddr]>,
    /// Those of them that this node answers for.
    pub(super) answered: Vec<IpAddr>,
    /// The others, and why not.
    pub(super) unanswered: Vec<(IpAddr, Unanswered)>,
    /// Interfaces that are usable for one of them at least, by name.
    pub(super) interfaces: Vec<String>,
    /// The only interfaces that its advertisements allow; `None` when they allow all.
    pub(super) restriction: Option<Arc<BTreeSet<Arc<str>>>>,
    /// Stations outside the cluster that have one of the addresses too.
    pub(super) conflicts: Vec<AddressConflict>,
}

impl Assignment {
    /// The addresses that this node does not answer for, for this reason.
    pub(super) fn because(&self, reason: Unanswered) -> impl Iterator<Item = IpAddr> + '_ {
        let all = self.unanswered.iter();
        all.filter(move |(_, why)| *why == reason)
            .map(|(address, _)| *address)
    }

    /// An address is not answered for because of a stranger, or of the question whether there is one. What is on record about
    /// this node is not to come and go with that.
    pub(super) fn waits_for_strangers(&self) -> bool {
        let strangers = |why: &Unanswered| matches!(why, Unanswered::Probing | Unanswered::Conflict);
        self.unanswered.iter().any(|(_, why)| strangers(why))
    }

    /// What is on record about this node may stand: it answers for some address, or would but for strangers.
    pub(super) fn stands(&self) -> bool {
        !self.answered.is_empty() || self.waits_for_strangers()
    }
}

/// What became of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// This node owns it, like this.
    Owned(Assignment),
    /// This node does not own it any more.
    Lost,
}

/// All services that this node owns.
pub(super) struct Assigned {
    node: Arc<str>,
    owned: BTreeMap<ServiceKey, Assignment>,
    conflicts: BTreeMap<IpAddr, Conflict>,
    metrics: Metrics,
}

impl Assigned {
    pub(super) fn new(node: &str, metrics: Metrics) -> Self {
        Self {
            node: node.into(),
            owned: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            metrics,
        }
    }

    /// Takes how one service stands now (`None`: not announced). The change, if there is one.
    pub(super) fn update(
        &mut self,
        key: &ServiceKey,
        report: Option<&ServiceReport>,
        uid: Option<&str>,
    ) -> Option<Update> {
        let now = report
            .filter(|report| report.owner.as_ref() == Some(&self.node))
            .map(|report| Assignment {
                uid: uid.unwrap_or_default().to_owned(),
                addresses: Arc::clone(&report.addresses),
                answered: report.answered.clone(),
                unanswered: report.unanswered.clone(),
                interfaces: report.interfaces.iter().map(ToString::to_string).collect(),
                restriction: report.restriction.clone(),
                conflicts: self.conflicts_of(&report.addresses),
            });
        let before = self.owned.get(key);
        if before == now.as_ref() {
            return None;
        }
        let answered =
            |assignment: Option<&Assignment>| assignment.map(|a| a.answered.clone()).unwrap_or_default();
        let (before, after) = (answered(before), answered(now.as_ref()));
        for address in before.iter().filter(|address| !after.contains(address)) {
            self.metrics.not_announced(key, *address);
        }
        for address in after.iter().filter(|address| !before.contains(address)) {
            self.metrics.announced(key, *address);
        }
        match &now {
            Some(assignment) => self.owned.insert(key.clone(), assignment.clone()),
            None => self.owned.remove(key),
        };
        Some(now.map_or(Update::Lost, Update::Owned))
    }

    fn conflicts_of(&self, addresses: &[IpAddr]) -> Vec<AddressConflict> {
        let all = addresses
            .iter()
            .filter_map(|address| Some((address, self.conflicts.get(address)?)));
        all.map(|(address, conflict)| AddressConflict {
            address: address.to_string(),
            mac_address: conflict.mac.to_string(),
            interface: conflict.interface.to_string(),
        })
        .collect()
    }

    /// Takes who else has an address (`None`: nobody any more); the services about which that says something new.
    pub(super) fn conflict(
        &mut self,
        address: IpAddr,
        conflict: Option<&Conflict>,
    ) -> Vec<(ServiceKey, Update)> {
        match conflict {
            Some(conflict) => self.conflicts.insert(address, conflict.clone()),
            None => self.conflicts.remove(&address),
        };
        let having: Vec<ServiceKey> = self.having(address).map(|(key, _)| key.clone()).collect();
        let mut changes = Vec::new();
        for key in having {
            let conflicts = self.conflicts_of(&self.owned[&key].addresses);
            if let Some(assignment) = self.owned.get_mut(&key)
                && assignment.conflicts != conflicts
            {
                assignment.conflicts = conflicts;
                changes.push((key, Update::Owned(assignment.clone())));
            }
        }
        changes
    }

    /// The services of this node that have one of the addresses.
    pub(super) fn having_any(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<ServiceKey> {
        let has = |assignment: &Assignment| assignment.addresses.iter().any(|a| addresses.contains(a));
        // Most often there are none to look for.
        let all = self.owned.iter().filter(|_| !addresses.is_empty());
        all.filter(|(_, assignment)| has(assignment))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The services of this node that have the address, with their UIDs.
    pub(super) fn having(&self, address: IpAddr) -> impl Iterator<Item = (&ServiceKey, &str)> {
        let all = self.owned.iter();
        let having = all.filter(move |(_, assignment)| assignment.addresses.contains(&address));
        having.map(|(key, assignment)| (key, assignment.uid.as_str()))
    }

    /// Takes how all services stand now; what to do about it.
    pub(super) fn replace<'a>(
        &mut self,
        reports: &[ServiceReport],
        uid: impl Fn(&ServiceKey) -> Option<&'a str>,
    ) -> Vec<(ServiceKey, Update)> {
        let mut changes = Vec::new();
        for report in reports {
            let changed = self.update(&report.service, Some(report), uid(&report.service));
            changes.extend(changed.map(|assignment| (report.service.clone(), assignment)));
        }
        let told = |key: &ServiceKey| reports.binary_search_by(|report| report.service.cmp(key)).is_ok();
        let gone: Vec<ServiceKey> = self.owned.keys().filter(|key| !told(key)).cloned().collect();
        for key in gone {
            let changed = self.update(&key, None, None);
            changes.extend(changed.map(|assignment| (key, assignment)));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
