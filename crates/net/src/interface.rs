//! The table of interfaces, kept from route netlink messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::Exclusions;
use crate::addresses::Addresses;

/// One interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Hardware address, if it is an Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// Set up by the administrator.
    pub admin_up: bool,
    /// The cable has a carrier.
    pub carrier: bool,
    /// Loopback.
    pub loopback: bool,
    /// Can broadcast.
    pub broadcast: bool,
    /// Speaks no ARP.
    pub noarp: bool,
    /// Number of the bond, bridge or VRF that it belongs to.
    pub master: Option<u32>,
    /// Its IPv6 link-local address, once usable (duplicate address detection is over).
    pub link_local: Option<Ipv6Addr>,
    /// IPv4 addresses of its own, in order, but no virtual ones: secondary, or of prefix length 32.
    pub ipv4: Vec<Ipv4Addr>,
}

/// Why an interface is not announced on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its name matches an exclusion pattern.
    Excluded,
    /// It is down.
    Down,
    /// No carrier.
    NoCarrier,
    /// It belongs to a bond or a bridge, which is announced on instead; or to a VRF, which has no ARP, so that nothing is.
    HasMaster,
    /// The flag `NOARP` is set.
    NoArp,
    /// Not Ethernet, or cannot broadcast.
    NotEthernet,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Excluded => "its name is excluded (announcedInterfacesToExclude)",
            Self::Down => "it is down",
            Self::NoCarrier => "it has no carrier",
            Self::HasMaster => "it belongs to a bond, bridge or VRF",
            Self::NoArp => "it has the flag NOARP",
            Self::NotEthernet => "it is not an Ethernet interface that can broadcast",
        })
    }
}

impl Interface {
    /// The hardware address to announce with, or why the interface is not announced on.
    ///
    /// # Errors
    /// The first reason that applies.
    pub fn usable(&self, exclusions: &Exclusions) -> Result<[u8; 6], Unusable> {
        if exclusions.excludes(&self.name) {
            return Err(Unusable::Excluded);
        }
        if !self.admin_up {
            return Err(Unusable::Down);
        }
        if self.master.is_some() {
            return Err(Unusable::HasMaster);
        }
        if self.noarp {
            return Err(Unusable::NoArp);
        }
        let mac = self
            .mac
            .filter(|_| self.broadcast && !self.loopback)
            .ok_or(Unusable::NotEthernet)?;
        if self.carrier {
            Ok(mac)
        } else {
            Err(Unusable::NoCarrier)
        }
    }
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceEvent {
    /// The interface is new or something about it changed.
    Changed(Interface),
    /// The interface is gone.
    Removed(u32),
}

/// What is known of all interfaces. Pure: messages in, events out.
#[derive(Debug, Default)]
pub struct InterfaceTable {
    interfaces: BTreeMap<u32, Interface>,
    addresses: Addresses,
    /// Interfaces told since a dump began; the others are gone when it ends.
    dumped: Option<BTreeSet<u32>>,
}

impl InterfaceTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// All interfaces, by number.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    /// A dump of all links begins.
    pub fn begin_dump(&mut self) {
        self.dumped = Some(BTreeSet::new());
    }

    /// The dump of all links ended: what was not in it is gone.
    pub fn end_dump(&mut self) -> Vec<InterfaceEvent> {
        let Some(dumped) = self.dumped.take() else {
            return Vec::new();
        };
        let gone: Vec<u32> = self
            .interfaces
            .keys()
            .copied()
            .filter(|index| !dumped.contains(index))
            .collect();
        gone.into_iter().filter_map(|index| self.remove(index)).collect()
    }

    /// A dump of all addresses begins.
    pub fn begin_address_dump(&mut self) {
        self.addresses.begin_dump();
    }

    /// The dump of all addresses ended: what was not in it is gone.
    pub fn end_address_dump(&mut self) -> Vec<InterfaceEvent> {
        let changed = self.addresses.end_dump();
        changed
            .into_iter()
            .filter_map(|index| self.readdress(index))
            .collect()
    }

