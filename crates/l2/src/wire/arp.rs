//! ARP for IPv4 over Ethernet (RFC 826), 28 bytes after the Ethernet header.

use std::net::Ipv4Addr;

use super::ethernet::{self, ETHERTYPE_ARP, MacAddr};
use super::{Malformed, array};

/// Length of a packet in bytes, without the Ethernet header.
pub const PACKET_LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;

mod field {
    pub(super) const HARDWARE_TYPE: usize = 0;
    pub(super) const PROTOCOL_TYPE: usize = 2;
    pub(super) const HARDWARE_LEN: usize = 4;
    pub(super) const PROTOCOL_LEN: usize = 5;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SENDER_MAC: usize = 8;
    pub(super) const SENDER_IP: usize = 14;
    pub(super) const TARGET_MAC: usize = 18;
    pub(super) const TARGET_IP: usize = 24;
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Operation 1: who has the target address?
    Request,
    /// Operation 2: the sender has the sender address.
    Reply,
    /// Any other number (RARP, `InARP`, ...); never sent.
    Other(u16),
}

impl From<u16> for Operation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Reply,
            other => Self::Other(other),
        }
    }
}

impl From<Operation> for u16 {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Request => 1,
            Operation::Reply => 2,
            Operation::Other(number) => number,
        }
    }
}

/// A view of an ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a>(&'a [u8]);

impl<'a> Packet<'a> {
    /// Checks length, hardware and protocol type. Bytes after the packet (Ethernet padding) are ignored.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter than 28 bytes or is not about IPv4 over Ethernet.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some(bytes) = bytes.get(..PACKET_LEN) else {
            return Err(Malformed);
        };
        let ours = u16::from_be_bytes(array(bytes, field::HARDWARE_TYPE)) == HARDWARE_ETHERNET
            && u16::from_be_bytes(array(bytes, field::PROTOCOL_TYPE)) == PROTOCOL_IPV4
            && bytes[field::HARDWARE_LEN] == 6
            && bytes[field::PROTOCOL_LEN] == 4;
        if ours { Ok(Self(bytes)) } else { Err(Malformed) }
    }

    /// Request, reply or something else.
    pub fn operation(self) -> Operation {
        u16::from_be_bytes(array(self.0, field::OPERATION)).into()
    }

    /// Hardware address of the sender as the packet says it.
    pub fn sender_mac(self) -> MacAddr {
        MacAddr(array(self.0, field::SENDER_MAC))
    }

    /// Address of the sender; unspecified in a probe (RFC 5227 1.1).
    pub fn sender_ip(self) -> Ipv4Addr {
        array(self.0, field::SENDER_IP).into()
    }

    /// Hardware address of the target; meaningless in a request.
    pub fn target_mac(self) -> MacAddr {
        MacAddr(array(self.0, field::TARGET_MAC))
    }

    /// Address that is asked for or answered to.
    pub fn target_ip(self) -> Ipv4Addr {
        array(self.0, field::TARGET_IP).into()
    }
}

/// An ARP packet as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Request or reply.
    pub operation: Operation,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Address of the sender.
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target.
    pub target_mac: MacAddr,
    /// Address of the target.
    pub target_ip: Ipv4Addr,
}

