//! What is known of one peer.

use std::net::SocketAddr;
use std::sync::Arc;

use metallb_sansio::Instant;

use crate::interface::PeerState;
use crate::{Identity, NodeName};

/// A peer, as one speaker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How it stands.
    pub(crate) state: PeerState,
    /// Its last known life.
    pub(crate) identity: Option<Identity>,
    /// Where to call it.
    pub(crate) address: SocketAddr,
    /// The last list names it.
    pub(crate) listed: bool,
    /// Since when it has been in its state.
    pub(crate) since: Instant,
    /// Others say that it is dead, which we had no reason to suspect: until then it may contradict.
    pub(crate) doubted_until: Option<Instant>,
    /// When it last said something of its own accord: a probe or a beat, no answer.
    pub(crate) spoke: Option<Instant>,
    /// Probes of it that were spared since the last one.
    pub(crate) spared: u8,
}

impl Peer {
    /// One that is not listed and has not been heard.
    pub(crate) const fn new(now: Instant, state: PeerState, address: SocketAddr) -> Self {
        Self {
            state,
            identity: None,
            address,
            listed: false,
            since: now,
            doubted_until: None,
            spoke: None,
            spared: 0,
        }
    }

    /// The identity under which it can be called, whichever life it is in.
    pub(crate) fn callable(&self, name: &NodeName) -> Identity {
        let generation = self.identity.as_ref().map_or(0, |identity| identity.generation);
        Identity {
            name: Arc::clone(name),
            address: self.address,
            generation,
        }
    }
}
