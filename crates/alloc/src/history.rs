//! Which addresses were released when, for fair reuse.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses that are remembered; about 150 bytes each. Whoever churns through more than these has long forgotten the
/// oldest, which then counts as never used.
pub(crate) const REMEMBERED: usize = 65_536;

/// Free addresses that were held before, in the order of their release. It outlives a change of the pools: an address
/// that comes back with a pool is not fresh.
#[derive(Debug, Default)]
pub(crate) struct History {
    order: BTreeMap<u64, IpAddr>,
    when: BTreeMap<IpAddr, u64>,
    next: u64,
}

impl History {
    /// Remembers that the address was released now. Returns its place in the order, and what is forgotten for it.
    pub(crate) fn released(&mut self, ip: IpAddr) -> (u64, Option<(u64, IpAddr)>) {
        self.taken(ip);
        let forgotten = (self.order.len() >= REMEMBERED)
            .then(|| self.order.pop_first())
            .flatten();
        if let Some((_, ip)) = forgotten {
            self.when.remove(&ip);
        }
        let place = self.next;
        self.next += 1;
        self.order.insert(place, ip);
        self.when.insert(ip, place);
        (place, forgotten)
    }

    /// The address is held again. Returns its former place.
    pub(crate) fn taken(&mut self, ip: IpAddr) -> Option<u64> {
        let place = self.when.remove(&ip)?;
        self.order.remove(&place);
        Some(place)
    }

    /// All of it, least recently released first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, IpAddr)> {
        self.order.iter().map(|(place, ip)| (*place, *ip))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{History, REMEMBERED};

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let ip = |number: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).expect("few")));
        let mut history = History::default();
        for number in 0..REMEMBERED {
            assert_eq!(history.released(ip(number)).1, None);
        }
        history.released(ip(0));
        assert_eq!(history.released(ip(REMEMBERED)).1, Some((1, ip(1))));
        assert_eq!(history.iter().count(), REMEMBERED);
        assert_eq!(history.iter().next(), Some((2, ip(2))));
        assert_eq!(history.taken(ip(1)), None);
        assert!(history.taken(ip(2)).is_some() && history.taken(ip(2)).is_none());
    }
}