    /// Takes one message; the change that it makes, if any.
    pub fn apply(&mut self, message: &RouteNetlinkMessage) -> Option<InterfaceEvent> {
        match message {
            // What a bridge says of its ports: that one leaves the bridge comes as the end of a link.
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)
                if link.header.interface_family == AddressFamily::Bridge =>
            {
                None
            }
            RouteNetlinkMessage::NewLink(link) => self.link(link),
            RouteNetlinkMessage::DelLink(link) => self.remove(link.header.index),
            RouteNetlinkMessage::NewAddress(address) => self.address(address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address(address, false),
            _ => None,
        }
    }

    fn link(&mut self, message: &LinkMessage) -> Option<InterfaceEvent> {
        let index = message.header.index;
        let flags = message.header.flags;
        let known = self.interfaces.get(&index);
        let mut name = known.map(|interface| interface.name.clone());
        let mut mac = known.and_then(|interface| interface.mac);
        let mut master = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                    mac = bytes.as_slice().try_into().ok();
                }
                LinkAttribute::Controller(number) if *number != 0 => master = Some(*number),
                _ => {}
            }
        }
        if let Some(dumped) = &mut self.dumped {
            dumped.insert(index);
        }
        self.put(Interface {
            index,
            name: name?,
            mac,
            admin_up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            broadcast: flags.contains(LinkFlags::Broadcast),
            noarp: flags.contains(LinkFlags::Noarp),
            master,
            link_local: self.addresses.link_local(index),
            ipv4: self.addresses.ipv4(index),
        })
    }

    fn address(&mut self, message: &AddressMessage, there: bool) -> Option<InterfaceEvent> {
        let index = self.addresses.apply(message, there)?;
        self.readdress(index)
    }

    /// The addresses of an interface may have changed.
    fn readdress(&mut self, index: u32) -> Option<InterfaceEvent> {
        let interface = self.interfaces.get(&index)?.clone();
        self.put(Interface {
            link_local: self.addresses.link_local(index),
            ipv4: self.addresses.ipv4(index),
            ..interface
        })
    }

    fn put(&mut self, interface: Interface) -> Option<InterfaceEvent> {
        let before = self.interfaces.insert(interface.index, interface.clone());
        (before.as_ref() != Some(&interface)).then_some(InterfaceEvent::Changed(interface))
    }

    fn remove(&mut self, index: u32) -> Option<InterfaceEvent> {
        self.addresses.forget(index);
        self.interfaces
            .remove(&index)
            .map(|_| InterfaceEvent::Removed(index))
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::address::{AddressAttribute, AddressFlags};

    use super::*;

    const UP: LinkFlags = LinkFlags::Up
        .union(LinkFlags::Broadcast)
        .union(LinkFlags::LowerUp);

    fn link(index: u32, name: &str, flags: LinkFlags, master: Option<u32>) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
        ];
        message.attributes.extend(master.map(LinkAttribute::Controller));
        RouteNetlinkMessage::NewLink(message)
    }

    fn address(index: u32, text: &str, flags: AddressFlags) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.family = AddressFamily::Inet6;
        message.attributes = vec![
            AddressAttribute::Address(text.parse().expect("address")),
            AddressAttribute::Flags(flags),
        ];
        message
    }

    fn changed(event: Option<InterfaceEvent>) -> Interface {
        match event {
            Some(InterfaceEvent::Changed(interface)) => interface,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn usability() {
        let none = Exclusions::new::<&str>([]).0;
        let cases = [
            (link(1, "eth0", UP, None), Ok([2, 0, 0, 0, 0, 1])),
            (link(1, "veth0", UP, None), Ok([2, 0, 0, 0, 0, 1])),
            (link(1, "eth0", UP - LinkFlags::Up, None), Err(Unusable::Down)),
            (
                link(1, "eth0", UP - LinkFlags::LowerUp, None),
                Err(Unusable::NoCarrier),
            ),
            (link(1, "eth0", UP, Some(7)), Err(Unusable::HasMaster)),
            (link(1, "eth0", UP | LinkFlags::Noarp, None), Err(Unusable::NoArp)),
            (
                link(1, "eth0", UP - LinkFlags::Broadcast, None),
                Err(Unusable::NotEthernet),
            ),
            (
                link(1, "lo", UP | LinkFlags::Loopback, None),
                Err(Unusable::NotEthernet),
            ),
        ];
        for (message, expected) in cases {
            let interface = changed(InterfaceTable::new().apply(&message));
            assert_eq!(interface.usable(&none), expected, "{interface:?}");
        }
        let veth = changed(InterfaceTable::new().apply(&link(1, "veth0", UP, None)));
        assert_eq!(veth.usable(&Exclusions::default()), Err(Unusable::Excluded));
    }

    #[test]
    fn only_changes_are_told() {
        let mut table = InterfaceTable::new();
        assert!(table.apply(&link(2, "eth0", UP, None)).is_some());
        assert_eq!(table.apply(&link(2, "eth0", UP, None)), None);
        let enslaved = changed(table.apply(&link(2, "eth0", UP, Some(9))));
        assert_eq!(enslaved.master, Some(9));
        assert_eq!(
            changed(table.apply(&link(2, "eth0", UP, None))).master,
            None,
            "freed again"
        );
        let mut gone = LinkMessage::default();
        gone.header.index = 2;
        let gone = RouteNetlinkMessage::DelLink(gone);
        assert_eq!(table.apply(&gone), Some(InterfaceEvent::Removed(2)));
        assert_eq!(table.apply(&gone), None);
    }

    #[test]
    fn link_local_addresses_count_once_they_are_usable() {
        let mut table = InterfaceTable::new();
        let usable = RouteNetlinkMessage::NewAddress(address(2, "fe80::2", AddressFlags::Permanent));
        assert_eq!(table.apply(&usable), None, "before its interface");
        let interface = changed(table.apply(&link(2, "eth0", UP, None)));
        assert_eq!(interface.link_local, "fe80::2".parse().ok());

        let tentative = RouteNetlinkMessage::NewAddress(address(2, "fe80::2", AddressFlags::Tentative));
        assert_eq!(changed(table.apply(&tentative)).link_local, None);
        assert!(table.apply(&usable).is_some());
        let global = RouteNetlinkMessage::NewAddress(address(2, "2001:db8::2", AddressFlags::Permanent));
        assert_eq!(table.apply(&global), None);
        let gone = RouteNetlinkMessage::DelAddress(address(2, "fe80::2", AddressFlags::Permanent));
        assert_eq!(changed(table.apply(&gone)).link_local, None);
    }

    #[test]
    fn of_two_link_local_addresses_one_is_left() {
        let mut table = InterfaceTable::new();
        table.apply(&link(2, "eth0", UP, None));
        let (first, second) = ("fe80::2", "fe80::3");
        for text in [first, second] {
            table.apply(&RouteNetlinkMessage::NewAddress(address(
                2,
                text,
                AddressFlags::Permanent,
            )));
        }
        let gone = |text| RouteNetlinkMessage::DelAddress(address(2, text, AddressFlags::Permanent));
        assert_eq!(changed(table.apply(&gone(first))).link_local, second.parse().ok());
        assert_eq!(changed(table.apply(&gone(second))).link_local, None);

        table.apply(&RouteNetlinkMessage::NewAddress(address(
            2,
            first,
            AddressFlags::Permanent,
        )));
        table.begin_address_dump();
        let events = table.end_address_dump();
        assert_eq!(events.len(), 1, "it vanished unseen");
    }

    #[test]
    fn that_a_port_leaves_its_bridge_ends_no_link() {
        let mut table = InterfaceTable::new();
        table.apply(&link(2, "eth0", UP, Some(9)));
        table.apply(&RouteNetlinkMessage::NewAddress(address(
            2,
            "fe80::2",
            AddressFlags::Permanent,
        )));
        let mut port = LinkMessage::default();
        port.header.index = 2;
        port.header.interface_family = AddressFamily::Bridge;
        port.attributes = vec![LinkAttribute::IfName("eth0".into())];
        assert_eq!(table.apply(&RouteNetlinkMessage::DelLink(port.clone())), None);
        assert_eq!(table.apply(&RouteNetlinkMessage::NewLink(port)), None);
        let freed = changed(table.apply(&link(2, "eth0", UP, None)));
        assert_eq!((freed.master, freed.link_local), (None, "fe80::2".parse().ok()));
    }

    #[test]
    fn a_dump_removes_what_vanished_unseen() {
        let mut table = InterfaceTable::new();
        table.apply(&link(1, "eth0", UP, None));
        table.apply(&link(2, "eth1", UP, None));
        table.begin_dump();
        table.apply(&link(2, "eth1", UP, None));
        assert_eq!(table.end_dump(), vec![InterfaceEvent::Removed(1)]);
        assert_eq!(table.interfaces().count(), 1);
    }
}
