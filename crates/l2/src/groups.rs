//! The multicast groups that must be heard for the addresses that are answered for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::announcer::{Announcer, Output, Role};
use crate::link::InterfaceIndex;
use crate::wire::ndp;

/// Groups by interface, with the addresses that need each: many addresses may share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(BTreeMap<(InterfaceIndex, Ipv6Addr), BTreeSet<Ipv6Addr>>);

impl Announcer {
    /// Joins or parts the group of one address, by what is held and the links there are.
    pub(crate) fn follow_groups(&mut self, address: IpAddr) {
        let IpAddr::V6(ip) = address else { return };
        let group = ndp::solicited_node(ip);
        let wanted: BTreeSet<InterfaceIndex> = self
            .links
            .iter()
            .filter(|(index, link)| {
                let held = self.held.get(&address).map(|held| &held.role);
                link.carries(address)
                    && match held {
                        None => false,
                        Some(Role::StandIn(macs)) => macs.contains_key(index),
                        Some(role) => role
                            .interfaces()
                            .is_some_and(|allowed| allowed.allows(&link.name)),
                    }
            })
            .map(|(index, _)| *index)
            .collect();
        for index in &wanted {
            let members = self.groups.0.entry((*index, group)).or_default();
            if members.is_empty() {
                self.outputs.push_back(Output::Join(*index, group));
            }
            members.insert(ip);
        }
        let unwanted: Vec<InterfaceIndex> = self
            .groups
            .0
            .iter()
            .filter(|((index, of), members)| *of == group && members.contains(&ip) && !wanted.contains(index))
            .map(|((index, _), _)| *index)
            .collect();
        for index in unwanted {
            if let Some(members) = self.groups.0.get_mut(&(index, group)) {
                members.remove(&ip);
                if members.is_empty() {
                    self.groups.0.remove(&(index, group));
                    if self.links.contains_key(&index) {
                        self.outputs.push_back(Output::Part(index, group));
                    }
                }
            }
        }
    }

    /// The same for all addresses, after a link changed. Joins on a link that went are forgotten, so that they are made anew
    /// when it returns.
    pub(crate) fn follow_all_groups(&mut self) {
        let links = &self.links;
        self.groups.0.retain(|(index, _), _| links.contains_key(index));
        let held: Vec<IpAddr> = self.held.keys().copied().collect();
        for address in held {
            self.follow_groups(address);
        }
    }
}
