//! What to write about one service: pure.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use metallb_api::names::labels;
use metallb_api::{AddressConflict, Raw, ServiceL2Status, ServiceL2StatusStatus};
use metallb_speaker_core::ServiceKey;

use crate::ctl::assigned::Assignment;

/// What is kept of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The service it is about.
    pub(super) service: ServiceKey,
    /// The node it names.
    pub(super) node: String,
    /// Its status was written; until then it is known by its labels.
    pub(super) written: bool,
    /// What else it says.
    pub(super) content: Content,
}

/// What an object says besides node and service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The interfaces, when they are restricted.
    pub(super) interfaces: Vec<String>,
    /// Who else has the addresses.
    pub(super) conflicts: Vec<AddressConflict>,
}

impl Known {
    /// Reads an object; `None` when it does not say which service it is about.
    pub(super) fn read(object: &Raw<ServiceL2Status>) -> Option<Self> {
        let status: ServiceL2StatusStatus = object.parse_status().unwrap_or_default();
        let label = |key: &str| object.labels().get(key).cloned().unwrap_or_default();
        let or = |value: String, label: String| if value.is_empty() { label } else { value };
        let namespace = or(status.service_namespace, label(labels::SERVICE_NAMESPACE));
        let name = or(status.service_name, label(labels::SERVICE_NAME));
        if namespace.is_empty() || name.is_empty() {
            return None;
        }
        Some(Self {
            service: ServiceKey::new(&namespace, &name),
            written: !status.node.is_empty(),
            node: or(status.node, label(labels::NODE)),
            content: Content {
                interfaces: status
                    .interfaces
                    .into_iter()
                    .map(|interface| interface.name)
                    .collect(),
                conflicts: status.conflicts,
            },
        })
    }
}

/// One write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Make an object and write its status.
    Create(Content),
    /// Write the status of an object of ours.
    Write { name: String, content: Content },
    /// Remove an object.
    Delete { name: String },
}

