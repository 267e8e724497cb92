//! Which of its specs is in force for each thing that the sources define: the present one, the last valid one, or none.
//!
//! Everything is judged alone first, then against the others. What was in force before never loses to what is new;
//! among equals the older object wins, then the kind, then the name.

use std::cmp::Ordering;

use crate::ObjectRef;
use crate::issue::{Effect, Finding, Issue};
use crate::legacy::Place;

/// Where a thing is defined.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) object: ObjectRef,
    pub(crate) place: Place,
    /// Index among the entries of the same object.
    pub(crate) index: usize,
}

impl Origin {
    pub(crate) fn object(object: &ObjectRef) -> Self {
        Self {
            object: object.clone(),
            place: Place::Object,
            index: 0,
        }
    }

    pub(crate) fn issue(&self, finding: Finding, effect: Effect) -> Issue {
        finding.into_issue(self.object.clone(), effect)
    }
}

/// What can be in conflict with others of its kind.
pub(crate) trait Contender: Clone + PartialEq {
    /// What those in force have taken.
    type Ledger: Default;
    /// How two of them are in conflict.
    type Clash;

    /// First conflict with something taken, and by whom it is.
    fn clash(&self, ledger: &Self::Ledger) -> Option<(usize, Self::Clash)>;
    fn take(&self, ledger: &mut Self::Ledger, index: usize);
    fn release(&self, ledger: &mut Self::Ledger, index: usize);
    /// Whether both take the same.
    fn same_claims(&self, other: &Self) -> bool;
    /// What to say to the owner of this one. The field is named as in a custom resource.
    fn explain(&self, clash: &Self::Clash, winner: &Self, winner_origin: &Origin) -> Finding;
}

/// One thing that a source defines, and how far it has stepped down.
pub(crate) struct Candidate<V> {
    origin: Origin,
    present: Option<V>,
    /// What is wrong with the present spec, unless that is reported for a whole section elsewhere.
    finding: Option<Finding>,
    earlier: Option<V>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Present,
    Earlier,
    Out,
}

impl<V: Contender> Candidate<V> {
    /// `present`: what the present spec says; `Err(None)` when it is unusable and that is reported elsewhere.
    /// `earlier`: what the last valid spec says, if it (still) means anything.
    pub(crate) fn new(origin: Origin, present: Result<V, Option<Finding>>, earlier: Option<V>) -> Self {
        let (present, finding) = match present {
            Ok(value) => (Some(value), None),
            Err(finding) => (None, finding),
        };
        let stage = match (&present, &earlier) {
            (Some(_), _) => Stage::Present,
            (None, Some(_)) => Stage::Earlier,
            (None, None) => Stage::Out,
        };
        Self {
            origin,
            present,
            finding,
            earlier,
            stage,
        }
    }

    fn in_force(&self) -> Option<&V> {
        match self.stage {
            Stage::Present => self.present.as_ref(),
            Stage::Earlier => self.earlier.as_ref(),
            Stage::Out => None,
        }
    }

    /// Whether what is taken now was taken before: then it does not yield to anything new.
    fn established(&self) -> bool {
        match (self.in_force(), &self.earlier) {
            (Some(value), Some(earlier)) => value.same_claims(earlier),
            _ => false,
        }
    }

    fn step_down(&mut self) {
        self.stage = match self.stage {
            Stage::Present if self.earlier.is_some() && !self.established() => Stage::Earlier,
            _ => Stage::Out,
        };
    }

    /// What was valid before comes first, then older objects, then by kind and name.
    fn rank(a: &Self, b: &Self) -> Ordering {
        let key = |c: &Self| (c.earlier.is_none(), c.origin.object.created);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.origin.object.cmp(&b.origin.object))
            .then_with(|| a.origin.index.cmp(&b.origin.index))
    }
}

/// What is in force, by object and index, free of conflicts. What is wrong with the rest is added to `issues`.
pub(crate) fn settle<V: Contender>(
    mut candidates: Vec<Candidate<V>>,
    issues: &mut Vec<Issue>,
) -> Vec<(Origin, V)> {
    candidates.sort_by(Candidate::rank);
    let mut ledger = elect(&mut candidates);
    restore(&mut candidates, &mut ledger);
    for (index, candidate) in candidates.iter().enumerate() {
        let finding = match &candidate.present {
            Some(present) if candidate.stage > Stage::Present => {
                conflict(&candidates, &mut ledger, index, present)
            }
            Some(_) => None,
            None => candidate.finding.clone(),
        };
        let effect = if candidate.in_force().is_some() {
            Effect::LastValid
        } else {
            Effect::LeftOut
        };
        issues.extend(finding.map(|finding| candidate.origin.issue(finding, effect)));
    }
    let mut settled: Vec<_> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let value = match candidate.stage {
                Stage::Present => candidate.present,
                Stage::Earlier => candidate.earlier,
                Stage::Out => None,
            };
            value.map(|value| (candidate.origin, value))
        })
        .collect();
    settled.sort_by(|(a, _), (b, _)| a.object.cmp(&b.object).then(a.index.cmp(&b.index)));
    settled
}

/// Lets every candidate step down until no two in force are in conflict.
///
/// In each round the candidates take what they claim, the established ones first; who finds something taken steps
/// down. Every round takes at least one a step down (present, earlier, none), so the rounds end.
fn elect<V: Contender>(candidates: &mut [Candidate<V>]) -> V::Ledger {
    loop {
        let mut ledger = V::Ledger::default();
        let (established, new): (Vec<_>, Vec<_>) =
            (0..candidates.len()).partition(|index| candidates[*index].established());
        let mut losers = Vec::new();
        for index in established.into_iter().chain(new) {
            let Some(value) = candidates[index].in_force() else {
                continue;
            };
            if value.clash(&ledger).is_some() {
                losers.push(index);
            } else {
                value.take(&mut ledger, index);
            }
        }
        if losers.is_empty() {
            return ledger;
        }
        for loser in losers {
            candidates[loser].step_down();
        }
    }
}

/// Who stepped down for one that stepped down later gets what is free now.
fn restore<V: Contender>(candidates: &mut [Candidate<V>], ledger: &mut V::Ledger) {
    let mut changed = true;
    while changed {
        changed = false;
        for (index, candidate) in candidates.iter_mut().enumerate() {
            let Some(present) = candidate
                .present
                .as_ref()
                .filter(|_| candidate.stage > Stage::Present)
            else {
                continue;
            };
            if let Some(value) = candidate.in_force() {
                value.release(ledger, index);
            }
            if present.clash(ledger).is_none() {
                candidate.stage = Stage::Present;
                changed = true;
            }
            if let Some(value) = candidate.in_force() {
                value.take(ledger, index);
            }
        }
    }
}

fn conflict<V: Contender>(
    candidates: &[Candidate<V>],
    ledger: &mut V::Ledger,
    index: usize,
    present: &V,
) -> Option<Finding> {
    let candidate = &candidates[index];
    if let Some(value) = candidate.in_force() {
        value.release(ledger, index);
    }
    let clash = present.clash(ledger);
    if let Some(value) = candidate.in_force() {
        value.take(ledger, index);
    }
    let (winner, clash) = clash?;
    let winner = &candidates[winner];
    let finding = present.explain(&clash, winner.in_force()?, &winner.origin);
    Some(candidate.origin.place.locate(finding))
}
