use super::*;
use metallb_api::condition::Status;
use serde_json::json;

fn ds(generation: i64, observed: i64, counts: [i64; 4]) -> Value {
    let [desired, current, updated, ready] = counts;
    json!({"metadata": {"generation": generation}, "status": {"observedGeneration": observed,
        "desiredNumberScheduled": desired, "currentNumberScheduled": current, "updatedNumberScheduled": updated,
        "numberReady": ready}})
}

fn deploy(generation: i64, observed: i64, counts: [i64; 4]) -> Value {
    let [replicas, total, updated, ready] = counts;
    json!({"metadata": {"generation": generation}, "spec": {"replicas": replicas}, "status":
        {"observedGeneration": observed, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready}})
}

#[test]
fn a_daemon_set_is_ready_when_each_node_has_a_new_and_ready_pod() {
    let cases = [
        (ds(1, 1, [3, 3, 3, 3]), true),
        (ds(2, 1, [3, 3, 3, 3]), false),
        (ds(1, 1, [3, 2, 3, 3]), false),
        (ds(1, 1, [3, 3, 2, 3]), false),
        (ds(1, 1, [3, 3, 3, 2]), false),
        (ds(1, 1, [0, 0, 0, 0]), true),
        (json!({"metadata": {"generation": 1}}), false),
    ];
    for (live, ready) in cases {
        assert_eq!(
            daemon_set("speaker", Some(&live)).waits_for.is_none(),
            ready,
            "{live}"
        );
    }
    assert_eq!(
        daemon_set("speaker", None).waits_for.unwrap(),
        "DaemonSet speaker does not exist yet"
    );
}

#[test]
fn a_deployment_is_ready_when_all_replicas_are_new_and_ready_and_the_old_are_gone() {
    let cases = [
        (deploy(1, 1, [1, 1, 1, 1]), true),
        (deploy(2, 1, [1, 1, 1, 1]), false),
        (deploy(1, 1, [2, 2, 1, 2]), false),
        (deploy(1, 1, [1, 1, 1, 0]), false),
        (deploy(1, 1, [1, 2, 1, 1]), false),
        (
            json!({"metadata": {"generation": 1}, "spec": {"replicas": 1}}),
            false,
        ),
    ];
    for (live, ready) in cases {
        assert_eq!(
            deployment("controller", Some(&live)).waits_for.is_none(),
            ready,
            "{live}"
        );
    }
}

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
            "the operator lacks rights, which the ClusterRole metallb-operator of its release grants: DaemonSet ns/speaker: cannot patch".into()
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
fn only_the_operands_own_pods_are_looked_at() {
    let pod = |namespace: &str, component: &str, name: &str, since: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "metallb", "component": component}},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "lastTransitionTime": since, "message": "no ports"}]},
        }))
        .unwrap()
    };
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let (old, young) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:59Z");
    let all = [
        pod("ns", "speaker", "speaker-a", old),
        pod("ns", "speaker", "speaker-b", young),
        pod("elsewhere", "speaker", "speaker-c", old),
        pod("ns", "other", "other-d", old),
    ];
    let report = pods("ns", now, all.iter());
    assert_eq!(
        report.problems,
        [(
            "PodUnschedulable",
            "pod speaker-a fits no node: no ports".to_owned()
        )]
    );
    assert_eq!(report.unready, ["speaker-a", "speaker-b"]);
    assert!(
        report.look_again,
        "speaker-b may become a problem without another message"
    );
    assert!(!pods("ns", now, all[..1].iter()).look_again);
}
