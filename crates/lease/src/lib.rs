//! Who leads: a Lease holder as a machine.
//!
//! The rules are client-go's: a holder renews every [`Timing::retry`]; whoever sees no renewal for the lease duration
//! takes over. Expiry is measured on the observer's own monotonic clock, from when it last saw the record change; the
//! time stamps in the record are for people. Beyond client-go, a take-over from a holder that did not release waits for
//! [`Timing::request`] before it leads, so that a write which the old holder sent in its last moment has come to rest.
//!
//! The driver reads and writes the Lease (writes compare `resourceVersion`), bounds each request by
//! [`Timing::request`], and asks [`LeaseMachine::leading_until`] before anything is written in the name of the leader.

use std::collections::VecDeque;
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

mod tenure;
#[cfg(test)]
mod tenure_tests;
#[cfg(test)]
mod tests;

pub use tenure::{Subject, TenureInput, TenureMachine, TenureOutput, TenureTiming};

/// Durations of the election. The defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record is believed after it last changed.
    pub lease: Duration,
    /// How long a holder that cannot renew goes on leading; shorter than `lease`.
    pub renew_deadline: Duration,
    /// Time between two attempts.
    pub retry: Duration,
    /// Longest time a request may take; the driver gives up after it.
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            request: Duration::from_secs(5),
        }
    }
}

/// The part of a Lease that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `metadata.resourceVersion`; empty in a record that is to be created.
    pub version: String,
    /// `spec.holderIdentity`; empty: released.
    pub holder: String,
    /// `spec.leaseDurationSeconds`.
    pub seconds: u32,
    /// `spec.leaseTransitions`.
    pub transitions: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The Lease was read; `None`: there is none.
    Read(Option<Record>),
    /// The write went through; this is what the server returned.
    Written(Record),
    /// The write was refused: the Lease is at another version, or exists already.
    Conflict,
    /// A request failed or timed out; a write may have happened nevertheless.
    Failed,
    /// Stop: release if held.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read the Lease.
    Read,
    /// Write this record: create it when its version is empty, else replace that version.
    Write(Record),
    /// This process leads now.
    Leading,
    /// It leads no longer.
    Lost,
    /// After [`Input::Stop`]: nothing more will come.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Holder {
        /// When the request that renewed last was sent.
        renewed: Instant,
        /// From when on it may lead.
        lead_from: Instant,
        leading: bool,
    },
}

/// One participant of the election.
#[derive(Debug)]
pub struct LeaseMachine {
    identity: String,
    timing: Timing,
    role: Role,
    /// The record as last seen, and since when it has been like that.
    observed: Option<(Record, Instant)>,
    /// When the request under way was sent.
    sent: Option<Instant>,
    next: Instant,
    stopping: bool,
    outputs: VecDeque<Output>,
}

impl LeaseMachine {
    /// A participant. `identity` names the process across container restarts (the pod's UID): a record that bears it is
    /// renewed at once.
    pub fn new(identity: impl Into<String>, timing: Timing, now: Instant) -> Self {
        Self {
            identity: identity.into(),
            timing,
            role: Role::Follower,
            observed: None,
            sent: None,
            next: now,
            stopping: false,
            outputs: VecDeque::new(),
        }
    }

    /// Until when it leads if nothing more is heard; `None` when it does not lead.
    pub fn leading_until(&self) -> Option<Instant> {
        match self.role {
            Role::Holder {
                renewed,
                leading: true,
                ..
            } => Some(renewed + self.timing.renew_deadline),
            _ => None,
        }
    }

    /// Who holds the Lease, as last seen; `None` when nobody does.
    pub fn holder(&self) -> Option<&str> {
        self.observed
            .as_ref()
            .map(|(record, _)| record.holder.as_str())
            .filter(|holder| !holder.is_empty())
    }

    fn lose(&mut self) {
        if let Role::Holder { leading: true, .. } = self.role {
            self.outputs.push_back(Output::Lost);
        }
        self.role = Role::Follower;
    }

    fn observe(&mut self, now: Instant, record: Record) {
        match &mut self.observed {
            Some((known, _)) if *known == record => {}
            observed => *observed = Some((record, now)),
        }
    }

