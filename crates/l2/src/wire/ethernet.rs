//! Ethernet II framing (IEEE 802.3, 14-byte header).

use core::fmt;
use core::str::FromStr;

use super::{Malformed, array};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 14;
/// `EtherType` of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// `EtherType` of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, "unknown" in ARP requests.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether it names one interface: neither a group address nor all zero.
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(Malformed)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| Malformed)?;
        }
        if parts.next().is_some() {
            Err(Malformed)
        } else {
            Ok(Self(mac))
        }
    }
}

/// A view of a frame that is at least as long as its header.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    /// Checks the length.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer than 14 bytes.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER_LEN {
            Err(Malformed)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Who it was sent to.
    pub fn destination(self) -> MacAddr {
        MacAddr(array(self.0, 0))
    }

    /// Who sent it.
    pub fn source(self) -> MacAddr {
        MacAddr(array(self.0, 6))
    }

    /// What it carries.
    pub fn ethertype(self) -> u16 {
        u16::from_be_bytes(array(self.0, 12))
    }

    /// What follows the header, padding included.
    pub fn payload(self) -> &'a [u8] {
        &self.0[HEADER_LEN..]
    }
}

/// A buffer that begins with the given header and has room for `payload_len` further bytes.
pub(super) fn emit_header(
    destination: MacAddr,
    source: MacAddr,
    ethertype: u16,
    payload_len: usize,
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_LEN + payload_len);
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_parse_and_print() {
        let mac: MacAddr = "02:00:5e:10:00:ff".parse().expect("valid");
        assert_eq!(mac, MacAddr([2, 0, 0x5e, 0x10, 0, 0xff]));
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        assert!(mac.is_unicast());
        assert!(!MacAddr::BROADCAST.is_unicast());
        assert!(!MacAddr::ZERO.is_unicast());
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ff:01",
            "2:0:5e:10:0:ff",
            "02:00:5e:10:00:zz",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn short_frames_are_refused() {
        assert!(Frame::new_checked(&[0; 13]).is_err());
        assert!(
            Frame::new_checked(&[0; 14])
                .expect("long enough")
                .payload()
                .is_empty()
        );
    }
}
