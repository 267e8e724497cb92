//! What can be chosen about addresses that somebody outside the cluster may have.

#[cfg(doc)]
use crate::announcer::{BLOCKED_FOR, DEFEND_EVERY, PROBE_FOR};

/// How an address becomes ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// It is announced at once: it was ours, or another node's, before. Whether somebody else has it is asked meanwhile.
    #[default]
    Announce,
    /// Nobody of ours ever announced it: it is probed before (RFC 5227 2.1.1, RFC 4862 5.4), for as long as [`Probing`] says.
    /// Until then it is neither answered for nor announced.
    Probe,
}

/// How addresses first owned are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probing {
    /// Three probes within [`PROBE_FOR`].
    #[default]
    Fast,
    /// With the times of RFC 5227 2.1.1, which take 4 to 7 s.
    Full,
    /// Not at all.
    None,
}

/// What to do when somebody outside the cluster has an address of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// Announce it all the same and say so: routers with proxy ARP answer for everything.
    #[default]
    Warn,
    /// Leave it alone as long as the other answers; asked again every [`BLOCKED_FOR`].
    Block,
    /// Announce it, and once more whenever somebody else does, at most every [`DEFEND_EVERY`] (RFC 5227 2.4 c).
    Defend,
}
