//! Which Events follow from what this node owns: pure.

use std::net::IpAddr;

use metallb_api::names::events;
use metallb_kubeio::EventKind;
use metallb_speaker_core::Unanswered;

use crate::ctl::assigned::Assignment;

/// What was published about a service that this node owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// UID of the service that it was published about.
    uid: String,
    /// That it came to this node, and it is still true as far as this node can do anything about it.
    assigned: bool,
    /// The addresses for which this node had no interface when that was last known: without its Lease it is not.
    failed: Vec<IpAddr>,
    /// After a restart of the speaker, the addresses about which nothing is known yet: what is found out first is told already.
    unjudged: Vec<IpAddr>,
}

/// An Event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) kind: EventKind,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Told {
    /// Before anything is published. `restarted`: it is on record that an earlier life of the speaker had this service.
    pub(super) fn of(assignment: &Assignment, restarted: bool) -> Self {
        Self {
            uid: assignment.uid.clone(),
            assigned: restarted,
            failed: Vec::new(),
            unjudged: Vec::from(if restarted { &*assignment.addresses } else { &[] }),
        }
    }

    /// Takes how the service stands now; what to publish about that, each once.
    pub(super) fn take(&mut self, node: &str, assignment: &Assignment) -> Vec<Publish> {
        if self.uid != assignment.uid {
            *self = Self::of(assignment, false);
        }
        let mut news = Vec::new();
        let failed: Vec<IpAddr> = assignment.because(Unanswered::NoInterface).collect();
        if self.judge(assignment, &failed) {
            news.push(Publish {
                kind: EventKind::Warning,
                reason: events::ANNOUNCE_FAILED,
                message: failure(node, assignment, &failed),
            });
        }
        if !assignment.answered.is_empty() {
            if !std::mem::replace(&mut self.assigned, true) {
                news.push(Publish {
                    kind: EventKind::Normal,
                    reason: events::NODE_ASSIGNED,
                    message: format!("announcing from node \"{node}\" with protocol \"layer2\""),
                });
            }
        } else if !assignment.waits_for_strangers() {
            // A station that comes and goes is told as a conflict, and not as an assignment each time.
            self.assigned = false;
        }
        news
    }

    /// Takes which addresses have no interface; whether that is to be told.
    fn judge(&mut self, assignment: &Assignment, failed: &[IpAddr]) -> bool {
        let leaseless: Vec<IpAddr> = assignment.because(Unanswered::Lease).collect();
        let stands = assignment.stands();
        // Whether the other addresses are answered for is known when their Leases are.
        let open = !stands && !leaseless.is_empty();
        self.failed
            .retain(|address| failed.contains(address) || leaseless.contains(address));
        let mut more = false;
        for address in failed {
            let unjudged = self.unjudged.contains(address);
            if self.failed.contains(address) || (unjudged && open) {
                continue;
            }
            self.failed.push(*address);
            more |= !(unjudged && stands);
        }
        self.unjudged.retain(|address| {
            leaseless.contains(address) || (failed.contains(address) && !self.failed.contains(address))
        });
        more
    }
}

