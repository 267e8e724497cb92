//! Who says what about addresses on the LAN: ARP and neighbour discovery as seen from outside, read and written without
//! the product's own code, which is what is being judged. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the segment.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Reads `02:4c:c0:a8:7c:0b`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A frame about neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// ARP request (probes included) or neighbour solicitation.
    Asks(IpAddr),
    /// ARP reply or solicited advertisement to somebody who asked: the address, and the hardware address given for it.
    Answers(IpAddr, Mac),
    /// Gratuitous ARP or unsolicited advertisement to everybody.
    Announces(IpAddr, Mac),
    /// Membership: UDP, and in Go's also TCP (port 7946).
    Membership,
}

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const MEMBERSHIP_PORT: [u8; 2] = 7946_u16.to_be_bytes();
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What an Ethernet frame says, if it is about neighbours or membership.
pub fn read(frame: &[u8]) -> Option<Word> {
    let to = Mac(array(frame, 0)?);
    let body = frame.get(14..)?;
    match array::<2>(frame, 12)? {
        ARP => read_arp(to, body),
        IPV4 => membership(*body.get(9)?, body.get(usize::from(body.first()? & 0x0f) * 4..)?),
        IPV6 if body.get(6)? == &58 => read_icmp6(body.get(40..)?),
        IPV6 => membership(*body.get(6)?, body.get(40..)?),
        _ => None,
    }
}

/// UDP and TCP have their ports in the same place.
fn membership(protocol: u8, segment: &[u8]) -> Option<Word> {
    let ports = [array::<2>(segment, 0)?, array(segment, 2)?];
    (matches!(protocol, 6 | 17) && ports.contains(&MEMBERSHIP_PORT)).then_some(Word::Membership)
}

fn read_arp(to: Mac, body: &[u8]) -> Option<Word> {
    let operation = u16::from_be_bytes(array(body, 6)?);
    let mac = Mac(array(body, 8)?);
    let sender = IpAddr::from(array::<4>(body, 14)?);
    let target = IpAddr::from(array::<4>(body, 24)?);
    let gratuitous = sender == target;
    match operation {
        1 if !gratuitous => Some(Word::Asks(target)),
        2 if !gratuitous && to != Mac::BROADCAST => Some(Word::Answers(sender, mac)),
        1 | 2 => Some(Word::Announces(sender, mac)),
        _ => None,
    }
}

fn read_icmp6(message: &[u8]) -> Option<Word> {
    let target = IpAddr::from(array::<16>(message, 8)?);
    match *message.first()? {
        SOLICITATION => Some(Word::Asks(target)),
        ADVERTISEMENT => {
            let solicited = message.get(4)? & 0x40 != 0;
            // The option with the target's own link-layer address is the only one that advertisements carry.
            let mac = match array::<2>(message, 24) {
                Some([2, 1]) => Mac(array(message, 26)?),
                _ => return None,
            };
            Some(if solicited {
                Word::Answers(target, mac)
            } else {
                Word::Announces(target, mac)
            })
        }
        _ => None,
    }
}

/// A question for `target` from a host with these addresses: to everybody (IPv6: to the solicited-node group), or to `to`.
pub fn question(mac: Mac, own: (Ipv4Addr, Ipv6Addr), target: IpAddr, to: Option<Mac>) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => {
            let mut frame = [to.unwrap_or(Mac::BROADCAST).0, mac.0].concat();
            frame.extend(ARP);
            frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(mac.0);
            frame.extend(own.0.octets());
            frame.extend([0; 6]);
            frame.extend(target.octets());
            frame
        }
        IpAddr::V6(target) => {
            let [.., x, y, z] = target.octets();
            let group = Ipv6Addr::new(
                0xff02,
                0,
                0,
                0,
                0,
                1,
                0xff00 | u16::from(x),
                u16::from_be_bytes([y, z]),
            );
            let group_mac = Mac([0x33, 0x33, 0xff, x, y, z]);
            let (mac_to, ip_to) = match to {
                Some(to) => (to, target),
                None => (group_mac, group),
            };
            let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(target.octets());
            message.extend([1, 1]);
            message.extend(mac.0);
            let sum = checksum(own.1, ip_to, &message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
            let mut frame = [mac_to.0, mac.0].concat();
            frame.extend(IPV6);
            frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, 58, 255]);
            frame.extend(own.1.octets());
            frame.extend(ip_to.octets());
            frame.extend(message);
            frame
        }
    }
}

