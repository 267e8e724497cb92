//! Logs, metrics and health endpoints shared by the binaries.

pub mod access;
pub mod health;
pub mod http;
pub mod log;
pub mod secure;
pub mod tls;

pub use access::{Access, Guard};
pub use health::Health;
pub use http::Routes;
pub use log::Level;
pub use tls::{Tls, TlsError, TlsOptions};
