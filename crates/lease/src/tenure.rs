//! Who may answer for an address where two must never: tenures of nodes, and who has each address, as Leases.
//!
//! Two kinds of Lease ([`Subject`]):
//!
//! * One for each **node**, renewed by its speaker every [`TenureTiming::retry`]. `leaseTransitions` is the node's epoch: greater with
//!   every life of the speaker, and with every time that it was fenced. The node has its tenure until
//!   nine tenths of `lease` after it *sent* the last renewal that went through.
//! * One for each **address**, whose holder is `node/epoch`. It is written only when the address moves.
//!
//! A node answers for an address while its tenure holds and the address is its own in its present epoch. Another may write
//! itself into the address's Lease once that epoch is over: the node's Lease names a later epoch, or nobody. The latter is
//! what a node writes that stops, and what the next writes in its place, by compare-and-swap on a version that it has seen
//! unchanged for the whole `lease`: the former holder sent its last renewal before that was seen, and any that it
//! sends now is refused. Clocks may differ in rate by a tenth; they are never compared.
//!
//! [`TenureMachine`] does all that without I/O. Its driver
//!
//! * watches the Leases whose names [`Subject::from_lease_name`] knows, and tells each one seen, listed or gone
//!   ([`TenureInput::Seen`]; [`TenureInput::Listed`] after the first list);
//! * carries out [`TenureOutput::Write`] (create when the version is empty, else replace that very version) and
//!   [`TenureOutput::Read`], each bounded by [`TenureTiming::request`], and tells the outcome;
//! * measures time on a clock that goes on while the machine is suspended (`CLOCK_BOOTTIME`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use crate::Record;

const NODE_PREFIX: &str = "metallb-speaker-";
const ADDRESS_PREFIX: &str = "metallb-l2-";
/// Requests under way at once at most.
const IN_FLIGHT_MAX: usize = 16;

/// What a Lease is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The tenure of a node.
    Node(Arc<str>),
    /// Who has an address.
    Address(IpAddr),
}

impl Subject {
    /// The name of its Lease: `metallb-speaker-NODE`, `metallb-l2-192.0.2.1` or `metallb-l2-2001-db8-0-0-0-0-0-1`.
    pub fn lease_name(&self) -> String {
        match self {
            Self::Node(node) => format!("{NODE_PREFIX}{node}"),
            Self::Address(IpAddr::V4(ip)) => format!("{ADDRESS_PREFIX}{ip}"),
            Self::Address(IpAddr::V6(ip)) => {
                let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:x}")).collect();
                format!("{ADDRESS_PREFIX}{}", groups.join("-"))
            }
        }
    }

    /// What the Lease of this name is about; `None` when it is not one of these.
    pub fn from_lease_name(name: &str) -> Option<Self> {
        if let Some(node) = name.strip_prefix(NODE_PREFIX) {
            return Some(Self::Node(node.into()));
        }
        let text = name.strip_prefix(ADDRESS_PREFIX)?;
        if text.contains('.') {
            return text.parse().ok().map(|ip| Self::Address(IpAddr::V4(ip)));
        }
        let groups: Vec<u16> = text
            .split('-')
            .map(|group| u16::from_str_radix(group, 16).ok())
            .collect::<Option<_>>()?;
        let groups: [u16; 8] = groups.try_into().ok()?;
        Some(Self::Address(Ipv6Addr::from(groups).into()))
    }
}

/// Durations of tenures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenureTiming {
    /// How long others wait after they last saw a node's Lease change; whole seconds.
    pub lease: Duration,
    /// Time between two renewals.
    pub retry: Duration,
    /// Longest time a request may take; the driver gives up after it.
    pub request: Duration,
}

