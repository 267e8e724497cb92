//! Which speakers are alive: SWIM membership as a machine, sealed datagrams.
//!
//! [`Member`] wraps `foca` (SWIM with suspicion and infection-style dissemination) into the common shape: virtual time,
//! a seeded generator, datagrams in and out. Around the protocol stand four things that it does not have:
//!
//! * **Peers are known from outside** (pods of the same DaemonSet). Nobody needs a seed to join, and who is known but not
//!   heard is called again and again, so that any partition heals by itself.
//! * **Peers known at the start are presumed alive** for a moment, so that a speaker that starts does not think it is
//!   alone and take everything.
//! * **The accused is heard**: whoever is suspected is told so directly, several times, and its answer clears it. A lost
//!   packet or a busy moment does not make a dead node.
//! * **One's own stall is no evidence against others**: a process that was not scheduled gives its peers the time that it
//!   slept, and for a while after suspects more slowly.
//!
//! Besides, [`Input::Talk`] carries words of the layer above between peers, and [`Input::Watch`] has single peers watched
//! so closely that their failure is suspected within 150 ms in a cluster of any size (later where packets are lost): they send beats, one way, as long as
//! they are told now and then that they are watched.
//!
//! A speaker at rest does nothing but probe and beat: no timer runs for what is only looked at when something is wrong.
//!
//! Datagrams are sealed with AES-256-GCM under a key derived from the cluster's shared secret ([`seal`]).

#![forbid(unsafe_code)]

mod closeup;
mod codec;
mod departure;
mod identity;
mod interface;
mod machine;
mod message;
mod peer;
mod probes;
mod runtime;
pub mod seal;
mod timing;
mod watch;

#[cfg(test)]
mod tests;

pub use identity::{Identity, NodeName};
pub use interface::{Config, Counters, Input, Output, PeerState, TALK_MAX};
pub use machine::Member;
pub use seal::Secret;
pub use timing::Timing;
