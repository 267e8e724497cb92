//! A whole speaker without sockets or clients: membership, ownership and announcing composed.
//!
//! Two halves, which the binary runs on two threads:
//!
//! * [`Planner`] (thread `ctl`): takes what the API server says and works out, for each service, who may own it. Slow and
//!   large inputs stay here.
//! * [`Engine`] (thread `wire`): takes plans, datagrams, frames and time, and decides who owns each address now. It needs
//!   nobody: when the API server or the other half is gone, it goes on with the plans it has.
//!
//! ```text
//! services, endpoints, nodes, configuration --> Planner --Directive--> Engine <--> datagrams, frames, links, time
//!                                                                        |
//!                                     status, events, metrics <--Change--+
//! ```
//!
//! [`World`] is both in one, for the simulator.

#![forbid(unsafe_code)]

mod ask;
mod away;
mod claims;
mod decide;
mod engine;
mod handover;
mod hearsay;
mod io;
mod neighbours;
mod nodeprobe;
mod plan;
mod planner;
mod report;
mod resolve;
mod service;
mod sharing;
pub mod strict;
mod survey;
mod talk;
mod world;

#[cfg(test)]
mod tests;

pub use away::GRACE;
pub use engine::Engine;
pub use handover::TOLD_LASTS;
pub use io::{EngineConfig, Input, LINGER, Options, Output};
pub use plan::{Directive, Plan, ServiceKey};
pub use planner::Planner;
pub use report::{Cause, Change, MemberReport, ServiceReport, Unanswered};
pub use world::{World, WorldInput};

pub use metallb_election as election;
pub use metallb_l2 as l2;
pub use metallb_member as member;
