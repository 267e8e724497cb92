use super::*;
use metallb_api::condition::Status;
use rollout::tests::{by_hand, deploy, ds};

fn running() -> Facts {
    Facts {
        generation: Some(4),
        controller: deployment("controller", Some(&deploy(1, 1, [1, 1, 1, 1]))),
        speakers: daemon_set("speaker", Some(&ds(1, 1, [3, 3, 3, 3]))),
        ..Default::default()
    }
}

/// Statuses in the order Available, Progressing, Degraded, Upgradeable, and the reason and message of Degraded.
fn said(facts: &Facts) -> (String, &'static str, String) {
    let all = conditions(facts);
    assert!(
        all.iter()
            .all(|condition| condition.observed_generation == Some(4))
    );
    let word = |status| if status == Status::True { 'T' } else { 'F' };
    (
        all.iter().map(|c| word(c.status)).collect(),
        all[2].reason,
        all[2].message.clone(),
    )
}

#[test]
fn conditions_follow_the_operands() {
    assert_eq!(said(&running()), ("TFFT".into(), "NoProblem", String::new()));
    assert_eq!(
        conditions(&running())[0].message,
        "the controller and 3 of 3 speakers are ready"
    );

    let rolling = Facts {
        speakers: daemon_set("speaker", Some(&ds(2, 2, [3, 3, 1, 2]))),
        unready: vec!["speaker-x on n2".into()],
        ..running()
    };
    assert_eq!(said(&rolling).0, "FTFF");
    assert_eq!(
        conditions(&rolling)[1].message,
        "DaemonSet speaker: of 3 nodes 3 have a pod, 1 an updated one, 2 a ready one; not ready: speaker-x on n2"
    );

    let crashing = Facts {
        pod_problems: vec![("PodCrashLooping", "pod speaker-x".into())],
        ..rolling
    };
    assert_eq!(
        said(&crashing),
        ("FTTT".into(), "PodCrashLooping", "pod speaker-x".into())
    );

    let denied = Facts {
        write_problems: vec!["DaemonSet ns/speaker: forbidden".into()],
        ..running()
    };
    assert_eq!(
        said(&denied),
        (
            "FFTT".into(),
            "ApplyFailed",
            "DaemonSet ns/speaker: forbidden".into()
        )
    );

    let lacking = Facts {
        lacking_rights: vec!["DaemonSet ns/speaker: cannot patch".into()],
        ..running()
    };
    assert_eq!(
        said(&lacking),
        (
            "FFTT".into(),
            "MissingPermission",
            "the operator lacks rights that its release grants (in the ClusterRole metallb-operator; installed through OLM, in the \
             clusterPermissions of its ClusterServiceVersion): DaemonSet ns/speaker: cannot patch"
                .into()
        )
    );

    // What runs goes on running.
    let undefined = Facts {
        missing_definitions: vec!["ipaddresspools"],
        ..running()
    };
    assert_eq!(
        (said(&undefined).0.as_str(), said(&undefined).1),
        ("TFTT", "DefinitionMissing")
    );
    assert!(said(&undefined).2.contains("ipaddresspools.metallb.io"));

    let unreadable = Facts {
        spec_problem: Some("spec cannot be read".into()),
        ..running()
    };
    assert_eq!(
        said(&unreadable),
        (
            "FFTT".into(),
            "InvalidSpec",
            "spec cannot be read; what ran before goes on running".into()
        )
    );

    let nowhere = Facts {
        speakers: daemon_set("speaker", Some(&ds(1, 1, [0, 0, 0, 0]))),
        ..running()
    };
    assert_eq!(said(&nowhere).0, "FFTT");
    assert_eq!(said(&nowhere).1, "NoMatchingNode");
}

#[test]
fn many_pods_with_a_problem_are_counted() {
    let problems = (0..10).map(|i| ("ImagePullFailed", format!("pod {i}"))).collect();
    let facts = Facts {
        pod_problems: problems,
        ..running()
    };
    assert_eq!(said(&facts).2, "pod 0; pod 1; pod 2; and 7 more");
}

