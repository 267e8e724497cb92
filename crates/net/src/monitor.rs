//! Route netlink: interfaces and addresses, once and then as they change.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use crate::{InterfaceEvent, InterfaceTable, fd};

const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV6_ADDRESS: u32 = 9;
/// The kernel fills at most 32 KiB a message batch.
const BUFFER: usize = 32 * 1024;

/// What is being listed; the kernel does one dump at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dump {
    Links,
    Addresses,
}

/// Follows the interfaces of this network namespace.
pub struct InterfaceMonitor {
    socket: AsyncFd<Socket>,
    table: InterfaceTable,
    dump: Option<Dump>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl InterfaceMonitor {
    /// Opens the socket, subscribes and asks for everything; the first events list what there is.
    ///
    /// # Errors
    /// The kernel's; there is no netlink in sight, or no runtime.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP_LINK)?;
        socket.add_membership(GROUP_IPV4_ADDRESS)?;
        socket.add_membership(GROUP_IPV6_ADDRESS)?;
        socket.set_non_blocking(true)?;
        let mut monitor = Self {
            socket: fd::register(socket)?,
            table: InterfaceTable::new(),
            dump: None,
            sequence: 0,
            buffer: Vec::new(),
        };
        monitor.ask(Dump::Links)?;
        Ok(monitor)
    }

    /// All interfaces as known so far.
    pub const fn table(&self) -> &InterfaceTable {
        &self.table
    }

    fn ask(&mut self, dump: Dump) -> io::Result<()> {
        let request = match dump {
            Dump::Links => {
                self.table.begin_dump();
                RouteNetlinkMessage::GetLink(LinkMessage::default())
            }
            Dump::Addresses => {
                self.table.begin_address_dump();
                RouteNetlinkMessage::GetAddress(AddressMessage::default())
            }
        };
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = dump_request(request, self.sequence);
        self.socket.get_ref().send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        self.dump = Some(dump);
        Ok(())
    }

    /// Waits until something changed. May return nothing when the change was none of interest. Safe to cancel.
    ///
    /// When the kernel had to drop messages everything is asked again, and the difference is told.
    ///
    /// # Errors
    /// The socket is broken.
    pub async fn next(&mut self) -> io::Result<Vec<InterfaceEvent>> {
        let mut guard = self.socket.readable().await?;
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve(BUFFER);
        let received = guard.try_io(|fd| fd.get_ref().recv(&mut buffer, 0));
        drop(guard);
        let outcome = match received {
            Err(_would_block) => Ok(Vec::new()),
            Ok(Ok(_)) => self.take(&buffer),
            // The socket's buffer overflowed and messages are lost.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.ask(Dump::Links).map(|()| Vec::new())
            }
            Ok(Err(error)) => Err(error),
        };
        self.buffer = buffer;
        outcome
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<Vec<InterfaceEvent>> {
        let mut events = Vec::new();
        for payload in payloads(bytes) {
            match payload {
                NetlinkPayload::InnerMessage(message) => events.extend(self.table.apply(&message)),
                NetlinkPayload::Done(_) => events.extend(self.dump_ended()?),
                NetlinkPayload::Error(error) if error.code.is_some() => self.dump_failed()?,
                _ => {}
            }
        }
        Ok(events)
    }

    fn dump_ended(&mut self) -> io::Result<Vec<InterfaceEvent>> {
        match self.dump.take() {
            Some(Dump::Links) => {
                self.ask(Dump::Addresses)?;
                Ok(self.table.end_dump())
            }
            Some(Dump::Addresses) => Ok(self.table.end_address_dump()),
            None => Ok(Vec::new()),
        }
    }

    /// The kernel was busy with another dump of ours (`EBUSY`): ask again.
    fn dump_failed(&mut self) -> io::Result<()> {
        self.dump.take().map_or(Ok(()), |dump| self.ask(dump))
    }
}

/// The bytes that ask for everything of one kind.
pub(crate) fn dump_request(request: RouteNetlinkMessage, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The messages in what was received. One that this library cannot read is none that we need; its length is all that
/// counts.
pub(crate) fn payloads(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkPayload<RouteNetlinkMessage>> + '_ {
    core::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
            if length < 16 || length > bytes.len() {
                return None;
            }
            let (message, rest) = bytes.split_at(length.next_multiple_of(4).min(bytes.len()));
            bytes = rest;
            if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&message[..length]) {
                return Some(message.payload);
            }
        }
    })
}
