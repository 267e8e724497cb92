//! Which of an object's specs is in force: the present one, the last valid one, or none.
//!
//! Objects are judged one by one first, then pools against each other. What was in force before never loses to what is
//! new; among equals the older object wins.

use std::cmp::Ordering;

use crate::issue::{Effect, Finding, Issue, Reason};
use crate::{ObjectRef, Pool, PoolSpec, Source};

/// Judges one object alone with `parse`. Returns what is in force, and what is wrong with the present spec.
pub(crate) fn settle_one<T, V>(
    source: &Source<T>,
    parse: impl Fn(&T) -> Result<V, Finding>,
) -> (Option<V>, Option<Issue>) {
    let present = match &source.spec {
        Ok(spec) => parse(spec),
        Err(unreadable) => Err(Finding::new(
            &unreadable.field,
            Reason::InvalidSpec,
            format!("cannot be read ({}); correct it", unreadable.message),
        )),
    };
    match present {
        Ok(value) => (Some(value), None),
        Err(finding) => {
            let earlier = source.last_valid.as_ref().and_then(|spec| parse(spec).ok());
            let effect = if earlier.is_some() {
                Effect::LastValid
            } else {
                Effect::LeftOut
            };
            (earlier, Some(finding.into_issue(source.object.clone(), effect)))
        }
    }
}

/// Pools that are in force, in the order of their names, without any overlap; and what is wrong with the others.
pub(crate) fn settle_pools(sources: &[&Source<PoolSpec>]) -> (Vec<Pool>, Vec<Issue>) {
    let mut issues = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::with_capacity(sources.len());
    for source in sources {
        let parse = |spec: &PoolSpec| Pool::parse(&source.object.name, &source.labels, spec);
        let (settled, issue) = settle_one(source, parse);
        let earlier = source.last_valid.as_ref().and_then(|spec| parse(spec).ok());
        let present = if issue.is_none() { settled } else { None };
        issues.extend(issue);
        candidates.push(Candidate::new(source.object.clone(), present, earlier));
    }
    candidates.sort_by(Candidate::rank);

    // Every round takes one candidate a step down (present, earlier, none), so the rounds end.
    while let Some(loser) = first_loser(&candidates) {
        candidates[loser].step_down();
    }
    // A candidate may have stepped down for one that stepped down later: what fits now is taken after all.
    for index in 0..candidates.len() {
        if candidates[index].stage > Stage::Present
            && candidates[index]
                .present
                .as_ref()
                .is_some_and(|pool| conflict(&candidates, index, pool).is_none())
        {
            candidates[index].stage = Stage::Present;
        }
    }
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(present) = candidate
            .present
            .as_ref()
            .filter(|_| candidate.stage > Stage::Present)
        else {
            continue;
        };
        if let Some((winner, (mine, theirs, both))) = conflict(&candidates, index, present) {
            let field = present
                .ranges
                .iter()
                .position(|range| *range == mine)
                .unwrap_or_default();
            let message = format!(
                "{mine} of pool {} overlaps {theirs} of pool {}: both hold {both}; take {both} out of one of them",
                present.name, winner.object.name
            );
            let finding = Finding::new(
                format!("spec.addresses[{field}]"),
                Reason::AddressOverlap,
                message,
            );
            let effect = if candidate.in_force().is_some() {
                Effect::LastValid
            } else {
                Effect::LeftOut
            };
            issues.push(finding.into_issue(candidate.object.clone(), effect));
        }
    }
    let mut pools: Vec<Pool> = candidates.into_iter().filter_map(Candidate::into_pool).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    (pools, issues)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Present,
    Earlier,
    Out,
}

/// One pool object and how far it has stepped down.
struct Candidate {
    object: ObjectRef,
    present: Option<Pool>,
    earlier: Option<Pool>,
    stage: Stage,
}

impl Candidate {
    fn new(object: ObjectRef, present: Option<Pool>, earlier: Option<Pool>) -> Self {
        let stage = match (&present, &earlier) {
            (Some(_), _) => Stage::Present,
            (None, Some(_)) => Stage::Earlier,
            (None, None) => Stage::Out,
        };
        Self {
            object,
            present,
            earlier,
            stage,
        }
    }

    fn in_force(&self) -> Option<&Pool> {
        match self.stage {
            Stage::Present => self.present.as_ref(),
            Stage::Earlier => self.earlier.as_ref(),
            Stage::Out => None,
        }
    }

    fn into_pool(self) -> Option<Pool> {
        match self.stage {
            Stage::Present => self.present,
            Stage::Earlier => self.earlier,
            Stage::Out => None,
        }
    }

    /// Whether the addresses in force now were so before: then they do not yield to anything new.
    fn established(&self) -> bool {
        match (self.in_force(), &self.earlier) {
            (Some(pool), Some(earlier)) => pool.ranges == earlier.ranges,
            _ => false,
        }
    }

    fn step_down(&mut self) {
        self.stage = match self.stage {
            Stage::Present if self.earlier.is_some() && !self.established() => Stage::Earlier,
            _ => Stage::Out,
        };
    }

    /// Objects that were valid before come first, then older ones, then by name.
    fn rank(a: &Self, b: &Self) -> Ordering {
        let key = |c: &Self| (c.earlier.is_none(), c.object.created);
        key(a).cmp(&key(b)).then_with(|| a.object.cmp(&b.object))
    }
}

/// The candidate that has to step down next, if any two in force overlap.
fn first_loser(candidates: &[Candidate]) -> Option<usize> {
    // Sweep over the ranges by start: neighbours in that order are the only ones that need comparing, because the
    // running maximum of the ends is kept.
    let mut ranges: Vec<_> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| candidate.in_force().map(|pool| (index, pool)))
        .flat_map(|(index, pool)| pool.ranges.iter().map(move |range| (*range, index)))
        .collect();
    ranges.sort_unstable();
    let mut widest: Option<(crate::IpRange, usize)> = None;
    for (range, index) in ranges {
        if let Some((open, other)) = widest {
            if open.overlap(&range).is_some() && other != index {
                // Established beats new; else the lower rank (the list is sorted) wins.
                let key = |i: usize| (!candidates[i].established(), i);
                return Some(if key(index) > key(other) { index } else { other });
            }
            if open.family() == range.family() && open.end() >= range.end() {
                continue;
            }
        }
        widest = Some((range, index));
    }
    None
}

type Overlap = (crate::IpRange, crate::IpRange, crate::IpRange);

/// First candidate in force, other than `index`, that shares an address with `pool`.
fn conflict<'a>(candidates: &'a [Candidate], index: usize, pool: &Pool) -> Option<(&'a Candidate, Overlap)> {
    candidates
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index)
        .find_map(|(_, candidate)| {
            candidate
                .in_force()
                .and_then(|other| pool.overlap(other))
                .map(|overlap| (candidate, overlap))
        })
}
