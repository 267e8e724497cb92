//! The machine that answers for owned addresses and announces them when they are taken over.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use metallb_sansio::{Deadlines, Instant, Machine, Timers};

use crate::announcing::Announcement;
use crate::claims::Claims;
use crate::doubt::Doubts;
use crate::groups::Groups;
use crate::link::{InterfaceIndex, Interfaces, Link};
use crate::refresh::Refresh;
use crate::wire::ethernet::MacAddr;

pub use crate::announcing::ANNOUNCE_AT_MS;
pub use crate::conflict::{BLOCKED_FOR, DEFEND_EVERY, PROBE_FOR};
pub use crate::policy::{ConflictPolicy, Entry, Probing};
pub use crate::refresh::REFRESH_MIN;

/// What the announcer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A frame arrived on an interface.
    Frame {
        /// Where it arrived.
        interface: InterfaceIndex,
        /// The whole Ethernet frame.
        bytes: Vec<u8>,
    },
    /// This node owns `address` and may announce it on `interfaces`. Told again for an address already owned, it
    /// announces only on interfaces that became allowed.
    Own {
        /// The address.
        address: IpAddr,
        /// Where it may be announced.
        interfaces: Interfaces,
        /// How, when it is not owned yet.
        entry: Entry,
    },
    /// This node answers for `address` in the name of the node that owns it and whose speaker is away: with that node's
    /// hardware addresses, so that nobody notices. Nothing is announced. Told again, it replaces the hardware addresses.
    StandIn {
        /// The address.
        address: IpAddr,
        /// The owner's hardware address on the LAN of each of our interfaces; on others there is no answer.
        macs: Arc<BTreeMap<InterfaceIndex, MacAddr>>,
    },
    /// This node no longer owns the address, nor stands in for its owner.
    Disown(IpAddr),
    /// Hardware addresses of the cluster's nodes: what they claim is no conflict.
    Friends(Arc<BTreeSet<MacAddr>>),
    /// Somebody else may have announced this address while we owned it: announce it again, if it is ours.
    Reannounce(IpAddr),
    /// An interface became usable or changed.
    LinkUp(InterfaceIndex, Link),
    /// An interface is no longer usable.
    LinkDown(InterfaceIndex),
}

/// What the announcer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame.
    Send {
        /// Where.
        interface: InterfaceIndex,
        /// The whole Ethernet frame.
        frame: Vec<u8>,
    },
    /// A station outside the cluster said that an address of ours is theirs. Said at most once a second for each address
    /// and station; as long as it answers, it is asked again every 15 to 20 s.
    ForeignClaim(ForeignClaim),
    /// A node of the cluster said that an address that we answer for is theirs. Each time.
    FriendlyClaim(ForeignClaim),
    /// A station that may be of the cluster or not said that an address of ours is theirs: its nodes are to be asked for their
    /// hardware addresses. Said again, of one such claim, every quarter of a second as long as there are any; a second after
    /// the first claim of a station it is judged.
    DoubtfulClaim(ForeignClaim),
    /// This node needs to hear the multicast group on the interface: the solicited-node group of an address that it
    /// answers for (RFC 4861 7.2.1). Said once when that begins.
    Join(InterfaceIndex, Ipv6Addr),
    /// It no longer needs to. Not said when the interface goes: joins end with it.
    Part(InterfaceIndex, Ipv6Addr),
    /// What the probes for an address first owned brought; see [`Entry::Probe`].
    Probed {
        /// The address.
        address: IpAddr,
        /// The station that has it already.
        taken_by: Option<MacAddr>,
    },
}

/// A claim of an address that this node answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignClaim {
    /// The address claimed.
    pub address: IpAddr,
    /// By whom.
    pub mac: MacAddr,
    /// Where it was heard.
    pub interface: InterfaceIndex,
}

/// What was done for one address since the machine was made, as `MetalLB` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests (ARP) and solicitations (NDP) for it that were ours to answer.
    pub requests_received: u64,
    /// Answers given.
    pub responses_sent: u64,
    /// Unsolicited frames: two a round and interface for IPv4, one for IPv6.
    pub gratuitous_sent: u64,
}

/// An address that is answered for.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) role: Role,
    /// Which ownership it is; announcements of an earlier one are stale.
    pub(crate) term: u64,
}

/// In what capacity.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// As the owner, on these interfaces.
    Owner(Interfaces),
    /// As the owner that is, while it finds out whether somebody outside the cluster has the address: no answers yet.
    Probing(Interfaces),
    /// As the owner, but somebody outside the cluster has the address and is left alone.
    Blocked(Interfaces),
    /// For another node with these hardware addresses.
    StandIn(Arc<BTreeMap<InterfaceIndex, MacAddr>>),
}

impl Role {
    pub(crate) const fn interfaces(&self) -> Option<&Interfaces> {
        match self {
            Self::Owner(interfaces) | Self::Probing(interfaces) | Self::Blocked(interfaces) => {
                Some(interfaces)
            }
            Self::StandIn(_) => None,
        }
    }
}

