//! The part of the engine in which speakers tell each other how they see a service: whoever takes an address over is heard
//! before whoever had it lets go, and where views are of different age the fresher wins.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::{ForeignClaim, Interfaces};
use metallb_sansio::{Deadlines, Instant, Machine as _};

use crate::decide::Hold;
use crate::engine::Engine;
use crate::service::{Adopted, Holding, Service};
use crate::talk::{Talk, View};
use crate::{Cause, ServiceKey};

/// How often a view is said again while there is no answer.
const REPEAT: Duration = Duration::from_millis(40);
/// So often; then less often.
const QUICK_TRIES: u32 = 10;
const SLOW: Duration = Duration::from_millis(250);
/// Then no more.
const TRIES: u32 = 40;
/// After how many tries without any answer somebody else is asked to tell, after the quick ones.
const ASK_ANOTHER: u32 = 4;
/// How often a peer that knows something only because it was told is told again.
const LEASE_EVERY: Duration = Duration::from_secs(1);
/// How long what was told is believed.
const LEASE: Duration = Duration::from_secs(3);
/// When it is not said again: how long the others have to answer whether it is still so.
const LEASE_ASK: Duration = Duration::from_millis(400);
/// How long a speaker at most goes by what it was told, once nobody tells it any more.
pub const TOLD_LASTS: Duration = LEASE.saturating_add(LEASE_ASK);
/// How long whoever yields goes on although the successor says nothing at all. It is alive by membership, so it is heard in
/// time or found dead before.
pub(crate) const YIELD_IN_SILENCE: Duration = Duration::from_millis(800);

/// How long whoever yields goes on after the successor was heard: a question may have reached that one before it answered,
/// and this one not yet. Shorter than the time to the successor's second announcement, which has the last word.
const OVERLAP: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, Debug, Default)]
struct Telling {
    tries: u32,
    /// The peer believes what it was told, but does not know it by itself yet.
    leased: bool,
    /// The peer has answered.
    answered: bool,
    /// Another asked us to: it is done once, and nobody else is asked in turn.
    on_request: bool,
}

/// What is being told to whom, and when again.
#[derive(Default)]
pub(crate) struct Handovers {
    tellings: Deadlines<(NodeName, ServiceKey), Telling>,
}

impl Handovers {
    /// Tells a peer how this node sees the service, until it agrees.
    pub(crate) fn tell(&mut self, now: Instant, peer: &NodeName, key: &ServiceKey) {
        let who = (Arc::clone(peer), key.clone());
        self.tellings.set(who, now, Telling::default());
    }

    /// The same because another does not get through to that peer.
    fn tell_on_request(&mut self, now: Instant, peer: NodeName, key: ServiceKey) {
        let who = (peer, key);
        if !self.tellings.contains(&who) {
            let telling = Telling {
                on_request: true,
                ..Telling::default()
            };
            self.tellings.set(who, now, telling);
        }
    }
}

impl Engine {
    /// When something of this is due.
    pub(crate) fn handover_timeout(&self) -> Option<Instant> {
        let all = [
            self.handovers.tellings.next(),
            self.yielding.next(),
            self.leases.next(),
        ];
        all.into_iter().flatten().min()
    }

