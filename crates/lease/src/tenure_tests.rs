use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use crate::{Record, Subject, TenureInput, TenureMachine, TenureOutput, TenureTiming};

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn record(version: u32, holder: &str, transitions: u32) -> Record {
    Record {
        version: version.to_string(),
        holder: holder.to_owned(),
        seconds: 10,
        transitions,
    }
}

fn address() -> std::net::IpAddr {
    [192, 0, 2, 7].into()
}

fn outputs(machine: &mut TenureMachine) -> Vec<TenureOutput> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn node(name: &str) -> Subject {
    Subject::Node(name.into())
}

/// The speaker of n1, which sees these Leases and has its tenure since 100 ms.
fn machine(leases: &[(Subject, Record)]) -> TenureMachine {
    let mut machine = TenureMachine::new("n1", TenureTiming::default(), at(0));
    for (subject, record) in leases {
        machine.handle(at(0), TenureInput::Seen(subject.clone(), Some(record.clone())));
    }
    assert!(
        outputs(&mut machine)
            .iter()
            .all(|o| matches!(o, TenureOutput::Holder(..)))
    );
    machine.handle(at(100), TenureInput::Listed);
    let written = record(50, "n1", 1);
    let create = Record {
        version: String::new(),
        ..written.clone()
    };
    assert_eq!(outputs(&mut machine), [TenureOutput::Write(node("n1"), create)]);
    machine.handle(at(150), TenureInput::Written(node("n1"), written));
    let until = at(100) + Duration::from_secs(9);
    assert_eq!(outputs(&mut machine), [TenureOutput::Tenure(Some(until))]);
    machine
}

#[test]
fn names_of_leases_lead_back() {
    for (text, name) in [
        ("192.0.2.1", "metallb-l2-192.0.2.1"),
        ("2001:db8::1", "metallb-l2-2001-db8-0-0-0-0-0-1"),
        ("fe80::", "metallb-l2-fe80-0-0-0-0-0-0-0"),
    ] {
        let subject = Subject::Address(text.parse().expect("an address"));
        assert_eq!(subject.lease_name(), name);
        assert_eq!(Subject::from_lease_name(name), Some(subject));
    }
    assert_eq!(node("a.b").lease_name(), "metallb-speaker-a.b");
    assert_eq!(Subject::from_lease_name("metallb-speaker-a.b"), Some(node("a.b")));
    for other in [
        "metallb-controller",
        "metallb-l2-1-2-3",
        "metallb-l2-1.2.3",
        "metallb-l2-x",
    ] {
        assert_eq!(Subject::from_lease_name(other), None, "{other}");
    }
}

#[test]
fn a_free_address_is_taken_at_once_and_let_go_when_unwanted() {
    let mut machine = machine(&[]);
    let subject = Subject::Address(address());
    machine.handle(at(200), TenureInput::Want(address(), true));
    let mine = record(60, "n1/1", 1);
    let create = Record {
        version: String::new(),
        ..mine.clone()
    };
    assert_eq!(
        outputs(&mut machine),
        [TenureOutput::Write(subject.clone(), create)]
    );
    machine.handle(at(250), TenureInput::Written(subject.clone(), mine.clone()));
    let holder = TenureOutput::Holder(address(), Some("n1".into()));
    assert_eq!(
        outputs(&mut machine),
        [holder, TenureOutput::Granted(address(), true)]
    );

    machine.handle(at(300), TenureInput::Want(address(), false));
    let free = Record {
        holder: String::new(),
        ..mine.clone()
    };
    let release = TenureOutput::Write(subject.clone(), free);
    assert_eq!(
        outputs(&mut machine),
        [TenureOutput::Granted(address(), false), release]
    );
    // It is wanted again before that is known to be done, and then it is not known whether it was: only a write tells.
    machine.handle(at(310), TenureInput::Want(address(), true));
    machine.handle(at(320), TenureInput::Seen(subject.clone(), Some(mine.clone())));
    machine.handle(at(330), TenureInput::Failed(subject.clone()));
    assert_eq!(outputs(&mut machine), []);
    machine.handle_timeout(at(900));
    let again = Record {
        transitions: 2,
        ..mine
    };
    assert_eq!(outputs(&mut machine), [TenureOutput::Write(subject, again)]);
}

