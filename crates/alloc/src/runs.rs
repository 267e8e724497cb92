//! A set of numbers kept as runs: the free addresses of a range.

use std::collections::BTreeMap;

/// Numbers as disjoint, non-adjacent runs `start..=end`. Every operation is O(log runs), and the number of runs follows
/// fragmentation, not size: a /64 costs what a /30 costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Start of each run to its end.
    runs: BTreeMap<u128, u128>,
}

impl Runs {
    /// All of `start..=end`.
    pub(crate) fn full(start: u128, end: u128) -> Self {
        Self {
            runs: BTreeMap::from([(start, end)]),
        }
    }

    /// Run that holds `number`.
    fn run_of(&self, number: u128) -> Option<(u128, u128)> {
        let (&start, &end) = self.runs.range(..=number).next_back()?;
        (number <= end).then_some((start, end))
    }

    /// Whether `number` is in the set.
    #[cfg(test)]
    pub(crate) fn contains(&self, number: u128) -> bool {
        self.run_of(number).is_some()
    }

    /// Takes `number` out. False when it was not in.
    pub(crate) fn take(&mut self, number: u128) -> bool {
        let Some((start, end)) = self.run_of(number) else {
            return false;
        };
        if start == number {
            self.runs.remove(&start);
        } else {
            self.runs.insert(start, number - 1);
        }
        if number < end {
            self.runs.insert(number + 1, end);
        }
        true
    }

    /// Puts `number` in. False when it was in already.
    pub(crate) fn give(&mut self, number: u128) -> bool {
        if self.run_of(number).is_some() {
            return false;
        }
        let before = number.checked_sub(1).and_then(|previous| self.run_of(previous));
        let after = number.checked_add(1).and_then(|next| self.runs.remove(&next));
        let start = before.map_or(number, |(start, _)| start);
        self.runs.insert(start, after.unwrap_or(number));
        true
    }

    /// Smallest number.
    pub(crate) fn first(&self) -> Option<u128> {
        self.runs.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Runs;

    proptest! {
        /// Against a plain set, over a range that starts and ends at the limits of the type.
        #[test]
        fn behaves_like_a_set(base in prop_oneof![Just(0_u128), Just(u128::MAX - 31), Just(1 << 64)],
                              steps in prop::collection::vec((any::<bool>(), 0_u128..32), 0..200)) {
            let mut runs = Runs::full(base, base + 31);
            let mut model: BTreeSet<u128> = (base..=base + 31).collect();
            for (give, offset) in steps {
                let number = base + offset;
                if give {
                    prop_assert_eq!(runs.give(number), model.insert(number));
                } else {
                    prop_assert_eq!(runs.take(number), model.remove(&number));
                }
                prop_assert_eq!(runs.contains(number), model.contains(&number));
                prop_assert_eq!(runs.first(), model.first().copied());
            }
            let listed: Vec<u128> =
                runs.runs.iter().flat_map(|(&start, &end)| start..=end).collect();
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
            let adjacent = runs.runs.iter().zip(runs.runs.keys().skip(1)).any(|((_, end), next)| end + 1 == *next);
            prop_assert!(!adjacent, "neighbouring runs are merged");
        }
    }
}