/// The `ICMPv6` checksum of a message of even length with its pseudo-header (RFC 8200 section 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &[0, 0, 0, message.len() as u8, 0, 0, 0, 58],
        message,
    ]
    .concat();
    let words = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0x4c, 0xc0, 0xa8, 0x7c, 0x64]);
    const OWN: (Ipv4Addr, Ipv6Addr) = (
        Ipv4Addr::new(192, 168, 124, 100),
        Ipv6Addr::new(0xfd00, 0x124, 0, 0, 0, 0, 0, 0x100),
    );

    #[test]
    fn questions_are_read_as_questions() {
        for target in ["192.168.124.200", "fd00:124::200"] {
            let target: IpAddr = target.parse().unwrap();
            for to in [None, Some(MAC)] {
                assert_eq!(read(&question(MAC, OWN, target, to)), Some(Word::Asks(target)));
            }
        }
    }

    #[test]
    fn a_solicitation_as_linux_sends_it() {
        // Captured: fe80::1 asks for fe80::2.
        let frame = question(
            Mac([2, 0, 0, 0, 0, 1]),
            (Ipv4Addr::UNSPECIFIED, "fe80::1".parse().unwrap()),
            "fe80::2".parse().unwrap(),
            None,
        );
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 2]);
        assert_eq!(
            frame[38..54],
            "ff02::1:ff00:2".parse::<Ipv6Addr>().unwrap().octets()
        );
        // A right checksum makes the sum over everything zero.
        assert_eq!(
            checksum(
                "fe80::1".parse().unwrap(),
                "ff02::1:ff00:2".parse().unwrap(),
                &frame[54..]
            ),
            0
        );
    }

    #[test]
    fn answers_and_announcements_are_told_apart() {
        let address: IpAddr = "192.168.124.200".parse().unwrap();
        let arp = |to: Mac, operation: u8, target: [u8; 4]| {
            let mut frame = [to.0, MAC.0].concat();
            frame.extend(ARP);
            frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
            frame.extend(MAC.0);
            frame.extend([192, 168, 124, 200]);
            frame.extend([0; 6]);
            frame.extend(target);
            frame
        };
        let cases = [
            (MAC, 2, [192, 168, 124, 100], Word::Answers(address, MAC)),
            (
                Mac::BROADCAST,
                2,
                [192, 168, 124, 200],
                Word::Announces(address, MAC),
            ),
            (
                Mac::BROADCAST,
                1,
                [192, 168, 124, 200],
                Word::Announces(address, MAC),
            ),
        ];
        for (to, operation, target, word) in cases {
            assert_eq!(read(&arp(to, operation, target)), Some(word));
        }
        let v6: Ipv6Addr = "fd00:124::200".parse().unwrap();
        let mut advertisement = question(MAC, OWN, v6.into(), Some(MAC));
        advertisement[54] = ADVERTISEMENT;
        advertisement[54 + 24] = 2;
        for (flags, word) in [
            (0x60, Word::Answers(v6.into(), MAC)),
            (0x20, Word::Announces(v6.into(), MAC)),
        ] {
            advertisement[58] = flags;
            assert_eq!(read(&advertisement), Some(word));
        }
    }

    #[test]
    fn cut_frames_say_nothing() {
        let whole = question(MAC, OWN, "fd00:124::200".parse().unwrap(), None);
        for length in 0..whole.len() {
            let word = read(&whole[..length]);
            assert!(matches!(word, None | Some(Word::Asks(_))), "{length}: {word:?}");
        }
        assert_eq!(read(&whole[..40]), None);
    }

    #[test]
    fn hardware_addresses_are_written_and_read() {
        assert_eq!(Mac::parse(&MAC.to_string()), Some(MAC));
        for bad in ["", "02:4c", "02:4c:c0:a8:7c:64:00", "x2:4c:c0:a8:7c:64"] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
