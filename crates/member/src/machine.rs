//! The membership machine.

mod rest;
mod roster;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use foca::{Foca, NoCustomBroadcast, State, Timer};
use metallb_sansio::{Instant, Machine, SeededRng, Timers};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::codec::Codec;
use crate::departure::Departure;
use crate::interface::{Config, Counters, Input, Output, PeerState};
use crate::message::Content;
use crate::peer::Peer;
use crate::runtime::Collected;
use crate::seal::{OpenError, Sealer};
use crate::watch::Watches;
use crate::{Identity, NodeName, Timing};

use self::rest::Rest;

/// Own stalls are forgiven up to this much in a row; then peers are judged all the same, or a speaker that is always
/// late would never take over.
const FORGIVEN_IN_A_ROW: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) enum Wake {
    Foca(Timer<Identity>),
    /// Tell those under close watch again that they are.
    RenewWatches,
    /// Tell who watches us that we are there.
    Beat,
    /// The time of a suspicion of our own is over.
    Verdict {
        accused: Identity,
        incarnation: u16,
    },
    /// Say again that we go.
    Farewell,
    Accuse {
        accused: Identity,
        incarnation: u16,
    },
    Call,
    CallPresumed,
    EndPresumption,
    EndDoubt,
    EndRecovery,
    Keys,
}

/// The membership of one speaker, from its own point of view.
pub struct Member {
    pub(crate) foca: Foca<Identity, Codec, Xoshiro256PlusPlus, NoCustomBroadcast>,
    pub(crate) sealer: Sealer,
    pub(crate) timing: Timing,
    rng: SeededRng,
    pub(crate) timers: Timers<Wake>,
    pub(crate) peers: BTreeMap<NodeName, Peer>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    pub(crate) listed_once: bool,
    heard_once: bool,
    /// While a message of a peer is taken in: the peers that were under suspicion before.
    hearsay: Option<BTreeSet<NodeName>>,
    pub(crate) call_after: Option<NodeName>,
    forgiven: Duration,
    recovering_until: Option<Instant>,
    clear_reported: bool,
    /// Peers under close watch.
    pub(crate) watches: Watches,
    /// [`Wake::RenewWatches`] is under way.
    pub(crate) renewing: bool,
    /// Who watches us closely: where they hear, and until when they are believed.
    pub(crate) watchers: BTreeMap<NodeName, (SocketAddr, Instant)>,
    /// [`Wake::Beat`] is under way.
    pub(crate) beating: bool,
    /// Number of the last beat.
    pub(crate) beats: u32,
    pub(crate) rest: Rest,
    /// Whom `foca` probes, by which number.
    pub(crate) probing: Option<(Identity, u8)>,
    /// [`Wake::Call`] is under way.
    calling: bool,
    /// Suspicions told to the layer above.
    pub(crate) suspicions: BTreeMap<NodeName, (Identity, u16)>,
    /// Under way while we go.
    pub(crate) departure: Option<Departure>,
}

impl Member {
    /// A speaker's membership at the start of its life, with no peers yet.
    pub fn new(config: Config) -> Self {
        let identity = Identity {
            name: config.node,
            address: config.address,
            generation: config.generation,
        };
        let rng = Xoshiro256PlusPlus::seed_from_u64(config.seed);
        Self {
            foca: Foca::new(identity, config.timing.foca(false), rng, Codec),
            sealer: Sealer::new(config.session, config.secret),
            rng: SeededRng::new(config.seed ^ 0x6d65_6d62_6572),
            watches: Watches::new(&config.timing),
            timing: config.timing,
            timers: Timers::new(),
            peers: BTreeMap::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            listed_once: false,
            heard_once: false,
            hearsay: None,
            call_after: None,
            forgiven: Duration::ZERO,
            recovering_until: None,
            clear_reported: false,
            renewing: false,
            watchers: BTreeMap::new(),
            beating: false,
            beats: 0,
            rest: Rest::default(),
            probing: None,
            calling: false,
            suspicions: BTreeMap::new(),
            departure: None,
        }
    }

    /// Our own node.
    pub fn node(&self) -> &NodeName {
        &self.foca.identity().name
    }

