//! The kernel's neighbour table: which hardware address the stations of the LAN had when this node last spoke with them.

use std::io;
use std::net::{IpAddr, SocketAddr as IpSocketAddr, UdpSocket};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::monitor::{dump_request, payloads};

/// Room for a batch of the kernel's.
const BUFFER: usize = 32 * 1024;
/// Nobody listens there (RFC 863); the kernel has to find out where the station is all the same.
const DISCARD: u16 = 9;

/// All neighbours of which the kernel knows a hardware address, whatever their state. Takes a moment and waits for no station.
///
/// # Errors
/// The kernel's.
pub fn neighbours() -> io::Result<Vec<(IpAddr, [u8; 6])>> {
    dump(|message| {
        let (ip, mac) = addresses(message);
        Some((ip?, mac?))
    })
}

/// The stations that the kernel waits for, with the index of the interface: it has asked for their hardware addresses and was
/// not answered yet. Takes a moment and waits for no station.
///
/// # Errors
/// The kernel's.
pub fn unresolved() -> io::Result<Vec<(u32, IpAddr)>> {
    dump(|message| {
        let waits = message.header.state == NeighbourState::Incomplete;
        let (ip, _) = addresses(message);
        ip.filter(|_| waits).map(|ip| (message.header.ifindex, ip))
    })
}

/// What `take` takes of the neighbour table.
fn dump<T>(take: impl Fn(&NeighbourMessage) -> Option<T>) -> io::Result<Vec<T>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let request = dump_request(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), 1);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        if socket.recv(&mut buffer, 0)? == 0 {
            return Ok(found);
        }
        for payload in payloads(&buffer) {
            match payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
                    found.extend(take(&message));
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => {}
            }
        }
    }
}

/// Of a neighbour: its address, and its hardware address.
fn addresses(message: &NeighbourMessage) -> (Option<IpAddr>, Option<[u8; 6]>) {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => ip = Some((*address).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => ip = Some((*address).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    (ip, mac)
}

/// Has the kernel find out the hardware address of a station, by sending it an empty datagram that nobody reads; what
/// comes of it is in [`neighbours`] a moment later.
///
/// # Errors
/// There is no way to the station.
pub fn resolve(station: IpAddr) -> io::Result<()> {
    let any = match station {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket
        .send_to(&[], IpSocketAddr::new(station, DISCARD))
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_among_the_attributes() {
        let mut message = NeighbourMessage::default();
        let ip = std::net::Ipv4Addr::new(192, 0, 2, 1);
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(ip))];
        assert_eq!(addresses(&message), (Some(ip.into()), None));
        let mac = vec![2, 0, 0, 0, 0, 1];
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac));
        assert_eq!(addresses(&message), (Some(ip.into()), Some([2, 0, 0, 0, 0, 1])));
    }

    #[test]
    fn the_table_can_be_read() {
        neighbours().expect("netlink");
    }
}
