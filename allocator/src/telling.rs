//! Events on services, in their time: that an address was assigned is told when the status says so, and never faster than Events
//! are written, so that ten thousand services at once lose none. While statuses are being written most Events wait: an Event costs
//! the API server as much as the address that it tells of.

use std::collections::{BTreeMap, VecDeque};

use metallb_alloc::{Event, EventReason, ServiceId};
use tokio::time::{Duration, Instant};

/// Events that wait to be told; more are dropped and counted.
const BACKLOG: usize = 16_384;
/// No status was written for this long: the API server has time for Events.
const CALM: Duration = Duration::from_millis(500);
/// Events that are told at once even while statuses are written, and the pause until there is room for one more of them.
const BURST: u32 = 64;
const REFILL: Duration = Duration::from_millis(50);

/// What is to be told to the owners of services.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// Assignments that no status shows yet.
    held: BTreeMap<ServiceId, Event>,
    backlog: VecDeque<Event>,
    /// Dropped since the backlog was full last.
    dropped: u64,
    /// When a status was written last.
    wrote: Option<Instant>,
    /// Told of [`BURST`], until when that was right.
    spent: u32,
    refilled: Option<Instant>,
    /// The process ends.
    hurry: bool,
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

    /// A status was written.
    pub(crate) fn wrote(&mut self, now: Instant) {
        self.wrote = Some(now);
    }

    /// The process ends: nothing waits for a calm moment any more.
    pub(crate) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// How many may be told now; `None`: as many as the writer of Events has room for.
    fn allowance(&mut self, now: Instant) -> Option<u32> {
        let calm = self.wrote.is_none_or(|wrote| now.duration_since(wrote) >= CALM);
        if calm || self.hurry {
            self.spent = 0;
            self.refilled = None;
            return None;
        }
        let since = *self.refilled.get_or_insert(now);
        let refills =
            u32::try_from(now.duration_since(since).as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if refills > 0 {
            self.spent = self.spent.saturating_sub(refills);
            self.refilled = Some(now);
        }
        Some(BURST.saturating_sub(self.spent))
    }

    /// Hands over at most `room` events. Returns whether more wait.
    pub(crate) fn pump(&mut self, room: usize, now: Instant, mut publish: impl FnMut(Event)) -> bool {
        let mut count = room.min(self.backlog.len());
        if let Some(allowance) = self.allowance(now) {
            count = count.min(allowance as usize);
            self.spent = self.spent.saturating_add(u32::try_from(count).unwrap_or(BURST));
        }
        for event in self.backlog.drain(..count) {
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
        telling.pump(room, Instant::now(), |event| told.push(event.message));
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
    fn most_wait_while_statuses_are_written() {
        let mut telling = Telling::default();
        let start = Instant::now();
        let told = |telling: &mut Telling, ms: u64| {
            let mut count = 0_u32;
            telling.pump(10_000, start + Duration::from_millis(ms), |_| count += 1);
            count
        };
        for _ in 0..1000 {
            telling.say(event("a", EventReason::IpAllocated, "new"), false);
        }
        telling.wrote(start);
        assert_eq!(told(&mut telling, 0), BURST, "a few at once");
        assert_eq!(told(&mut telling, 49), 0);
        assert_eq!(told(&mut telling, 100), 2, "then 20 a second");
        telling.wrote(start + Duration::from_millis(300));
        assert_eq!(told(&mut telling, 600), 10);
        assert_eq!(told(&mut telling, 800), 1000 - BURST - 12, "all, once it is calm");

        telling.wrote(start + Duration::from_millis(900));
        for _ in 0..1000 {
            telling.say(event("a", EventReason::IpAllocated, "new"), false);
        }
        assert_eq!(told(&mut telling, 900), BURST, "a calm moment refills");
        telling.hurry();
        assert_eq!(told(&mut telling, 900), 1000 - BURST, "the process ends");
    }

    #[test]
    fn no_faster_than_there_is_room_and_bounded() {
        let mut telling = Telling::default();
        for n in 0..BACKLOG + 3 {
            telling.say(event("a", EventReason::ClearAssignment, &n.to_string()), false);
        }
        assert_eq!((telling.backlog.len(), telling.dropped), (BACKLOG, 3));
        assert_eq!(told(&mut telling, 2), ["0", "1"]);
        assert!(telling.pump(0, Instant::now(), |_| panic!("there is no room")));
        assert_eq!(told(&mut telling, BACKLOG).len(), BACKLOG - 2);
        assert_eq!(telling.dropped, 0, "counted anew");
    }
}