impl Repr {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`Malformed`] as for [`Packet::new_checked`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let packet = Packet::new_checked(bytes)?;
        Ok(Self {
            operation: packet.operation(),
            sender_mac: packet.sender_mac(),
            sender_ip: packet.sender_ip(),
            target_mac: packet.target_mac(),
            target_ip: packet.target_ip(),
        })
    }

    /// The reply that says "`ip` is at `mac`" to whoever sent `request` (RFC 826: sender and target swapped).
    pub const fn reply_to(request: &Self, mac: MacAddr) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: request.target_ip,
            target_mac: request.sender_mac,
            target_ip: request.sender_ip,
        }
    }

    /// An announcement in the form of a request: sender and target address equal, target hardware address zero
    /// (RFC 5227 3).
    pub const fn announcement_request(ip: Ipv4Addr, mac: MacAddr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddr::ZERO,
            target_ip: ip,
        }
    }

    /// An announcement in the form of a reply, which some stacks heed where they ignore the request form; the target
    /// hardware address is the one to be learnt (RFC 5944 4.6).
    pub const fn announcement_reply(ip: Ipv4Addr, mac: MacAddr) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: mac,
            target_ip: ip,
        }
    }

    /// The Ethernet frame that carries this packet to `destination`, without padding: the driver pads to 60 bytes.
    pub fn emit(&self, destination: MacAddr) -> Vec<u8> {
        self.emit_from(self.sender_mac, destination)
    }

    /// The same when the station that sends the frame is not the one that the packet names as its sender: an answer in
    /// the name of another.
    pub fn emit_from(&self, source: MacAddr, destination: MacAddr) -> Vec<u8> {
        let mut frame = ethernet::emit_header(destination, source, ETHERTYPE_ARP, PACKET_LEN);
        frame.extend_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        frame.extend_from_slice(&PROTOCOL_IPV4.to_be_bytes());
        frame.extend_from_slice(&[6, 4]);
        frame.extend_from_slice(&u16::from(self.operation).to_be_bytes());
        frame.extend_from_slice(&self.sender_mac.0);
        frame.extend_from_slice(&self.sender_ip.octets());
        frame.extend_from_slice(&self.target_mac.0);
        frame.extend_from_slice(&self.target_ip.octets());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::Frame;

    /// `who-has 192.0.2.10 tell 192.0.2.1`, as it stands on the wire, with Ethernet padding.
    const REQUEST: [u8; 60] = {
        let mut frame = [0; 60];
        let packet: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06, 0x00, 0x01,
            0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 192, 0, 2, 1, 0, 0, 0, 0,
            0, 0, 192, 0, 2, 10,
        ];
        let mut i = 0;
        while i < packet.len() {
            frame[i] = packet[i];
            i += 1;
        }
        frame
    };

    fn repr() -> Repr {
        Repr {
            operation: Operation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: MacAddr::ZERO,
            target_ip: Ipv4Addr::new(192, 0, 2, 10),
        }
    }

    #[test]
    fn deconstruct() {
        let frame = Frame::new_checked(&REQUEST).expect("frame");
        assert_eq!(frame.destination(), MacAddr::BROADCAST);
        assert_eq!(frame.source(), repr().sender_mac);
        assert_eq!(frame.ethertype(), ETHERTYPE_ARP);
        assert_eq!(Repr::parse(frame.payload()), Ok(repr()));
    }

    #[test]
    fn construct() {
        assert_eq!(repr().emit(MacAddr::BROADCAST), REQUEST[..42]);
    }

    #[test]
    fn reply_swaps_the_two_sides() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let reply = Repr::reply_to(&repr(), mac);
        assert_eq!(reply.operation, Operation::Reply);
        assert_eq!((reply.sender_mac, reply.sender_ip), (mac, repr().target_ip));
        assert_eq!(
            (reply.target_mac, reply.target_ip),
            (repr().sender_mac, repr().sender_ip)
        );
    }

    #[test]
    fn what_is_not_ipv4_over_ethernet_is_refused() {
        let packet = &REQUEST[14..42];
        assert!(Packet::new_checked(packet).is_ok());
        assert!(Packet::new_checked(&packet[..27]).is_err(), "too short");
        for (at, value, what) in [
            (1, 6, "hardware type"),
            (2, 0x86, "protocol type"),
            (4, 8, "hardware length"),
            (5, 16, "protocol length"),
        ] {
            let mut bytes = packet.to_vec();
            bytes[at] = value;
            assert!(Packet::new_checked(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn unknown_operations_are_kept() {
        let mut bytes = REQUEST[14..42].to_vec();
        bytes[7] = 3;
        assert_eq!(
            Repr::parse(&bytes).expect("well formed").operation,
            Operation::Other(3)
        );
        assert_eq!(u16::from(Operation::Other(3)), 3);
    }
}
