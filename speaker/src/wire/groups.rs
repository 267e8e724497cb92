//! Multicast groups that the engine wants heard. The packet sockets hear all groups already; joining them makes switches with
//! MLD snooping forward them.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use metallb_l2::InterfaceIndex;

/// What is joined, and what could not be and is tried again.
#[derive(Default)]
pub(super) struct Groups {
    joined: metallb_net::Groups,
    failed: BTreeSet<(InterfaceIndex, Ipv6Addr)>,
    /// A failure was told.
    told: bool,
}

impl Groups {
    pub(super) fn join(&mut self, interface: InterfaceIndex, group: Ipv6Addr) {
        match self.joined.join(interface, group) {
            Ok(()) => {
                self.failed.remove(&(interface, group));
            }
            Err(error) => {
                self.failed.insert((interface, group));
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        %group, interface, %error,
                        "a multicast group could not be joined; a switch that snoops MLD may keep neighbour \
                         solicitations from this node; trying again"
                    );
                }
            }
        }
    }

    pub(super) fn part(&mut self, interface: InterfaceIndex, group: Ipv6Addr) {
        self.failed.remove(&(interface, group));
        self.joined.part(interface, group);
    }

    /// The interface is not used any more; when it returns, all is joined anew.
    pub(super) fn interface_gone(&mut self, interface: InterfaceIndex) {
        self.failed.retain(|(of, _)| *of != interface);
        self.joined.part_all(interface);
    }

    /// Whether something is to be tried again.
    pub(super) fn failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        for (interface, group) in std::mem::take(&mut self.failed) {
            self.join(interface, group);
        }
        if self.failed.is_empty() {
            self.told = false;
        }
    }
}
