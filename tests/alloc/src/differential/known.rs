//! What may differ from Go's controller: its defects, and decisions of ours. Each entry is as narrow as it can be; whatever no
//! entry explains fails the test.

use std::collections::BTreeMap;

use super::compare::{Moment, View};
use super::steps::{PREFIXES, PoolSpec, ServiceSpec};

/// One accepted difference.
pub struct Known {
    /// Its name in reports.
    pub id: &'static str,
    /// The defect or the decision.
    pub why: &'static str,
    /// Which reasons of Events it explains; none: it explains addresses.
    reasons: &'static [&'static str],
    applies: fn(&Case<'_>) -> bool,
}

/// One service that differs.
pub struct Case<'a> {
    /// The moment.
    pub moment: &'a Moment<'a>,
    /// What its owner wanted over time; the last is what he wants now.
    pub specs: &'a [ServiceSpec],
    /// What both agreed on before the step.
    pub before: Option<&'a View>,
    /// What our users see.
    pub ours: &'a View,
    /// What Go's users see.
    pub go: &'a View,
}

/// The list. At most fifteen.
pub const KNOWN: &[Known] = &[
    Known {
        id: "deprecated-told-at-once",
        why: "Go warns of an old annotation only when it writes the status; a service that waits for an address is told nothing. \
              We warn when the annotation appears and has an effect",
        reasons: &["deprecatedAnnotation"],
        applies: |case| {
            let old = |spec: &ServiceSpec| spec.annotations.keys().any(|key| key.starts_with(PREFIXES[1]));
            case.specs.iter().any(old)
        },
    },
    Known {
        id: "cleared-on-request",
        why: "Go says ClearAssignment when the configuration takes an address, and nothing when an edit of the service does. \
              We say it whenever an address goes",
        reasons: &["ClearAssignment"],
        applies: |case| case.specs.len() > 1 && case.ours.reasons.contains("ClearAssignment"),
    },
    Known {
        id: "selector-of-nothing",
        why: "Go opens a pool to everybody who names it when its namespaceSelectors match no namespace. \
              Here such a pool admits nobody",
        reasons: &[],
        applies: |case| {
            let nobody = |pool: &PoolSpec| {
                pool.allocation.as_ref().is_some_and(|allocation| {
                    let matched = |team: &String| case.moment.teams.values().any(|value| value == team);
                    allocation.namespaces.is_empty()
                        && !allocation.teams.is_empty()
                        && !allocation.teams.iter().any(matched)
                })
            };
            let pool = |pools: &BTreeMap<String, PoolSpec>, view: &View| {
                view.pool
                    .as_ref()
                    .and_then(|name| pools.get(name))
                    .is_some_and(nobody)
            };
            pool(case.moment.pools, case.go) && !pool(case.moment.pools, case.ours)
        },
    },
    Known {
        id: "record-left-behind",
        why: "Go no longer looks at a service whose class it does not serve, also when a change of type has just taken the class \
              away: its record of the pool stays. We clean it",
        reasons: &[],
        applies: |case| {
            let now = case.specs.last();
            now.is_some_and(|spec| !spec.is_load_balancer() && spec.class.is_some())
                && case.ours.ips == case.go.ips
                && case.ours.pool.is_none()
                && case.go.pool.is_some()
        },
    },
    Known {
        id: "downgrade-in-place",
        why: "When a service gives up its second family, Go takes both addresses and allocates anew, perhaps in another pool. \
              Ours keeps the address of the family that stays",
        reasons: &[],
        applies: |case| {
            case.before.is_some_and(|before| {
                before.ips.len() == 2
                    && case.ours.ips.len() == 1
                    && case.ours.ips.is_subset(&before.ips)
                    && case.ours.pool == before.pool
            }) && case.specs.last().is_some_and(|spec| spec.policy == "SingleStack")
        },
    },
];

/// The entry that explains different addresses.
pub fn addresses(case: &Case<'_>) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|entry| entry.reasons.is_empty() && (entry.applies)(case))
}

/// The entries that explain different Events, with the reasons that they explain.
pub fn reasons<'a>(
    case: &'a Case<'_>,
) -> impl Iterator<Item = (&'static Known, &'static [&'static str])> + 'a {
    KNOWN
        .iter()
        .filter(|entry| !entry.reasons.is_empty() && (entry.applies)(case))
        .map(|entry| (entry, entry.reasons))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_short_and_says_why() {
        assert!(KNOWN.len() <= 15);
        for entry in KNOWN {
            assert!(entry.why.len() > 40, "{} needs a reason", entry.id);
        }
    }
}
