//! Ownership without membership, as `MetalLB` has it when no bind address is given: every node of the API counts as alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use metallb_speaker_core::{Directive, Plan};

/// Narrows a plan to its first in rank: with one candidate there is nothing that liveness could decide.
pub(super) fn decided(mut directive: Directive) -> Directive {
    if let Some(plan) = directive.plan.take() {
        directive.plan = Some(first_only(plan));
    }
    directive
}

fn first_only(plan: Plan) -> Plan {
    let Some(owner) = plan.eligibility.owner(plan.first(), |_| true).cloned() else {
        return plan;
    };
    let mut eligibility = (*plan.eligibility).clone();
    let candidate = eligibility.candidates.remove(&owner);
    eligibility.candidates = candidate
        .map(|candidate| (owner, candidate))
        .into_iter()
        .collect::<BTreeMap<_, _>>();
    Plan {
        eligibility: Arc::new(eligibility),
        ..plan
    }
}

#[cfg(test)]
mod tests {
    use metallb_election::{Candidate, Eligibility, NodeName};
    use metallb_speaker_core::ServiceKey;

    use super::*;

    #[test]
    fn the_first_in_rank_is_left_and_dead_or_alive_is_the_same_to_it() {
        let nodes = ["a", "b", "c", "d"].map(NodeName::from);
        let candidate = |node: &NodeName| {
            let candidate = Candidate {
                behind: 0,
                shunned: false,
                score: 0,
                despite: None,
                interfaces: None,
            };
            (Arc::clone(node), candidate)
        };
        let eligibility = Eligibility {
            candidates: nodes.iter().map(candidate).collect(),
            ..Eligibility::default()
        };
        let address = "192.0.2.7".parse().expect("an address");
        let expected = eligibility.owner(address, |_| true).cloned();
        let plan = Plan::new([address].into(), Arc::new(eligibility));
        let directive = Directive {
            version: 0,
            service: ServiceKey::new("d", "s"),
            plan: Some(plan),
        };
        let narrowed = decided(directive).plan.expect("a plan").eligibility;
        assert_eq!(narrowed.candidates.len(), 1);
        for me in &nodes {
            assert_eq!(
                narrowed.owner(address, |node| node == &**me).cloned(),
                expected,
                "all nodes agree, each knowing only itself to be alive"
            );
        }
    }
}
