//! Which entry of the last valid text an entry of the present one was.

use std::collections::{BTreeMap, BTreeSet};

use super::Entry;

/// For each present entry the index of the entry that it was: the one with the same key or, for an entry that cannot be
/// used (the typo may be in the very key), the one at the same place. `usable` tells that for each present entry.
pub(crate) fn pair<T>(present: &[Entry<T>], usable: &[bool], last: &[Entry<T>]) -> Vec<Option<usize>> {
    let mut by_key: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, entry) in last.iter().enumerate() {
        if let Some(key) = &entry.key {
            by_key.entry(key).or_insert(index);
        }
    }
    let keys: BTreeSet<&str> = present.iter().filter_map(|entry| entry.key.as_deref()).collect();
    let mut taken = BTreeSet::new();
    let mut pairs: Vec<Option<usize>> = present
        .iter()
        .map(|entry| {
            let index = *by_key.get(entry.key.as_deref()?)?;
            taken.insert(index).then_some(index)
        })
        .collect();
    for index in 0..present.len() {
        let free = pairs[index].is_none() && !taken.contains(&index) && !usable[index];
        let missing = last
            .get(index)
            .is_some_and(|last| last.key.as_deref().is_none_or(|key| !keys.contains(key)));
        if free && missing {
            taken.insert(index);
            pairs[index] = Some(index);
        }
    }
    pairs
}
