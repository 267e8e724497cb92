//! The free addresses of one pool, and its counters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_model::{Family, IpRange, Pool};

use crate::runs::Runs;

/// Address counters of a pool, as its status and the metrics show them. Counts saturate at [`i64::MAX`], which is what
/// the Go version reports for a huge IPv6 pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// IPv4 addresses that at least one service holds.
    pub assigned_v4: i64,
    /// IPv6 addresses that at least one service holds.
    pub assigned_v6: i64,
    /// IPv4 addresses in the pool that may be assigned.
    pub total_v4: i64,
    /// IPv6 addresses in the pool that may be assigned.
    pub total_v6: i64,
    /// Services that hold addresses of the pool; more than addresses where addresses are shared.
    pub services: i64,
}

impl Counters {
    /// IPv4 addresses that nobody holds.
    pub fn available_v4(&self) -> i64 {
        self.total_v4.saturating_sub(self.assigned_v4)
    }

    /// IPv6 addresses that nobody holds.
    pub fn available_v6(&self) -> i64 {
        self.total_v6.saturating_sub(self.assigned_v6)
    }
}

/// One range of a pool. Addresses map to a dense index, so that addresses ending in .0 and .255 leave no holes when the
/// pool avoids them.
#[derive(Clone, Debug)]
struct Span {
    range: IpRange,
    avoids: bool,
    free: Runs,
}

/// Usable addresses of a /24 when .0 and .255 are avoided.
const DENSE_24: u128 = 254;

impl Span {
    /// `None` when every address of the range is avoided.
    fn new(range: IpRange, avoid: bool) -> Option<Self> {
        let avoids = avoid && range.family() == Family::V4;
        let (first, last) = (Family::number(range.start()), Family::number(range.end()));
        let (low, high) = if avoids {
            dense_bounds(first, last)?
        } else {
            (first, last)
        };
        Some(Self {
            range,
            avoids,
            free: Runs::full(low, high),
        })
    }

    fn index(&self, ip: IpAddr) -> Option<u128> {
        if !self.range.contains(ip) {
            return None;
        }
        let number = Family::number(ip);
        if !self.avoids {
            return Some(number);
        }
        let last_octet = number % 256;
        (last_octet != 0 && last_octet != 255).then(|| number / 256 * DENSE_24 + last_octet - 1)
    }

    fn address(&self, index: u128) -> Option<IpAddr> {
        let number = if self.avoids {
            index / DENSE_24 * 256 + index % DENSE_24 + 1
        } else {
            index
        };
        self.range.family().address(number)
    }

    fn size(&self) -> u128 {
        if !self.avoids {
            return self.range.size();
        }
        let bounds = dense_bounds(
            Family::number(self.range.start()),
            Family::number(self.range.end()),
        );
        bounds.map_or(0, |(low, high)| high - low + 1)
    }
}

/// Dense indices of the first and last address that is not avoided.
fn dense_bounds(first: u128, last: u128) -> Option<(u128, u128)> {
    let low = match first % 256 {
        255 => (first / 256 + 1) * DENSE_24,
        octet => first / 256 * DENSE_24 + octet.saturating_sub(1),
    };
    // One past the end, so that a range that starts at 0 does not wrap.
    let past = match last % 256 {
        255 => (last / 256 + 1) * DENSE_24,
        octet => last / 256 * DENSE_24 + octet,
    };
    (low < past).then(|| (low, past - 1))
}

/// Free addresses of a pool, range by range in the order written.
///
/// An address that may be assigned is in exactly one place: held, fresh (in the runs of its range), rested or withheld.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    /// Name of the pool.
    pub(crate) name: Arc<str>,
    spans: Vec<Span>,
    pub(crate) counters: Counters,
    /// Free addresses that were held before, by place in the order of release.
    rested: BTreeMap<(Family, u64), IpAddr>,
    /// Free addresses that are given only to those who ask for them: they are in use outside of the pool.
    withheld: BTreeSet<IpAddr>,
    /// Such addresses that services hold.
    pub(crate) doubtful: BTreeSet<IpAddr>,
}

impl Space {
    pub(crate) fn new(pool: &Pool) -> Self {
        let spans: Vec<Span> = pool
            .ranges
            .iter()
            .filter_map(|range| Span::new(*range, pool.avoid_buggy_ips))
            .collect();
        let total = |family| {
            let sizes = spans
                .iter()
                .filter(|span| span.range.family() == family)
                .map(Span::size);
            saturate(sizes.fold(0, u128::saturating_add))
        };
        let counters = Counters {
            total_v4: total(Family::V4),
            total_v6: total(Family::V6),
            ..Counters::default()
        };
        Self {
            name: pool.name.as_str().into(),
            spans,
            counters,
            rested: BTreeMap::new(),
            withheld: BTreeSet::new(),
            doubtful: BTreeSet::new(),
        }
    }

    fn take_fresh(&mut self, ip: IpAddr) -> bool {
        self.spans
            .iter_mut()
            .any(|span| span.index(ip).is_some_and(|index| span.free.take(index)))
    }

