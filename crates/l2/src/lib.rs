//! ARP and NDP: wire formats and the machine that answers for addresses and announces them.
//!
//! [`wire`] holds the packet formats, [`Announcer`] the behaviour: it is told which addresses this node owns and on which
//! links, and turns received frames and time into frames to send. It decides nothing about ownership.

#![forbid(unsafe_code)]

pub mod announcer;
mod announcing;
mod answer;
mod claims;
mod conflict;
mod doubt;
mod groups;
pub mod link;
mod owned;
mod policy;
mod refresh;
mod standing;
pub mod wire;

#[cfg(test)]
mod tests;

pub use announcer::{Announcer, ConflictPolicy, Counters, Entry, ForeignClaim, Input, Output, Probing};
pub use conflict::question;
pub use link::{InterfaceIndex, Interfaces, Link};
pub use owned::Owned;
pub use refresh::REFRESH_MIN;
pub use wire::MacAddr;