    /// Says what is due and lets go what nobody will take.
    pub(crate) fn handover_tick(&mut self, now: Instant) {
        let mut said: BTreeMap<NodeName, Vec<View>> = BTreeMap::new();
        let mut unanswered: BTreeMap<(NodeName, u32), Vec<ServiceKey>> = BTreeMap::new();
        while let Some((who, mut telling)) = self.handovers.tellings.pop_due(now) {
            let (peer, key) = &who;
            let yielding = self.yields_to(key, peer);
            let view = self.view(key, false).filter(|_| self.member.is_live(peer));
            telling.tries += 1;
            let (Some(view), true) = (view, telling.tries <= TRIES || yielding || telling.leased) else {
                continue;
            };
            let again = if telling.leased && !yielding {
                LEASE_EVERY
            } else if telling.tries < QUICK_TRIES {
                REPEAT
            } else {
                SLOW
            };
            if let Some(turn) = self.turn_of_another(telling) {
                let of = unanswered.entry((Arc::clone(peer), turn)).or_default();
                of.push(key.clone());
            }
            said.entry(Arc::clone(peer)).or_default().push(view);
            self.handovers.tellings.set(who, now + again, telling);
        }
        for (peer, views) in said {
            self.say(now, &peer, Talk::pack(views));
        }
        for ((peer, turn), services) in unanswered {
            self.ask_another(now, &peer, turn, services);
        }
        while let Some((key, ())) = self.yielding.pop_due(now) {
            self.let_yielded_go(now, &key);
        }
        while let Some((key, ())) = self.leases.pop_due(now) {
            let adopted = self
                .services
                .get_mut(&key)
                .and_then(|service| service.adopted.as_mut());
            if let Some(adopted) = adopted
                && !core::mem::replace(&mut adopted.asked, true)
            {
                self.leases.set(key.clone(), now + LEASE_ASK, ());
                self.tell_all(now, &key);
                continue;
            }
            if let Some(service) = self.services.get_mut(&key) {
                service.adopted = None;
                self.decide(now, &key, &Cause::Plan);
                self.forget_if_unplanned(now, &key);
            }
        }
        while self.tombstones.pop_due(now).is_some() {}
    }

    /// Whether somebody else is to be asked to tell a peer that does not answer, and for which time. Only where nobody
    /// preempts: a claim is news that nobody works out, and who does not hear the claimant would never have it.
    fn turn_of_another(&self, telling: Telling) -> Option<u32> {
        let since = telling.tries.checked_sub(QUICK_TRIES)?;
        let asks = self.options.non_preempt && !telling.answered && !telling.on_request;
        (asks && since.is_multiple_of(ASK_ANOTHER)).then_some(since / ASK_ANOTHER)
    }

    /// Asks a peer, each time another, to tell one that does not answer us.
    fn ask_another(&mut self, now: Instant, peer: &NodeName, turn: u32, services: Vec<ServiceKey>) {
        let others: Vec<NodeName> = self
            .live_peers()
            .into_iter()
            .filter(|name| name != peer)
            .collect();
        let Some(index) = (turn as usize).checked_rem(others.len()) else {
            return;
        };
        self.say(now, &others[index], Talk::pack_requests(peer, services));
    }

    pub(crate) fn say(&mut self, now: Instant, peer: &NodeName, words: Vec<Vec<u8>>) {
        for body in words {
            let to = Arc::clone(peer);
            self.member.handle(now, metallb_member::Input::Talk { to, body });
        }
    }

    fn yields_to(&self, key: &ServiceKey, peer: &NodeName) -> bool {
        let holding = self.services.get(key).map(|service| &service.holding);
        matches!(holding, Some(Holding::Yielding { to, .. }) if to == peer)
    }

    /// The successor of a service that this node answers for was heard.
    fn successor_heard(&mut self, now: Instant, key: &ServiceKey) {
        if let Some(service) = self.services.get_mut(key)
            && let Holding::Yielding { heard, .. } = &mut service.holding
            && !core::mem::replace(heard, true)
        {
            self.yielding.set(key.clone(), now + OVERLAP, ());
        }
    }

    fn let_yielded_go(&mut self, now: Instant, key: &ServiceKey) {
        if let Some(mut service) = self.services.remove(key) {
            if matches!(service.holding, Holding::Yielding { .. }) {
                self.release(now, key, &mut service);
            }
            self.services.insert(key.clone(), service);
        }
    }

    /// A service that this node knows only by what it was told, and is told no longer.
    fn forget_if_unplanned(&mut self, now: Instant, key: &ServiceKey) {
        if self
            .services
            .get(key)
            .is_some_and(|service| service.plan.is_none())
            && let Some(mut service) = self.services.remove(key)
        {
            self.release(now, key, &mut service);
            self.set_movable(&mut service, false);
        }
    }