impl Default for TenureTiming {
    /// A failed owner is followed 10 s after its last renewal was seen, and two writes. One write a node every 2.5 s.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            retry: Duration::from_millis(2_500),
            request: Duration::from_secs(2),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenureInput {
    /// A Lease was seen, by a list, a watch or [`TenureOutput::Read`]; `None`: there is none.
    Seen(Subject, Option<Record>),
    /// All Leases there are have been seen once.
    Listed,
    /// A write went through; this is what the server returned.
    Written(Subject, Record),
    /// A write was refused: the Lease is at another version, exists already or no longer.
    Conflict(Subject),
    /// A request failed or timed out; a write may have happened nevertheless.
    Failed(Subject),
    /// This node is to answer for the address, or no longer (it has stopped already).
    Want(IpAddr, bool),
    /// The speaker stops; it no longer answers.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenureOutput {
    /// Read a Lease.
    Read(Subject),
    /// Write it: create it when its version is empty, else replace that version.
    Write(Subject, Record),
    /// The tenure holds until then, if nothing more is heard; `None`: it is over.
    Tenure(Option<Instant>),
    /// The address is this node's, or no longer. It may answer while its tenure holds, too.
    Granted(IpAddr, bool),
    /// The Lease of the address names this node now, in whatever epoch; nobody when it names none.
    Holder(IpAddr, Option<Arc<str>>),
    /// After [`TenureInput::Stop`]: nothing more will come.
    Stopped,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    epoch: u32,
    /// When the last renewal that went through was sent.
    renewed: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    sent: Instant,
    write: bool,
}

/// One speaker's part in it.
#[derive(Debug)]
pub struct TenureMachine {
    node: Arc<str>,
    timing: TenureTiming,
    listed: bool,
    own: Option<Own>,
    /// What was last told about the tenure.
    told: Option<Instant>,
    /// Leases as last seen, and since when each has been like that.
    records: BTreeMap<Subject, (Record, Instant)>,
    wanted: BTreeSet<IpAddr>,
    granted: BTreeSet<IpAddr>,
    pending: BTreeMap<Subject, Pending>,
    /// Leases that a write which failed may have changed, or may yet change: only another write makes certain.
    doubts: BTreeSet<Subject>,
    /// What is not tried again before then.
    rest: BTreeMap<Subject, Instant>,
    /// When the own Lease is written next.
    renew_at: Instant,
    /// When something that was waited for is due.
    wake_at: Option<Instant>,
    stopping: bool,
    outputs: VecDeque<TenureOutput>,
}

impl TenureMachine {
    /// The part of the speaker on `node`, at the start of its life.
    pub fn new(node: impl Into<Arc<str>>, timing: TenureTiming, now: Instant) -> Self {
        Self {
            node: node.into(),
            timing,
            listed: false,
            own: None,
            told: None,
            records: BTreeMap::new(),
            wanted: BTreeSet::new(),
            granted: BTreeSet::new(),
            pending: BTreeMap::new(),
            doubts: BTreeSet::new(),
            rest: BTreeMap::new(),
            renew_at: now,
            wake_at: None,
            stopping: false,
            outputs: VecDeque::new(),
        }
    }

    /// Until when the tenure holds; `None` when it does not.
    pub fn tenure(&self) -> Option<Instant> {
        self.own.map(|own| own.renewed + self.timing.lease * 9 / 10)
    }

    fn own_subject(&self) -> Subject {
        Subject::Node(Arc::clone(&self.node))
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.timing.lease.as_secs()).unwrap_or(u32::MAX)
    }

    fn holder(&self, epoch: u32) -> String {
        format!("{}/{epoch}", self.node)
    }

    fn is_busy(&self, now: Instant, subject: &Subject) -> bool {
        self.pending.contains_key(subject) || self.rest.get(subject).is_some_and(|at| *at > now)
    }

    fn write(&mut self, now: Instant, subject: Subject, record: Record) {
        self.pending.insert(
            subject.clone(),
            Pending {
                sent: now,
                write: true,
            },
        );
        self.outputs.push_back(TenureOutput::Write(subject, record));
    }

    fn read(&mut self, now: Instant, subject: Subject) {
        self.pending.insert(
            subject.clone(),
            Pending {
                sent: now,
                write: false,
            },
        );
        self.outputs.push_back(TenureOutput::Read(subject));
    }

    fn version_of(&self, subject: &Subject) -> String {
        let record = self.records.get(subject);
        record
            .map(|(record, _)| record.version.clone())
            .unwrap_or_default()
    }

    fn seen(&mut self, now: Instant, subject: &Subject, record: Option<Record>) {
        let holder = |record: Option<&Record>| {
            let (node, _) = parse_holder(&record?.holder)?;
            Some(Arc::<str>::from(node))
        };
        let before = holder(self.records.get(subject).map(|(record, _)| record));
        match (record, self.records.get(subject)) {
            (Some(record), Some((known, _))) if *known == record || is_older(&record, known) => {}
            (Some(record), _) => {
                self.records.insert(subject.clone(), (record, now));
            }
            (None, _) => {
                self.records.remove(subject);
            }
        }
        match subject {
            Subject::Node(node) if *node == self.node => self.check_own(),
            Subject::Node(_) => {}
            Subject::Address(address) => {
                let after = holder(self.records.get(subject).map(|(record, _)| record));
                if before != after {
                    self.outputs.push_back(TenureOutput::Holder(*address, after));
                }
                self.check_grant(*address);
            }
        }
    }

