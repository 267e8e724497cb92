//! What the membership machine takes and gives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::seal::{Secret, Session};
use crate::{NodeName, Timing};

/// What a membership machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// Where peers reach us, UDP.
    pub address: SocketAddr,
    /// Which life of this speaker it is: greater than that of any earlier one, such as milliseconds since 1970.
    pub generation: u64,
    /// Seed of the order of probes.
    pub seed: u64,
    /// A random number never used before.
    pub session: Session,
    /// The cluster's shared secret.
    pub secret: Secret,
    /// Periods and limits.
    pub timing: Timing,
}

/// Longest thing that the layer above can say at once, in bytes: with all that is put around it, it stays below the
/// smallest MTU that LANs have.
pub const TALK_MAX: usize = 1_000;

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A datagram arrived.
    Datagram {
        /// The address it came from.
        from: SocketAddr,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// All peers there should be, with the addresses of their speakers; our own entry is ignored. Those in the first
    /// list are presumed alive for [`Timing::presumption`].
    Peers(BTreeMap<NodeName, SocketAddr>),
    /// The shared secret as it is now.
    Secret(Secret),
    /// A cable is back: call whoever is silent now and not at the next turn.
    CallNow,
    /// Something of the layer above for one peer, of at most [`TALK_MAX`] bytes. It may get lost, like any datagram.
    Talk {
        /// To whom.
        to: NodeName,
        /// What.
        body: Vec<u8>,
    },
    /// The peers to watch closely, instead of those so far: a failure of theirs is noticed at once and not when a turn of
    /// the common probing, which takes longer in a larger cluster, or gossip comes round.
    Watch(BTreeSet<NodeName>),
    /// Whether nothing depends on how soon a failure is noticed, because nobody could take anything over: peers that are well are probed
    /// every [`Timing::rest_period`] then. At the start it is not so.
    Rest(bool),
    /// This speaker stops: say so to everybody until everybody has answered, [`Timing::farewell`] at most. Ends with
    /// [`Output::Left`], and nothing happens afterwards.
    Leave,
}

/// What the machine wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// To whom.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// The node counts as alive from now on.
    Joined(NodeName),
    /// The node no longer counts as alive; [`Member::state`] says why.
    Lost(NodeName),
    /// The peer stopped answering and is dead soon unless it proves that it lives. Said again with each suspicion.
    Suspected(NodeName),
    /// It is no longer suspected: it answered, or it is [`Output::Lost`].
    Unsuspected(NodeName),
    /// A peer said something to the layer above.
    Heard {
        /// Who.
        from: NodeName,
        /// What.
        body: Vec<u8>,
    },
    /// Everybody knows that we go, or will not learn it from us.
    Left,
    /// The others had declared us dead and have to hear that we are not; whatever they took over, they give back.
    Rejoined,
}

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Not heard yet, but it was there when we started: counts as alive for a moment.
    Presumed,
    /// Heard and answering.
    Alive,
    /// Listed but never heard.
    Unheard,
    /// Stopped answering.
    Dead,
    /// Said that it goes.
    Left,
}

impl PeerState {
    /// Whether the peer takes part in decisions.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Presumed | Self::Alive)
    }
}

/// What happened since the machine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that were opened and understood.
    pub received: u64,
    /// Datagrams dropped: not our format.
    pub malformed: u64,
    /// Datagrams dropped: sealed with another key, or sealed or clear when we are not.
    pub wrong_key: u64,
    /// Datagrams dropped: seen before.
    pub replayed: u64,
    /// Messages that made no sense to the protocol, such as one from our own name.
    pub rejected: u64,
    /// Times that our own process was found stalled.
    pub stalls: u64,
    /// Suspicions of ours about peers.
    pub suspicions: u64,
}
