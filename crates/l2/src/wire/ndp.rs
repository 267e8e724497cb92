//! Neighbour solicitation and advertisement (RFC 4861 4.3, 4.4) inside IPv6 inside Ethernet.
//!
//! Only what an announcer of addresses needs: both messages with at most the link-layer address option. The IPv6 header
//! is checked as RFC 4861 7.1 demands (hop limit 255, ICMP checksum, code 0), so that nothing from beyond the link gets
//! through.

use std::net::Ipv6Addr;

use super::ethernet::{self, ETHERTYPE_IPV6, MacAddr};
use super::{Malformed, array};

const IPV6_HEADER_LEN: usize = 40;
const NEXT_HEADER_ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 255;
const TYPE_SOLICITATION: u8 = 135;
const TYPE_ADVERTISEMENT: u8 = 136;
/// Type, code, checksum, flags and target address.
const MESSAGE_LEN: usize = 24;
const OPTION_SOURCE_LINK: u8 = 1;
const OPTION_TARGET_LINK: u8 = 2;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// `ff02::1`, every node on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group that whoever asks for `address` sends to (RFC 4291 2.7.1): `ff02::1:ff` and its last 24 bits.
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | a as u16,
        ((b as u16) << 8) | c as u16,
    )
}

/// The Ethernet group of an IPv6 group (RFC 2464 7): `33:33` and its last 32 bits.
pub const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// A neighbour discovery message as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has `target`?
    Solicitation {
        /// Address asked for.
        target: Ipv6Addr,
        /// Where to answer to; absent in duplicate address detection and in some unicast solicitations.
        source_mac: Option<MacAddr>,
    },
    /// `target` is at `target_mac`.
    Advertisement {
        /// Address spoken of.
        target: Ipv6Addr,
        /// Its hardware address.
        target_mac: Option<MacAddr>,
        /// Answers a solicitation.
        solicited: bool,
        /// Replaces what the neighbour has cached.
        overrides: bool,
    },
}

/// A message with the IPv6 addresses around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// IPv6 source; unspecified in duplicate address detection.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// What it says.
    pub message: Message,
}

impl Repr {
    /// Reads the payload of an Ethernet frame.
    ///
    /// # Errors
    /// [`Malformed`] when it is not a valid solicitation or advertisement by RFC 4861 7.1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < IPV6_HEADER_LEN + MESSAGE_LEN || bytes[0] >> 4 != 6 {
            return Err(Malformed);
        }
        let length = usize::from(u16::from_be_bytes(array(bytes, 4)));
        let message = bytes
            .get(IPV6_HEADER_LEN..IPV6_HEADER_LEN + length)
            .ok_or(Malformed)?;
        let (source, destination): (Ipv6Addr, Ipv6Addr) =
            (array::<16>(bytes, 8).into(), array::<16>(bytes, 24).into());
        if bytes[6] != NEXT_HEADER_ICMPV6
            || bytes[7] != HOP_LIMIT
            || length < MESSAGE_LEN
            || message[1] != 0
            || checksum(source, destination, message) != 0
        {
            return Err(Malformed);
        }
        let target: Ipv6Addr = array::<16>(message, 8).into();
        // No packet comes from a group (RFC 4291 2.7).
        if target.is_multicast() || source.is_multicast() {
            return Err(Malformed);
        }
        let options = &message[MESSAGE_LEN..];
        let message = match message[0] {
            TYPE_SOLICITATION => {
                let source_mac = link_option(options, OPTION_SOURCE_LINK)?;
                let probe = source.is_unspecified();
                if probe && (source_mac.is_some() || destination != solicited_node(target)) {
                    return Err(Malformed);
                }
                Message::Solicitation { target, source_mac }
            }
            TYPE_ADVERTISEMENT => {
                let solicited = message[4] & FLAG_SOLICITED != 0;
                // An answer to one is not told to all (RFC 4861 7.1.2).
                if solicited && destination.is_multicast() {
                    return Err(Malformed);
                }
                Message::Advertisement {
                    target,
                    target_mac: link_option(options, OPTION_TARGET_LINK)?,
                    solicited,
                    overrides: message[4] & FLAG_OVERRIDE != 0,
                }
            }
            _ => return Err(Malformed),
        };
        Ok(Self {
            source,
            destination,
            message,
        })
    }

    /// The Ethernet frame from `source_mac` to `destination_mac` that carries this message.
    pub fn emit(&self, destination_mac: MacAddr, source_mac: MacAddr) -> Vec<u8> {
        let mut body = [0; MESSAGE_LEN + 8];
        let (kind, flags, target, option, mac) = match self.message {
            Message::Solicitation { target, source_mac } => {
                (TYPE_SOLICITATION, 0, target, OPTION_SOURCE_LINK, source_mac)
            }
            Message::Advertisement {
                target,
                target_mac,
                solicited,
                overrides,
            } => {
                let flags =
                    if solicited { FLAG_SOLICITED } else { 0 } | if overrides { FLAG_OVERRIDE } else { 0 };
                (TYPE_ADVERTISEMENT, flags, target, OPTION_TARGET_LINK, target_mac)
            }
        };
        body[0] = kind;
        body[4] = flags;
        body[8..MESSAGE_LEN].copy_from_slice(&target.octets());
        let mut length = MESSAGE_LEN;
        if let Some(mac) = mac {
            body[MESSAGE_LEN] = option;
            body[MESSAGE_LEN + 1] = 1; // in units of 8 bytes
            body[MESSAGE_LEN + 2..].copy_from_slice(&mac.0);
            length += 8;
        }
        let sum = checksum(self.source, self.destination, &body[..length]);
        body[2..4].copy_from_slice(&sum.to_be_bytes());

        let mut frame = ethernet::emit_header(
            destination_mac,
            source_mac,
            ETHERTYPE_IPV6,
            IPV6_HEADER_LEN + length,
        );
        frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length as u8, NEXT_HEADER_ICMPV6, HOP_LIMIT]);
        frame.extend_from_slice(&self.source.octets());
        frame.extend_from_slice(&self.destination.octets());
        frame.extend_from_slice(&body[..length]);
        frame
    }
}