/// What makes the objects about a service agree with what this node owns.
pub(super) fn actions(
    key: &ServiceKey,
    node: &str,
    assignment: Option<&Assignment>,
    known: &BTreeMap<String, Known>,
) -> Vec<Action> {
    let about = known.iter().filter(|(_, object)| object.service == *key);
    let Some(assignment) = assignment.filter(|assignment| assignment.stands()) else {
        let ours = about.filter(|(_, object)| object.node == node);
        return ours
            .map(|(name, _)| Action::Delete { name: name.clone() })
            .collect();
    };
    let interfaces = match assignment.restriction {
        Some(_) => assignment.interfaces.clone(),
        None => Vec::new(),
    };
    let content = Content {
        interfaces,
        conflicts: assignment.conflicts.clone(),
    };
    let mut actions = Vec::new();
    let mut kept = false;
    for (name, object) in about {
        if object.node == node && !std::mem::replace(&mut kept, true) {
            if !object.written || object.content != content {
                actions.push(Action::Write {
                    name: name.clone(),
                    content: content.clone(),
                });
            }
        } else {
            actions.push(Action::Delete { name: name.clone() });
        }
    }
    // While nothing is answered for, what is there stays and nothing is made.
    if !kept && !assignment.answered.is_empty() {
        actions.insert(0, Action::Create(content));
    }
    actions
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metallb_speaker_core::Unanswered;

    use super::*;

    fn object(node: &str, service: &str, interfaces: &[&str]) -> Known {
        Known {
            service: ServiceKey::new("default", service),
            node: node.into(),
            written: true,
            content: content(interfaces),
        }
    }

    fn content(interfaces: &[&str]) -> Content {
        Content {
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            conflicts: Vec::new(),
        }
    }

    fn assignment(interfaces: &[&str], restricted: bool) -> Assignment {
        let address = "192.0.2.10".parse().expect("address");
        Assignment {
            uid: "u".into(),
            addresses: [address].into(),
            answered: vec![address],
            unanswered: Vec::new(),
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            restriction: restricted
                .then(|| Arc::new(interfaces.iter().map(|name| Arc::from(*name)).collect())),
            conflicts: Vec::new(),
        }
    }

    fn delete(name: &str) -> Action {
        Action::Delete { name: name.into() }
    }

    type Case<'a> = (
        &'a str,
        Option<&'a Assignment>,
        Vec<(&'a str, Known)>,
        Vec<Action>,
    );

    #[test]
    fn table() {
        let free = assignment(&["eth0"], false);
        let bound = assignment(&["eth0"], true);
        let unanswered = |why| Assignment {
            answered: Vec::new(),
            unanswered: vec![("192.0.2.10".parse().expect("address"), why)],
            ..assignment(&["eth0"], false)
        };
        let mute = unanswered(Unanswered::NoInterface);
        let waits = unanswered(Unanswered::Lease);
        let probing = unanswered(Unanswered::Probing);
        let contested = Assignment {
            conflicts: vec![AddressConflict {
                address: "192.0.2.10".into(),
                ..AddressConflict::default()
            }],
            ..assignment(&["eth0"], false)
        };
        let blocked = Assignment {
            conflicts: contested.conflicts.clone(),
            ..unanswered(Unanswered::Conflict)
        };
        let told = Content {
            conflicts: contested.conflicts.clone(),
            ..Content::default()
        };
        let other_service = ("z", object("n1", "db", &[]));
        let cases: Vec<Case<'_>> = vec![
            (
                "first owner",
                Some(&free),
                vec![],
                vec![Action::Create(content(&[]))],
            ),
            (
                "nothing changed",
                Some(&free),
                vec![("a", object("n1", "web", &[]))],
                vec![],
            ),
            (
                "take-over",
                Some(&free),
                vec![("a", object("n2", "web", &[]))],
                vec![Action::Create(content(&[])), delete("a")],
            ),
            (
                "lost",
                None,
                vec![("a", object("n1", "web", &[])), ("b", object("n2", "web", &[]))],
                vec![delete("a")],
            ),
            (
                "doubled",
                Some(&free),
                vec![("a", object("n1", "web", &[])), ("b", object("n1", "web", &[]))],
                vec![delete("b")],
            ),
            (
                "interfaces restricted",
                Some(&bound),
                vec![("a", object("n1", "web", &[]))],
                vec![Action::Write {
                    name: "a".into(),
                    content: content(&["eth0"]),
                }],
            ),
            (
                "somebody else has the address",
                Some(&contested),
                vec![("a", object("n1", "web", &[]))],
                vec![Action::Write {
                    name: "a".into(),
                    content: told.clone(),
                }],
            ),
            (
                "somebody else has it and is left alone",
                Some(&blocked),
                vec![("a", object("n1", "web", &[]))],
                vec![Action::Write {
                    name: "a".into(),
                    content: told,
                }],
            ),
            ("left alone from the start", Some(&blocked), vec![], vec![]),
            ("probed for", Some(&probing), vec![], vec![]),
            (
                "probed for, and there from an earlier life",
                Some(&probing),
                vec![("a", object("n1", "web", &[]))],
                vec![],
            ),
            (
                "the Lease is another node's",
                Some(&waits),
                vec![("a", object("n2", "web", &[]))],
                vec![],
            ),
            (
                "nobody answers",
                Some(&mute),
                vec![("a", object("n1", "web", &[]))],
                vec![delete("a")],
            ),
            (
                "an object whose status was never written",
                Some(&free),
                vec![(
                    "a",
                    Known {
                        written: false,
                        ..object("n1", "web", &[])
                    },
                )],
                vec![Action::Write {
                    name: "a".into(),
                    content: content(&[]),
                }],
            ),
        ];
        for (what, assignment, objects, expected) in cases {
            let known = objects.into_iter().chain([other_service.clone()]);
            let known = known.map(|(name, object)| (name.to_owned(), object)).collect();
            let key = ServiceKey::new("default", "web");
            assert_eq!(actions(&key, "n1", assignment, &known), expected, "{what}");
        }
    }
}
