//! Registration of file descriptors with tokio.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// Registers a socket that owns its descriptor with the current runtime.
pub(crate) fn register<T: AsRawFd + AsFd>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` promises an open descriptor for as long as `socket` lives, and both callers pass a type that always
    // returns the one that it owns. `AsyncFd` deregisters it before dropping it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}