/// The first link-layer address option of the given kind; other options are skipped (RFC 4861 4.6).
fn link_option(mut options: &[u8], kind: u8) -> Result<Option<MacAddr>, Malformed> {
    let mut found = None;
    while let [option, units, ..] = options {
        let length = usize::from(*units) * 8;
        if length == 0 || length > options.len() {
            return Err(Malformed);
        }
        if *option == kind && found.is_none() {
            found = Some(MacAddr(array(options, 2)));
        }
        options = &options[length..];
    }
    if options.is_empty() {
        Ok(found)
    } else {
        Err(Malformed)
    }
}

/// Checksum of `ICMPv6` over the pseudo header (RFC 4443 2.3, RFC 1071); 0 for a message whose checksum field is right.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut sum = message.len() as u32 + u32::from(NEXT_HEADER_ICMPV6);
    for part in [&source.octets()[..], &destination.octets()[..], message] {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u32::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::Frame;

    const TARGET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
    const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn cases() -> Vec<Repr> {
        vec![
            Repr {
                source: CLIENT,
                destination: solicited_node(TARGET),
                message: Message::Solicitation {
                    target: TARGET,
                    source_mac: Some(MAC),
                },
            },
            Repr {
                source: CLIENT,
                destination: TARGET,
                message: Message::Solicitation {
                    target: TARGET,
                    source_mac: None,
                },
            },
            Repr {
                source: Ipv6Addr::UNSPECIFIED,
                destination: solicited_node(TARGET),
                message: Message::Solicitation {
                    target: TARGET,
                    source_mac: None,
                },
            },
            Repr {
                source: TARGET,
                destination: ALL_NODES,
                message: Message::Advertisement {
                    target: TARGET,
                    target_mac: Some(MAC),
                    solicited: false,
                    overrides: true,
                },
            },
        ]
    }

    #[test]
    fn what_is_emitted_is_parsed() {
        for repr in cases() {
            let bytes = repr.emit(multicast_mac(repr.destination), MAC);
            let frame = Frame::new_checked(&bytes).expect("frame");
            assert_eq!(frame.ethertype(), ETHERTYPE_IPV6);
            assert_eq!(Repr::parse(frame.payload()), Ok(repr));
        }
    }

    #[test]
    fn groups() {
        assert_eq!(
            solicited_node(TARGET),
            "ff02::1:ff12:3456".parse::<Ipv6Addr>().expect("address")
        );
        assert_eq!(
            multicast_mac(solicited_node(TARGET)),
            MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56])
        );
        assert_eq!(multicast_mac(ALL_NODES), MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    }

    #[test]
    fn what_a_neighbour_must_not_send_is_refused() {
        let good = cases()[0].emit(MAC, MAC)[14..].to_vec();
        assert!(Repr::parse(&good).is_ok());
        for (at, what) in [
            (0, "version"),
            (6, "next header"),
            (7, "hop limit"),
            (41, "code"),
            (43, "checksum"),
        ] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert_eq!(Repr::parse(&bytes), Err(Malformed), "{what}");
        }
        for length in 0..good.len() {
            assert_eq!(Repr::parse(&good[..length]), Err(Malformed), "cut at {length}");
        }
    }

    #[test]
    fn a_probe_with_a_source_link_option_is_refused() {
        let mut repr = cases()[2];
        repr.message = Message::Solicitation {
            target: TARGET,
            source_mac: Some(MAC),
        };
        assert_eq!(Repr::parse(&repr.emit(MAC, MAC)[14..]), Err(Malformed));
    }
}
