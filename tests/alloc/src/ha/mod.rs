//! Replicas of our allocator on one API server, while they are killed, frozen and cut off and services come and go. An assigned
//! address never changes, no two services have one for longer than a moment, and in the end everybody has one.

pub mod duplicate;
pub mod judge;
pub mod proxy;
pub mod replicas;
pub mod run;
