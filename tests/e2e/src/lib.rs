//! The local cluster: a real multi-node Kubernetes in network namespaces, and the scenarios that run on it.
//!
//! A reader's map: [`plan`] is every name and address; [`state`] what is on record; [`cluster`] puts the parts together
//! ([`lan`], [`control_plane`], [`node`], [`registry`]); [`actions`], [`client`] and [`capture`] are what scenarios use.

pub mod actions;
pub mod bench;
pub mod build;
pub mod cache;
pub mod capture;
pub mod cgroup;
pub mod checkout;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod collect;
pub mod control_plane;
pub mod figures;
pub mod flush;
pub mod frames;
pub mod images;
pub mod lan;
pub mod netns;
pub mod node;
pub mod node_files;
pub mod node_root;
pub mod olm;
pub mod olm_check;
pub mod pcap;
pub mod peer;
pub mod pki;
pub mod plan;
pub mod prereq;
pub mod priority;
pub mod process;
pub mod progress;
pub mod proxy;
pub mod registry;
pub mod scenario;
pub mod selftest;
pub mod sh;
pub mod state;
pub mod stream;
pub(crate) mod teardown;
pub mod turn;
pub mod usage;
pub mod wait;
pub mod web;
pub mod wire;

pub use client::{StreamHandle, StreamSpec};
pub use cluster::{Cluster, UpOutcome};
pub use progress::Progress;
pub use wait::wait_for;
