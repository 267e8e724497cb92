//! Seeded simulation of whole speakers on a virtual LAN.
//!
//! A [`Cluster`] is a number of [`metallb_speaker_core::World`]s, the same code that the binary runs, on a wire with
//! latency, loss, cut cables and partitions, with clients that ask by ARP and neighbour solicitation, switches that forward
//! multicast only to those who joined the group, perhaps a second LAN, under an API server that tells each of them
//! facts with delays of their own or not at all, and that keeps Leases. Nodes may be suspended and their clocks jump. One thread,
//! one virtual clock: a run is a function of its seed, so a failing seed replays.
//!
//! [`Run`] draws a schedule of faults from the seed and holds the cluster to this, with the times of [`Bounds`]:
//!
//! 1. **Never nobody**: a client that asks for an address gets no answer for longer than [`Bounds::takeover`] only while no
//!    node on its part of the LAN could give one; and for longer than [`Bounds::handover`] only when the one who answered
//!    failed. A node is able to when its speaker runs, knows the present truth, is eligible and has its cable in.
//! 2. **One owner**: [`Bounds::converged`] after the last disturbance exactly one node answers in each part of the LAN, the
//!    first by rank of those there; so say the views of all nodes, too, also on parts without a client.
//!    Services that share addresses have one owner, so an address has.
//! 3. **Announced**: by then the clients' neighbour caches name that node as well.
//! 4. **No change without cause**: an owner changes in a node's view only within that time of a fault that touches the old
//!    owner, the new one or the node itself, or of a fact that arrived there. That two nodes do not hear each other, while
//!    others hear both, is no cause, nor is the loss of the API server. Beyond 5 % loss such changes are only counted.
//!
//! While a node on the LAN does not know the present truth, those who do tell it; for [`Bounds::takeover`] after a
//! disturbance 1 is not claimed then. A speaker that has just started is no excuse.
//!
//! [`interrupt`] measures a single failure, for distributions.

#![forbid(unsafe_code)]

mod client;
mod cluster;
mod facts;
mod fault;
mod host;
mod judge;
mod kernel;
mod lan;
mod leases;
mod run;
mod takeover;
mod wire;

pub use client::Neighbour;
pub use cluster::{Cluster, NodeNumber, Notice, Setup};
pub use facts::{AddressNumber, Facts, ServiceNumber, Sharing, Stream};
pub use fault::Fault;
pub use judge::{ASK_EVERY, Bounds, Seen};
pub use kernel::Kernels;
pub use lan::Island;
pub use run::{Failure, Happening, Run, Statistics};
pub use takeover::{Interruption, Loss, interrupt, percentile, settled, watch};