/// What is to be done at some time.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    Announce(Announcement),
    /// The next probe of an address first owned, counted from 0.
    Probe {
        address: IpAddr,
        term: u64,
        round: u32,
    },
    /// The next addresses in turn are announced again.
    Refresh,
}

/// Answers and announces the addresses that this node owns.
///
/// * ARP requests are answered when they were sent to all or to the receiving interface, with that interface's hardware
///   address (RFC 826); a stranger's probes and announcements too, which defends the address (RFC 5227 2.4). Those of one
///   of ours are not: it is about to take the address over.
/// * Neighbour solicitations are answered to whoever asked, a stranger's duplicate address detection to all nodes
///   (RFC 4861 7.2.4, RFC 4862 5.4.3).
/// * An address whose owner's speaker is away is answered for with the owner's hardware address. Only the Ethernet source of
///   such an answer is ours, so that switches go on finding the owner where it is.
/// * An address newly owned, or an interface newly usable, is announced at the times of [`ANNOUNCE_AT_MS`]; being told
///   again what is already so announces nothing.
#[derive(Default)]
pub struct Announcer {
    pub(crate) links: BTreeMap<InterfaceIndex, Link>,
    pub(crate) held: BTreeMap<IpAddr, Held>,
    pub(crate) counters: BTreeMap<IpAddr, Counters>,
    pub(crate) due: Timers<Due>,
    pub(crate) outputs: VecDeque<Output>,
    terms: u64,
    pub(crate) friends: Arc<BTreeSet<MacAddr>>,
    pub(crate) policy: ConflictPolicy,
    pub(crate) probing: Probing,
    pub(crate) refresh: Refresh,
    /// Not all nodes of the cluster are known by their hardware addresses yet.
    pub(crate) doubtful: bool,
    pub(crate) doubts: Doubts,
    /// When each foreign claim was last reported.
    pub(crate) claims: Claims<Instant>,
    /// When it is asked whether the conflict about an address lasts, and how often that was.
    pub(crate) asks: Deadlines<IpAddr, u32>,
    /// When foreign claims of an address were last answered by an announcement.
    pub(crate) defended: BTreeMap<IpAddr, Instant>,
    /// Addresses for which answers began or ended, until somebody asks.
    pub(crate) turned: BTreeSet<IpAddr>,
    pub(crate) groups: Groups,
    /// The latest time told: frames come without one.
    pub(crate) now: Instant,
}