    fn give_fresh(&mut self, ip: IpAddr) -> bool {
        self.spans
            .iter_mut()
            .any(|span| span.index(ip).is_some_and(|index| span.free.give(index)))
    }

    fn take_rested(&mut self, ip: IpAddr, place: Option<u64>) -> bool {
        place.is_some_and(|place| self.rested.remove(&(Family::of(ip), place)).is_some())
    }

    /// Marks the address as held. `place` is its place in the order of release, if it has one. False when it is held
    /// already, or not the pool's to give.
    pub(crate) fn take(&mut self, ip: IpAddr, place: Option<u64>) -> bool {
        let withheld = self.withheld.remove(&ip);
        if withheld {
            self.doubtful.insert(ip);
        }
        let taken = withheld || self.take_rested(ip, place) || self.take_fresh(ip);
        if taken {
            *self.assigned(ip) += 1;
        }
        taken
    }

    /// Marks the address, which is held, as free. `place` is its place in the order of release; without one it counts as
    /// fresh.
    pub(crate) fn give(&mut self, ip: IpAddr, place: Option<u64>) {
        *self.assigned(ip) -= 1;
        if self.doubtful.remove(&ip) {
            self.withheld.insert(ip);
        } else if let Some(place) = place {
            self.rested.insert((Family::of(ip), place), ip);
        } else {
            self.give_fresh(ip);
        }
    }

    /// A fresh address of the pool was held before. Nothing happens when it is not fresh, or not the pool's.
    pub(crate) fn rest(&mut self, ip: IpAddr, place: u64) {
        if self.take_fresh(ip) {
            self.rested.insert((Family::of(ip), place), ip);
        }
    }

    /// The release of a free address is forgotten: it is fresh.
    pub(crate) fn forget(&mut self, ip: IpAddr, place: u64) {
        if self.take_rested(ip, Some(place)) {
            self.give_fresh(ip);
        }
    }

    /// From now on the address is given only to those who ask for it.
    pub(crate) fn withhold(&mut self, ip: IpAddr, place: Option<u64>) {
        if self.take_rested(ip, place) || self.take_fresh(ip) {
            self.withheld.insert(ip);
        } else if self.spans.iter().any(|span| span.index(ip).is_some()) {
            self.doubtful.insert(ip);
        }
    }

    /// The address is like any other again.
    pub(crate) fn release_withheld(&mut self, ip: IpAddr) {
        self.doubtful.remove(&ip);
        if self.withheld.remove(&ip) {
            self.give_fresh(ip);
        }
    }

    fn assigned(&mut self, ip: IpAddr) -> &mut i64 {
        match Family::of(ip) {
            Family::V4 => &mut self.counters.assigned_v4,
            Family::V6 => &mut self.counters.assigned_v6,
        }
    }

    /// Whether the pool may give any address of the family, held or not.
    pub(crate) fn has_family(&self, family: Family) -> bool {
        self.spans.iter().any(|span| span.range.family() == family)
    }

    /// Free addresses of the family that are given only to those who ask for them.
    pub(crate) fn withheld(&self, family: Family) -> usize {
        self.withheld
            .iter()
            .filter(|ip| Family::of(**ip) == family)
            .count()
    }

    /// The address to choose: in the first range that has one, the lowest that is fresh or that `shared` offers; failing
    /// that, the one that was released longest ago. `shared` gets a range and returns the lowest held address in it that
    /// the service may join.
    pub(crate) fn first(
        &self,
        family: Family,
        shared: impl Fn(&IpRange) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        let spans = self.spans.iter().filter(|span| span.range.family() == family);
        let mut fresh_or_shared = spans.filter_map(|span| {
            let fresh = span.free.first().and_then(|index| span.address(index));
            match (fresh, shared(&span.range)) {
                (Some(fresh), Some(shared)) => Some(fresh.min(shared)),
                (fresh, shared) => fresh.or(shared),
            }
        });
        fresh_or_shared.next().or_else(|| {
            let mut rested = self.rested.range((family, 0)..=(family, u64::MAX));
            rested.next().map(|(_, ip)| *ip)
        })
    }
}