    /// Whoever was fenced has nothing any more.
    fn check_own(&mut self) {
        let Some(own) = self.own else { return };
        let record = self.records.get(&self.own_subject()).map(|(record, _)| record);
        let stands =
            record.is_some_and(|record| record.holder == *self.node && record.transitions == own.epoch);
        if !stands {
            self.own = None;
            self.renew_at = Instant::ZERO;
            for address in core::mem::take(&mut self.granted) {
                self.outputs.push_back(TenureOutput::Granted(address, false));
            }
        }
    }

    fn check_grant(&mut self, address: IpAddr) {
        let record = self
            .records
            .get(&Subject::Address(address))
            .map(|(record, _)| record);
        let holds = self
            .own
            .is_some_and(|own| record.is_some_and(|record| record.holder == self.holder(own.epoch)));
        // What is being written, or may have been, is not for certain what is there.
        let subject = Subject::Address(address);
        let certain = !self.pending.contains_key(&subject) && !self.doubts.contains(&subject);
        let wanted = self.wanted.contains(&address) && certain;
        if holds && wanted && self.granted.insert(address) {
            self.outputs.push_back(TenureOutput::Granted(address, true));
        } else if !holds && self.granted.remove(&address) {
            self.outputs.push_back(TenureOutput::Granted(address, false));
        }
    }

    fn written(&mut self, now: Instant, subject: &Subject, record: Record, sent: Instant) {
        let own = matches!(subject, Subject::Node(node) if *node == self.node);
        if own && record.holder == *self.node {
            let epoch = record.transitions;
            if self.own.is_none_or(|own| own.epoch != epoch) {
                for address in core::mem::take(&mut self.granted) {
                    self.outputs.push_back(TenureOutput::Granted(address, false));
                }
            }
            self.own = Some(Own { epoch, renewed: sent });
            self.renew_at = sent + self.timing.retry;
        }
        self.doubts.remove(subject);
        self.seen(now, subject, Some(record));
    }

    /// Does what there is to do.
    fn step(&mut self, now: Instant) {
        self.wake_at = None;
        self.rest.retain(|_, at| *at > now);
        if self.stopping {
            return self.finish(now);
        }
        if self.listed {
            self.renew(now);
        }
        let tenure = self.tenure().filter(|until| *until > now);
        if tenure.is_some() {
            for address in self.wanted.clone() {
                self.claim(now, address);
            }
        }
        self.release(now);
        if tenure != self.told {
            self.told = tenure;
            self.outputs.push_back(TenureOutput::Tenure(tenure));
        }
    }

    fn renew(&mut self, now: Instant) {
        let subject = self.own_subject();
        if self.renew_at > now || self.is_busy(now, &subject) {
            return;
        }
        let transitions = match self.own {
            Some(own) => own.epoch,
            None => self
                .records
                .get(&subject)
                .map_or(0, |(record, _)| record.transitions)
                .saturating_add(1),
        };
        let record = Record {
            version: self.version_of(&subject),
            holder: self.node.to_string(),
            seconds: self.seconds(),
            transitions,
        };
        self.write(now, subject, record);
    }

    /// Writes this node into the address's Lease, once nobody else can be answering for it.
    fn claim(&mut self, now: Instant, address: IpAddr) {
        let Some(own) = self.own else { return };
        let subject = Subject::Address(address);
        if self.granted.contains(&address)
            || self.pending.len() >= IN_FLIGHT_MAX
            || self.is_busy(now, &subject)
        {
            return;
        }
        let mine = self.holder(own.epoch);
        let known = self.records.get(&subject).map(|(record, _)| record.clone());
        let known = known.unwrap_or_default();
        if known.holder == mine && !self.doubts.contains(&subject) {
            return self.check_grant(address);
        }
        if let Some((node, epoch)) = parse_holder(&known.holder)
            && *node != *self.node
            && !self.is_over(now, node, epoch)
        {
            return;
        }
        let record = Record {
            seconds: self.seconds(),
            transitions: known.transitions.saturating_add(1),
            holder: mine,
            version: known.version,
        };
        self.write(now, subject, record);
    }

    /// Whether the node's epoch is over for certain. If not, what can be done about it is.
    fn is_over(&mut self, now: Instant, node: &str, epoch: u32) -> bool {
        let subject = Subject::Node(node.into());
        let Some((record, since)) = self.records.get(&subject).cloned() else {
            // Somebody deleted it. Made anew, the node's next renewal is refused or renews this one: either is seen.
            if !self.is_busy(now, &subject) {
                let record = Record {
                    version: String::new(),
                    holder: node.to_owned(),
                    seconds: self.seconds(),
                    transitions: epoch,
                };
                self.write(now, subject, record);
            }
            return false;
        };
        if record.transitions > epoch || (record.transitions == epoch && record.holder.is_empty()) {
            return true;
        }
        if self.is_busy(now, &subject) {
            return false;
        }
        if record.transitions < epoch {
            // What we know of the node is older than what the address says.
            self.read(now, subject);
            return false;
        }
        let lease = self.timing.lease.max(Duration::from_secs(record.seconds.into()));
        let over = since + lease;
        if over > now {
            self.wake(over);
        } else {
            let fenced = Record {
                holder: String::new(),
                ..record
            };
            self.write(now, subject, fenced);
        }
        false
    }

