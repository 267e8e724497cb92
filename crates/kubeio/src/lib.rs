//! The thin shell around the Kubernetes API: one client, watches that never end, events, partial views of core objects.
//!
//! Nothing here decides anything. A watch hands over objects, the pure crates decide, a writer sends one patch.

pub mod client;
pub mod events;
pub mod thin;
pub mod watch;

pub use client::{ConnectError, connect};
pub use events::{EventKind, EventSink};
pub use kube_runtime::watcher::{Config as WatchConfig, Event};
pub use watch::{Relist, watch};
