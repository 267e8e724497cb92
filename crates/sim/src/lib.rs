//! Seeded simulation of whole speakers on a virtual LAN.
//!
//! A [`Cluster`] is a number of [`metallb_speaker_core::World`]s, the same code that the binary runs, on a wire with
//! latency, loss, cut cables and partitions, under an API server that tells each of them facts with a delay or not at
//! all. One thread, one virtual clock: a run is a function of its seed, so a failing seed replays.
//!
//! [`Run`] draws a schedule of faults from the seed and checks after every event what must hold:
//!
//! 1. **Never nobody for long**: in the part of the LAN where the clients are, no address stays without an answering
//!    node longer than [`Bounds::takeover`], counted from the last disturbance, as long as an eligible node is there.
//! 2. **One owner**: once [`Bounds::converged`] has passed since the last disturbance, in every connected part of the LAN
//!    exactly one node answers, and it is the first by rank among those there.
//! 3. **No change without cause**: no owner changes in any node's view when nothing happened for
//!    [`Bounds::converged`].

#![forbid(unsafe_code)]

mod cluster;
mod facts;
mod run;

pub use cluster::{Cluster, NodeNumber};
pub use facts::{Facts, ServiceNumber};
pub use run::{Bounds, Failure, Fault, Run, Statistics};