    /// When the record expires for this observer; `None`: it is free already.
    fn expiry(&self) -> Option<Instant> {
        let (record, since) = self.observed.as_ref()?;
        if record.holder.is_empty() || record.holder == self.identity {
            return None;
        }
        let seconds = u64::from(record.seconds);
        Some(
            *since
                + if seconds == 0 {
                    self.timing.lease
                } else {
                    Duration::from_secs(seconds)
                },
        )
    }

    fn read(&mut self, now: Instant) {
        self.sent = Some(now);
        self.outputs.push_back(Output::Read);
    }

    fn write(&mut self, now: Instant, holder: String, seconds: u32) {
        let known = self.observed.as_ref().map(|(record, _)| record);
        let changed = known.is_none_or(|record| record.holder != holder) && !holder.is_empty();
        let record = Record {
            version: known.map(|record| record.version.clone()).unwrap_or_default(),
            seconds,
            transitions: known.map_or(0, |record| record.transitions.saturating_add(changed.into())),
            holder,
        };
        self.sent = Some(now);
        self.outputs.push_back(Output::Write(record));
    }

    fn claim(&mut self, now: Instant) {
        let seconds = u32::try_from(self.timing.lease.as_secs()).unwrap_or(u32::MAX);
        self.write(now, self.identity.clone(), seconds);
    }

    fn written(&mut self, now: Instant, sent: Instant, record: Record) {
        let from_another = self.expiry().is_some();
        self.observe(now, record);
        self.next = now + self.timing.retry;
        match &mut self.role {
            Role::Holder { renewed, .. } => *renewed = sent,
            Role::Follower => {
                let lead_from = if from_another {
                    now + self.timing.request
                } else {
                    now
                };
                self.role = Role::Holder {
                    renewed: sent,
                    lead_from,
                    leading: false,
                };
            }
        }
    }

    fn attempt(&mut self, now: Instant) {
        match self.role {
            Role::Holder { .. } => self.claim(now),
            Role::Follower => self.read(now),
        }
    }

    fn stop(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let held = matches!(self.role, Role::Holder { .. });
        self.lose();
        if held && self.sent.is_none() {
            self.release(now);
        } else if !held && self.sent.is_none() {
            self.outputs.push_back(Output::Stopped);
        }
        // Else the answer to the request under way tells whether there is something to release.
    }

    /// A released record is free at once for whoever reads it; one second tells others that cannot read empty holders.
    fn release(&mut self, now: Instant) {
        self.write(now, String::new(), 1);
    }

    /// The answer to the request under way, while stopping.
    fn answer_while_stopping(&mut self, now: Instant, input: Input) {
        match input {
            Input::Written(record) if record.holder == self.identity => {
                self.observe(now, record);
                self.release(now);
            }
            _ => self.outputs.push_back(Output::Stopped),
        }
    }
}

impl Machine for LeaseMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        if input == Input::Stop {
            self.stop(now);
            return;
        }
        // An answer without a request is the driver's mistake; it carries no time to measure from.
        let Some(sent) = self.sent.take() else { return };
        if self.stopping {
            self.answer_while_stopping(now, input);
            return;
        }
        match input {
            Input::Read(record) => {
                match record {
                    Some(record) => self.observe(now, record),
                    None => self.observed = None,
                }
                let expiry = self.expiry();
                if expiry.is_some() {
                    self.lose();
                }
                match expiry {
                    Some(expiry) if expiry > now => self.next = expiry.min(now + self.timing.retry),
                    _ => self.claim(now),
                }
            }
            Input::Written(record) => self.written(now, sent, record),
            // Somebody else wrote: the next read tells who holds it.
            Input::Conflict => self.read(now),
            Input::Failed => self.next = now + self.timing.retry,
            Input::Stop => {}
        }
        self.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        let attempt = self.sent.is_none().then_some(self.next);
        let role = match self.role {
            Role::Follower => None,
            Role::Holder {
                lead_from,
                leading: false,
                renewed,
            } => Some(lead_from.min(renewed + self.timing.renew_deadline)),
            Role::Holder {
                renewed,
                leading: true,
                ..
            } => Some(renewed + self.timing.renew_deadline),
        };
        [attempt, role].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        if let Role::Holder {
            renewed,
            lead_from,
            leading,
        } = &mut self.role
        {
            if now >= *renewed + self.timing.renew_deadline {
                self.lose();
            } else if !*leading && now >= *lead_from {
                *leading = true;
                self.outputs.push_back(Output::Leading);
            }
        }
        if self.sent.is_none() && now >= self.next {
            self.attempt(now);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
