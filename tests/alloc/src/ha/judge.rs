//! Whether what users see is right, at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::differential::observe::Seen;

/// Two services may have one address for this long: then the younger has lost it.
pub const DUPLICATE: Duration = Duration::from_secs(1);

/// Looks at every state of the services.
#[derive(Debug, Default)]
pub struct Judge {
    /// What each service, by UID, was first given.
    given: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Since when several services have an address.
    doubled: BTreeMap<IpAddr, (Instant, BTreeSet<String>)>,
    /// Services that were ever in a duplicate: the younger must lose its address.
    duplicates: BTreeSet<String>,
    /// What was wrong.
    faults: Vec<String>,
    /// Longest time that two services had one address.
    pub longest: Duration,
    /// How many duplicates there were.
    pub count: usize,
}

impl Judge {
    /// Takes one state in.
    pub fn look(&mut self, now: Instant, services: &BTreeMap<String, Seen>) {
        let mut holders: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for seen in services.values() {
            for ip in &seen.ips {
                holders.entry(*ip).or_default().insert(seen.uid.clone());
            }
        }
        holders.retain(|_, holders| holders.len() > 1);
        for (ip, (since, _)) in self.doubled.clone() {
            let lasted = now.saturating_duration_since(since);
            self.longest = self.longest.max(lasted);
            if !holders.contains_key(&ip) {
                self.doubled.remove(&ip);
                if lasted > DUPLICATE {
                    self.faults
                        .push(format!("{ip} was on two services for {lasted:?}"));
                }
            }
        }
        for (ip, both) in holders {
            self.duplicates.extend(both.iter().cloned());
            if !self.doubled.contains_key(&ip) {
                self.count += 1;
                self.doubled.insert(ip, (now, both));
            }
        }
        for (key, seen) in services {
            if seen.ips.is_empty() && !self.given.contains_key(&seen.uid) {
                continue;
            }
            let given = self
                .given
                .entry(seen.uid.clone())
                .or_insert_with(|| seen.ips.clone());
            if *given != seen.ips {
                if !self.duplicates.contains(&seen.uid) {
                    self.faults
                        .push(format!("{key} had {given:?} and now has {:?}", seen.ips));
                }
                if seen.ips.is_empty() {
                    self.given.remove(&seen.uid);
                } else {
                    given.clone_from(&seen.ips);
                }
            }
        }
    }

    /// What was wrong so far; what goes on now counts too.
    pub fn verdict(&self, now: Instant) -> Vec<String> {
        let mut faults = self.faults.clone();
        for (ip, (since, both)) in &self.doubled {
            let lasted = now.saturating_duration_since(*since);
            if lasted > DUPLICATE {
                faults.push(format!("{ip} has been on services {both:?} for {lasted:?}"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(services: &[(&str, &str)]) -> BTreeMap<String, Seen> {
        let all = services.iter().map(|(name, ip)| {
            let seen = Seen {
                uid: format!("uid-{name}"),
                ips: ip.parse().into_iter().collect(),
                ..Seen::default()
            };
            ((*name).to_owned(), seen)
        });
        all.collect()
    }

    #[test]
    fn a_changed_address_is_a_fault_and_a_new_service_is_not() {
        let now = Instant::now();
        let mut judge = Judge::default();
        judge.look(now, &state(&[("a", "")]));
        judge.look(now, &state(&[("a", "192.0.2.1")]));
        judge.look(now, &state(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]));
        assert!(judge.verdict(now).is_empty());
        judge.look(now, &state(&[("a", ""), ("b", "192.0.2.2")]));
        judge.look(now, &state(&[("b", "192.0.2.3")]));
        assert_eq!(judge.verdict(now).len(), 2);
    }

    #[test]
    fn a_duplicate_has_a_second() {
        let now = Instant::now();
        let double = state(&[("a", "192.0.2.1"), ("b", "192.0.2.1")]);
        let repaired = state(&[("a", "192.0.2.1"), ("b", "")]);
        let mut judge = Judge::default();
        judge.look(now, &double);
        judge.look(now + DUPLICATE / 2, &repaired);
        assert!(judge.verdict(now + DUPLICATE).is_empty(), "repaired in time");
        let mut judge = Judge::default();
        judge.look(now, &double);
        assert_eq!(judge.verdict(now + DUPLICATE * 2).len(), 1, "it goes on");
        judge.look(now + DUPLICATE * 2, &repaired);
        assert_eq!(judge.verdict(now + DUPLICATE * 2).len(), 1, "it went on");
        assert_eq!((judge.count, judge.longest), (1, DUPLICATE * 2));
    }
}
