//! What must hold, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use metallb_alloc::{Service, ServiceId};
use metallb_sansio::Instant;

use crate::api::Api;
use crate::replica::Replica;

/// Time that a replica in charge has to repair a double assignment that it sees.
const REPAIR: Duration = Duration::from_secs(1);
/// A request that takes longer was lost, or the API server is slow: not the time of whoever waits for it.
const ROUND_TRIP: Duration = Duration::from_millis(300);

#[derive(Default)]
pub(crate) struct Judge {
    /// Addresses as last seen, by UID.
    seen: BTreeMap<Box<str>, Vec<IpAddr>>,
    /// UIDs of services that may lose their address: edited, or one of a double.
    excused: BTreeSet<Box<str>>,
    /// Doubles, when they were made (length of the log), and for how long somebody in charge has seen them.
    doubles: BTreeMap<(ServiceId, ServiceId), (usize, Duration)>,
    judged: Instant,
    pub(crate) doubles_seen: usize,
    pub(crate) longest_repair: Duration,
}

impl Judge {
    /// A user edits or deletes it: its address may change.
    pub(crate) fn edited(&mut self, service: &Service) {
        self.excused.insert(service.uid.clone());
    }

    /// Call it after each change of a service's status.
    pub(crate) fn written(&mut self, service: &Service) -> Result<(), String> {
        let before = self.seen.insert(service.uid.clone(), service.ingress.clone());
        let kept = |ip: &IpAddr| service.ingress.contains(ip);
        if !self.excused.remove(&service.uid)
            && let Some(lost) = before.iter().flatten().find(|ip| !kept(ip))
        {
            return Err(format!(
                "{} lost {lost} without cause and has {:?}",
                service.request.id, service.ingress
            ));
        }
        Ok(())
    }

    /// Call it after each change of any service.
    pub(crate) fn look(&mut self, api: &Api) {
        let now: BTreeSet<_> = api.doubles().into_iter().collect();
        self.doubles.retain(|pair, _| now.contains(pair));
        for pair in now {
            for id in [&pair.0, &pair.1] {
                self.excused.insert(api.services[id].uid.clone());
            }
            if !self.doubles.contains_key(&pair) {
                self.doubles_seen += 1;
                self.doubles.insert(pair, (api.log.len(), Duration::ZERO));
            }
        }
    }

    /// Call it whenever time has passed.
    pub(crate) fn pass(&mut self, now: Instant, replicas: &[Replica]) -> Result<(), String> {
        let passed = now - self.judged;
        self.judged = now;
        for ((a, b), (made, seen)) in &mut self.doubles {
            let works_on_it = |replica: &Replica| {
                let idle = |id: &ServiceId| {
                    !replica.backing_off.contains(id)
                        && replica
                            .under_way
                            .get(id)
                            .is_none_or(|(_, since)| now - *since < ROUND_TRIP)
                };
                replica.is_in_charge(now) && replica.cursor >= *made && idle(a) && idle(b)
            };
            if replicas.iter().any(works_on_it) {
                *seen += passed;
                self.longest_repair = self.longest_repair.max(*seen);
                if *seen > REPAIR {
                    return Err(format!("{a} and {b} have one address, and it is not repaired"));
                }
            }
        }
        Ok(())
    }
}