fn failure(node: &str, assignment: &Assignment, failed: &[IpAddr]) -> String {
    let what = match &assignment.restriction {
        Some(_) => "none of the interfaces that its L2Advertisements name is usable there",
        None => "no interface is usable there",
    };
    let names = assignment.restriction.iter().flat_map(|names| names.iter());
    let names: Vec<&str> = names.map(|name| &**name).collect();
    let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
    let named = if names.is_empty() {
        String::new()
    } else {
        format!("; they name {}", names.join(", "))
    };
    let failed = failed.join(", ");
    format!("node \"{node}\" should announce the service, but {what} for {failed}{named}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// `v4` and `v6`: why each is not answered for.
    fn dual(v4: Option<Unanswered>, v6: Option<Unanswered>) -> Assignment {
        let all = [(ip("192.0.2.10"), v4), (ip("2001:db8::10"), v6)];
        let unanswered = all.iter().filter_map(|(address, why)| Some((*address, (*why)?)));
        Assignment {
            uid: "u".into(),
            addresses: all.iter().map(|(address, _)| *address).collect(),
            answered: all
                .iter()
                .filter(|(_, why)| why.is_none())
                .map(|(a, _)| *a)
                .collect(),
            unanswered: unanswered.collect(),
            interfaces: vec!["eth0".into()],
            restriction: None,
            conflicts: Vec::new(),
        }
    }

    fn reasons(told: &mut Told, assignment: &Assignment) -> Vec<&'static str> {
        let news = told.take("n1", assignment);
        news.into_iter().map(|publish| publish.reason).collect()
    }

    const ASSIGNED: &str = events::NODE_ASSIGNED;
    const FAILED: &str = events::ANNOUNCE_FAILED;
    const NONE: [&str; 0] = [];

    #[test]
    fn an_assignment_is_told_when_an_address_is_answered_for() {
        use Unanswered::{Lease, Probing};
        let mut told = Told::default();
        assert_eq!(reasons(&mut told, &dual(Some(Lease), Some(Lease))), NONE);
        assert_eq!(reasons(&mut told, &dual(Some(Probing), Some(Lease))), NONE);
        assert_eq!(reasons(&mut told, &dual(None, Some(Probing))), [ASSIGNED]);
        assert_eq!(reasons(&mut told, &dual(None, None)), NONE, "once");
        assert_eq!(reasons(&mut told, &dual(Some(Lease), Some(Lease))), NONE);
        assert_eq!(reasons(&mut told, &dual(None, None)), [ASSIGNED], "it came back");
        let reborn = Assignment {
            uid: "v".into(),
            ..dual(None, None)
        };
        assert_eq!(reasons(&mut told, &reborn), [ASSIGNED]);
    }

    #[test]
    fn a_stranger_that_comes_and_goes_makes_no_events_of_ours() {
        use Unanswered::{Conflict, Probing};
        let mut told = Told::default();
        assert_eq!(reasons(&mut told, &dual(Some(Probing), Some(Probing))), NONE);
        assert_eq!(reasons(&mut told, &dual(None, None)), [ASSIGNED]);
        for _ in 0..3 {
            assert_eq!(reasons(&mut told, &dual(Some(Conflict), Some(Conflict))), NONE);
            assert_eq!(reasons(&mut told, &dual(None, Some(Conflict))), NONE);
        }
    }

    #[test]
    fn a_failure_names_the_addresses_that_have_no_interface() {
        let none = Some(Unanswered::NoInterface);
        let mut told = Told::default();
        let news = told.take("n1", &dual(None, none));
        let reasons_of: Vec<&str> = news.iter().map(|publish| publish.reason).collect();
        assert_eq!(reasons_of, [FAILED, ASSIGNED]);
        assert_eq!(
            news[0].message,
            "node \"n1\" should announce the service, but no interface is usable there for 2001:db8::10"
        );
        assert_eq!(reasons(&mut told, &dual(None, none)), NONE, "once");
        assert_eq!(reasons(&mut told, &dual(None, None)), NONE);
        assert_eq!(reasons(&mut told, &dual(none, none)), [FAILED]);
        assert_eq!(
            reasons(&mut told, &dual(none, None)),
            [ASSIGNED],
            "and of the failures none is new"
        );
        let restricted = Assignment {
            restriction: Some(Arc::new(["eth1".into(), "eth2".into()].into())),
            ..dual(none, none)
        };
        let news = Told::default().take("n1", &restricted);
        assert_eq!(
            news[0].message,
            "node \"n1\" should announce the service, but none of the interfaces that its L2Advertisements name is usable \
             there for 192.0.2.10, 2001:db8::10; they name eth1, eth2"
        );
    }

    #[test]
    fn what_was_told_in_an_earlier_life_is_not_told_again() {
        use Unanswered::{Lease, NoInterface, Probing};
        let none = Some(NoInterface);
        let after_restart = |steps: &[Assignment]| {
            let mut told = Told::of(&steps[0], true);
            let all = steps.iter().map(|assignment| reasons(&mut told, assignment));
            all.collect::<Vec<_>>().concat()
        };
        assert_eq!(after_restart(&[dual(None, none), dual(None, none)]), NONE);
        let probed = [dual(Some(Probing), none), dual(None, none)];
        assert_eq!(after_restart(&probed), NONE);
        let one_lease_first = [dual(None, Some(Lease)), dual(None, none)];
        assert_eq!(after_restart(&one_lease_first), NONE);
        let the_other = [
            dual(Some(Lease), Some(Lease)),
            dual(Some(Lease), none),
            dual(None, none),
        ];
        assert_eq!(
            after_restart(&the_other),
            [ASSIGNED],
            "its record did not outlast that"
        );

        assert_eq!(
            after_restart(&[dual(none, none)]),
            [FAILED],
            "nothing is on record now"
        );
        assert_eq!(
            after_restart(&[dual(None, None), dual(None, none)]),
            [FAILED],
            "news"
        );
        assert_eq!(
            after_restart(&[dual(Some(Lease), none), dual(none, none)]),
            [FAILED]
        );
        assert_eq!(after_restart(&[dual(None, none), dual(none, none)]), [FAILED]);
        let reborn = Assignment {
            uid: "v".into(),
            ..dual(None, none)
        };
        assert_eq!(after_restart(&[dual(None, none), reborn]), [FAILED, ASSIGNED]);
    }

    #[test]
    fn a_failure_is_told_once_whatever_leases_do() {
        use Unanswered::{Lease, NoInterface};
        let (none, lease) = (Some(NoInterface), Some(Lease));
        let mut told = Told::default();
        assert_eq!(reasons(&mut told, &dual(None, none)), [FAILED, ASSIGNED]);
        for _ in 0..3 {
            assert_eq!(reasons(&mut told, &dual(lease, lease)), NONE);
            assert_eq!(reasons(&mut told, &dual(lease, none)), NONE);
            assert_eq!(reasons(&mut told, &dual(None, none)), [ASSIGNED]);
        }
        assert_eq!(reasons(&mut told, &dual(None, None)), NONE);
        assert_eq!(
            reasons(&mut told, &dual(None, none)),
            [FAILED],
            "it had one meanwhile"
        );
    }
}
