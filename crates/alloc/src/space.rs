//! The free addresses of one pool, and its counters.

use std::net::IpAddr;

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
#[derive(Clone, Debug)]
pub(crate) struct Space {
    spans: Vec<Span>,
    pub(crate) counters: Counters,
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
        Self { spans, counters }
    }

    /// Marks the address as held. False when it is held already, or not the pool's to give.
    pub(crate) fn take(&mut self, ip: IpAddr) -> bool {
        let taken = self
            .spans
            .iter_mut()
            .any(|span| span.index(ip).is_some_and(|index| span.free.take(index)));
        if taken {
            *self.assigned(ip) += 1;
        }
        taken
    }

    /// Marks the address as free. False when it is free already, or not the pool's.
    pub(crate) fn give(&mut self, ip: IpAddr) -> bool {
        let given = self
            .spans
            .iter_mut()
            .any(|span| span.index(ip).is_some_and(|index| span.free.give(index)));
        if given {
            *self.assigned(ip) -= 1;
        }
        given
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

    /// The address to choose: in the first range that has one, the lowest that is free or that `shared` offers.
    /// `shared` gets a range and returns the lowest held address in it that the service may join; `skip` names free
    /// addresses that must not be chosen.
    pub(crate) fn first(
        &self,
        family: Family,
        shared: impl Fn(&IpRange) -> Option<IpAddr>,
        skip: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        self.spans
            .iter()
            .filter(|span| span.range.family() == family)
            .find_map(|span| match (first_free(span, &skip), shared(&span.range)) {
                (Some(free), Some(shared)) => Some(free.min(shared)),
                (free, shared) => free.or(shared),
            })
    }
}

fn first_free(span: &Span, skip: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut from = 0;
    loop {
        let index = span.free.first_from(from)?;
        let ip = span.address(index)?;
        if !skip(ip) {
            return Some(ip);
        }
        from = index.checked_add(1)?;
    }
}

fn saturate(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
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

    /// Takes everything, lowest first; returns the addresses in the order taken.
    fn drain(space: &mut Space, family: Family) -> Vec<IpAddr> {
        let mut taken = Vec::new();
        while let Some(ip) = space.first(family, |_| None, |_| false) {
            assert!(space.take(ip), "{ip} was offered");
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
                assert!(space.give(*ip) && !space.give(*ip), "{ip}");
            }
            assert_eq!(space.counters.assigned_v4, 0);
        }
    }

    #[test]
    fn avoided_and_foreign_addresses_are_never_taken() {
        let mut space = Space::new(&pool(&["10.0.0.0/24"], true));
        for ip in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "2001:db8::1"] {
            assert!(!space.take(ip.parse().expect(ip)), "{ip}");
        }
    }

    #[test]
    fn counts_saturate_and_large_ranges_cost_nothing() {
        let mut space = Space::new(&pool(&["2001:db8::/64", "2001:db9::/32", "10.0.0.0/8"], true));
        assert_eq!(space.counters.total_v6, i64::MAX);
        assert_eq!(space.counters.total_v4, 65_536 * 254);
        let first = space.first(Family::V6, |_| None, |_| false).expect("free");
        assert_eq!(first.to_string(), "2001:db8::");
        assert!(space.take(first));
        assert_eq!(space.counters.available_v6(), i64::MAX - 1);
    }

    #[test]
    fn skips_what_it_is_told_and_prefers_the_lower_shared_address() {
        let space = Space::new(&pool(&["10.0.0.4-10.0.0.9"], false));
        let at = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let skip = BTreeSet::from([at(4), at(5)]);
        let choose =
            |shared: Option<u8>| space.first(Family::V4, |_| shared.map(at), |ip| skip.contains(&ip));
        assert_eq!(choose(None), Some(at(6)));
        assert_eq!(
            choose(Some(5)),
            Some(at(5)),
            "a held address may be joined although it must not be chosen"
        );
        assert_eq!(choose(Some(8)), Some(at(6)));
    }
}
