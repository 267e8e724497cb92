//! Conflicts that are known, and whether they last: a station that has an address of ours does not speak by itself.

use core::time::Duration;
use std::net::IpAddr;

use metallb_sansio::Instant;

use crate::announcer::{Announcer, ForeignClaim, Output, Role};
use crate::conflict::question;
use crate::link::InterfaceIndex;
use crate::wire::ethernet::MacAddr;

/// How often the same foreign claim is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a conflict is known after the last claim.
const RECENT: Duration = Duration::from_secs(60);
/// How often whoever has an address of ours is asked whether that is still so, at least three times while the conflict is
/// known; and how much later at most, so that the questions about many addresses are spread.
const ASK_EVERY: Duration = Duration::from_secs(15);
const ASK_SPREAD: Duration = Duration::from_secs(5);

impl Announcer {
    /// Notes that a station outside the cluster claims an address of ours; whether that is to be reported.
    pub(crate) fn note_claim(&mut self, claim: ForeignClaim) -> bool {
        let (now, key) = (self.now, (claim.address, claim.mac));
        self.forget_old_claims(now);
        let last = self.claims.get_mut(&key);
        if last.is_some_and(|last| now - *last < REPORT_EVERY) || !self.claims.set(key, now + RECENT, now) {
            return false;
        }
        if !self.asks.contains(&claim.address) {
            self.ask_later(now, claim.address, 0);
        }
        true
    }

    fn forget_old_claims(&mut self, now: Instant) {
        while self.claims.pop_due(now).is_some() {}
    }

    fn ask_later(&mut self, now: Instant, address: IpAddr, round: u32) {
        let at = now + ASK_EVERY + self.chance(address, round).up_to(ASK_SPREAD);
        self.asks.set(address, at, round);
    }

    /// Asks again about the conflicts whose turn it is. One that is blocked or probed for is asked about anyway.
    pub(crate) fn asks_tick(&mut self, now: Instant) {
        while let Some((address, round)) = self.asks.pop_due(now) {
            self.forget_old_claims(now);
            if self.claims.is_about(address) {
                self.ask(address, None);
                self.ask_later(now, address, round.wrapping_add(1));
            }
        }
    }

    /// Asks whether anybody else has an address that is announced, on all links where it may be or on one of them.
    pub(crate) fn ask(&mut self, address: IpAddr, only: Option<InterfaceIndex>) {
        let Some(Role::Owner(interfaces)) = self.held.get(&address).map(|held| &held.role) else {
            return;
        };
        for (index, link) in &self.links {
            if only.is_none_or(|only| only == *index)
                && link.carries(address)
                && interfaces.allows(&link.name)
            {
                self.outputs.push_back(Output::Send {
                    interface: *index,
                    frame: question(address, link),
                });
            }
        }
    }

    /// The foreign stations that claimed an address of ours within the last minute, in order.
    pub fn conflicts(&self, now: Instant) -> impl Iterator<Item = (IpAddr, MacAddr)> + '_ {
        let recent = self.claims.iter().filter(move |(_, at)| now - **at <= RECENT);
        recent.map(|(claim, _)| claim)
    }
}
