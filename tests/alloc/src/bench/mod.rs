//! Ours beside Go's controller, in turn, each on a fresh API server.

pub mod core;
pub mod load;
pub mod measure;
pub mod report;
