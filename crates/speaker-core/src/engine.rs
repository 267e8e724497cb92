//! Who owns each address now: membership, plans and the announcer in one machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::{Announcer, InterfaceIndex, MacAddr};
use metallb_member::Member;
use metallb_sansio::{Deadlines, Instant, Machine, Timers};

use crate::away::News;
use crate::decide::Hold;
use crate::handover::Handovers;
use crate::neighbours::Neighbours;
use crate::nodeprobe::NodeProbe;
use crate::resolve::Resolution;
use crate::service::{Digests, Service};
use crate::sharing::Groups;
use crate::strict::{STAND_IN_MAX, Strict};
use crate::survey::Survey;
use crate::talk::Talk;
use crate::{Cause, EngineConfig, Input, Options, Output, ServiceKey};

/// The fast half of a speaker.
///
/// It decides from what it has: plans as they were last told, who is alive, and what peers say. Losing the API server
/// therefore changes nothing.
///
/// * A speaker that falls silent while its node is up is **away**: it goes on owning its addresses, and the next by rank
///   answers in its name with its hardware address, for [`Options::grace`]. Whether the node is up, its kernel says: from the first
///   suspicion on the next by rank asks each of its links by ARP or neighbour solicitation for an address of its own, so that at
///   the time of the verdict the answer is there.
/// * A node that does not answer is **gone**, and the next by rank owns its addresses.
/// * Between two nodes that are there, addresses move **make before break**: whoever has them answers until the successor is
///   heard, on the LAN or by its word.
/// * When *all* peers fall silent at once, which from here looks the same whether they died or our own cable was cut,
///   this node takes what it may own: were the peers dead, nobody else would answer; were the cable cut, nobody hears us. When
///   the cable is back, membership heals within a fraction of a second, the lower ranks let go and the owner announces
///   again, because neighbours may have learnt otherwise in between.
pub struct Engine {
    pub(crate) member: Member,
    pub(crate) announcer: Announcer,
    pub(crate) options: Options,
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    pub(crate) groups: Groups,
    pub(crate) digests: Digests,
    /// For each address, the services for which this node answers and that have it.
    pub(crate) held: BTreeMap<IpAddr, BTreeMap<ServiceKey, Hold>>,
    /// Services that this node answers for until somebody else is heard, or until then.
    pub(crate) yielding: Deadlines<ServiceKey>,
    /// Services of which somebody told us more than we know ourselves, until it was to be told again.
    pub(crate) leases: Deadlines<ServiceKey>,
    /// Services that are no longer announced, in which version, as long as that is remembered.
    pub(crate) tombstones: Deadlines<ServiceKey, u64>,
    /// The version of the freshest plan that this node was told.
    pub(crate) freshest: u64,
    pub(crate) handovers: Handovers,
    /// Services about which the others are being asked who has them.
    pub(crate) asking: BTreeSet<ServiceKey>,
    /// In strict mode, what the Leases say.
    pub(crate) strict: Option<Strict>,
    /// Addresses that some node announced, as far as known.
    pub(crate) announced: BTreeSet<IpAddr>,
    /// When the peers were first told.
    pub(crate) listed_at: Option<Instant>,
    /// Nodes that were lost once: when one returns, it may have announced addresses of ours meanwhile.
    pub(crate) once_lost: BTreeSet<NodeName>,
    /// Nodes whose speaker is away, and until when that is borne.
    pub(crate) away: BTreeMap<NodeName, Instant>,
    /// Nodes that were found gone lately, here or by a peer, and when.
    pub(crate) found_gone: BTreeMap<NodeName, Instant>,
    /// Those of them that are still to be told to the peers, and how often.
    pub(crate) gone_news: Timers<News>,
    /// Peers that start and are to be told who is away, and how often still.
    pub(crate) absence_news: Deadlines<NodeName, u8>,
    /// Peers that started lately, until they count as informed.
    pub(crate) newcomers: Deadlines<NodeName>,
    /// Nodes that were not heard yet but count as there, and whose speakers are away by what others said: until when.
    pub(crate) absent: BTreeMap<NodeName, Instant>,
    /// Nodes that membership suspects.
    pub(crate) suspects: BTreeSet<NodeName>,
    /// Whose place this node takes when they fail, and for which services.
    pub(crate) deputies: BTreeMap<NodeName, BTreeSet<ServiceKey>>,
    /// How many services another node could take over: without any, nothing depends on how soon a failure is noticed.
    pub(crate) movable: usize,
    /// Whom membership watches closely for us.
    pub(crate) watched: BTreeSet<NodeName>,
    /// Membership was told that nothing depends on it.
    pub(crate) rests: bool,
    /// What decides whom we watch and probe may have changed.
    pub(crate) watch_again: bool,
    pub(crate) neighbours: Neighbours,
    pub(crate) probe: NodeProbe,
    pub(crate) survey: Survey,
    pub(crate) resolution: Resolution,
    /// Stations that are no strangers although they are in no membership.
    acquaintances: BTreeSet<MacAddr>,
    /// Peers by the address of their node, as long as we know none of their hardware addresses: that makes us hesitate to call
    /// somebody a stranger.
    pub(crate) unknown: BTreeMap<IpAddr, NodeName>,
    /// When they were last asked for.
    pub(crate) unknown_asked: Option<Instant>,
    /// When a speaker that goes may end.
    pub(crate) stops_at: Option<Instant>,
    pub(crate) outputs: VecDeque<Output>,
    /// How often a service was decided about.
    #[cfg(test)]
    pub(crate) decisions: usize,
}

