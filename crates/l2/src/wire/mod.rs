//! Wire formats: Ethernet II, ARP for IPv4 and IPv6 neighbour solicitation and advertisement.
//!
//! Each protocol has two levels. A *view* (`ethernet::Frame`, `arp::Packet`) borrows bytes whose length was checked once
//! by `new_checked`, so that its accessors cannot panic. A *representation* (`arp::Repr`, `ndp::Repr`) is the small,
//! validated value that the machines work with: `parse` makes it from a view, `emit` writes it into a fresh buffer.
//!
//! A packet is either well formed for our purpose or it is dropped, so there is one error without detail.

use core::fmt;

pub mod arp;
pub mod ethernet;
pub mod ndp;

pub use ethernet::MacAddr;

/// The bytes are too short, or are not the protocol, the hardware type or the form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed packet")
    }
}

impl core::error::Error for Malformed {}

/// The `N` bytes of `data` that start at `at`. The caller has checked the length.
fn array<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[at..at + N]);
    bytes
}