    /// How this node sees a service.
    fn view(&self, key: &ServiceKey, reply: bool) -> Option<View> {
        let nobody = |version| View {
            service: key.clone(),
            version,
            digest: 0,
            owner: None,
            claim: None,
            holds: false,
            settled: true,
            reply,
            addresses: Vec::new(),
            interfaces: None,
        };
        let Some(service) = self.services.get(key) else {
            return self.tombstones.get(key).map(|version| nobody(*version));
        };
        let interfaces = service
            .owner
            .as_ref()
            .and_then(|owner| match service.allowed(owner) {
                Interfaces::All => None,
                Interfaces::Named(names) => Some(names.iter().cloned().collect()),
            });
        Some(View {
            version: service.version(),
            digest: service.digest(),
            owner: service.owner.clone(),
            claim: self.said_claim(service),
            holds: match &service.holding {
                Holding::Nothing => false,
                Holding::Owner => service.addresses().iter().all(|a| self.is_granted(*a)),
                // Who does not know the owner's hardware address yet answers nobody.
                Holding::StandIn(_) => self.stands_in(key, service),
                Holding::Yielding { .. } => true,
            },
            settled: service.adoption().is_none() && service.asking.is_none(),
            addresses: service.addresses().to_vec(),
            interfaces,
            ..nobody(0)
        })
    }

    /// Whether this node, which stands in for the owner of a service, has what it takes to answer for all its addresses.
    fn stands_in(&self, key: &ServiceKey, service: &Service) -> bool {
        service.addresses().iter().all(|address| {
            let hold = self.held.get(address).and_then(|services| services.get(key));
            hold.is_some_and(|hold| !matches!(hold, Hold::StandIn(macs) if macs.is_empty()))
        })
    }

    /// Takes what a peer says.
    pub(crate) fn heard(&mut self, now: Instant, from: &NodeName, body: &[u8]) {
        match Talk::decode(body) {
            Some(Talk::Facts(facts)) => {
                let news = facts.number > self.neighbours.number_of(from);
                let (changed, wants) = self.neighbours.learn(from, facts);
                if wants {
                    let facts = self.neighbours.facts_for(from);
                    self.say(now, from, vec![Talk::Facts(facts).encode()]);
                }
                if news {
                    self.tell_absences(now, from);
                }
                if changed {
                    self.befriend(now);
                    for key in self.concerned(from) {
                        self.decide(now, &key, &Cause::Interfaces(Arc::clone(from)));
                    }
                    self.refresh_stand_ins(now, from);
                }
            }
            Some(Talk::Views(views)) => {
                let replies = views
                    .into_iter()
                    .filter_map(|view| self.heard_view(now, from, &view));
                let replies: Vec<View> = replies.collect();
                self.say(now, from, Talk::pack(replies));
            }
            Some(Talk::Tell(peer, services)) => {
                for key in services {
                    if peer != *self.node() && self.services.contains_key(&key) {
                        self.handovers.tell_on_request(now, Arc::clone(&peer), key);
                    }
                }
            }
            Some(Talk::Away(absence)) => self.heard_absence(now, absence),
            Some(Talk::NodeGone(node)) => self.heard_gone(now, &node),
            Some(Talk::LinkGone { node, mac, heard }) => self.link_gone(now, &node, mac, heard),
            None => {}
        }
    }

