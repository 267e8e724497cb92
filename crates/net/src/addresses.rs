//! The addresses of the interfaces for which the kernel answers there, kept from route netlink messages.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

/// Usable link-local and IPv4 addresses with the number of their interface, which may be told later.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    known: BTreeSet<(u32, IpAddr)>,
    /// Addresses told since a dump began; the others are gone when it ends.
    dumped: Option<BTreeSet<(u32, IpAddr)>>,
}

impl Addresses {
    /// A dump of all addresses begins.
    pub(crate) fn begin_dump(&mut self) {
        self.dumped = Some(BTreeSet::new());
    }

    /// The dump ended: what was not in it is gone. The interfaces that had it.
    pub(crate) fn end_dump(&mut self) -> BTreeSet<u32> {
        let Some(dumped) = self.dumped.take() else {
            return BTreeSet::new();
        };
        let gone = self.known.difference(&dumped).map(|(index, _)| *index).collect();
        self.known.retain(|address| dumped.contains(address));
        gone
    }

    /// An address is there or gone; the interface if it is of a kind that is kept.
    pub(crate) fn apply(&mut self, message: &AddressMessage, there: bool) -> Option<u32> {
        let address = address_of(message)?;
        let entry = (message.header.index, address);
        let usable = there && !is_tentative(message);
        for known in core::iter::once(&mut self.known).chain(&mut self.dumped) {
            if usable {
                known.insert(entry);
            } else {
                known.remove(&entry);
            }
        }
        Some(entry.0)
    }

    /// The interface is gone.
    pub(crate) fn forget(&mut self, index: u32) {
        self.known.retain(|(of, _)| *of != index);
    }

    fn of(&self, index: u32) -> impl Iterator<Item = IpAddr> + '_ {
        let all = (index, Ipv4Addr::UNSPECIFIED.into())..(index + 1, Ipv4Addr::UNSPECIFIED.into());
        self.known.range(all).map(|(_, address)| *address)
    }

    /// The first link-local address of an interface.
    pub(crate) fn link_local(&self, index: u32) -> Option<Ipv6Addr> {
        self.of(index).find_map(|address| match address {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
    }

    /// The IPv4 addresses of an interface, in order.
    pub(crate) fn ipv4(&self, index: u32) -> Vec<Ipv4Addr> {
        let ipv4 = self.of(index).filter_map(|address| match address {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        ipv4.collect()
    }
}

/// The address, if it is one to keep: link-local, or IPv4 and the interface's for good as far as one can see. Virtual addresses
/// move (keepalived's) or are many (kube-proxy's, of services): they are secondary or have a prefix of 32.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let is_own = message.header.prefix_len < 32
        && message.header.scope != AddressScope::Host
        && !message.header.flags.contains(AddressHeaderFlags::Secondary);
    let (mut address, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                address = Some(IpAddr::V6(*ip));
            }
            // That of the other end, where there is one.
            AddressAttribute::Address(IpAddr::V4(ip)) if is_own => address = Some(IpAddr::V4(*ip)),
            AddressAttribute::Local(IpAddr::V4(ip)) if is_own => local = Some(IpAddr::V4(*ip)),
            _ => {}
        }
    }
    local.or(address)
}

fn is_tentative(message: &AddressMessage) -> bool {
    message.header.flags.contains(AddressHeaderFlags::Tentative)
        || message.attributes.iter().any(|attribute| {
            matches!(attribute, AddressAttribute::Flags(flags)
                if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(text: &str, prefix_len: u8, flags: AddressHeaderFlags, scope: AddressScope) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = 2;
        message.header.prefix_len = prefix_len;
        message.header.flags = flags;
        message.header.scope = scope;
        let address = text.parse().expect("address");
        message.attributes = vec![
            AddressAttribute::Address(address),
            AddressAttribute::Local(address),
        ];
        message
    }

    #[test]
    fn ipv4_addresses_that_an_interface_has_for_good() {
        let (permanent, secondary) = (AddressHeaderFlags::Permanent, AddressHeaderFlags::Secondary);
        let (universe, host) = (AddressScope::Universe, AddressScope::Host);
        let mut addresses = Addresses::default();
        for (message, kept) in [
            (ipv4("198.51.100.2", 24, permanent, universe), true),
            (
                ipv4("198.51.100.1", 24, AddressHeaderFlags::empty(), universe),
                true,
            ),
            (ipv4("198.51.100.3", 24, permanent | secondary, universe), false),
            (ipv4("198.51.100.4", 32, permanent, universe), false),
            (ipv4("127.0.0.1", 8, permanent, host), false),
        ] {
            assert_eq!(addresses.apply(&message, true).is_some(), kept, "{message:?}");
        }
        let expected: Vec<Ipv4Addr> = ["198.51.100.1", "198.51.100.2"]
            .map(|text| text.parse().expect("address"))
            .into();
        assert_eq!(addresses.ipv4(2), expected);
        assert_eq!((addresses.ipv4(1), addresses.ipv4(3)), (Vec::new(), Vec::new()));

        let mut peer = ipv4("198.51.100.9", 30, permanent, universe);
        peer.attributes[1] = AddressAttribute::Local("203.0.113.1".parse().expect("address"));
        addresses.apply(&peer, true);
        assert_eq!(addresses.ipv4(2).last(), "203.0.113.1".parse().ok().as_ref());
        addresses.apply(&peer, false);
        assert_eq!(addresses.ipv4(2), expected);

        addresses.begin_dump();
        addresses.apply(&ipv4("198.51.100.2", 24, permanent, universe), true);
        assert_eq!(addresses.end_dump(), [2].into());
        assert_eq!(addresses.ipv4(2), expected[1..]);
        addresses.forget(2);
        assert!(addresses.ipv4(2).is_empty());
    }
}