    /// Every peer known and how it stands; not ourselves.
    pub fn peers(&self) -> impl Iterator<Item = (&NodeName, PeerState)> {
        self.peers.iter().map(|(name, peer)| (name, peer.state))
    }

    /// How a peer stands; `None` when it is unknown.
    pub fn state(&self, node: &str) -> Option<PeerState> {
        self.peers.get(node).map(|peer| peer.state)
    }

    /// Where a peer's membership listens, which is an address of its node; `None` when it is unknown.
    pub fn address(&self, node: &str) -> Option<SocketAddr> {
        self.peers.get(node).map(|peer| peer.address)
    }

    /// Whether the node takes part in decisions: it is ourselves, or a live peer.
    pub fn is_live(&self, node: &str) -> bool {
        node == &**self.node() || self.state(node).is_some_and(PeerState::is_live)
    }

    /// What was counted.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether datagrams are sent in the clear for want of a secret. True once per change, for the log.
    pub fn take_clear_notice(&mut self) -> bool {
        let clear = self.sealer.is_clear();
        let notice = clear && !self.clear_reported;
        self.clear_reported = clear;
        notice
    }

    /// Opens a datagram; what cannot be opened is counted.
    fn open(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        match self.sealer.open(from, datagram) {
            Ok(content) => return Some(content),
            Err(OpenError::Malformed) => self.counters.malformed += 1,
            Err(OpenError::WrongKey) => self.counters.wrong_key += 1,
            Err(OpenError::Replayed) => self.counters.replayed += 1,
        }
        None
    }