impl Engine {
    /// A speaker's fast half at the start of its life: no links, no peers, no plans.
    pub fn new(now: Instant, config: EngineConfig) -> Self {
        Self::with_options(now, config, Options::default())
    }

    /// The same with other than the usual options.
    pub fn with_options(now: Instant, config: EngineConfig, mut options: Options) -> Self {
        let mut neighbours = Neighbours::new(config.generation);
        let strict = options.strict.then(Strict::default);
        if options.strict {
            options.grace = options.grace.min(STAND_IN_MAX);
            neighbours.own_ability(now, true);
        }
        Self {
            neighbours,
            member: Member::new(config),
            announcer: Announcer::with_policy(options.conflicts)
                .with_probing(options.probing)
                .with_refresh(options.refresh),
            options,
            services: BTreeMap::new(),
            groups: Groups::default(),
            digests: Digests::default(),
            held: BTreeMap::new(),
            yielding: Deadlines::new(),
            leases: Deadlines::new(),
            tombstones: Deadlines::new(),
            freshest: 0,
            handovers: Handovers::default(),
            asking: BTreeSet::new(),
            strict,
            announced: BTreeSet::new(),
            listed_at: None,
            once_lost: BTreeSet::new(),
            away: BTreeMap::new(),
            found_gone: BTreeMap::new(),
            gone_news: Timers::new(),
            absence_news: Deadlines::new(),
            newcomers: Deadlines::new(),
            absent: BTreeMap::new(),
            suspects: BTreeSet::new(),
            deputies: BTreeMap::new(),
            movable: 0,
            watched: BTreeSet::new(),
            rests: false,
            watch_again: false,
            probe: NodeProbe::default(),
            survey: Survey::default(),
            resolution: Resolution::default(),
            acquaintances: BTreeSet::new(),
            unknown: BTreeMap::new(),
            unknown_asked: None,
            stops_at: None,
            outputs: VecDeque::new(),
            #[cfg(test)]
            decisions: 0,
        }
    }

    /// This node.
    pub fn node(&self) -> &NodeName {
        self.member.node()
    }

    /// Membership, for reading.
    pub const fn member(&self) -> &Member {
        &self.member
    }

    /// The announcer, for reading.
    pub const fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    /// Whether membership sends in the clear; true once per change, for the log.
    pub fn take_clear_notice(&mut self) -> bool {
        self.member.take_clear_notice()
    }

    /// Takes a received frame by reference: the receive path without a copy.
    pub fn handle_frame(&mut self, now: Instant, interface: InterfaceIndex, bytes: &[u8]) {
        self.expire_tenure(now);
        self.overhear(now, interface, bytes);
        self.announcer.set_now(now);
        self.announcer.set_doubtful(!self.unknown.is_empty());
        self.announcer.handle_frame(interface, bytes);
        self.drain_announcer(now);
    }

