//! Services that share addresses have one owner: what they decide together.
//!
//! `MetalLB` ranks each service by itself. Where two that share an address differ in their first address or in the nodes that may
//! announce them, two nodes answer for it. Here all services that are connected by shared addresses are one **group**, and a
//! group has one owner. Every speaker works it out from the same facts:
//!
//! * The address that decides the rank is the first of all its services; where they differ, the least of their first ones.
//! * Its candidates are those of any of its services. Who is a candidate of more of them comes before who is of fewer, so those
//!   of all are first, where there are such, and when none of them is there others follow.
//! * Preferences add up, those that are equal once: a further service that wants what another does changes nothing.
//!
//! So services that agree rank as each would alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::eligibility::{Candidate, Eligibility};
use crate::facts::NodeName;
use crate::reason::Exclusion;

/// One service of a group, or many that are equal.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its addresses, at least one.
    pub addresses: Arc<[IpAddr]>,
    /// Who may own it, were it alone.
    pub eligibility: Arc<Eligibility>,
    /// How many services have these.
    pub services: usize,
}

/// Addresses that a node may announce on the same interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The addresses: that which decides the rank if it is one of them, then IPv4 addresses before IPv6 addresses.
    pub addresses: Vec<IpAddr>,
    /// The interfaces of those candidates that may not announce them on all.
    pub interfaces: BTreeMap<NodeName, BTreeSet<Arc<str>>>,
}

impl Need {
    /// One address of each family, and how many addresses of it there are, the family of the first address first. A node
    /// has interfaces for all of a family or for none.
    pub fn families(&self) -> impl Iterator<Item = (IpAddr, usize)> {
        let rest = self.addresses.get(1..).unwrap_or_default();
        let (ipv4, ipv6) = rest.split_at(rest.partition_point(IpAddr::is_ipv4));
        let first = self.addresses.first();
        let (same, other) = if first.is_some_and(IpAddr::is_ipv4) {
            (ipv4, ipv6)
        } else {
            (ipv6, ipv4)
        };
        let first = first.map(|address| (*address, 1 + same.len()));
        first
            .into_iter()
            .chain(other.first().map(|address| (*address, other.len())))
    }
}

/// What the services of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The address that decides the rank: no other group has it.
    pub first: IpAddr,
    /// All addresses, that one first.
    pub needs: Vec<Need>,
}

/// Interfaces of a node; `None` means all.
type Interfaces = Option<BTreeSet<Arc<str>>>;

impl Group {
    /// What services that share addresses decide together: the group, and for each share in order who may own it as one of the
    /// group. The candidates and their ranks are the same for all of them. Nothing when there are no shares.
    pub fn of(shares: &[Share]) -> Option<(Self, Vec<Eligibility>)> {
        let firsts = || shares.iter().filter_map(|share| share.addresses.first());
        let first = *firsts().min()?;
        // Go speakers announce what they may whatever ours do.
        let go = shares.iter().any(|share| share.eligibility.go);
        let counted = || shares.iter().filter(|share| share.eligibility.go == go);
        let mut counts: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for share in counted() {
            for name in share.eligibility.candidates.keys() {
                *counts.entry(name).or_default() += share.services;
            }
        }
        let mut classes: BTreeMap<Reverse<usize>, Vec<&NodeName>> = BTreeMap::new();
        for (name, count) in counts {
            classes.entry(Reverse(count)).or_default().push(name);
        }
        let mut common = BTreeMap::new();
        for (behind, names) in (0..).zip(classes.values()) {
            common.append(&mut self::common(behind, names, counted()));
        }
        let merged: Vec<Eligibility> = shares
            .iter()
            .map(|share| join(&share.eligibility, &common, go))
            .collect();
        let needs = needs(first, shares, &merged);
        Some((Self { first, needs }, merged))
    }
}