    fn datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(content) = self.open(from, datagram) else {
            return;
        };
        let Ok(content) = Content::decode(&content) else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.received += 1;
        match content {
            Content::Swim(body) => {
                self.hearsay = Some(self.suspected());
                self.drive(now, |foca, collected| foca.handle_data(body, collected));
                self.hearsay = None;
                self.probe_heard(now, body);
            }
            Content::Accusation {
                accuser,
                accused,
                incarnation,
            } => {
                self.accused(now, accuser, &accused, incarnation);
            }
            Content::Leaving(identity) => {
                self.say_farewell(identity.clone());
                self.peer_leaves(now, identity);
            }
            Content::Farewell { .. } => {}
            Content::Missed(missed) => self.missed(now, missed),
            Content::Talk { from, body } => self.heard(&from, body),
            Content::Watch(from) => self.watched_by(now, from),
            Content::Beat { from, number } => {
                self.watches.beat(now, &from.name, number);
                self.spoke(now, &from);
            }
        }
    }

    /// Somebody suspects us: prove that we live, to the accuser itself.
    fn accused(&mut self, now: Instant, accuser: Identity, accused: &Identity, incarnation: u16) {
        if accuser.name == *self.node() || accused.name != *self.node() {
            self.counters.rejected += 1;
            return;
        }
        if accused == self.foca.identity() {
            let update = foca::Member::new(accused.clone(), incarnation, State::Suspect);
            self.drive(now, |foca, collected| {
                foca.apply_many(core::iter::once(update), false, collected)
            });
        }
        // The call carries our present life and incarnation, either of which ends the suspicion.
        self.drive(now, |foca, collected| foca.announce(accuser, collected));
    }

    fn peer_leaves(&mut self, now: Instant, identity: Identity) {
        if identity.name == *self.node() {
            self.counters.rejected += 1;
            return;
        }
        let name = Arc::clone(&identity.name);
        let was_live = self.is_live(&name);
        if let Some(peer) = self
            .peers
            .get_mut(&name)
            .filter(|peer| peer.doubted_until.is_some())
        {
            // Others told sooner; now it is certain.
            peer.doubted_until = Some(now);
            self.compare(now);
        }
        let update = foca::Member::down(identity);
        self.drive(now, |foca, collected| {
            foca.apply_many(core::iter::once(update), true, collected)
        });
        if let Some(peer) = self.peers.get_mut(&name)
            && was_live
            && peer.state == PeerState::Dead
        {
            peer.state = PeerState::Left;
        }
    }

    /// A peer holds these for dead, which it may have said to those only who were dead themselves. Whoever is not dead
    /// contradicts, as to any gossip, and returns in another life: the peer believes nobody back in the same.
    fn missed(&mut self, now: Instant, missed: Vec<Identity>) {
        let members = self.foca.iter_members();
        let alive: Vec<Identity> = members.map(|member| member.id().clone()).collect();
        let missed = missed.into_iter().filter(|identity| alive.contains(identity));
        let down: Vec<_> = missed.map(foca::Member::down).collect();
        if !down.is_empty() {
            self.hearsay = Some(self.suspected());
            self.drive(now, |foca, collected| {
                foca.apply_many(down.into_iter(), true, collected)
            });
            self.hearsay = None;
        }
    }

    fn suspected(&self) -> BTreeSet<NodeName> {
        let members = self.foca.iter_members();
        let suspects = members.filter(|member| member.state() == State::Suspect);
        suspects.map(|member| Arc::clone(&member.id().name)).collect()
    }

    /// Whether exactly this suspicion still stands.
    pub(crate) fn suspects(&self, id: &Identity, incarnation: u16) -> bool {
        self.foca.iter_members().any(|member| {
            member.id() == id && member.incarnation() == incarnation && member.state() == State::Suspect
        })
    }

    /// Tells a suspect that it is one, as long as it is.
    fn accuse(&mut self, now: Instant, accused: Identity, incarnation: u16) {
        if !self.suspects(&accused, incarnation) {
            self.cleared(now, &accused, incarnation);
            return;
        }
        let to = accused.address;
        let content = Content::Accusation {
            accuser: self.foca.identity().clone(),
            accused: accused.clone(),
            incarnation,
        };
        self.send(to, &content);
        self.timers.set(
            now + self.timing.accuse_every,
            Wake::Accuse { accused, incarnation },
        );
    }

    pub(crate) fn send(&mut self, to: SocketAddr, content: &Content<'_>) {
        match content.encode() {
            Ok(bytes) => {
                let datagram = self.sealer.seal(to, &bytes);
                self.counters.sent += 1;
                self.outputs.push_back(Output::Send { to, datagram });
            }
            Err(_) => self.counters.rejected += 1,
        }
    }

    /// Calls into `foca` and acts on what it asks for.
    pub(crate) fn drive(
        &mut self,
        now: Instant,
        call: impl FnOnce(
            &mut Foca<Identity, Codec, Xoshiro256PlusPlus, NoCustomBroadcast>,
            &mut Collected,
        ) -> Result<(), foca::Error>,
    ) {
        let mut collected = Collected::default();
        if call(&mut self.foca, &mut collected).is_err() {
            self.counters.rejected += 1;
        }
        self.act(now, collected);
    }

    /// Does what `foca` asked for.
    fn act(&mut self, now: Instant, collected: Collected) {
        let mut answered = None;
        for (to, body) in collected.sends {
            let spared = self.probe_sent(now, &to, &body);
            if spared.is_none() {
                self.send(to.address, &Content::Swim(&body));
            }
            answered = answered.or(spared);
        }
        for (after, timer) in collected.timers {
            if let Timer::ChangeSuspectToDown {
                member_id,
                incarnation,
                ..
            } = &timer
            {
                self.suspected_now(now, member_id.clone(), *incarnation);
            }
            let at = self.ring_at(now, &timer, after);
            self.timers.set(at, Wake::Foca(timer));
        }
        if let Some(answer) = answered {
            self.drive(now, |foca, collected| foca.handle_data(&answer, collected));
            self.probe_heard(now, &answer);
        }
        if collected.members_changed {
            self.compare(now);
        }
        if collected.rejoined {
            self.outputs.push_back(Output::Rejoined);
            // With a new identity foca stops probing until it hears from somebody; who is dead by now never speaks.
            let mut again = Collected::default();
            if self
                .foca
                .apply_many(core::iter::empty(), false, &mut again)
                .is_err()
            {
                self.counters.rejected += 1;
            }
            self.act(now, again);
            // Peers may have taken a new identity at the same moment, and know us under the old one as we know them.
            self.call_all(now);
        }
    }

    /// Whether we were stalled, in which case the peers get the time that we slept and what they sent meanwhile is read
    /// before anything is held against them.
    fn forgive_own_stall(&mut self, now: Instant) -> bool {
        let Some(due) = self.poll_timeout() else {
            return false;
        };
        let late = now - due;
        if late <= self.timing.stall {
            if due <= now {
                self.forgiven = Duration::ZERO;
            }
            return false;
        }
        self.counters.stalls += 1;
        if self.forgiven >= FORGIVEN_IN_A_ROW {
            return false;
        }
        self.forgiven += late;
        let by = late + self.timing.probe_rtt;
        self.timers.postpone(by);
        self.watches.postpone(by);
        self.postpone_rest(by);
        if self.recovering_until.is_none() {
            self.set_recovering(true);
            self.timers.set(now + self.timing.recovery, Wake::EndRecovery);
        }
        self.recovering_until = Some(now + self.timing.recovery);
        true
    }

    pub(crate) const fn is_recovering(&self) -> bool {
        self.recovering_until.is_some()
    }

    fn set_recovering(&mut self, recovering: bool) {
        if self.foca.set_config(self.timing.foca(recovering)).is_err() {
            self.counters.rejected += 1;
        }
    }

    fn wake(&mut self, now: Instant, wake: Wake) {
        match wake {
            Wake::Foca(timer) => {
                let verdict = if let Timer::ChangeSuspectToDown {
                    member_id,
                    incarnation,
                    ..
                } = &timer
                {
                    // Foca 2.0.0 tells also those that have cleared themselves that they are dead.
                    if !self.suspects(member_id, *incarnation) {
                        return;
                    }
                    true
                } else {
                    false
                };
                if matches!(timer, Timer::SendIndirectProbe { .. }) {
                    // The peer that is probed should have answered by now, and is suspected when the period ends.
                    self.hurry(now);
                }
                let before = self.foca.num_members();
                self.drive(now, |foca, collected| foca.handle_timer(timer, collected));
                if verdict && self.foca.num_members() < before {
                    self.spread(now);
                }
            }
            Wake::RenewWatches => self.renew_watches(now),
            Wake::Beat => self.beat_tick(now),
            Wake::Verdict { accused, incarnation } => self.verdict(now, accused, incarnation),
            Wake::Farewell => self.farewell_tick(now),
            Wake::Accuse { accused, incarnation } => self.accuse(now, accused, incarnation),
            Wake::Call => {
                self.forget_unlisted(now);
                self.call(now);
                self.calling = false;
                self.keep_calling(now);
            }
            Wake::CallPresumed => self.call_presumed(now),
            Wake::EndPresumption => self.end_presumption(now),
            Wake::EndDoubt => self.compare(now),
            Wake::EndRecovery => match self.recovering_until {
                Some(until) if until > now => self.timers.set(until, Wake::EndRecovery),
                _ => {
                    self.recovering_until = None;
                    self.set_recovering(false);
                }
            },
            Wake::Keys => self.sealer.advance(now),
        }
    }
}

