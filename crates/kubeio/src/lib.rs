//! The thin shell around the Kubernetes API: one client, watches that never end, events, partial views of core objects.
//!
//! Nothing here decides anything. A watch hands over objects, the pure crates decide, a writer sends one patch.

pub mod client;
pub mod configuration;
pub mod events;
pub mod lease;
mod outage;
mod pod;
pub mod review;
pub mod text;
pub mod thin;
pub mod watch;

pub use client::{ConnectError, connect, connect_in_pod, connect_with};
pub use configuration::{ConfigEvent, ConfigObject, watch_configuration, watch_own_configuration};
pub use events::{EventKind, EventSink};
pub use kube_runtime::watcher::{Config as WatchConfig, Event};
pub use pod::PodError;
pub use watch::{Observed, Relist, observe, watch};
