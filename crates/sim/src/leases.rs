//! The virtual API server's Leases: reads, writes that compare versions, and a watch.

use std::collections::BTreeMap;

use metallb_lease::{Record, Subject, TenureInput, TenureOutput};
use metallb_sansio::{Duration, Instant};

use crate::cluster::Arrival;
use crate::host::Event;
use crate::{Cluster, NodeNumber};

/// One in so many requests takes long: longer than its sender waits.
const SLOW_ONE_IN: u64 = 100;
/// How long at most.
const SLOW: Duration = Duration::from_secs(4);

/// What the server keeps, and what is under way.
#[derive(Default)]
pub(crate) struct Leases {
    records: BTreeMap<Subject, Record>,
    revision: u64,
    requests: u64,
    /// Requests without an outcome yet, by number.
    open: BTreeMap<u64, (NodeNumber, Subject)>,
    /// When the last thing said to each node arrives: a watch keeps its order.
    said_until: BTreeMap<NodeNumber, Instant>,
    /// Writes that went through.
    pub(crate) writes: u64,
}

impl Cluster {
    fn api_delay(&mut self) -> Duration {
        Duration::from_millis(1) + self.rng.up_to(self.setup.api_delay)
    }

    /// A node sends a request.
    pub(crate) fn request_lease(&mut self, node: NodeNumber, request: TenureOutput) {
        let (TenureOutput::Read(subject) | TenureOutput::Write(subject, _)) = &request else {
            return;
        };
        self.leases.requests += 1;
        let number = self.leases.requests;
        self.leases.open.insert(number, (node, subject.clone()));
        let failed = TenureInput::Failed(subject.clone());
        let give_up = self.now + self.setup.leases.request;
        self.arrive(give_up, Arrival::LeaseOutcome(node, number, failed));
        if self.api[node] && !self.lan.is_asleep(node) {
            let mut delay = self.api_delay();
            if self.rng.below(SLOW_ONE_IN) == 0 {
                delay += self.rng.up_to(SLOW);
            }
            let at = self.now + delay;
            self.arrive(at, Arrival::LeaseRequest(node, number, request));
        }
    }

    /// The request is at the server, whether or not its sender still waits.
    pub(crate) fn serve_lease(&mut self, node: NodeNumber, number: u64, request: TenureOutput) {
        let outcome = match request {
            TenureOutput::Read(subject) => {
                let record = self.leases.records.get(&subject).cloned();
                TenureInput::Seen(subject, record)
            }
            TenureOutput::Write(subject, record) => {
                let known = self
                    .leases
                    .records
                    .get(&subject)
                    .map(|known| known.version.as_str());
                if known.unwrap_or_default() == record.version {
                    self.leases.revision += 1;
                    self.leases.writes += 1;
                    let record = Record {
                        version: self.leases.revision.to_string(),
                        ..record
                    };
                    self.leases.records.insert(subject.clone(), record.clone());
                    for other in 0..self.size() {
                        self.say_lease(other, TenureInput::Seen(subject.clone(), Some(record.clone())));
                    }
                    TenureInput::Written(subject, record)
                } else {
                    TenureInput::Conflict(subject)
                }
            }
            _ => return,
        };
        if self.api[node] {
            let at = self.now + self.api_delay();
            self.arrive(at, Arrival::LeaseOutcome(node, number, outcome));
        }
    }

    /// An outcome is at the node; the first one counts.
    pub(crate) fn lease_outcome(&mut self, node: NodeNumber, number: u64, outcome: TenureInput) {
        let open = self.leases.open.remove(&number).is_some();
        let heard = self.api[node] || matches!(outcome, TenureInput::Failed(_));
        if open && heard {
            self.tell(node, Event::Lease(outcome));
        } else if open {
            // It comes to nothing; the sender gives up in time.
            let (TenureInput::Seen(subject, _)
            | TenureInput::Written(subject, _)
            | TenureInput::Conflict(subject)) = outcome
            else {
                return;
            };
            self.leases.open.insert(number, (node, subject));
        }
    }

    /// A speaker starts, or reaches the server again: it lists and then watches. What its former life asked for is nobody's any
    /// more.
    pub(crate) fn list_leases(&mut self, node: NodeNumber) {
        if !self.setup.options.strict || !self.api[node] || !self.hosts[node].exists() {
            return;
        }
        let seen: Vec<TenureInput> = self
            .leases
            .records
            .iter()
            .map(|(subject, record)| TenureInput::Seen(subject.clone(), Some(record.clone())))
            .chain([TenureInput::Listed])
            .collect();
        for input in seen {
            self.say_lease(node, input);
        }
    }

    pub(crate) fn forget_lease_requests(&mut self, node: NodeNumber) {
        self.leases.open.retain(|_, (of, _)| *of != node);
    }

    fn say_lease(&mut self, node: NodeNumber, input: TenureInput) {
        if self.api[node] && self.hosts[node].exists() {
            let at = self.now + self.api_delay();
            let last = self.leases.said_until.get(&node).copied().unwrap_or_default();
            let at = at.max(last + Duration::from_nanos(1));
            self.leases.said_until.insert(node, at);
            self.arrive(at, Arrival::LeaseSeen(node, self.connections[node], input));
        }
    }

    /// Writes of Leases that went through so far.
    pub fn lease_writes(&self) -> u64 {
        self.leases.writes
    }
}
