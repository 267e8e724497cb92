//! `AF_PACKET` sockets: whole Ethernet frames on one interface.
//!
//! `unsafe` for building a `sockaddr_ll`, and for two socket options that socket2 lacks.
#![allow(unsafe_code)]

use std::io::{self, Read as _};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use libc::{c_int, c_void, sockaddr_ll, socklen_t};
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{fd, filter};

/// Longer frames are cut, and then fail to parse. Options that nobody knows may fill a neighbour discovery packet up to the MTU
/// (RFC 4861 4.6), and it is not fragmented (RFC 6980).
pub(crate) const FRAME_MAX: usize = 2_048;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ARP requests and replies.
    Arp,
    /// IPv6 neighbour solicitations and advertisements, to any group.
    Ndp,
}

impl Protocol {
    const fn ethertype(self) -> u16 {
        match self {
            Self::Arp => 0x0806,
            Self::Ndp => 0x86dd,
        }
    }
}

/// A socket that sends and receives whole frames of one protocol on one interface.
pub struct PacketSocket {
    socket: AsyncFd<Socket>,
    dropped: u64,
}

impl PacketSocket {
    /// Opens the socket on the interface with this number. Frames that we send are not heard, nor those for VLANs.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `ENODEV` or `ENXIO` when the interface is gone.
    pub fn open(interface: u32, protocol: Protocol) -> io::Result<Self> {
        // Protocol 0 receives nothing: no frame slips in between opening and filtering.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        let program = filter::program(protocol, interface);
        let steps = program
            .iter()
            .map(|step| SockFilter::new(step.code, step.jt, step.jf, step.k));
        socket.attach_filter(&steps.collect::<Vec<_>>())?;
        set_option(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        if protocol == Protocol::Ndp {
            let all_multicast = libc::packet_mreq {
                mr_ifindex: c_int::try_from(interface).unwrap_or(0),
                mr_type: libc::PACKET_MR_ALLMULTI as u16,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &all_multicast)?;
        }
        socket.bind(&address(interface, protocol)?)?;
        Ok(Self {
            socket: fd::register(socket)?,
            dropped: 0,
        })
    }

    /// Receives one frame into `buffer`, which must hold [`PacketSocket::BUFFER`] bytes. Safe to cancel.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface went down (the socket stays usable), others when it is gone.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_receive(cx, buffer)).await
    }

    /// The poll form of [`PacketSocket::receive`], for waiting on several sockets at once.
    ///
    /// # Errors
    /// As there.
    pub fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            if let Ok(result) = guard.try_io(|socket| read(socket.get_ref(), buffer)) {
                return Poll::Ready(result);
            }
        }
    }

    /// Receives one frame if one was waiting when the runtime last looked or one has been received since.
    ///
    /// # Errors
    /// As [`PacketSocket::receive`], and `WouldBlock` when none is waiting.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket
            .try_io(Interest::READABLE, |socket| read(socket, buffer))
    }

    /// Room for one frame.
    pub const BUFFER: usize = FRAME_MAX;

    /// Sends one frame at once, or drops and counts it when the interface's queue is full: announcements are repeated and
    /// questions asked again.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface is down, others when it is gone.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match self.socket.get_ref().send(frame) {
            Ok(_) => Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    || error.raw_os_error() == Some(libc::ENOBUFS) =>
            {
                self.dropped += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Frames dropped so far because the interface's queue was full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn read(mut socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    socket.read(buffer)
}

/// Sets an option of level `SOL_PACKET`.
fn set_option<T>(socket: &Socket, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` points to a live `T` whose size is passed with it, and the kernel only reads it. `T` is the plain
    // C type that the option takes at both call sites.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The address to bind to: one interface, one protocol.
fn address(interface: u32, protocol: Protocol) -> io::Result<SockAddr> {
    let index = c_int::try_from(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the address types that a `sockaddr_storage` is defined to hold, larger in neither
    // size nor alignment; all bytes are zero, which is a valid value.
    let link = unsafe { storage.view_as::<sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = protocol.ethertype().to_be();
    link.sll_ifindex = index;
    // SAFETY: the storage was filled as a `sockaddr_ll` above and its family says so.
    Ok(unsafe { SockAddr::new(storage, size_of::<sockaddr_ll>() as socklen_t) })
}

const _: () = assert!(size_of::<sockaddr_ll>() == 20, "the kernel's layout");
