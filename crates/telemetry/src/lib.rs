//! Logs, metrics and health endpoints shared by the binaries.

pub mod health;
pub mod http;
pub mod log;

pub use health::Health;
pub use http::Routes;
pub use log::Level;