#[test]
fn bystanders_are_told_what_to_do() {
    let second = bystander(&Standing::Second { ruler: "a".into() }, "b", "metallb", Some(1)).unwrap();
    assert_eq!(
        second[2].message,
        "a cluster has one MetalLB, and a/metallb is the older one: delete this one (b/metallb), or delete a/metallb to have \
         this one take over"
    );
    let wrong = bystander(&Standing::WrongName, "b", "mlb", Some(1)).unwrap();
    assert_eq!(wrong[2].reason, "IncorrectMetalLBResourceName");
    assert!(wrong[2].message.contains("named 'mlb'"));
    assert_eq!(bystander(&Standing::Rules, "b", "metallb", None), None);
}

#[test]
fn a_pod_security_refusal_names_the_label() {
    let (reason, text) = refusal(
        "metallb-system",
        "DaemonSet speaker",
        "pods \"speaker-x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces",
    );
    assert_eq!(reason, "PodSecurityRefusal");
    assert!(
        text.contains("`kubectl label namespace metallb-system pod-security.kubernetes.io/enforce=privileged --overwrite`"),
        "{text}"
    );
    assert_eq!(refusal("ns", "DaemonSet speaker", "quota").0, "PodsRefused");
}

#[test]
fn what_the_user_has_to_delete_is_no_rollout() {
    let by_hand = Facts {
        speakers: daemon_set("speaker", Some(&by_hand(ds(2, 2, [3, 3, 1, 3])))),
        ..running()
    };
    assert_eq!(said(&by_hand).0, "TFFT");
    let all = conditions(&by_hand);
    assert_eq!(all[1].reason, "RolloutComplete");
    let note = "2 of 3 speakers are of a former version until their pods are deleted (spec.speakerUpdateStrategy is OnDelete)";
    assert_eq!(all[1].message, note);
    assert_eq!(
        all[0].message,
        format!("the controller and 3 of 3 speakers are ready; {note}")
    );
}

#[test]
fn a_pod_that_stays_unready_is_a_problem_and_no_rollout() {
    let facts = |counts, late| {
        let mut facts = running();
        facts.speakers = daemon_set("speaker", Some(&ds(2, 2, counts)));
        facts.speakers.late = late;
        if late > 0 {
            facts.pod_problems = vec![("SpeakerNotReady", "pod speaker-x on node n2".into())];
        }
        facts
    };
    let reasons = |facts: &Facts| -> Vec<&str> { conditions(facts).iter().map(|c| c.reason).collect() };

    let starting = facts([3, 3, 3, 2], 0);
    assert_eq!(said(&starting).0, "FTFF");
    assert_eq!(
        reasons(&starting),
        ["OperandsNotReady", "PodsStarting", "NoProblem", "RollingOut"]
    );

    let off = facts([3, 3, 3, 2], 1);
    assert_eq!(said(&off).0, "FFTT");
    assert_eq!(
        reasons(&off),
        [
            "SpeakerNotReady",
            "RolloutComplete",
            "SpeakerNotReady",
            "NoRollout"
        ]
    );
    assert_eq!(said(&off).2, "pod speaker-x on node n2");

    // A rollout that cannot go on because of that node forbids no upgrade either.
    let stuck = facts([3, 3, 1, 2], 1);
    assert_eq!(said(&stuck).0, "FTTT");
    assert_eq!(
        reasons(&stuck),
        ["SpeakerNotReady", "RollingOut", "SpeakerNotReady", "RolloutStuck"]
    );
}

#[test]
fn what_is_put_off_is_not_claimed_to_run() {
    let facts = Facts {
        postponed: true,
        available_generation: Some(3),
        ..running()
    };
    let all = conditions(&facts);
    assert_eq!(
        (all[0].status, all[0].observed_generation),
        (Status::True, Some(3))
    );
    assert_eq!((all[1].status, all[1].reason), (Status::True, "Postponed"));
    assert!(
        all[1]
            .message
            .starts_with("somebody else keeps changing what the operator writes")
    );
    assert_eq!(all[1].observed_generation, Some(4));
    assert_eq!(all[3].status, Status::True, "it may last for ever");

    // Nobody else has a part in a write that failed.
    let failed = Facts {
        write_problems: vec!["DaemonSet ns/speaker: timeout".into()],
        ..facts
    };
    assert_eq!(said(&failed).0, "FFTT");
}