impl Machine for Member {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        if self.departure.is_some() {
            if let Input::Datagram { from, datagram } = input
                && let Some(content) = self.open(from, &datagram)
            {
                self.while_leaving(now, &content);
            }
            return;
        }
        // Before the input sets timers of its own, which must not be put off.
        self.forgive_own_stall(now);
        match input {
            // Whoever answers counts as alive and gets addresses: not before we know what there is to own.
            Input::Datagram { from, datagram } if self.listed_once => self.datagram(now, from, &datagram),
            Input::Datagram { .. } => {}
            Input::Peers(listed) => self.list(now, listed),
            Input::Secret(secret) => {
                self.sealer.change(now, secret);
                self.timers.retain(|wake| !matches!(wake, Wake::Keys));
                if let Some(at) = self.sealer.next_change() {
                    self.timers.set(at, Wake::Keys);
                }
            }
            Input::CallNow => self.call(now),
            Input::Talk { to, body } => self.talk(&to, &body),
            Input::Watch(peers) => self.watch(now, &peers),
            Input::Rest(rest) => self.rest.wanted = rest,
            Input::Leave => self.leave(now),
        }
        self.wake_from_rest(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.watches.next()).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.departure.is_none() && self.forgive_own_stall(now) {
            return;
        }
        self.look_at_watched(now);
        while let Some(wake) = self.timers.pop_due(now) {
            let keys = matches!(wake, Wake::Keys);
            self.wake(now, wake);
            if keys && let Some(at) = self.sealer.next_change() {
                self.timers.set(at, Wake::Keys);
            }
        }
        self.wake_from_rest(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
