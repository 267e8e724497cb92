//! Which node owns an address: `MetalLB`'s rank, with reasons.
//!
//! Two steps, both pure. [`Eligibility::of`] takes what the API server knows (service, endpoints, nodes, configuration)
//! and says which nodes may own a service's addresses, with their scores, and for every other node why it may not.
//! [`Eligibility::elect`] adds what only membership knows (who is alive) and names the owner, with the standing of every
//! node. Both results carry their reasons, so that events, status and the `/state` page say the same.
//!
//! The rank is that of Go `MetalLB`, so that speakers of both kinds come to the same owner: the higher preference
//! first, then the lower SHA-256 of `node#address`; the first address of a service decides for all. Services that share
//! addresses decide together: [`Group::of`].

#![forbid(unsafe_code)]

mod eligibility;
mod facts;
mod group;
mod rank;
mod reason;
mod role;

#[cfg(test)]
mod tests;

pub use eligibility::{Candidate, Decision, Eligibility};
pub use facts::{EXCLUDE_LABEL, Endpoints, NodeFacts, NodeName, Nodes, Rules, ServiceFacts};
pub use group::{Group, Need, Share};
pub use rank::{Rank, rank};
pub use reason::{Exclusion, Refusal, Standing};
pub use role::{Ability, Preemption, Presence, Roles};
