//! Multicast groups that interfaces hear, announced to switches by MLD (RFC 3810).
//!
//! A packet socket with `PACKET_MR_ALLMULTI` hears every group that reaches the interface, but a switch that snoops MLD forwards
//! only groups that somebody reported. The kernel reports what sockets join. It charges each join to the socket's option
//! memory (`net.core.optmem_max`, 20,480 bytes on small systems), so that one socket takes a few hundred: joins are spread
//! over as many sockets as they need.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;

use socket2::{Domain, Socket, Type};

/// Joins of one socket: 200 of less than 100 bytes each fit into 20,480 bytes.
const JOINS_MAX: usize = 200;

struct Member {
    socket: Socket,
    joined: usize,
}

/// The groups joined by this process. Joins end when it is dropped.
#[derive(Default)]
pub struct Groups {
    sockets: Vec<Member>,
    /// Which socket joined which group.
    joined: BTreeMap<(u32, Ipv6Addr), usize>,
}

impl Groups {
    /// None joined.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins a group on the interface with this number. A group that was joined before is joined anew: an interface that
    /// went and came back, or lost its joins, has it again.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface; `ENOBUFS` or `ENOMEM` when the kernel's memory for joins is used up; others
    /// when no IPv6 socket can be opened.
    pub fn join(&mut self, interface: u32, group: Ipv6Addr) -> io::Result<()> {
        self.part(interface, group);
        let free = self.sockets.iter().position(|member| member.joined < JOINS_MAX);
        let mut tried = None;
        if let Some(index) = free {
            match self.sockets[index].socket.join_multicast_v6(&group, interface) {
                Ok(()) => tried = Some(index),
                // The limit is smaller than thought; a fresh socket has room.
                Err(error) if is_full(&error) => self.sockets[index].joined = JOINS_MAX,
                Err(error) => return Err(error),
            }
        }
        let index = if let Some(index) = tried {
            index
        } else {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
            socket.join_multicast_v6(&group, interface)?;
            self.sockets.push(Member { socket, joined: 0 });
            self.sockets.len() - 1
        };
        self.sockets[index].joined += 1;
        self.joined.insert((interface, group), index);
        Ok(())
    }

    /// Leaves a group, if it was joined. That the interface is gone, and the join with it, is no error.
    pub fn part(&mut self, interface: u32, group: Ipv6Addr) {
        if let Some(index) = self.joined.remove(&(interface, group)) {
            let member = &mut self.sockets[index];
            let left = member.socket.leave_multicast_v6(&group, interface);
            // A join that the kernel dropped with the interface gave its memory back too.
            if left.is_ok() || member.joined < JOINS_MAX {
                member.joined = member.joined.saturating_sub(1);
            }
        }
    }

    /// Leaves all groups of an interface.
    pub fn part_all(&mut self, interface: u32) {
        let all = (interface, Ipv6Addr::UNSPECIFIED)..(interface + 1, Ipv6Addr::UNSPECIFIED);
        let groups: Vec<Ipv6Addr> = self.joined.range(all).map(|((_, group), _)| *group).collect();
        for group in groups {
            self.part(interface, group);
        }
    }

    /// How many groups are joined, over all interfaces.
    pub fn len(&self) -> usize {
        self.joined.len()
    }

    /// Whether none is joined.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    /// How many sockets that takes.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop-back interface hears groups too, and joining needs no privilege.
    #[test]
    fn a_thousand_groups_are_joined_parted_and_joined_again() {
        const LOOPBACK: u32 = 1;
        let group = |n: u16| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, n);
        let mut groups = Groups::new();
        for n in 0..1_000 {
            groups.join(LOOPBACK, group(n)).expect("joined");
        }
        assert_eq!((groups.len(), groups.sockets()), (1_000, 5));
        groups.join(LOOPBACK, group(7)).expect("joined anew");
        for n in 0..1_000 {
            groups.part(LOOPBACK, group(n));
        }
        assert!(groups.is_empty());
        for n in 0..1_000 {
            groups.join(LOOPBACK, group(n)).expect("joined again");
        }
        assert_eq!(groups.sockets(), 5, "room is used again");
        assert!(groups.join(9_999, group(0)).is_err(), "no such interface");
        groups.part_all(LOOPBACK);
        assert!(groups.is_empty());
    }
}
