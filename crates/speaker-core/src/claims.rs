//! The part of the engine for clusters where nobody preempts: whoever has an address keeps it, whoever returns.
//!
//! Without preemption the owner does not follow from who is there alone, so it is remembered. A **claim** says who has a service and
//! in which term; whoever takes a service over claims it in the next term and tells everybody. Of two claims the later counts.
//!
//! * A peer that does not answer the claimant, as where two do not hear each other, is told by a third on request.
//! * A speaker that starts knows no claim. It asks before it takes anything, and takes what it is best for only when
//!   everybody has answered that nobody has it, or nobody answers. Were all started at once, the rank decides.
//! * Whoever takes over from a node that is gone answers at once, but claims only when a peer sees it the same way, or knows of no
//!   claim. So a node that was cut off alone and took everything has no claim to it when it returns. Until then it says of
//!   itself that it claims the service half a term below the claim that there is, which counts with those only who know none.
//! * Of two claims of one term that of a live node counts, then that of the better by rank.
//! * When the one who claims what this node answers for comes back, it is asked first: if it was cut off it has answered all
//!   the time, and still does; if it is a new life, it knows nothing.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use metallb_election::{NodeName, Preemption};
use metallb_member::PeerState;
use metallb_sansio::Instant;

use crate::engine::Engine;
use crate::service::{Asking, Claim, Holding, Service};
use crate::talk::View;
use crate::{Cause, ServiceKey};

/// How long a speaker counts as just started, so that there may be claims it has not heard of.
const YOUNG: Duration = Duration::from_secs(2);
/// How long it waits for the answers of peers that do not answer, but are alive.
const ASK_FOR: Duration = Duration::from_millis(400);
/// How long it waits each time while peers are presumed alive that have not been heard.
const ASK_ON: Duration = Duration::from_millis(100);
/// From one term to the next; the odd ones are for those who answer without a claim.
const TERM: u64 = 2;