    /// Takes one view of a peer; the answer, when it wants one.
    fn heard_view(&mut self, now: Instant, from: &NodeName, view: &View) -> Option<View> {
        let key = view.service.clone();
        self.heard_claim(now, from, view);
        let (mine, digest) = match (self.services.get(&key), self.tombstones.get(&key)) {
            (Some(service), _) => (service.version(), service.digest()),
            // Nobody goes on working out plans for what is gone, so its version stands still. A plan made with news of nodes
            // that are here too may know less of services.
            (None, Some(version)) => (self.freshest.max(*version), 0),
            (None, None) => (0, 0),
        };
        // What a peer was itself told it may not pass on, or two that believe each other would go on for ever.
        let fresher = view.version > mine && view.digest != digest;
        if view.settled && (fresher || self.is_correction(from, view)) {
            self.adopt(now, from, view);
        } else if let Some(service) = self.services.get_mut(&key)
            && let Some(adopted) = &mut service.adopted
            && view.settled
            && (adopted.version, &adopted.owner) == (view.version, &view.owner)
        {
            adopted.asked = false;
            self.leases.set(key.clone(), now + LEASE, ());
        }
        // Whoever is behind is told, and told again, until it knows by itself.
        let who = (Arc::clone(from), key.clone());
        let settled = match self.services.get(&key) {
            Some(service) => {
                service.plan.is_some() && service.adoption().is_none() && service.asking.is_none()
            }
            None => self.tombstones.contains(&key),
        };
        let behind = view.version < mine && view.digest != digest;
        if settled && (behind || !view.settled) && !self.handovers.tellings.contains(&who) {
            self.handovers.tell(now, from, &key);
        }
        if let Some(Holding::Yielding { to, heard, .. }) =
            self.services.get(&key).map(|service| &service.holding)
            && to == from
        {
            if view.holds {
                self.successor_heard(now, &key);
            } else if !heard {
                self.yielding.set(key.clone(), now + YIELD_IN_SILENCE, ());
            }
        }
        let agreed = {
            let service = self.services.get(&key);
            let claim = service.and_then(|service| self.said_claim(service));
            claim == view.claim && view.owner == service.and_then(|service| service.owner.clone())
        };
        if let Some(telling) = self.handovers.tellings.get_mut(&who) {
            telling.leased = agreed && !view.settled;
            telling.answered = true;
            let done = agreed && view.settled;
            if done && !self.yields_to(&key, from) {
                self.handovers.tellings.remove(&who);
            }
        }
        if view.reply { None } else { self.view(&key, true) }
    }

    /// Whether a peer takes back what we believe it. Who is alive, and plans made from half a list, change without
    /// making a view any fresher. Once that peer is gone, anybody else of its age may.
    fn is_correction(&self, from: &NodeName, view: &View) -> bool {
        let Some(adopted) = self.services.get(&view.service).and_then(Service::adoption) else {
            return false;
        };
        let entitled = adopted.from == *from || !self.member.is_live(&adopted.from);
        let other = (adopted.digest, &adopted.owner) != (view.digest, &view.owner);
        entitled && adopted.version == view.version && other
    }

    /// Believes a fresher view for a while.
    fn adopt(&mut self, now: Instant, from: &NodeName, view: &View) {
        let key = &view.service;
        if !self.services.contains_key(key) && (view.owner.is_none() || view.addresses.is_empty()) {
            return;
        }
        let service = self.services.get(key);
        let agreed = service.is_some_and(|service| {
            service.plan.is_some() && self.own_opinion(service) == view.owner.as_ref()
        });
        let service = self.services.entry(key.clone()).or_default();
        let before = service.addresses();
        let told: std::sync::Arc<[std::net::IpAddr]> = view.addresses.as_slice().into();
        // Whoever says that nobody owns it need not say what it is.
        let addresses = if told.is_empty() {
            Arc::clone(&before)
        } else {
            told
        };
        if agreed {
            service.adopted = None;
        } else {
            service.adopted = Some(Adopted {
                from: Arc::clone(from),
                version: view.version,
                digest: view.digest,
                owner: view.owner.clone(),
                addresses,
                interfaces: view
                    .interfaces
                    .as_ref()
                    .map_or(Interfaces::All, |names| names.iter().cloned().collect()),
                asked: false,
            });
            self.leases.set(key.clone(), now + LEASE, ());
        }
        let after = self.services[key].addresses();
        for address in before.iter().filter(|address| !after.contains(address)) {
            self.let_go(now, key, *address);
        }
        self.decide(now, key, &Cause::Plan);
    }

    /// Another node of ours says on the LAN that an address that we answer for is its own.
    pub(crate) fn friendly_claim(&mut self, now: Instant, claim: ForeignClaim) {
        let Some(node) = self.neighbours.node_of(claim.mac).cloned() else {
            return;
        };
        let keys: Vec<ServiceKey> = self
            .held
            .get(&claim.address)
            .map(|services| services.keys().cloned().collect())
            .unwrap_or_default();
        for key in keys {
            match self.services.get(&key).map(|service| &service.holding) {
                Some(Holding::Yielding { .. }) => self.successor_heard(now, &key),
                Some(Holding::Owner) if self.member.is_live(&node) => self.handovers.tell(now, &node, &key),
                _ => {}
            }
        }
    }
}
