//! A bounded list of claims, by address and station.

use std::collections::BTreeMap;
use std::net::IpAddr;

use metallb_sansio::{Deadlines, Instant};

use crate::wire::ethernet::MacAddr;

/// An address and the station that says that it has it.
pub(crate) type Claim = (IpAddr, MacAddr);

/// Claims remembered beside one for each address: a hostile station may claim with many hardware addresses.
pub(crate) const CLAIMS_MAX: usize = 1_024;

/// Claims, each with the time at which something is to be done about it.
///
/// Of each address that anybody claims there is room for one, and for [`CLAIMS_MAX`] in all: whoever makes up stations
/// for one address hides nobody who has another.
#[derive(Clone, Debug)]
pub(crate) struct Claims<V> {
    all: Deadlines<Claim, V>,
    /// How many there are about each address.
    counts: BTreeMap<IpAddr, usize>,
}

impl<V> Default for Claims<V> {
    fn default() -> Self {
        Self {
            all: Deadlines::new(),
            counts: BTreeMap::new(),
        }
    }
}

impl<V> Claims<V> {
    /// Adds a claim that is due at `at`, instead of the same; whether there was room.
    pub(crate) fn set(&mut self, claim: Claim, at: Instant, value: V) -> bool {
        if !self.all.contains(&claim) {
            if self.all.len() >= CLAIMS_MAX && self.is_about(claim.0) {
                return false;
            }
            *self.counts.entry(claim.0).or_default() += 1;
        }
        self.all.set(claim, at, value);
        true
    }

    /// Whether anybody claims the address.
    pub(crate) fn is_about(&self, address: IpAddr) -> bool {
        self.counts.contains_key(&address)
    }

    pub(crate) fn get_mut(&mut self, claim: &Claim) -> Option<&mut V> {
        self.all.get_mut(claim)
    }

    pub(crate) fn remove(&mut self, claim: &Claim) -> Option<V> {
        let value = self.all.remove(claim)?;
        self.uncount(claim.0);
        Some(value)
    }

    /// Removes the first that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Claim, V)> {
        let (claim, value) = self.all.pop_due(now)?;
        self.uncount(claim.0);
        Some((claim, value))
    }

    /// Removes those of which `taken` says so.
    pub(crate) fn take(&mut self, taken: impl Fn(&Claim) -> bool) -> Vec<(Claim, V)> {
        let claims: Vec<Claim> = self.all.keys().filter(|claim| taken(claim)).copied().collect();
        let values = claims
            .into_iter()
            .map(|claim| Some((claim, self.remove(&claim)?)));
        values.flatten().collect()
    }

    /// Forgets all about an address.
    pub(crate) fn forget(&mut self, address: IpAddr) {
        if self.counts.remove(&address).is_some() {
            self.all.retain(|(claimed, _), _| *claimed != address);
        }
    }

    /// All claims with their values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Claim, &V)> {
        let all = self.all.keys();
        all.filter_map(|claim| Some((*claim, self.all.get(claim)?)))
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.all.next()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn uncount(&mut self, address: IpAddr) {
        if let Some(count) = self.counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_room_for_one() {
        let at = Instant::from_millis;
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mac = |number: u16| {
            let [a, b] = number.to_be_bytes();
            MacAddr([2, 0, 0, 0, a, b])
        };
        let mut claims = Claims::default();
        for number in 0..2_000 {
            let room = claims.set((one, mac(number)), at(10), number);
            assert_eq!(room, usize::from(number) < CLAIMS_MAX);
        }
        assert!(claims.set((one, mac(0)), at(20), 0), "it was there");
        assert!(claims.set((other, mac(7)), at(5), 7) && claims.is_about(other));
        assert_eq!(claims.pop_due(at(5)), Some(((other, mac(7)), 7)));
        assert!(!claims.is_about(other));
        assert_eq!(claims.take(|(_, mac)| mac.0[4] == 0).len(), 256);
        assert_eq!(claims.iter().count(), CLAIMS_MAX - 256);
        assert_eq!(claims.remove(&(one, mac(256))), Some(256));
        claims.forget(one);
        assert!(claims.is_empty() && !claims.is_about(one) && claims.next().is_none());
    }
}
