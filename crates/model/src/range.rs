//! Address ranges of one family, as pools list them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use thiserror::Error;

/// Address family of an address, a range or a ClusterIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, 32-bit addresses.
    V4,
    /// IPv6, 128-bit addresses.
    V6,
}

impl Family {
    /// Family of an address. An IPv4-mapped IPv6 address is IPv6 here; parsers refuse it before it gets this far.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Address with the given number in this family; `None` when an IPv4 number needs more than 32 bits.
    pub fn address(self, number: u128) -> Option<IpAddr> {
        match self {
            Self::V4 => u32::try_from(number)
                .ok()
                .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            Self::V6 => Some(IpAddr::V6(Ipv6Addr::from_bits(number))),
        }
    }

    /// Number of an address: its bits, most significant first.
    pub fn number(ip: IpAddr) -> u128 {
        match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Why a text is not an address range. The message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// Nothing but spaces.
    #[error("the entry is empty; write a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20")]
    Empty,
    /// Neither a prefix length nor a second address.
    #[error(
        "\"{0}\" has neither a prefix length nor an end; for one address write {0}/32 (IPv6: /128) or {0}-{0}"
    )]
    Single(String),
    /// A CIDR that does not parse.
    #[error("\"{0}\" is not a CIDR such as 192.0.2.0/24 or 2001:db8::/64")]
    Cidr(String),
    /// One end of a range does not parse.
    #[error("\"{part}\" in \"{text}\" is not an IP address")]
    Address {
        /// The whole entry.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// Ends of different families.
    #[error("\"{0}\" starts in one address family and ends in the other")]
    MixedFamilies(String),
    /// The start is above the end.
    #[error("\"{text}\" is reversed: {start} is above {end}")]
    Reversed {
        /// The whole entry.
        text: String,
        /// First address as written.
        start: IpAddr,
        /// Second address as written.
        end: IpAddr,
    },
    /// A block of IPv6 that ends among `::ffff:a.b.c.d`: no host can be reached by those on a LAN.
    #[error("\"{0}\" holds IPv4-mapped IPv6 addresses; write them as IPv4")]
    Mapped(String),
}

/// Addresses `start..=end` of one family, never empty.
///
/// Orders by start, then end; all IPv4 ranges come before all IPv6 ranges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    start: IpAddr,
    end: IpAddr,
}

impl IpRange {
    /// Range from its ends, both inside. IPv4-mapped ones are IPv4, as Go reads them.
    pub fn new(start: IpAddr, end: IpAddr) -> Result<Self, RangeError> {
        let (start, end) = (start.to_canonical(), end.to_canonical());
        let text = || format!("{start}-{end}");
        if Family::of(start) != Family::of(end) {
            return Err(RangeError::MixedFamilies(text()));
        }
        if start > end {
            return Err(RangeError::Reversed {
                text: text(),
                start,
                end,
            });
        }
        let range = Self { start, end };
        if range.holds_mapped() {
            return Err(RangeError::Mapped(text()));
        }
        Ok(range)
    }

    /// Range of exactly one address. Mapped addresses are not checked: the caller has an address already.
    pub fn single(ip: IpAddr) -> Self {
        Self { start: ip, end: ip }
    }

    /// First address.
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// Last address.
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// Family of both ends.
    pub fn family(&self) -> Family {
        Family::of(self.start)
    }

    /// Number of addresses, at least 1. `::/0` has one more than fits and saturates at [`u128::MAX`].
    pub fn size(&self) -> u128 {
        (Family::number(self.end) - Family::number(self.start)).saturating_add(1)
    }

    /// Whether `ip` is inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family() && self.start <= ip && ip <= self.end
    }

    /// Addresses that both ranges hold.
    pub fn overlap(&self, other: &Self) -> Option<Self> {
        if self.family() != other.family() {
            return None;
        }
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start <= end).then_some(Self { start, end })
    }

    /// The fewest CIDRs that hold exactly this range, ascending.
    pub fn to_cidrs(&self) -> Vec<IpNet> {
        match (self.start, self.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => Ipv4Subnets::new(start, end, 0).map(IpNet::V4).collect(),
            (IpAddr::V6(start), IpAddr::V6(end)) => Ipv6Subnets::new(start, end, 0).map(IpNet::V6).collect(),
            _ => Vec::new(), // the constructors refuse mixed families
        }
    }

    /// Whether an end is in `::ffff:0:0/96` (RFC 4291 2.5.5.2). A range that merely spans that block is not meant so.
    fn holds_mapped(&self) -> bool {
        let mapped = |ip| matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        mapped(self.start) || mapped(self.end)
    }
}

impl From<IpNet> for IpRange {
    fn from(net: IpNet) -> Self {
        // `broadcast` is the last address for IPv6 too; `network` drops host bits, as Go's parser does.
        Self {
            start: net.network(),
            end: net.broadcast(),
        }
    }
}

impl FromStr for IpRange {
    type Err = RangeError;

    /// Reads `CIDR` (host bits are dropped) or `start-end`; spaces around the parts do not matter. IPv4-mapped addresses are
    /// IPv4, as for Go.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RangeError::Empty);
        }
        let range = if let Some((start, end)) = text.split_once('-') {
            let address = |part: &str| {
                part.trim().parse::<IpAddr>().map_err(|_| RangeError::Address {
                    text: text.to_owned(),
                    part: part.trim().to_owned(),
                })
            };
            let (start, end) = (address(start)?.to_canonical(), address(end)?.to_canonical());
            if Family::of(start) != Family::of(end) {
                return Err(RangeError::MixedFamilies(text.to_owned()));
            }
            if start > end {
                return Err(RangeError::Reversed {
                    text: text.to_owned(),
                    start,
                    end,
                });
            }
            Self { start, end }
        } else if let Some((address, length)) = text.split_once('/') {
            // The standard parser, not ipnet's: that one takes 010.0.0.0, which other tools read as octal 8.0.0.0.
            let parsed = address.parse::<IpAddr>().ok().zip(digits(length));
            let net = parsed.and_then(|(address, length)| cidr(address, length));
            Self::from(net.ok_or_else(|| RangeError::Cidr(text.to_owned()))?)
        } else if text.parse::<IpAddr>().is_ok() {
            return Err(RangeError::Single(text.to_owned()));
        } else {
            return Err(RangeError::Cidr(text.to_owned()));
        };
        if range.holds_mapped() {
            Err(RangeError::Mapped(text.to_owned()))
        } else {
            Ok(range)
        }
    }
}

/// A CIDR; one of IPv4-mapped addresses is IPv4.
fn cidr(address: IpAddr, length: u8) -> Option<IpNet> {
    let canonical = address.to_canonical();
    match length.checked_sub(96) {
        Some(length) if canonical != address => IpNet::new(canonical, length).ok(),
        _ => IpNet::new(address, length).ok(),
    }
}

/// A prefix length: digits only, which `parse` alone does not ask for.
fn digits(text: &str) -> Option<u8> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

impl fmt::Display for IpRange {
    /// CIDR where the range is one, else `start-end`; one address prints as itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            return write!(f, "{}", self.start);
        }
        match self.to_cidrs().as_slice() {
            [net] => write!(f, "{net}"),
            _ => write!(f, "{}-{}", self.start, self.end),
        }
    }
}

impl fmt::Debug for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