impl Engine {
    /// Who keeps a service, and against whom.
    pub(crate) fn keeper<'a>(&'a self, service: &'a Service) -> (Option<&'a str>, Preemption) {
        if self.options.non_preempt {
            (self.kept_by(service).map(|node| &**node), Preemption::Never)
        } else {
            let owner = self.of_group(service, |service| service.owner.as_deref());
            (owner, Preemption::ByRank)
        }
    }

    /// Who has the service by its claim, or by that of the first that shares addresses with it and is claimed: what is claimed of
    /// one counts for all, or two nodes would answer.
    fn kept_by<'a>(&'a self, service: &'a Service) -> Option<&'a NodeName> {
        let service = self.claimed_of(service);
        service.claim.as_ref().map(|claim| match service.awaits {
            Some(_) => self.member.node(),
            None => &claim.owner,
        })
    }

    /// A plan came: is anybody to be asked who has it? `known`: there was one before.
    pub(crate) fn ask_who_has(&mut self, now: Instant, key: &ServiceKey, service: &mut Service, known: bool) {
        let young = self.listed_at.is_none_or(|at| now - at < YOUNG);
        if !self.options.non_preempt
            || self.is_claimed(service)
            || service.asking.is_some()
            || service.is_go()
            || !(known || young)
        {
            return;
        }
        service.asking = Some(Asking {
            until: now + ASK_FOR,
            answered: BTreeSet::new(),
        });
        self.asking.insert(key.clone());
        self.tell_all(now, key);
    }

    /// Whether anybody has the service, or one that shares addresses with it.
    fn is_claimed(&self, service: &Service) -> bool {
        self.claimed_of(service).claim.is_some()
    }

    pub(crate) fn tell_all(&mut self, now: Instant, key: &ServiceKey) {
        for peer in self.live_peers() {
            self.handovers.tell(now, &peer, key);
        }
    }

    /// Ends the asking for a service when enough is known.
    pub(crate) fn stop_asking(&mut self, now: Instant, key: &ServiceKey, service: &mut Service) {
        if service.awaits.is_some_and(|until| until <= now) {
            service.awaits = None;
        }
        if service.awaits.is_some() {
            return;
        }
        let claimed = self.is_claimed(service);
        let Some(asking) = &mut service.asking else {
            self.asking.remove(key);
            return;
        };
        let others = service.ranked.iter().filter(|name| *name != self.member.node());
        let mut live = others.filter(|name| self.member.is_live(name));
        let heard = live.all(|name| asking.answered.contains(name));
        if !claimed && !heard {
            if asking.until > now {
                return;
            }
            if self.member.peers().any(|(_, state)| state == PeerState::Presumed) {
                asking.until = now + ASK_ON;
                return;
            }
        }
        service.asking = None;
        self.asking.remove(key);
    }

    /// When somebody is no longer waited for.
    pub(crate) fn asking_timeout(&self) -> Option<Instant> {
        let until = |key| {
            let service = self.services.get(key)?;
            let asking = service.asking.as_ref().map(|asking| asking.until);
            service.awaits.into_iter().chain(asking).min()
        };
        self.asking.iter().filter_map(until).min()
    }

    /// Decides about services whose time of asking is over.
    pub(crate) fn asking_tick(&mut self, now: Instant) {
        if self.asking_timeout().is_none_or(|at| at > now) {
            return;
        }
        for key in self.asking.clone() {
            let before = self.keeper_of(&key);
            self.decide(now, &key, &Cause::Plan);
            self.decide_followers(now, &key, before.as_ref(), &Cause::Plan);
        }
    }

    /// Who has the service and those that share addresses with it.
    fn keeper_of(&self, key: &ServiceKey) -> Option<NodeName> {
        self.kept_by(self.services.get(key)?).cloned()
    }

    /// Decides about those that go by the same claim as a service, when somebody else than `before` has them now. Most that is
    /// said of a service changes nothing for the others, of which there may be thousands.
    fn decide_followers(&mut self, now: Instant, key: &ServiceKey, before: Option<&NodeName>, cause: &Cause) {
        let Some(service) = self.services.get(key) else {
            return;
        };
        if self.kept_by(service) == before {
            return;
        }
        let others = self.groups.of(service).iter().filter(|other| *other != key);
        for other in others.cloned().collect::<Vec<_>>() {
            self.decide(now, &other, cause);
        }
    }

    /// This node owns a service; `taken`: since now.
    pub(crate) fn follow_claim(
        &mut self,
        now: Instant,
        key: &ServiceKey,
        service: &mut Service,
        taken: bool,
    ) {
        if !self.options.non_preempt || service.awaits.is_some() {
            return;
        }
        match &service.claim {
            Some(claim) if claim.owner == *self.member.node() => {}
            // Whether it is gone for everybody, or we are, only the others can tell.
            Some(claim) if service.ranked.contains(&claim.owner) && !self.member.is_live(&claim.owner) => {
                if taken {
                    self.tell_all(now, key);
                }
            }
            _ => self.stake(now, key, service),
        }
    }

    /// Claims a service in the next term.
    fn stake(&mut self, now: Instant, key: &ServiceKey, service: &mut Service) {
        let term = service.claim.as_ref().map_or(0, |claim| claim.term);
        service.claim = Some(Claim {
            owner: Arc::clone(self.member.node()),
            term: term.saturating_add(TERM),
        });
        service.awaits = None;
        self.groups.claimed(service, key);
        self.tell_all(now, key);
    }

    /// What a peer says about who has a service.
    pub(crate) fn heard_claim(&mut self, now: Instant, from: &NodeName, view: &View) {
        let key = &view.service;
        if !self.options.non_preempt {
            return;
        }
        let before = self.keeper_of(key);
        let Some(mut service) = self.services.remove(key) else {
            return;
        };
        let mut again = false;
        if let Some(asking) = &mut service.asking {
            again = asking.answered.insert(Arc::clone(from));
        }
        if let Some((owner, term)) = &view.claim
            && counts_more(&service, owner, *term, |node| self.member.is_live(node))
        {
            service.claim = Some(Claim {
                owner: Arc::clone(owner),
                term: *term,
            });
            self.groups.claimed(&service, key);
            again = true;
        }
        let me = Arc::clone(self.member.node());
        let unclaimed = service.claim.as_ref().is_some_and(|claim| claim.owner != me);
        if unclaimed
            && service.holding == Holding::Owner
            && (view.claim.is_none() || view.owner.as_ref() == Some(&me))
        {
            self.stake(now, key, &mut service);
        } else if service.claim.as_ref().is_some_and(|claim| claim.owner == *from)
            && service.awaits.take().is_some()
        {
            again = true;
        }
        self.services.insert(key.clone(), service);
        let cause = Cause::Claim(Arc::clone(from));
        if again {
            self.decide(now, key, &cause);
        }
        self.decide_followers(now, key, before.as_ref(), &cause);
    }

    /// Who claims a service, as this node says it.
    pub(crate) fn said_claim(&self, service: &Service) -> Option<(NodeName, u64)> {
        let claim = service.claim.as_ref()?;
        let me = self.member.node();
        if service.holding == Holding::Owner && claim.owner != *me {
            return Some((Arc::clone(me), claim.term.saturating_sub(1)));
        }
        Some((Arc::clone(&claim.owner), claim.term))
    }

    /// A peer is there (again): is what this node answers for still its own?
    pub(crate) fn await_claimant(&mut self, now: Instant, peer: &NodeName) {
        if !self.options.non_preempt {
            return;
        }
        for (key, service) in &mut self.services {
            let claims = service.claim.as_ref().is_some_and(|claim| claim.owner == *peer);
            if claims && service.holding == Holding::Owner {
                service.awaits = Some(now + ASK_FOR);
                self.asking.insert(key.clone());
            }
        }
    }

    /// A peer is there (again): it hears what this node has.
    pub(crate) fn tell_joined(&mut self, now: Instant, peer: &NodeName) {
        if self.options.non_preempt {
            let owned = self
                .services
                .iter()
                .filter(|(_, service)| service.holding == Holding::Owner);
            for (key, _) in owned {
                self.handovers.tell(now, peer, key);
            }
        }
    }
}