fn saturate(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use metallb_model::{Family, Labels, Pool};

    use super::Space;

    fn pool(ranges: &[&str], avoid_buggy_ips: bool) -> Pool {
        Pool {
            name: "p".to_owned(),
            labels: Labels::new(),
            ranges: ranges.iter().map(|text| text.parse().expect(text)).collect(),
            auto_assign: true,
            avoid_buggy_ips,
            allocation: None,
        }
    }

    fn at(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    /// Takes everything, lowest first; returns the addresses in the order taken.
    fn drain(space: &mut Space, family: Family) -> Vec<IpAddr> {
        let mut taken = Vec::new();
        while let Some(ip) = space.first(family, |_| None) {
            assert!(space.take(ip, None), "{ip} was offered");
            taken.push(ip);
        }
        taken
    }

    #[test]
    fn offers_every_address_once_in_the_order_written() {
        for (ranges, avoid) in [
            (vec!["10.0.0.0/30"], false),
            (vec!["10.0.0.250-10.0.1.5"], true),
            (vec!["10.0.0.0/32", "10.0.0.255/32"], true),
            (vec!["10.0.0.255-10.0.1.0"], true),
            (vec!["10.0.3.0/24", "10.0.0.0/23"], true),
            (vec!["0.0.0.0/28"], true),
            (vec!["255.255.255.240/28"], true),
            (vec!["255.255.255.240/28"], false),
            (vec!["10.0.9.7-10.0.9.7"], true),
        ] {
            let pool = pool(&ranges, avoid);
            let mut space = Space::new(&pool);
            let mut expected = Vec::new();
            for range in &pool.ranges {
                let numbers = Family::number(range.start())..=Family::number(range.end());
                let all = numbers.filter_map(|n| Family::V4.address(n));
                expected.extend(all.filter(|ip| !pool.avoids(*ip)));
            }
            let count = i64::try_from(expected.len()).expect("few");
            assert_eq!(space.counters.total_v4, count, "{ranges:?}");
            assert_eq!(drain(&mut space, Family::V4), expected, "{ranges:?}");
            assert_eq!(space.counters.assigned_v4, count, "{ranges:?}");
            for ip in &expected {
                space.give(*ip, None);
            }
            assert_eq!(space.counters.assigned_v4, 0);
            assert_eq!(drain(&mut space, Family::V4), expected, "{ranges:?}, again");
        }
    }

    #[test]
    fn avoided_and_foreign_addresses_are_never_taken() {
        let mut space = Space::new(&pool(&["10.0.0.0/24"], true));
        for ip in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "2001:db8::1"] {
            assert!(!space.take(ip.parse().expect(ip), None), "{ip}");
        }
    }

    #[test]
    fn defect_of_the_go_version_counters_overflow_int64() {
        // The Go version adds to the maximum, and reports a negative size for two huge ranges.
        let mut space = Space::new(&pool(
            &["2001:db8::/64", "2001:db9::/32", "2001:dba::/120", "10.0.0.0/8"],
            true,
        ));
        assert_eq!(space.counters.total_v6, i64::MAX);
        assert_eq!(space.counters.total_v4, 65_536 * 254);
        let first = space.first(Family::V6, |_| None).expect("free");
        assert_eq!(first.to_string(), "2001:db8::");
        assert!(space.take(first, None));
        assert_eq!(space.counters.available_v6(), i64::MAX - 1);
    }

    #[test]
    fn prefers_the_lower_of_a_free_and_a_shared_address() {
        let mut space = Space::new(&pool(&["10.0.0.4-10.0.0.9"], false));
        space.withhold(at(4), None);
        space.withhold(at(5), None);
        let choose = |shared: Option<u8>| space.first(Family::V4, |_| shared.map(at));
        assert_eq!(choose(None), Some(at(6)));
        assert_eq!(
            choose(Some(5)),
            Some(at(5)),
            "a held address may be joined although it must not be chosen"
        );
        assert_eq!(choose(Some(8)), Some(at(6)));
    }

    #[test]
    fn withheld_addresses_change_hands_only_on_request() {
        let mut space = Space::new(&pool(&["10.0.0.0-10.0.0.3"], true));
        assert!(space.take(at(1), None));
        for last in 0..=4 {
            space.withhold(at(last), None);
        }
        assert_eq!(
            space.doubtful,
            [at(1)].into(),
            ".0 is avoided and .4 is another's"
        );
        assert_eq!(
            (space.first(Family::V4, |_| None), space.withheld(Family::V4)),
            (None, 2)
        );
        assert!(space.take(at(3), None));
        space.give(at(1), Some(7));
        assert_eq!((space.doubtful.len(), space.counters.assigned_v4), (1, 1));
        for last in 0..=4 {
            space.release_withheld(at(last));
        }
        assert_eq!(drain(&mut space, Family::V4), [at(1), at(2)]);
    }

    #[test]
    fn the_order_of_release_counts_when_no_address_is_fresh() {
        let mut space = Space::new(&pool(&["10.0.0.1-10.0.0.4"], false));
        for last in 1..=3 {
            assert!(space.take(at(last), None));
        }
        for (place, last) in [(7, 2), (8, 1), (9, 3)] {
            space.give(at(last), Some(place));
        }
        let mut chosen = Vec::new();
        while let Some(ip) = space.first(Family::V4, |_| None) {
            let place = [(2, 7), (1, 8), (3, 9)]
                .into_iter()
                .find(|(last, _)| at(*last) == ip);
            assert!(space.take(ip, place.map(|(_, place)| place)));
            chosen.push(ip);
        }
        assert_eq!(chosen, [at(4), at(2), at(1), at(3)]);
        space.give(at(3), Some(10));
        space.give(at(2), Some(11));
        space.forget(at(2), 11);
        assert_eq!(
            space.first(Family::V4, |_| None),
            Some(at(2)),
            "forgotten is fresh"
        );
    }
}