impl Announcer {
    /// One without links and addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// One with this policy about addresses that others have.
    #[must_use]
    pub fn with_policy(policy: ConflictPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// The same, which probes like this.
    #[must_use]
    pub const fn with_probing(mut self, probing: Probing) -> Self {
        self.probing = probing;
        self
    }

    /// The same, which announces every address that it owns again so often; zero for never. The announcements are spread evenly over that
    /// time, however many addresses there are.
    #[must_use]
    pub const fn with_refresh(mut self, every: Duration) -> Self {
        self.refresh.every = every;
        self
    }

    /// Whether there may be nodes of the cluster whose hardware addresses are not known yet: then a station is held for a
    /// stranger only when the nodes had time to tell theirs, and [`Output::DoubtfulClaim`] says that they are to be asked.
    pub const fn set_doubtful(&mut self, doubtful: bool) {
        self.doubtful = doubtful;
    }

    /// Frames taken from now on came at this time.
    pub fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// The addresses owned, in order; not those that are only stood in for.
    pub fn owned(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let owned = self
            .held
            .iter()
            .filter(|(_, held)| held.role.interfaces().is_some());
        owned.map(|(address, _)| *address)
    }

    /// The addresses that are answered for in the name of their owner, in order.
    pub fn stood_in(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let others = self
            .held
            .iter()
            .filter(|(_, held)| held.role.interfaces().is_none());
        others.map(|(address, _)| *address)
    }

    /// The usable links.
    pub fn links(&self) -> &BTreeMap<InterfaceIndex, Link> {
        &self.links
    }

    /// Whether there is a link on which an address of this family could be announced under this restriction.
    pub fn can_announce(&self, address: IpAddr, interfaces: &Interfaces) -> bool {
        self.links
            .values()
            .any(|link| link.carries(address) && interfaces.allows(&link.name))
    }

    /// What was counted for each address that was ever owned.
    pub fn counters(&self) -> &BTreeMap<IpAddr, Counters> {
        &self.counters
    }

    fn own(&mut self, now: Instant, address: IpAddr, interfaces: Interfaces, entry: Entry) {
        if let Some(held) = self.held.get_mut(&address)
            && let Some(before) = held.role.interfaces().cloned()
        {
            let (announced, term) = (matches!(held.role, Role::Owner(_)), held.term);
            if let Role::Owner(allowed) | Role::Probing(allowed) | Role::Blocked(allowed) = &mut held.role {
                allowed.clone_from(&interfaces);
            }
            let added = self
                .links
                .iter()
                .filter(|(_, link)| interfaces.allows(&link.name) && !before.allows(&link.name));
            let added: Vec<InterfaceIndex> = added.map(|(index, _)| *index).collect();
            self.follow_groups(address);
            for index in added.into_iter().filter(|_| announced) {
                self.announce(Announcement::new(address, term, Some(index), now), now);
            }
            return;
        }
        self.counters.entry(address).or_default();
        self.start_refresh(now);
        if entry == Entry::Announce || self.probing == Probing::None {
            self.hold(address, Role::Owner(interfaces));
            self.begin(now, address, true);
        } else {
            let term = self.hold(address, Role::Probing(interfaces));
            self.begin_probing(now, address, term);
        }
    }

    fn stand_in(&mut self, address: IpAddr, macs: Arc<BTreeMap<InterfaceIndex, MacAddr>>) {
        match self.held.get_mut(&address) {
            Some(held) if held.role.interfaces().is_none() => held.role = Role::StandIn(macs),
            _ => {
                self.disown(address);
                self.counters.entry(address).or_default();
                self.hold(address, Role::StandIn(macs));
            }
        }
        self.follow_groups(address);
    }

    /// Holds an address in a new term, which it returns.
    fn hold(&mut self, address: IpAddr, role: Role) -> u64 {
        self.terms += 1;
        let term = self.terms;
        self.held.insert(address, Held { role, term });
        self.follow_groups(address);
        term
    }

    /// Announces an owned address from the start, in a new term.
    pub(crate) fn begin(&mut self, now: Instant, address: IpAddr, asks: bool) {
        self.terms += 1;
        let term = self.terms;
        let Some(held) = self.held.get_mut(&address) else {
            return;
        };
        let Some(interfaces) = held.role.interfaces().cloned() else {
            return;
        };
        if !matches!(held.role, Role::Owner(_)) {
            self.turned.insert(address);
        }
        *held = Held {
            role: Role::Owner(interfaces),
            term,
        };
        self.forget_due(address);
        let mut announcement = Announcement::new(address, term, None, now);
        announcement.asks = asks;
        self.announce(announcement, now);
    }

    fn reannounce(&mut self, now: Instant, address: IpAddr) {
        if self
            .held
            .get(&address)
            .is_some_and(|held| matches!(held.role, Role::Owner(_)))
        {
            self.begin(now, address, false);
        }
    }

    fn disown(&mut self, address: IpAddr) {
        if self.held.remove(&address).is_some() {
            self.forget_due(address);
            self.follow_groups(address);
            self.doubts.forget(address);
            self.claims.forget(address);
            self.asks.remove(&address);
            self.defended.remove(&address);
        }
    }

    pub(crate) fn forget_due(&mut self, address: IpAddr) {
        self.doubts.end_wait(address);
        self.due.retain(|due| match due {
            Due::Announce(announcement) => announcement.address() != address,
            Due::Probe { address: probed, .. } => *probed != address,
            Due::Refresh => true,
        });
    }

    fn link_up(&mut self, now: Instant, index: InterfaceIndex, link: &Link) {
        let before = self.links.insert(index, link.clone());
        if before.as_ref() == Some(link) {
            return;
        }
        let fresh: Vec<Announcement> = self
            .held
            .iter()
            .filter_map(|(address, held)| {
                let Role::Owner(interfaces) = &held.role else {
                    return None;
                };
                let was = before
                    .as_ref()
                    .is_some_and(|b| b.mac == link.mac && b.carries(*address) && interfaces.allows(&b.name));
                let is = link.carries(*address) && interfaces.allows(&link.name);
                (is && !was).then(|| Announcement::new(*address, held.term, Some(index), now))
            })
            .collect();
        self.follow_all_groups();
        for announcement in fresh {
            self.announce(announcement, now);
        }
    }
}

impl Machine for Announcer {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Frame { interface, bytes } => self.handle_frame(interface, &bytes),
            Input::Own {
                address,
                interfaces,
                entry,
            } => self.own(now, address, interfaces, entry),
            Input::StandIn { address, macs } => self.stand_in(address, macs),
            Input::Disown(address) => self.disown(address),
            Input::Friends(friends) => self.befriend(now, friends),
            Input::Reannounce(address) => self.reannounce(now, address),
            Input::LinkUp(index, link) => self.link_up(now, index, &link),
            Input::LinkDown(index) => {
                self.links.remove(&index);
                self.follow_all_groups();
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let claims = self.doubts.next().into_iter().chain(self.asks.next());
        self.due.next().into_iter().chain(claims).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        // Before the end of a probing that waits for them.
        self.doubts_tick(now);
        self.asks_tick(now);
        while let Some(due) = self.due.pop_due(now) {
            match due {
                Due::Announce(announcement) => self.announce(announcement, now),
                Due::Probe { address, term, round } => self.probe(now, address, term, round),
                Due::Refresh => self.refresh_tick(now),
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
