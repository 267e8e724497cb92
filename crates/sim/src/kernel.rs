//! The kernels of the nodes: which addresses they have, and for which of them they answer where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use metallb_speaker_core::l2::wire::arp::{self, Operation};
use metallb_speaker_core::l2::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Frame};
use metallb_speaker_core::l2::wire::ndp::{self, Message};

use crate::NodeNumber;
use crate::host::{INTERFACE, SECOND_INTERFACE, mac};

/// The port of membership.
const PORT: u16 = 7_946;
/// Nodes of one port, where the addresses are IPv4 addresses of one /24.
const PAGE: usize = 250;

/// How all nodes are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    /// The address of a node, on its first interface, is an IPv6 address.
    pub ipv6_nodes: bool,
    /// Interfaces have link-local addresses.
    pub link_local: bool,
    /// The second interface has an IPv4 address of its own.
    pub second_address: bool,
    /// The sysctl `arp_ignore` is 1: ARP is answered only for addresses of the interface that the request came in on, and not
    /// for all of the node.
    pub arp_ignore: bool,
}

impl Default for Kernels {
    fn default() -> Self {
        Self {
            ipv6_nodes: false,
            link_local: true,
            second_address: false,
            arp_ignore: false,
        }
    }
}

pub(crate) fn link_local(node: NodeNumber, interface: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, interface as u16, node as u16 + 1)
}

fn ipv6(node: NodeNumber) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, node as u16 + 1)
}

impl Kernels {
    /// Where membership reaches a node.
    pub(crate) fn address(self, node: NodeNumber) -> SocketAddr {
        if self.ipv6_nodes {
            (ipv6(node), PORT).into()
        } else {
            let last = (node % PAGE) as u8 + 1;
            ([192, 0, 2, last], PORT + (node / PAGE) as u16).into()
        }
    }

    /// The IPv4 addresses of an interface.
    pub(crate) fn ipv4_of(self, node: NodeNumber, interface: u32) -> Vec<Ipv4Addr> {
        match (interface, self.address(node).ip()) {
            (INTERFACE, IpAddr::V4(ip)) => vec![ip],
            (SECOND_INTERFACE, _) if self.second_address => {
                vec![Ipv4Addr::new(
                    198,
                    51,
                    (node / PAGE) as u8,
                    (node % PAGE) as u8 + 1,
                )]
            }
            _ => Vec::new(),
        }
    }

    /// Whether the kernel answers for the address on that interface, as Linux does.
    fn answers_for(self, node: NodeNumber, interface: u32, target: IpAddr) -> bool {
        match target {
            IpAddr::V4(ip) => [INTERFACE, SECOND_INTERFACE]
                .into_iter()
                .filter(|of| *of == interface || !self.arp_ignore)
                .any(|of| self.ipv4_of(node, of).contains(&ip)),
            // There is no such latitude in neighbour discovery.
            IpAddr::V6(ip) => {
                (self.link_local && ip == link_local(node, interface))
                    || (interface == INTERFACE && self.ipv6_nodes && ip == ipv6(node))
            }
        }
    }

    /// The kernel's answer to a frame that comes in on an interface, whether a speaker runs or not.
    pub(crate) fn answer(self, node: NodeNumber, interface: u32, frame: Frame<'_>) -> Option<Vec<u8>> {
        let own = mac(node, interface);
        match frame.ethertype() {
            ETHERTYPE_ARP => {
                let packet = arp::Repr::parse(frame.payload()).ok()?;
                let asks = packet.operation == Operation::Request;
                (asks && self.answers_for(node, interface, packet.target_ip.into()))
                    .then(|| arp::Repr::reply_to(&packet, own).emit(packet.sender_mac))
            }
            ETHERTYPE_IPV6 => {
                let packet = ndp::Repr::parse(frame.payload()).ok()?;
                let Message::Solicitation { target, .. } = packet.message else {
                    return None;
                };
                if packet.source.is_unspecified() || !self.answers_for(node, interface, target.into()) {
                    return None;
                }
                let answer = ndp::Repr {
                    source: target,
                    destination: packet.source,
                    message: Message::Advertisement {
                        target,
                        target_mac: Some(own),
                        solicited: true,
                        overrides: true,
                    },
                };
                Some(answer.emit(frame.source(), own))
            }
            _ => None,
        }
    }
}

/// The node at an address of membership.
pub(crate) fn node_at(address: SocketAddr, nodes: usize) -> Option<NodeNumber> {
    let page = usize::from(address.port().checked_sub(PORT)?);
    let last = match address.ip() {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]),
        IpAddr::V6(ip) => usize::from(ip.segments()[7]),
    };
    let node = page * PAGE + last.checked_sub(1)?;
    (node < nodes).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_answers_where_linux_does() {
        let default = Kernels::default();
        let strict = Kernels {
            arp_ignore: true,
            second_address: true,
            ..default
        };
        let six = Kernels {
            ipv6_nodes: true,
            ..default
        };
        let (first, second) = (
            default.address(3).ip(),
            strict.ipv4_of(3, SECOND_INTERFACE)[0].into(),
        );
        let local = |interface| link_local(3, interface).into();
        for (kernels, target, on) in [
            (default, first, [true, true]),
            (default, second, [false, false]),
            (strict, first, [true, false]),
            (strict, second, [false, true]),
            (six, first, [false, false]),
            (six, six.address(3).ip(), [true, false]),
            (six, local(INTERFACE), [true, false]),
            (six, local(SECOND_INTERFACE), [false, true]),
        ] {
            let answers = [INTERFACE, SECOND_INTERFACE].map(|on| kernels.answers_for(3, on, target));
            assert_eq!(answers, on, "{target} {kernels:?}");
        }
    }

    #[test]
    fn addresses_lead_back_to_their_nodes() {
        for ipv6_nodes in [false, true] {
            let kernels = Kernels {
                ipv6_nodes,
                ..Kernels::default()
            };
            for node in 0..600 {
                assert_eq!(node_at(kernels.address(node), 600), Some(node));
            }
            assert_eq!(node_at(kernels.address(600), 600), None);
        }
    }
}