/// Whether a claim counts more than the one that is known. Of two of one term that of a live node does before that of one that is
/// not: whoever holds on to the claim of a dead node would never yield to one that claims as much and lives.
fn counts_more(service: &Service, owner: &NodeName, term: u64, live: impl Fn(&str) -> bool) -> bool {
    let standing = |name: &NodeName| {
        let found = service.ranked.iter().position(|ranked| ranked == name);
        (!live(name), found.unwrap_or(usize::MAX))
    };
    service.claim.as_ref().is_none_or(|claim| {
        term > claim.term
            || (term == claim.term && *owner != claim.owner && standing(owner) < standing(&claim.owner))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_claims_of_one_term_that_of_a_live_node_counts() {
        let [dead, better, worse] = ["dead", "better", "worse"].map(NodeName::from);
        let claimed = |owner: &NodeName| Service {
            ranked: vec![Arc::clone(&dead), Arc::clone(&better), Arc::clone(&worse)],
            claim: Some(Claim {
                owner: Arc::clone(owner),
                term: 4,
            }),
            ..Service::default()
        };
        let more = |known: &NodeName, owner: &NodeName, term| {
            counts_more(&claimed(known), owner, term, |node| node != "dead")
        };
        assert!(more(&dead, &worse, 4) && !more(&worse, &dead, 4));
        assert!(more(&worse, &better, 4) && !more(&better, &worse, 4));
        assert!(
            more(&worse, &dead, 5) && !more(&dead, &worse, 3),
            "a later one always"
        );
        assert!(
            counts_more(&Service::default(), &dead, 1, |_| false),
            "any is more than none"
        );
    }
}
