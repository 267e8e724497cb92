//! Events on services, in their time: that an address was assigned is told when the status says so, and never faster than Events
//! are written, so that ten thousand services at once lose none.

use std::collections::{BTreeMap, VecDeque};

use metallb_alloc::{Event, EventReason, ServiceId};

/// Events that wait to be told; more are dropped and counted.
const BACKLOG: usize = 16_384;

/// What is to be told to the owners of services.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// Assignments that no status shows yet.
    held: BTreeMap<ServiceId, Event>,
    backlog: VecDeque<Event>,
    /// Dropped since the backlog was full last.
    dropped: u64,
}

impl Telling {
    /// Something to tell. `write_due`: the status of the service is still to be written.
    pub(crate) fn say(&mut self, event: Event, write_due: bool) {
        if write_due && event.reason == EventReason::IpAllocated {
            // An assignment before this one was never seen by anybody.
            self.held.insert(event.service.clone(), event);
        } else {
            self.enqueue(event);
        }
    }

    /// The status of the service is as it should be.
    pub(crate) fn settled(&mut self, service: &ServiceId) {
        if let Some(event) = self.held.remove(service) {
            self.enqueue(event);
        }
    }

    /// The service is gone.
    pub(crate) fn forget(&mut self, service: &ServiceId) {
        self.held.remove(service);
    }

    /// Another replica leads; it tells what it writes.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
    }

    fn enqueue(&mut self, event: Event) {
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back(event);
        } else {
            if self.dropped == 0 {
                tracing::warn!("too many Events wait to be written: new ones are dropped");
            }
            self.dropped += 1;
        }
    }

    /// Hands over at most `room` events. Returns whether more wait.
    pub(crate) fn pump(&mut self, room: usize, mut publish: impl FnMut(Event)) -> bool {
        for event in self.backlog.drain(..room.min(self.backlog.len())) {
            publish(event);
        }
        if self.backlog.is_empty() && self.dropped > 0 {
            tracing::warn!(dropped = self.dropped, "Events on services were dropped");
            self.dropped = 0;
        }
        !self.backlog.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, reason: EventReason, message: &str) -> Event {
        Event {
            service: ServiceId::new("d", name),
            uid: name.into(),
            reason,
            message: message.to_owned(),
        }
    }

    fn told(telling: &mut Telling, room: usize) -> Vec<String> {
        let mut told = Vec::new();
        telling.pump(room, |event| told.push(event.message));
        told
    }

    #[test]
    fn an_assignment_is_told_when_the_status_says_so() {
        let mut telling = Telling::default();
        telling.say(event("a", EventReason::IpAllocated, "first"), true);
        telling.say(event("a", EventReason::IpAllocated, "second"), true);
        telling.say(event("b", EventReason::AllocationFailed, "full"), true);
        telling.say(event("c", EventReason::IpAllocated, "gone"), true);
        telling.say(event("d", EventReason::IpAllocated, "kept"), false);
        assert_eq!(told(&mut telling, 9), ["full", "kept"]);
        telling.forget(&ServiceId::new("d", "c"));
        for name in ["a", "b", "c"] {
            telling.settled(&ServiceId::new("d", name));
        }
        assert_eq!(told(&mut telling, 9), ["second"]);
        telling.settled(&ServiceId::new("d", "a"));
        assert!(told(&mut telling, 9).is_empty(), "told once");
    }

    #[test]
    fn no_faster_than_there_is_room_and_bounded() {
        let mut telling = Telling::default();
        for n in 0..BACKLOG + 3 {
            telling.say(event("a", EventReason::ClearAssignment, &n.to_string()), false);
        }
        assert_eq!((telling.backlog.len(), telling.dropped), (BACKLOG, 3));
        assert_eq!(told(&mut telling, 2), ["0", "1"]);
        assert!(telling.pump(0, |_| panic!("there is no room")));
        assert_eq!(told(&mut telling, BACKLOG).len(), BACKLOG - 2);
        assert_eq!(telling.dropped, 0, "counted anew");
    }
}
