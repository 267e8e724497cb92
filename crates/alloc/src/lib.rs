//! Which address a service gets: the pure allocator.
//!
//! ```text
//! watches --Input--> World --Output--> status writes, Events, counters
//!                      |
//!                  Allocator   who holds what; converge(request, current) -> Decision
//!                      |
//!                    Space     free addresses of a pool as runs, O(log n)
//! ```
//!
//! The record of an allocation is the service's own status. [`World`] takes it over when it starts to lead, so a restart
//! changes nothing, and it decides for services without an address only after every initial list is complete.
//! Every answer is a [`Decision`] with its reasons; Events and logs print that value.

mod allocator;
mod choose;
mod converge;
mod decision;
mod event;
mod history;
mod known;
mod policy;
mod request;
mod runs;
mod service;
mod space;
mod world;

#[cfg(test)]
mod tests;

pub use allocator::{Allocator, Held};
pub use decision::{ClearReason, Cleared, Conflict, Decision, Note, Pending, Refusal, Verdict};
pub use event::{Event, EventReason, Severity};
pub use policy::{ClassPolicy, Policy, Reuse};
pub use request::{FamilyPolicy, Port, Protocol, Request, ServiceId, Sharing, WantedIpsError, wanted_ips};
pub use service::Service;
pub use space::Counters;
pub use world::{Input, Output, StatusWrite, World};