    /// Lets go what is ours and no longer wanted.
    fn release(&mut self, now: Instant) {
        let Some(own) = self.own else { return };
        let mine = self.holder(own.epoch);
        let unwanted: Vec<(Subject, Record)> = self
            .records
            .iter()
            .filter(|(subject, (record, _))| {
                matches!(subject, Subject::Address(address) if !self.wanted.contains(address))
                    && record.holder == mine
                    && !self.is_busy(now, subject)
            })
            .map(|(subject, (record, _))| (subject.clone(), record.clone()))
            .collect();
        for (subject, record) in unwanted {
            if self.pending.len() < IN_FLIGHT_MAX {
                let record = Record {
                    holder: String::new(),
                    ..record
                };
                self.write(now, subject, record);
            }
        }
    }

    /// Ends our epoch, so that nobody has to wait. The addresses stay ours in name: if the next life comes in time, it
    /// wants the same ones.
    fn finish(&mut self, now: Instant) {
        let subject = self.own_subject();
        if self.pending.contains_key(&subject) {
            return;
        }
        if let Some(own) = self.own.take() {
            let record = Record {
                version: self.version_of(&subject),
                holder: String::new(),
                seconds: self.seconds(),
                transitions: own.epoch,
            };
            self.write(now, subject, record);
        } else {
            self.outputs.push_back(TenureOutput::Stopped);
            self.pending.insert(
                subject,
                Pending {
                    sent: now,
                    write: false,
                },
            );
        }
    }

    fn wake(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |set| set.min(at)));
    }

    fn want(&mut self, address: IpAddr, wanted: bool) {
        if wanted {
            self.wanted.insert(address);
        } else if self.wanted.remove(&address) && self.granted.remove(&address) {
            self.outputs.push_back(TenureOutput::Granted(address, false));
        }
    }
}

/// Whether the first is known to be older; versions that are no numbers are not compared.
fn is_older(record: &Record, than: &Record) -> bool {
    match (record.version.parse::<u64>(), than.version.parse::<u64>()) {
        (Ok(record), Ok(than)) => record < than,
        _ => false,
    }
}

/// The node and the epoch in the holder of an address.
fn parse_holder(holder: &str) -> Option<(&str, u32)> {
    let (node, epoch) = holder.rsplit_once('/')?;
    Some((node, epoch.parse().ok()?))
}

impl Machine for TenureMachine {
    type Input = TenureInput;
    type Output = TenureOutput;

    fn handle(&mut self, now: Instant, input: TenureInput) {
        match input {
            TenureInput::Seen(subject, record) => {
                // What a watch says while a write is under way may be older than that; a read's answer ends the read.
                if self.pending.get(&subject).is_some_and(|pending| !pending.write) {
                    self.pending.remove(&subject);
                }
                self.seen(now, &subject, record);
            }
            TenureInput::Listed => self.listed = true,
            TenureInput::Written(subject, record) => {
                if let Some(Pending { sent, write: true }) = self.pending.remove(&subject) {
                    self.written(now, &subject, record, sent);
                }
            }
            TenureInput::Conflict(subject) => {
                self.pending.remove(&subject);
                self.read(now, subject);
            }
            TenureInput::Failed(subject) => {
                let pending = self.pending.remove(&subject);
                if pending.is_some_and(|pending| pending.write) {
                    self.doubts.insert(subject.clone());
                }
                if !self.stopping {
                    self.rest.insert(subject, now + self.timing.retry / 5);
                }
            }
            TenureInput::Want(address, wanted) => self.want(address, wanted),
            TenureInput::Stop => self.stopping = true,
        }
        self.step(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        let renew = (self.listed && !self.pending.contains_key(&self.own_subject())).then(|| {
            let rest = self.rest.get(&self.own_subject()).copied().unwrap_or_default();
            self.renew_at.max(rest)
        });
        let rest = self.rest.values().min().copied();
        [renew, rest, self.wake_at, self.told].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.step(now);
    }

    fn poll_output(&mut self) -> Option<TenureOutput> {
        self.outputs.pop_front()
    }
}
