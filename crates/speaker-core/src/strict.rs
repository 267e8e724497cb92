//! Strict mode: rather no answer than two. For those whose clients bear an outage better than two owners.
//!
//! Without it, two parts of a LAN that do not hear each other have an owner each: neither knows whether the other lives, and
//! whoever heals the LAN has two for a moment. With it ([`Options::strict`](crate::Options::strict)) the Leases of
//! the API server decide, and an address has one owner in the whole cluster or none:
//!
//! * This node answers for an address in its own name only while its **tenure** holds and the address is **granted** to it. It
//!   checks both whenever it is about to answer, also after it was stopped for any time.
//! * Planned moves break before they make: the former owner stops, says so in the Lease, and the next begins. That takes
//!   two writes, some tens of milliseconds.
//! * A failed owner is followed when its tenure is over for certain, 10 s (`metallb_lease::TenureTiming`) after its last
//!   renewal was seen, and never where the API server is not reached. Loss of the API server stops all answers a second before that:
//!   that is the price.
//! * A node without tenure says so to its peers, and the next by rank wants its addresses.
//! * Whoever stands in for a speaker that restarts answers with the *owner's* hardware address, so that there is still one. This
//!   needs no grant, but a tenure, and that the address's Lease names the owner as far as is known; and it ends after
//!   [`STAND_IN_MAX`].
//!
//! # What the shell does
//!
//! All decisions about Leases are `metallb_lease::TenureMachine`'s; the shell runs one beside the planner, for
//! [`EngineConfig::node`](crate::EngineConfig::node), and carries out its reads and writes of Leases in the speaker's own
//! namespace (see there: which, how often, and what is told). Between that machine and the engine it passes on
//!
//! | from | to |
//! |---|---|
//! | [`Output::Want`](crate::Output::Want) of the engine | `TenureInput::Want` |
//! | `TenureOutput::Tenure` | [`Input::Tenure`](crate::Input::Tenure) |
//! | `TenureOutput::Granted` | [`Input::Granted`](crate::Input::Granted) |
//! | `TenureOutput::Holder` | [`Input::Holder`](crate::Input::Holder) |
//! | [`Output::Left`](crate::Output::Left), after the answers have ended | `TenureInput::Stop`; `Stopped` ends the process, or half a second |
//!
//! in order and without loss. Both measure time on one clock, and that must be `CLOCK_BOOTTIME`: a clock that stands still
//! while the node is suspended would let a node that wakes up believe in a tenure long over. (A virtual machine that is
//! frozen with all its clocks believes in it until its time runs out: no lease helps against that.)
//! RBAC: get, list, watch, create and update of `leases.coordination.k8s.io` in the own namespace.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::NodeName;

use metallb_sansio::Instant;

use crate::service::Service;
use crate::{Cause, Engine, Output, ServiceKey};

/// How long a speaker stands in for another in strict mode. Shorter than it takes to follow a failed owner, which
/// therefore does not happen meanwhile as long as renewals are seen in time.
pub const STAND_IN_MAX: Duration = Duration::from_secs(5);

/// What the Leases say.
#[derive(Debug, Default)]
pub(crate) struct Strict {
    /// Until when this node may answer.
    until: Option<Instant>,
    granted: BTreeSet<IpAddr>,
    /// Whose each address is, by its Lease.
    holders: BTreeMap<IpAddr, NodeName>,
    /// What the shell was told that this node wants.
    wanted: BTreeSet<IpAddr>,
}

impl Strict {
    /// When the tenure ends, while it holds.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}

impl Engine {
    /// Whether this node may answer for anything in its own name.
    pub(crate) fn has_tenure(&self) -> bool {
        self.strict.as_ref().is_none_or(|strict| strict.until.is_some())
    }

    /// Whether this node may answer for the address in its own name.
    pub(crate) fn is_granted(&self, address: IpAddr) -> bool {
        let granted = |strict: &Strict| strict.until.is_some() && strict.granted.contains(&address);
        self.strict.as_ref().is_none_or(granted)
    }

    /// The tenure of this node holds until then.
    pub(crate) fn tenure(&mut self, now: Instant, until: Option<Instant>) {
        let until = until.filter(|until| *until > now);
        let Some(strict) = &mut self.strict else { return };
        let before = core::mem::replace(&mut strict.until, until);
        if before.is_some() == until.is_some() {
            return;
        }
        let addresses: Vec<IpAddr> = self.held.keys().copied().collect();
        for address in addresses {
            self.update_address(now, address);
        }
        self.neighbours.own_ability(now, until.is_none());
        let own = Arc::clone(self.node());
        self.decide_all(now, &Cause::Interfaces(own));
    }

    /// Ends a tenure whose time is over, before anything else happens.
    pub(crate) fn expire_tenure(&mut self, now: Instant) {
        let over = |strict: &Strict| strict.until.is_some_and(|until| until <= now);
        if self.strict.as_ref().is_some_and(over) {
            self.tenure(now, None);
        }
    }

    /// An address is this node's, or no longer.
    pub(crate) fn granted(&mut self, now: Instant, address: IpAddr, granted: bool) {
        let Some(strict) = &mut self.strict else { return };
        let changed = if granted {
            strict.granted.insert(address)
        } else {
            strict.granted.remove(&address)
        };
        if changed {
            self.update_address(now, address);
        }
    }

    /// Whose an address is.
    pub(crate) fn holder(&mut self, now: Instant, address: IpAddr, holder: Option<NodeName>) {
        let Some(strict) = &mut self.strict else { return };
        match holder {
            Some(node) => strict.holders.insert(address, node),
            None => strict.holders.remove(&address),
        };
        let me = self.member.node();
        let stands_in = |service: &Service| {
            service.acting.as_ref() == Some(me)
                && service.owner.as_ref() != Some(me)
                && service.addresses().contains(&address)
        };
        let keys = self.services.iter().filter(|(_, service)| stands_in(service));
        let keys: Vec<ServiceKey> = keys.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.decide(now, &key, &Cause::Plan);
        }
    }

    /// Whether this node may answer in the name of the owner.
    pub(crate) fn may_stand_in(&self, service: &Service, owner: &NodeName) -> bool {
        let holds = |strict: &Strict| {
            let addresses = service.addresses();
            let mut holders = addresses.iter().map(|address| strict.holders.get(address));
            strict.until.is_some() && holders.all(|holder| holder == Some(owner))
        };
        self.strict.as_ref().is_none_or(holds)
    }

    /// Says whether this node is to answer for the address in its own name, when that is news. It has stopped when it is not.
    pub(crate) fn want(&mut self, address: IpAddr, wanted: bool) {
        let Some(strict) = &mut self.strict else { return };
        let changed = if wanted {
            strict.wanted.insert(address)
        } else {
            strict.wanted.remove(&address)
        };
        if changed {
            self.outputs.push_back(Output::Want(address, wanted));
        }
    }
}
