//! Registration of file descriptors with tokio.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a socket that owns its descriptor with the current runtime, for reading only: the kernel would tell after each
/// frame sent that there is room for another, and nobody waits for that.
pub(crate) fn register<T: AsRawFd + AsFd>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` promises an open descriptor for as long as `socket` lives, and all callers pass a type that always
    // returns the one that it owns. `AsyncFd` deregisters it before dropping it.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}
