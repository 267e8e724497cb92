//! A look at one service: what it has, what it should have, who has to be told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Output, World};
use crate::decision::{Decision, Note, Verdict};
use crate::event::Announcement;
use crate::request::{Request, ServiceId};
use crate::service::Service;

impl World {
    /// Services with an address first, then in order of age: who waits longest is served first.
    pub(super) fn in_order(&self, batch: BTreeSet<ServiceId>) -> Vec<ServiceId> {
        let mut keyed: Vec<(bool, i64, ServiceId)> = Vec::with_capacity(batch.len());
        for id in batch {
            if let Some(entry) = self.services.get(&id) {
                let service = &entry.known.service;
                let bare = service.ingress.is_empty() && self.allocator.held(&id).is_none();
                keyed.push((bare, service.created, id));
            }
        }
        // Many are created within one second, the resolution of `created`: then by name, as people list them.
        keyed
            .sort_unstable_by(|a, b| (a.0, a.1, a.2.as_ref() as &str).cmp(&(b.0, b.1, b.2.as_ref() as &str)));
        keyed.into_iter().map(|(_, _, id)| id).collect()
    }

    pub(super) fn look_at(&mut self, id: &ServiceId) {
        let Some(entry) = self.services.get_mut(id) else {
            return;
        };
        if entry.is_unconfirmed() {
            return;
        }
        let known = entry.known.clone();
        let service = &known.service;
        let claim = entry.odd.as_mut().and_then(|odd| odd.claim.take());
        let named = (service.ingress != entry.given_up()).then_some(service.ingress.as_slice());
        if !self.is_ours(service) {
            self.clean_up(id);
            return;
        }
        let held = self.allocator.held(id);
        // Other terms on an address may let somebody in who was refused.
        self.wake |= held.is_some_and(|held| !held.has_terms(&service.request.sharing));
        let before = held.map(|held| held.ips.clone());
        if before.is_none() && self.is_foreign(service) {
            self.waiting.remove(id);
            return;
        }
        let request = known.request(self.allocator.selects_services());
        let current: Vec<IpAddr> = match (claim, &before) {
            (Some(mut claim), held) if self.may_claim(service, &request, &claim) => {
                // Of several addresses of one family the first is kept: let it be the one that it has.
                claim.sort_by_key(|ip| !held.as_ref().is_some_and(|held| held.contains(ip)));
                claim
            }
            // Of two addresses one was lost with its pool: that is told as what it is.
            (_, Some(held)) => match named {
                Some(named) if named.len() > held.len() && held.iter().all(|ip| named.contains(ip)) => {
                    named.to_vec()
                }
                _ => held.to_vec(),
            },
            (_, None) => {
                let named = named.unwrap_or_default().to_vec();
                self.may_claim(service, &request, &named);
                named
            }
        };
        let decision = self.allocator.converge(&request, &current);
        self.settle(service, &before.unwrap_or_default(), decision);
    }

    /// Whether the service may have the addresses that somebody wrote into its status: a deposed leader may have given an
    /// address twice. Services that hold them make room if they are younger, or if they were only meant to get them: what
    /// is written is the record.
    fn may_claim(&mut self, service: &Service, request: &Request, ips: &[IpAddr]) -> bool {
        let Ok(pool) = self.allocator.admitting_pool(request, ips) else {
            return false;
        };
        let other_pool = request
            .wanted_pool
            .as_ref()
            .is_some_and(|wanted| *wanted != pool.name);
        let other_ips = match &request.wanted_ips {
            Ok(wanted) => !wanted.is_empty() && wanted.iter().any(|ip| !ips.contains(ip)),
            Err(_) => false,
        };
        if other_pool || other_ips {
            return false;
        }
        let in_the_way: BTreeSet<ServiceId> = self
            .allocator
            .conflicts(request, ips)
            .map(|(by, _)| by.clone())
            .collect();
        let yields = |id: &ServiceId| {
            let other = self.services.get(id).map(|other| &other.known.service);
            other.is_some_and(|other| {
                service.seniority() < other.seniority() || !other.ingress.iter().any(|ip| ips.contains(ip))
            })
        };
        if !in_the_way.iter().all(yields) {
            return false;
        }
        for id in in_the_way {
            self.allocator.give_up(&id, ips);
            self.dirty.insert(id);
        }
        true
    }

    /// Carries a decision into outputs and queues.
    fn settle(&mut self, service: &Service, before: &[IpAddr], decision: Decision) {
        let id = &decision.service;
        let now: &[IpAddr] = match &decision.verdict {
            Verdict::Hold { ips, .. } => ips,
            Verdict::Pending(_) => &[],
        };
        if before.iter().any(|ip| !now.contains(ip)) {
            self.wake = true;
        }
        let wants_more = matches!(decision.verdict, Verdict::Pending(_))
            || matches!(decision.note, Some(Note::SecondFamilyMissing { .. }));
        if wants_more {
            self.waiting.insert(id.clone());
        } else {
            self.waiting.remove(id);
        }
        let announcement = Announcement::of(&decision);
        for (reason, message) in announcement.changes {
            self.tell(service, reason, message);
        }
        if let Some(entry) = self.services.get_mut(id) {
            if decision.cleared.is_some() {
                entry.odd().given_up.clone_from(&service.ingress);
            }
            let problem = announcement.problem;
            let news = entry.note_problem(problem.as_ref().map(|(_, message)| message.as_str()));
            if let Some((reason, message)) = problem.filter(|_| news) {
                self.tell(service, reason, message);
            }
        }
        if self.status_write(id).is_some() {
            self.outputs.push(Output::Write(id.clone()));
            self.tell_deprecated(id);
        }
        let plain_keep = matches!(&decision.verdict, Verdict::Hold { added, .. } if added.is_empty())
            && decision.cleared.is_none();
        if !plain_keep {
            self.outputs.push(Output::Decided(decision));
        }
    }

    /// A service that is not ours any more: its addresses are free, its status loses our marks.
    fn clean_up(&mut self, id: &ServiceId) {
        if self.allocator.release(id).is_some() {
            self.wake = true;
        }
        self.waiting.remove(id);
        if self.status_write(id).is_some() {
            self.outputs.push(Output::Write(id.clone()));
        } else {
            self.services.remove(id);
        }
    }
}