/// Candidates of as many services of a group, each with the sum of its scores and all interfaces that anybody allows it.
fn common<'a>(
    behind: u32,
    names: &[&NodeName],
    shares: impl Iterator<Item = &'a Share>,
) -> BTreeMap<NodeName, Candidate> {
    let mut common: BTreeMap<NodeName, Candidate> = BTreeMap::new();
    let mut opinions: BTreeSet<Vec<u64>> = BTreeSet::new();
    for share in shares {
        let found = |name: &&NodeName| share.eligibility.candidates.get(*name);
        let scores = names
            .iter()
            .map(|name| found(name).map_or(0, |candidate| candidate.score));
        opinions.insert(scores.collect());
        for (name, candidate) in names.iter().filter_map(|name| Some((*name, found(name)?))) {
            if let Some(known) = common.get_mut(name) {
                known.shunned |= candidate.shunned;
                known.interfaces = union(known.interfaces.take(), candidate.interfaces.as_ref());
            } else {
                let candidate = Candidate {
                    behind,
                    ..candidate.clone()
                };
                common.insert(Arc::clone(name), candidate);
            }
        }
    }
    for (index, name) in names.iter().enumerate() {
        if let Some(candidate) = common.get_mut(*name) {
            candidate.score = opinions
                .iter()
                .fold(0, |sum, scores| sum.saturating_add(scores[index]));
        }
    }
    common
}

/// Who may own one service of a group: the common candidates, on its own interfaces where it has a say.
fn join(own: &Eligibility, common: &BTreeMap<NodeName, Candidate>, go: bool) -> Eligibility {
    let candidates = common.iter().map(|(name, shared)| {
        let (interfaces, despite) = match own.candidates.get(name) {
            Some(candidate) => {
                let elsewhere = (shared.behind > 0).then_some(Exclusion::SharedAddress);
                (candidate.interfaces.clone(), candidate.despite.or(elsewhere))
            }
            None => (shared.interfaces.clone(), own.excluded.get(name).copied()),
        };
        let candidate = Candidate {
            interfaces,
            despite,
            ..shared.clone()
        };
        (Arc::clone(name), candidate)
    });
    // All candidates are of the group, unless Go speakers announce others of its services.
    let others = own
        .candidates
        .keys()
        .map(|name| (name, Exclusion::GoSpeakersFirst));
    let excluded = own.excluded.iter().map(|(name, why)| (name, *why)).chain(others);
    Eligibility {
        candidates: candidates.collect(),
        excluded: excluded
            .filter(|(name, _)| !common.contains_key(*name))
            .map(|(name, why)| (Arc::clone(name), why))
            .collect(),
        go,
    }
}

/// Where each candidate may announce each address: wherever it may announce one of the services that have it.
fn needs(first: IpAddr, shares: &[Share], merged: &[Eligibility]) -> Vec<Need> {
    let mut of: BTreeMap<IpAddr, BTreeMap<&NodeName, Interfaces>> = BTreeMap::new();
    for (share, eligibility) in shares.iter().zip(merged) {
        for address in share.addresses.iter() {
            let nodes = of.entry(*address).or_default();
            for (name, candidate) in &eligibility.candidates {
                let more = candidate.interfaces.as_ref();
                match nodes.get_mut(name) {
                    Some(known) => *known = union(known.take(), more),
                    None => {
                        nodes.insert(name, more.cloned());
                    }
                }
            }
        }
    }
    let head = of.remove(&first).map(|nodes| (first, nodes));
    let mut needs: Vec<Need> = Vec::new();
    for (address, nodes) in head.into_iter().chain(of) {
        let restricted = nodes.into_iter().filter_map(|(name, interfaces)| {
            let interfaces = interfaces?;
            Some((Arc::clone(name), interfaces))
        });
        let interfaces = restricted.collect();
        match needs.last_mut().filter(|need| need.interfaces == interfaces) {
            Some(need) => need.addresses.push(address),
            None => needs.push(Need {
                addresses: vec![address],
                interfaces,
            }),
        }
    }
    needs
}

