//! What an engine is told, what it wants done, and what can be chosen.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use metallb_election::NodeName;
use metallb_l2::{ConflictPolicy, ForeignClaim, InterfaceIndex, Link, MacAddr, Probing};
use metallb_member::Secret;
use metallb_sansio::Instant;

use crate::away::GRACE;
use crate::{Change, Directive};

/// What an engine is made of.
pub type EngineConfig = metallb_member::Config;

/// What the engine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A membership datagram arrived.
    Datagram {
        /// The address it came from.
        from: SocketAddr,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// An Ethernet frame arrived on an interface.
    Frame(InterfaceIndex, Vec<u8>),
    /// An interface became usable or changed.
    LinkUp(InterfaceIndex, Link),
    /// An interface is no longer usable.
    LinkDown(InterfaceIndex),
    /// The IPv4 addresses that an interface has itself, for which its kernel answers there: before it is told to be usable, and when
    /// they change.
    Addresses(InterfaceIndex, Vec<Ipv4Addr>),
    /// Stations for whose hardware addresses the kernel waits on an interface that became usable: it asked while the cable
    /// was out, and would ask again a second later only.
    Unresolved(InterfaceIndex, Vec<IpAddr>),
    /// The speakers there should be, with the addresses of their membership.
    Peers(BTreeMap<NodeName, SocketAddr>),
    /// The shared secret of membership.
    Secret(Secret),
    /// A plan changed.
    Directive(Directive),
    /// This speaker stops. It goes on answering until [`Output::Left`], half a second later at most.
    Leave,
    /// Hardware addresses of stations that are no strangers although they are in no membership: Go speakers, say.
    Friends(BTreeSet<MacAddr>),
    /// Strict mode: this node may answer until then; `None`: not at all. See [`crate::strict`].
    Tenure(Option<Instant>),
    /// Strict mode: the address is this node's, or no longer.
    Granted(IpAddr, bool),
    /// Strict mode: whose the address is, by its Lease; perhaps of a former life of that node.
    Holder(IpAddr, Option<NodeName>),
}

/// What the engine wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a membership datagram.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Send an Ethernet frame.
    Frame {
        /// Where.
        interface: InterfaceIndex,
        /// The whole frame.
        frame: Vec<u8>,
    },
    /// The owner of a service changed.
    Change(Change),
    /// Membership lost or found a node.
    Liveness {
        /// The node.
        node: NodeName,
        /// Whether it counts as alive now.
        live: bool,
    },
    /// The others had declared us dead, and heard that we are not.
    Rejoined,
    /// A station outside the cluster claims an address that this node owns.
    ForeignClaim(ForeignClaim),
    /// What the probes for an address that nobody of ours announced before brought.
    Probed {
        /// The address.
        address: IpAddr,
        /// The station that has it already.
        taken_by: Option<MacAddr>,
    },
    /// Hear this multicast group on the interface. An interface that goes and returns is told anew.
    Join(InterfaceIndex, Ipv6Addr),
    /// Hear it no longer.
    Part(InterfaceIndex, Ipv6Addr),
    /// Strict mode: this node is to answer for the address, or has stopped. See [`crate::strict`].
    Want(IpAddr, bool),
    /// After [`Input::Leave`]: the others answer now, or will not before they find out; the process may end.
    Left,
}

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to do about strangers that have addresses of ours.
    pub conflicts: ConflictPolicy,
    /// How an address that nobody of ours announced before is probed first.
    pub probing: Probing,
    /// How often every owned address is announced again; zero for never.
    pub refresh: Duration,
    /// How long a speaker must have known its peers before it believes that it has heard of every address that was
    /// announced before.
    pub listen_before_probing: Duration,
    /// How long the speaker of a node that is up may be away before its addresses move.
    pub grace: Duration,
    /// How long a speaker that stops goes on answering after everybody knows.
    pub linger: Duration,
    /// Whether addresses stay with whoever has them, although a node comes (back) that is better by rank: they move only when
    /// their owner goes. Must be the same on all nodes.
    pub non_preempt: bool,
    /// Whether Leases fence owners, so that there are never two; see [`crate::strict`]. Must be the same on all nodes.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            conflicts: ConflictPolicy::Warn,
            probing: Probing::Fast,
            refresh: Duration::ZERO,
            listen_before_probing: Duration::from_secs(5),
            grace: GRACE,
            linger: Duration::from_millis(50),
            non_preempt: false,
            strict: false,
        }
    }
}

/// How long a speaker that stops waits for [`Output::Left`] at most.
pub const LINGER: Duration = Duration::from_millis(500);
