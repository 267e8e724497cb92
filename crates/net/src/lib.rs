//! Sockets, netlink and clocks of Linux; the only crate with `unsafe` code.
//!
//! * [`PacketSocket`]: an `AF_PACKET` socket on one interface with a classic BPF filter in the kernel, so that an idle
//!   speaker is not woken by its network's chatter.
//! * [`DatagramSocket`]: a UDP socket that is woken by what arrives and by nothing else.
//! * [`Groups`]: the multicast groups that are heard, however many.
//! * [`InterfaceMonitor`]: the interfaces of this network namespace, told by the kernel as they change.
//! * [`neighbours`], [`unresolved`]: the kernel's neighbour table.
//! * [`since_boot`]: the clock that goes on in a suspension; [`Alarm`]: a timer on it.
//! * [`Exclusions`]: interface names that are never announced on.
//!
//! What waits (sockets, the monitor, alarms) needs a running tokio runtime with its I/O driver. Packet sockets need
//! `CAP_NET_RAW`; the monitor needs nothing.

mod addresses;
mod alarm;
mod clock;
mod datagram;
mod exclude;
mod fd;
mod filter;
mod groups;
mod interface;
mod monitor;
mod neighbour;
mod packet;

pub use alarm::Alarm;
pub use clock::since_boot;
pub use datagram::DatagramSocket;
pub use exclude::{Exclusions, InvalidPattern};
pub use groups::Groups;
pub use interface::{Interface, InterfaceEvent, InterfaceTable, Unusable};
pub use monitor::InterfaceMonitor;
pub use neighbour::{neighbours, resolve, unresolved};
pub use packet::{PacketSocket, Protocol};