fn union(known: Option<BTreeSet<Arc<str>>>, more: Option<&BTreeSet<Arc<str>>>) -> Option<BTreeSet<Arc<str>>> {
    let (mut known, more) = (known?, more?);
    known.extend(more.iter().cloned());
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Ability;

    /// `n1`, or `n1+5` with a score, or `n1@eth0` on an interface.
    fn share(addresses: &[&str], nodes: &[&str]) -> Share {
        let candidate = |text: &&str| {
            let (text, interface) = text.split_once('@').unwrap_or((*text, ""));
            let (name, score) = text.split_once('+').unwrap_or((text, "0"));
            let candidate = Candidate {
                behind: 0,
                score: score.parse().expect("a score"),
                shunned: false,
                interfaces: (!interface.is_empty()).then(|| [Arc::from(interface)].into()),
                despite: None,
            };
            (NodeName::from(name), candidate)
        };
        let candidates: BTreeMap<NodeName, Candidate> = nodes.iter().map(candidate).collect();
        let others = ["n1", "n2", "n3"].map(NodeName::from);
        let others = others
            .into_iter()
            .filter(|name| !candidates.contains_key(name))
            .map(|name| (name, Exclusion::NoLocalEndpoint));
        Share {
            addresses: addresses.iter().map(|a| a.parse().expect("address")).collect(),
            eligibility: Arc::new(Eligibility {
                excluded: others.collect(),
                candidates,
                go: false,
            }),
            services: 1,
        }
    }

    fn names(eligibility: &Eligibility) -> Vec<String> {
        let candidates = eligibility.candidates.iter();
        candidates
            .map(|(name, candidate)| format!("{name}+{}", candidate.score))
            .collect()
    }

    /// In order of rank.
    fn ranked(eligibility: &Eligibility) -> String {
        let ranked = eligibility.ranked("192.0.2.1".parse().expect("address"));
        ranked.join(" ")
    }

    #[test]
    fn services_that_agree_rank_as_each_alone() {
        let alone = share(&["2001:db8::1", "192.0.2.1"], &["n1+5", "n3@eth0"]);
        let (group, merged) = Group::of(&[alone.clone(), alone.clone()]).expect("a group");
        assert_eq!(group.first, alone.addresses[0]);
        assert!(
            merged
                .iter()
                .all(|eligibility| *eligibility == *alone.eligibility)
        );
        assert_eq!(Group::of(&[]), None);
    }

    #[test]
    fn the_least_of_different_first_addresses_decides() {
        let (a, b) = (
            share(&["192.0.2.1"], &["n1", "n2"]),
            share(&["2001:db8::1", "192.0.2.1"], &["n1", "n2"]),
        );
        let (group, _) = Group::of(&[b, a.clone()]).expect("a group");
        assert_eq!(group.first, a.addresses[0]);
        let addresses: Vec<String> = group.needs[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (group.needs.len(), addresses),
            (1, vec!["192.0.2.1".into(), "2001:db8::1".into()])
        );
    }

    #[test]
    fn candidates_are_those_of_all_services_or_of_most() {
        let of = |lists: &[&[&str]]| {
            let shares: Vec<Share> = lists
                .iter()
                .enumerate()
                .map(|(n, list)| share(&["192.0.2.1", &format!("2001:db8::{}", n + 1)], list))
                .collect();
            Group::of(&shares).expect("a group").1
        };
        let all = of(&[&["n1", "n2"], &["n2", "n3"]]);
        assert!(ranked(&all[0]).starts_with("n2 "), "a node of all");
        assert_eq!(all[0].candidates["n1"].despite, Some(Exclusion::SharedAddress));
        assert_eq!(all[0].candidates["n3"].despite, Some(Exclusion::NoLocalEndpoint));
        assert_eq!(all[1].candidates["n2"].despite, None);
        let first = "192.0.2.1".parse().expect("address");
        let follows = all[0].owner(first, |name| name != "n2").map(|name| &**name);
        assert!(matches!(follows, Some("n1" | "n3")), "never nobody: {follows:?}");

        let most = of(&[&["n1"], &["n3"], &["n3"]]);
        assert_eq!(ranked(&most[0]), "n3 n1", "a node of most");
        assert_eq!(most[0].candidates["n3"].despite, Some(Exclusion::NoLocalEndpoint));
        let any = of(&[&["n1"], &["n3"]]);
        assert_eq!(names(&any[0]), ["n1+0", "n3+0"], "never nobody");
        let scores = of(&[&["n1+5", "n2"], &["n1+5", "n2"], &["n1", "n2+7", "n3"]]);
        assert_eq!(
            names(&scores[0]),
            ["n1+5", "n2+7", "n3+0"],
            "what is equal counts once"
        );
        // What is wanted of one that is behind changes nothing among those before it, and preferences do not bring it forward.
        let behind = of(&[
            &["n1+5", "n2+5", "n3+90"],
            &["n1+5", "n2+5"],
            &["n1", "n2+7", "n3"],
        ]);
        assert_eq!(ranked(&behind[0]), "n2 n1 n3");
        assert_eq!(names(&behind[0]), ["n1+5", "n2+12", "n3+90"]);
    }

    #[test]
    fn each_address_may_be_announced_where_one_of_its_services_may() {
        let shares = [
            share(&["192.0.2.1"], &["n1@eth0", "n2"]),
            share(&["192.0.2.1", "2001:db8::1"], &["n1@eth1", "n2@eth1"]),
        ];
        let (group, merged) = Group::of(&shares).expect("a group");
        let interfaces = |need: &Need, node: &str| {
            let named = need.interfaces.get(node)?;
            Some(
                named
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        let [v4, v6] = &group.needs[..] else {
            panic!("{group:?}")
        };
        assert_eq!(interfaces(v4, "n1").as_deref(), Some("eth0 eth1"));
        assert_eq!(interfaces(v4, "n2"), None);
        assert_eq!(interfaces(v6, "n2").as_deref(), Some("eth1"));
        assert_eq!(
            merged[0].candidates["n1"].interfaces, shares[0].eligibility.candidates["n1"].interfaces,
            "each on its own"
        );
    }

    #[test]
    fn one_address_of_each_family_stands_for_all() {
        let families = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|a| a.parse().expect("address")).collect();
            let need = Need {
                addresses,
                ..Need::default()
            };
            let families = need
                .families()
                .map(|(address, count)| format!("{address} {count}"));
            families.collect::<Vec<_>>().join(", ")
        };
        for (addresses, expected) in [
            (&[][..], ""),
            (&["192.0.2.1"], "192.0.2.1 1"),
            (
                &["192.0.2.9", "192.0.2.1", "2001:db8::1"],
                "192.0.2.9 2, 2001:db8::1 1",
            ),
            (
                &["2001:db8::9", "192.0.2.1", "192.0.2.2", "2001:db8::1"],
                "2001:db8::9 2, 192.0.2.1 2",
            ),
            (&["2001:db8::1", "2001:db8::2"], "2001:db8::1 2"),
        ] {
            assert_eq!(families(addresses), expected);
        }
        let all = |kinds: &[(bool, usize)]| Ability::of_kinds(kinds.iter().copied());
        let some = |first, addresses| Ability::Some { first, addresses };
        assert_eq!(all(&[(true, 3), (false, 2)]), some(true, 3));
        assert_eq!(all(&[(false, 3), (true, 2)]), some(false, 2));
        assert_eq!(all(&[(true, 3), (true, 2)]), Ability::All);
        assert_eq!(all(&[(false, 3)]), Ability::Nothing);
    }

    #[test]
    fn where_go_speakers_may_announce_one_of_the_services_ours_announce_none() {
        let mut theirs = share(&["192.0.2.1"], &["n1"]);
        Arc::make_mut(&mut theirs.eligibility).go = true;
        let (_, merged) = Group::of(&[theirs, share(&["192.0.2.1"], &["n1", "n2"])]).expect("a group");
        assert!(
            merged
                .iter()
                .all(|eligibility| eligibility.go && names(eligibility) == ["n1+0"])
        );
        assert_eq!(merged[1].excluded["n2"], Exclusion::GoSpeakersFirst);
    }
}