#[test]
fn an_address_of_another_is_taken_when_its_epoch_is_over() {
    let subject = Subject::Address(address());
    let taken = |holder: &str| {
        let record = Record {
            holder: holder.to_owned(),
            ..record(40, "", 9)
        };
        TenureOutput::Write(Subject::Address(address()), record)
    };
    for (lease, over) in [
        // Fenced or gone, or in another life: at once.
        (record(30, "", 3), true),
        (record(30, "n2", 4), true),
        (record(30, "n2", 3), false),
    ] {
        let leases = [
            (node("n2"), lease.clone()),
            (subject.clone(), record(40, "n2/3", 8)),
        ];
        let mut machine = machine(&leases);
        machine.handle(at(200), TenureInput::Want(address(), true));
        if over {
            assert_eq!(outputs(&mut machine), [taken("n1/1")], "{lease:?}");
            continue;
        }
        // It lives, as far as is known: ten seconds without a renewal, then it is fenced first.
        let mut now = 200;
        let mut seen = Vec::new();
        while seen.is_empty() {
            now = machine.poll_timeout().expect("something to do").as_millis();
            machine.handle_timeout(at(now));
            for output in outputs(&mut machine) {
                match output {
                    TenureOutput::Write(Subject::Node(name), renewal) if &*name == "n1" => {
                        let subject = Subject::Node(name);
                        machine.handle(at(now), TenureInput::Written(subject, renewal));
                    }
                    TenureOutput::Tenure(_) => {}
                    other => seen.push(other),
                }
            }
        }
        assert_eq!(now, 10_000, "n2's Lease was seen at 0");
        let fence = Record {
            holder: String::new(),
            ..lease
        };
        assert_eq!(seen, [TenureOutput::Write(node("n2"), fence.clone())]);
        let fenced = Record {
            version: "70".to_owned(),
            ..fence
        };
        machine.handle(at(10_050), TenureInput::Written(node("n2"), fenced));
        assert_eq!(outputs(&mut machine), [taken("n1/1")]);
    }
}

#[test]
fn whoever_was_fenced_has_nothing_and_begins_anew() {
    let mut machine = machine(&[]);
    let subject = Subject::Address(address());
    machine.handle(at(200), TenureInput::Want(address(), true));
    machine.handle(at(250), TenureInput::Written(subject, record(60, "n1/1", 1)));
    outputs(&mut machine);
    machine.handle(at(300), TenureInput::Seen(node("n1"), Some(record(10, "n1", 0))));
    assert_eq!(outputs(&mut machine), [], "that is older than what we wrote");
    machine.handle(at(400), TenureInput::Seen(node("n1"), Some(record(70, "", 1))));
    let anew = Record {
        transitions: 2,
        ..record(70, "n1", 2)
    };
    assert_eq!(
        outputs(&mut machine),
        [
            TenureOutput::Granted(address(), false),
            TenureOutput::Write(node("n1"), anew),
            TenureOutput::Tenure(None),
        ]
    );
}

#[test]
fn a_tenure_that_is_not_renewed_ends_by_itself() {
    let mut machine = machine(&[]);
    let mut ended = None;
    while ended.is_none() {
        let now = machine.poll_timeout().expect("something to do");
        machine.handle_timeout(now);
        for output in outputs(&mut machine) {
            match output {
                TenureOutput::Write(subject, _) => machine.handle(now, TenureInput::Failed(subject)),
                TenureOutput::Tenure(None) => ended = Some(now),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(ended, Some(at(9_100)));
}
