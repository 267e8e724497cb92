//! Claims by stations that may be nodes of the cluster of which no hardware address is known yet.
//!
//! Such a claim is kept until the nodes' kernels had the time to say which hardware addresses they have. A claim may be the
//! only one: the answer to a probe comes once.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_sansio::{Deadlines, Instant};

use crate::announcer::{Announcer, ForeignClaim, Output, Role};
use crate::claims::{CLAIMS_MAX, Claims};
use crate::link::InterfaceIndex;
use crate::wire::ethernet::MacAddr;

/// How long a station is not called a stranger when it may be a node.
pub(crate) const DOUBT: Duration = Duration::from_secs(1);
/// After how long the same question is asked anew.
const DOUBT_AGAIN: Duration = Duration::from_secs(30);
/// How often the nodes are asked while a doubt lasts.
const ASK_NODES_EVERY: Duration = Duration::from_millis(250);

/// A claim in doubt.
#[derive(Clone, Copy, Debug)]
struct Kept {
    interface: InterfaceIndex,
    /// The station only asks whether anybody has the address: that matters as long as we ask too.
    asks: bool,
}

/// What is in doubt.
#[derive(Default)]
pub(crate) struct Doubts {
    /// Since when each station has been in doubt. There may be more than are remembered; then each claim has a time of its own.
    since: Deadlines<MacAddr, Instant>,
    /// Claims that are judged when the doubt about their station is over.
    kept: Claims<Kept>,
    /// When the nodes are asked again, as long as anything is kept.
    ask_at: Option<Instant>,
    /// Addresses whose probing is over but for the doubts.
    waiting: BTreeSet<IpAddr>,
}

impl Doubts {
    /// Whether there is a claim of the address that is still in doubt.
    pub(crate) fn are_about(&self, address: IpAddr) -> bool {
        self.kept.is_about(address)
    }

    /// The probing for an address waits for the doubts about it.
    pub(crate) fn wait(&mut self, address: IpAddr) {
        self.waiting.insert(address);
    }

    /// It no longer does.
    pub(crate) fn end_wait(&mut self, address: IpAddr) {
        self.waiting.remove(&address);
    }

    /// The address is no longer ours.
    pub(crate) fn forget(&mut self, address: IpAddr) {
        self.kept.forget(address);
    }

    /// When [`Announcer::doubts_tick`] has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        let asks = self.ask_at.filter(|_| !self.kept.is_empty());
        self.kept.next().into_iter().chain(asks).min()
    }

    /// When the doubt about the station is over. It begins now when there was none within [`DOUBT_AGAIN`].
    fn over_at(&mut self, now: Instant, mac: MacAddr) -> Instant {
        while self.since.pop_due(now).is_some() {}
        let known = self.since.get(&mac).copied();
        if known.is_none() && self.since.len() < CLAIMS_MAX {
            self.since.set(mac, now + DOUBT_AGAIN, now);
        }
        known.unwrap_or(now) + DOUBT
    }
}

impl Announcer {
    /// Whether it is too early to call the station a stranger; then its claim is kept. `asks`: it only asks whether anybody has
    /// the address.
    pub(crate) fn doubts_still(&mut self, claim: ForeignClaim, asks: bool) -> bool {
        let (now, key) = (self.now, (claim.address, claim.mac));
        let over = if self.doubtful {
            self.doubts.over_at(now, claim.mac)
        } else {
            now
        };
        if over <= now {
            self.doubts.kept.remove(&key);
            return false;
        }
        if let Some(kept) = self.doubts.kept.get_mut(&key) {
            kept.asks &= asks;
            return true;
        }
        if self.doubts.kept.is_empty() {
            self.doubts.ask_at = Some(now + ASK_NODES_EVERY);
        }
        let interface = claim.interface;
        if self.doubts.kept.set(key, over, Kept { interface, asks }) {
            self.outputs.push_back(Output::DoubtfulClaim(claim));
        }
        true
    }

    /// Judges claims by stations that still have not turned out to be of the cluster, and has the nodes asked about the others.
    pub(crate) fn doubts_tick(&mut self, now: Instant) {
        while let Some(((address, mac), kept)) = self.doubts.kept.pop_due(now) {
            let Kept { interface, asks } = kept;
            let probing = self.is_probing(address);
            if self.holds_on(address, interface) && (probing || !asks) {
                self.certain_claim(ForeignClaim {
                    address,
                    mac,
                    interface,
                });
            }
        }
        if self.doubts.ask_at.is_some_and(|at| at <= now) {
            let first = self.doubts.kept.iter().next();
            let claim = first.map(|((address, mac), kept)| ForeignClaim {
                address,
                mac,
                interface: kept.interface,
            });
            self.doubts.ask_at = claim.map(|_| now + ASK_NODES_EVERY);
            self.outputs.extend(claim.map(Output::DoubtfulClaim));
        }
    }

    /// Takes the hardware addresses of the cluster's nodes: doubts about them are over, and so are conflicts with them.
    pub(crate) fn befriend(&mut self, now: Instant, friends: Arc<BTreeSet<MacAddr>>) {
        for ((address, mac), kept) in self.doubts.kept.take(|(_, mac)| friends.contains(mac)) {
            let interface = kept.interface;
            if !kept.asks && self.holds_on(address, interface) {
                self.outputs.push_back(Output::FriendlyClaim(ForeignClaim {
                    address,
                    mac,
                    interface,
                }));
            }
        }
        let free: Vec<IpAddr> = self
            .doubts
            .waiting
            .iter()
            .filter(|address| !self.doubts.kept.is_about(**address))
            .copied()
            .collect();
        for address in free {
            self.end_probing(now, address);
        }
        for ((address, _), _) in self.claims.take(|(_, mac)| friends.contains(mac)) {
            let blocked = self
                .held
                .get(&address)
                .filter(|held| matches!(held.role, Role::Blocked(_)));
            if let Some(term) = blocked.map(|held| held.term)
                && !self.claims.is_about(address)
            {
                self.forget_due(address);
                self.begin_probing(now, address, term);
            }
        }
        self.friends = friends;
    }
}
