//! What things in force have taken: addresses and names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Family, IpRange};

/// Ranges of which no two overlap, each with a number. O(log n) everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct RangeMap {
    by_start: BTreeMap<IpAddr, (IpAddr, usize)>,
}

impl RangeMap {
    /// A range that shares an address with `range`.
    pub(crate) fn overlapping(&self, range: &IpRange) -> Option<(IpRange, usize)> {
        let before = self.by_start.range(..=range.start()).next_back();
        let before =
            before.filter(|(start, (end, _))| Family::of(**start) == range.family() && *end >= range.start());
        let (start, (end, owner)) =
            before.or_else(|| self.by_start.range(range.start()..=range.end()).next())?;
        IpRange::new(*start, *end).ok().map(|range| (range, *owner))
    }

    /// Adds a range that overlaps none.
    pub(crate) fn insert(&mut self, range: &IpRange, owner: usize) {
        self.by_start.insert(range.start(), (range.end(), owner));
    }

    /// Removes a range that was inserted.
    pub(crate) fn remove(&mut self, range: &IpRange) {
        self.by_start.remove(&range.start());
    }
}

/// Names that are taken, each with the number of its owner.
pub(crate) type Names = BTreeMap<String, usize>;
