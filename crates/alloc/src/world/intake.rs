//! What the watches say about services.

use std::sync::Arc;

use super::{Entry, Seen, World};
use crate::event::{Event, EventReason};
use crate::known::Known;
use crate::request::ServiceId;
use crate::service::Service;

impl World {
    pub(super) fn apply(&mut self, service: Service, seen: Seen) {
        let id = service.request.id.clone();
        let listed = seen == Seen::Listed;
        if listed {
            self.listing = self.listing.max(service.version());
        } else if self.graves.holds(&service.uid) || self.is_outdated(&service) {
            return;
        }
        if !self.is_ours(&service) && !self.is_left_over(&service) {
            self.forget(&id);
            return;
        }
        let same_object = |entry: &Entry| entry.known.service.uid == service.uid;
        if self.services.get(&id).is_some_and(|entry| !same_object(entry)) {
            // Deleted and created again in between: nothing of the old one counts.
            self.forget(&id);
        }
        let list = self.list;
        let Some((id, _)) = self.services.get_key_value(&id) else {
            // What is seen during a list, but not by it, is the answer to an old write.
            let last = if self.listing.is_some() && !listed {
                list - 1
            } else {
                list
            };
            let mut entry = Entry::new(Known::new(service, Some(&id)), last);
            if seen == Seen::Read {
                entry.odd().unconfirmed = true;
            }
            self.services.insert(id.clone(), entry);
            self.announce_deprecated(&id);
            self.dirty.insert(id);
            return;
        };
        let id = id.clone();
        let new = Known::new(service, Some(&id));
        let held = self.allocator.held(&id);
        let Some(entry) = self.services.get_mut(&id) else {
            return;
        };
        if listed {
            entry.listed = list;
        }
        let confirmed = seen != Seen::Read && entry.is_unconfirmed();
        if confirmed {
            entry.odd().unconfirmed = false;
            self.dirty.insert(id.clone());
        }
        if entry.known.says_same(&new) {
            Arc::make_mut(&mut entry.known).service.resource_version = new.service.resource_version;
            return;
        }
        let (old, now) = (&entry.known.service, &new.service);
        let newly_deprecated = old.deprecated_annotations != now.deprecated_annotations;
        if old.ingress != now.ingress {
            let differs = held.is_none_or(|held| *held.ips != now.ingress);
            let claims = held.is_some() && differs && !now.ingress.is_empty();
            let claim = claims.then(|| now.ingress.clone());
            let unconfirmed = seen == Seen::Read && differs;
            entry.forget_moves();
            if claims || unconfirmed {
                let odd = entry.odd();
                odd.claim = claim;
                odd.unconfirmed = unconfirmed;
            }
        }
        entry.known = Arc::new(new);
        if newly_deprecated {
            entry.told_deprecated = false;
            self.announce_deprecated(&id);
        }
        self.dirty.insert(id);
    }

    /// Whether something newer is known of a service of this name.
    fn is_outdated(&self, service: &Service) -> bool {
        let known = self.services.get(&service.request.id);
        known.is_some_and(|known| service.is_older_than(&known.known.service))
    }

    /// What the list did not show is gone.
    pub(super) fn list_done(&mut self) {
        let newest = self.listing.take();
        let unseen = self
            .services
            .iter()
            .filter(|(_, entry)| entry.listed != self.list);
        let unseen: Vec<ServiceId> = unseen.map(|(id, _)| id.clone()).collect();
        for id in unseen {
            // What is newer than the list may have been made after it.
            if let Some(entry) = self.services.get(&id)
                && entry.known.service.version() <= newest
            {
                self.graves.dig(&entry.known.service.uid);
            }
            self.forget(&id);
        }
    }

    /// Whether a service that is not ours has something of ours in its status that has to go.
    fn is_left_over(&self, service: &Service) -> bool {
        if !service.is_recorded() {
            return false;
        }
        if !service.load_balancer {
            return true;
        }
        // Another class: only what this process itself gave it is taken back (the Go version leaves it there). A mark
        // alone may be that of another MetalLB, or of this one before it was told to serve another class.
        let id = &service.request.id;
        let Some(entry) = self.services.get(id).filter(|_| self.acting()) else {
            return false;
        };
        let before = &entry.known.service;
        let ours = self.allocator.held(id).is_some() || !self.is_ours(before);
        ours && before.uid == service.uid && before.ingress == service.ingress && !service.other_ingress
    }

    /// Said when it is seen to appear, not to everybody at every start.
    fn announce_deprecated(&mut self, id: &ServiceId) {
        if self.acting() {
            self.tell_deprecated(id);
        }
    }

    pub(super) fn tell_deprecated(&mut self, id: &ServiceId) {
        let Some(entry) = self.services.get_mut(id).filter(|entry| !entry.told_deprecated) else {
            return;
        };
        let known = entry.known.clone();
        let annotations = &known.service.deprecated_annotations;
        if !annotations.is_empty() {
            entry.told_deprecated = true;
            let message = format!("The annotation prefix is deprecated, use {annotations}");
            self.tell(&known.service, EventReason::DeprecatedAnnotation, message);
        }
    }

    pub(super) fn tell(&mut self, service: &Service, reason: EventReason, message: String) {
        self.outputs.push(super::Output::Event(Event {
            service: service.request.id.clone(),
            uid: service.uid.clone(),
            reason,
            message,
        }));
    }

    /// The service does not concern us any more.
    pub(super) fn forget(&mut self, id: &ServiceId) {
        self.services.remove(id);
        self.dirty.remove(id);
        self.waiting.remove(id);
        if self.allocator.release(id).is_some() {
            self.wake = true;
        }
    }

    /// The object is deleted.
    pub(super) fn bury(&mut self, id: &ServiceId, uid: &str) {
        self.graves.dig(uid);
        let same = |entry: &Entry| &*entry.known.service.uid == uid;
        if self.services.get(id).is_some_and(same) {
            self.forget(id);
        }
    }

    /// Starts or stops deciding. At the start, what the statuses say is written down before anything is decided, the
    /// oldest service first: of two that cannot share an address the older one keeps it.
    pub(super) fn take_over(&mut self) {
        let all: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in &all {
            self.allocator.release(id);
        }
        self.waiting.clear();
        self.reported.clear();
        self.allocator.touch_all();
        for entry in self.services.values_mut() {
            entry.odd = None;
        }
        if !self.acting() {
            return;
        }
        let mut with_address: Vec<Arc<Known>> = Vec::new();
        for Entry { known, .. } in self.services.values() {
            if self.is_ours(&known.service) && !known.service.ingress.is_empty() {
                with_address.push(known.clone());
            }
        }
        with_address.sort_by(|a, b| a.service.seniority().cmp(&b.service.seniority()));
        let selects = self.allocator.selects_services();
        for known in with_address {
            self.allocator
                .adopt(&known.request(selects), &known.service.ingress);
        }
        self.reconsider_all();
    }
}
