use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Name of a node, `spec.nodeName` of its speaker pod; at most 253 bytes.
pub type NodeName = Arc<str>;

/// One life of one speaker.
///
/// The name says who it is, the generation which life: a restarted speaker comes with a higher generation (its start
/// time) and replaces its former self everywhere at once, and a speaker that was declared dead by mistake adds one and
/// is back.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub name: NodeName,
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Which life; 0 means "whichever", in a call to a peer never heard of.
    pub generation: u64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.name, self.address, self.generation)
    }
}

impl foca::Identity for Identity {
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            generation: self.generation.wrapping_add(1),
            ..self.clone()
        })
    }

    fn addr(&self) -> NodeName {
        Arc::clone(&self.name)
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.address) > (adversary.generation, adversary.address)
    }
}
