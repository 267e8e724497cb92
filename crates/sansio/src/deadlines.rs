use core::borrow::Borrow;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::Instant;

/// Things by name, each with the time at which something is to be done about it. Unlike [`Timers`](crate::Timers) one thing
/// has one time, which can be put off: what is put off again and again costs no wake-up.
#[derive(Clone, Debug)]
pub struct Deadlines<K, V = ()> {
    all: BTreeMap<K, (Instant, V)>,
    order: BTreeSet<(Instant, K)>,
}

impl<K, V> Default for Deadlines<K, V> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone, V> Deadlines<K, V> {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            all: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Adds a thing that is due at `at`, instead of one of that name.
    pub fn set(&mut self, key: K, at: Instant, value: V) {
        if let Some((before, _)) = self.all.insert(key.clone(), (at, value))
            && before != at
        {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((at, key));
    }

    /// Changes when a thing is due; whether there is one of that name.
    pub fn put_off<Q: Ord + ?Sized>(&mut self, key: &Q, at: Instant) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(name) = self.all.get_key_value(key).map(|(name, _)| name.clone()) else {
            return false;
        };
        if let Some((due, _)) = self.all.get_mut(key)
            && *due != at
        {
            let mut entry = (core::mem::replace(due, at), name);
            self.order.remove(&entry);
            entry.0 = at;
            self.order.insert(entry);
        }
        true
    }

    /// Removes a thing.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, (at, value)) = self.all.remove_entry(key)?;
        self.order.remove(&(at, key));
        Some(value)
    }

    /// Looks at a thing.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.all.get(key).map(|(_, value)| value)
    }

    /// A thing, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.all.get_mut(key).map(|(_, value)| value)
    }

    /// Whether there is a thing of that name.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.all.contains_key(key)
    }

    /// All names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.all.keys()
    }

    /// When the first is due.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The name of the first that is due, which stays in the list.
    pub fn first_due(&self, now: Instant) -> Option<&K> {
        self.order
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, key)| key)
    }

    /// Removes the first that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(K, V)> {
        let key = self.first_due(now)?.clone();
        let value = self.remove(&key)?;
        Some((key, value))
    }

    /// Keeps only the things for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let order = &mut self.order;
        self.all.retain(|key, (at, value)| {
            let kept = keep(key, value);
            if !kept {
                order.remove(&(*at, key.clone()));
            }
            kept
        });
    }

    /// Puts everything off by that long.
    pub fn postpone(&mut self, by: Duration) {
        for (at, _) in self.all.values_mut() {
            *at += by;
        }
        let order = core::mem::take(&mut self.order).into_iter();
        self.order = order.map(|(at, key)| (at + by, key)).collect();
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_one_time_which_can_be_put_off() {
        let at = Instant::from_millis;
        let mut list: Deadlines<&str, u32> = Deadlines::new();
        list.set("a", at(10), 1);
        list.set("b", at(20), 2);
        list.set("a", at(30), 3);
        assert_eq!((list.next(), list.len()), (Some(at(20)), 2));
        assert!(list.put_off("b", at(40)) && !list.put_off("c", at(50)));
        assert_eq!(list.first_due(at(29)), None);
        assert_eq!(list.first_due(at(30)), Some(&"a"));
        assert_eq!(list.pop_due(at(35)), Some(("a", 3)));
        assert_eq!(list.pop_due(at(35)), None);
        list.postpone(Duration::from_millis(5));
        assert_eq!((list.next(), list.get("b")), (Some(at(45)), Some(&2)));
        list.set("c", at(45), 4);
        list.retain(|key, _| *key == "c");
        assert_eq!((list.remove("b"), list.remove("c")), (None, Some(4)));
        assert_eq!((list.next(), list.is_empty()), (None, true));
    }
}