    /// Whether this node answers for the address in whatever capacity, or is to: without, no question for it matters.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.held.contains_key(&address)
    }

    /// Who owns the service, in the view of this node.
    pub fn owner(&self, key: &ServiceKey) -> Option<&NodeName> {
        self.services.get(key)?.owner.as_ref()
    }

    /// Who answers for the service, in the view of this node: its owner, or who stands in for it.
    pub fn acting(&self, key: &ServiceKey) -> Option<&NodeName> {
        self.services.get(key)?.acting.as_ref()
    }

    /// Tells the announcer who is no stranger.
    pub(crate) fn befriend(&mut self, now: Instant) {
        let peers = self.member.peers();
        let ours = || self.announcer.links().keys().copied();
        let unknown = peers.filter(|(name, _)| !self.neighbours.knows(name, ours()));
        self.unknown = unknown
            .filter_map(|(name, _)| Some((self.member.address(name)?.ip(), Arc::clone(name))))
            .collect();
        let friends = self.neighbours.macs();
        let friends = friends.union(&self.acquaintances).copied().collect();
        self.announcer
            .handle(now, metallb_l2::Input::Friends(Arc::new(friends)));
    }

    fn links_changed(&mut self, now: Instant) {
        self.neighbours.own_links(now, self.announcer.links());
        self.watch_again = true;
        // On a link that was not there, nobody was heard.
        self.befriend(now);
        self.ask_for_unknown(now);
        let own = Arc::clone(self.node());
        self.decide_all(now, &Cause::Interfaces(own));
    }

    pub(crate) fn drain_announcer(&mut self, now: Instant) {
        while let Some(output) = self.announcer.poll_output() {
            let output = match output {
                metallb_l2::Output::Send { interface, frame } => Output::Frame { interface, frame },
                metallb_l2::Output::ForeignClaim(claim) => Output::ForeignClaim(claim),
                metallb_l2::Output::Join(interface, group) => Output::Join(interface, group),
                metallb_l2::Output::Part(interface, group) => Output::Part(interface, group),
                metallb_l2::Output::Probed { address, taken_by } => Output::Probed { address, taken_by },
                metallb_l2::Output::DoubtfulClaim(_) => {
                    self.ask_for_unknown(now);
                    continue;
                }
                metallb_l2::Output::FriendlyClaim(claim) => {
                    self.friendly_claim(now, claim);
                    continue;
                }
            };
            self.outputs.push_back(output);
        }
    }

    /// Says our facts to those who may not have them.
    fn tell_facts(&mut self, now: Instant) {
        if self.neighbours.repeat_at.is_none_or(|at| at > now) {
            return;
        }
        let live = self.live_peers();
        for peer in self.neighbours.due(now, &live) {
            let facts = Talk::Facts(self.neighbours.facts_for(&peer));
            self.say(now, &peer, vec![facts.encode()]);
        }
    }

    /// What follows from whatever was taken in.
    fn settle(&mut self, now: Instant) {
        if self.handover_timeout().is_some_and(|at| at <= now) {
            self.handover_tick(now);
        }
        self.asking_tick(now);
        self.drain_member(now);
        self.drain_announcer(now);
        // What the announcer heard may have made us speak.
        self.drain_member(now);
    }
}

impl Machine for Engine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.expire_tenure(now);
        match input {
            Input::Datagram { from, datagram } => {
                self.member
                    .handle(now, metallb_member::Input::Datagram { from, datagram });
            }
            Input::Frame(interface, bytes) => self.handle_frame(now, interface, &bytes),
            Input::LinkUp(index, link) => {
                // First membership: after a cut cable the peers may have taken over what we still hold.
                self.member.handle(now, metallb_member::Input::CallNow);
                let known = self.announcer.links().get(&index);
                let fresh = known.is_none_or(|known| known.mac != link.mac);
                self.announcer.handle(now, metallb_l2::Input::LinkUp(index, link));
                self.links_changed(now);
                self.resolve_nodes(now, index, fresh);
            }
            Input::LinkDown(index) => {
                self.announcer.handle(now, metallb_l2::Input::LinkDown(index));
                self.neighbours.link_down(index);
                self.resolution.link_down(index);
                self.links_changed(now);
            }
            Input::Addresses(index, addresses) => {
                self.neighbours.own_addresses(index, addresses);
                self.neighbours.own_links(now, self.announcer.links());
            }
            Input::Unresolved(index, waiting) => self.resolve_waiting(now, index, waiting),
            Input::Peers(peers) => {
                self.listed_at.get_or_insert(now);
                self.member.handle(now, metallb_member::Input::Peers(peers));
                self.befriend(now);
                self.ask_for_unknown(now);
            }
            Input::Secret(secret) => self.member.handle(now, metallb_member::Input::Secret(secret)),
            Input::Directive(directive) => self.directive(now, directive),
            Input::Friends(friends) => {
                self.acquaintances = friends;
                self.befriend(now);
            }
            Input::Tenure(until) => self.tenure(now, until),
            Input::Granted(address, granted) => self.granted(now, address, granted),
            Input::Holder(address, holder) => self.holder(now, address, holder),
            Input::Leave => self.member.handle(now, metallb_member::Input::Leave),
        }
        self.settle(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let away = self.away.values().min().copied();
        self.member
            .poll_timeout()
            .into_iter()
            .chain(self.announcer.poll_timeout())
            .chain(self.handover_timeout())
            .chain(self.neighbours.repeat_at)
            .chain(self.probe.poll_timeout())
            .chain(self.survey.poll_timeout())
            .chain(self.resolution.poll_timeout())
            .chain(self.gone_news.next())
            .chain(self.absence_news.next())
            .chain(self.asking_timeout())
            .chain(self.strict.as_ref().and_then(Strict::poll_timeout))
            .chain(away)
            .chain(self.stops_at)
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.expire_tenure(now);
        self.announcer.handle_timeout(now);
        self.member.handle_timeout(now);
        self.drain_member(now);
        self.probe_nodes(now);
        self.survey_links(now);
        self.tell_facts(now);
        self.say_absences(now);
        if self.stops_at.take_if(|at| *at <= now).is_some() {
            self.outputs.push_back(Output::Left);
        }
        self.settle(now);
        // Behind the announcements.
        self.resolve_tick(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
