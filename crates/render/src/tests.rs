//! Golden tests: what a person would review is what is compared.

use crate::*;
use k8s_openapi::api::rbac::v1::PolicyRule;
use metallb_api::yaml;
use serde_json::json;
use std::collections::BTreeSet;

fn installation() -> Installation {
    Installation {
        namespace: "metallb-system".into(),
        images: Images {
            controller: "registry.example/controller:v1".into(),
            speaker: "registry.example/speaker:v1".into(),
        },
        ports: Ports::default(),
        installer: Installer::Operator {
            uid: "00000000-0000-0000-0000-000000000001".into(),
            namespace_uid: "00000000-0000-0000-0000-000000000002".into(),
            speaker_secrets: BTreeSet::new(),
        },
    }
}

fn spec(value: serde_json::Value) -> MetalLBSpec {
    serde_json::from_value(value).unwrap()
}

fn rendered(spec: &MetalLBSpec, installation: &Installation) -> String {
    yaml::to_string_all(&operands(spec, installation)).unwrap()
}

#[test]
fn the_default_installation() {
    insta::assert_snapshot!(rendered(&MetalLBSpec::default(), &installation()));
}

#[test]
fn an_installation_without_the_operator() {
    let by_hand = Installation {
        installer: Installer::Manifests,
        ..installation()
    };
    insta::assert_snapshot!(rendered(&spec(json!({"bgpBackend": "native"})), &by_hand));
}

#[test]
fn the_operator_itself() {
    let objects = operator::objects(
        "metallb-system",
        "v1.2.3",
        "registry.example/operator:v1",
        &installation().images,
    );
    insta::assert_snapshot!(yaml::to_string_all(&objects).unwrap());
}

#[test]
fn every_field_of_the_spec_reaches_its_operand() {
    let all = spec(json!({
        "image": "ignored",
        "nodeSelector": {"zone": "edge"},
        "speakerTolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
        "controllerNodeSelector": {"zone": "core"},
        "controllerTolerations": [{"key": "infra", "operator": "Equal", "value": "yes"}],
        "logLevel": "debug",
        "loadBalancerClass": "example.com/metallb",
        "fairReuse": true,
        "bgpBackend": "frr-k8s",
        "imagePullSecrets": [{"name": "mirror"}],
        "controllerReplicas": 2,
        "controllerTopologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "speakerUpdateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}},
        "excludeInterfaces": ["^veth.*", "eth[01]"],
        "ignoreExcludeLB": true,
        "memberlist": {"bindAddress": "0.0.0.0", "bindPort": 7000},
        "layer2": {"gratuitousARPInterval": "30s", "conflictPolicy": "Defend", "probe": "Full", "restartGrace": "10s",
            "unreadyLast": true, "nonPreempt": true, "strict": true},
        "metrics": {"port": 7472, "scrapeAnnotations": true, "monitor": "ServiceMonitor", "monitorLabels": {"release": "p"},
            "interval": "15s", "prometheus": {"serviceAccount": "prometheus-k8s", "namespace": "monitoring"},
            "alerts": {"enabled": true, "excludePools": "lab-.*"}},
        "networkPolicies": {"enabled": true, "apiPort": 443},
        "controllerConfig": {
            "priorityClassName": "high", "runtimeClassName": "small", "annotations": {"a": "controller"}, "labels": {"team": "net", "app": "not-this"},
            "resources": {"limits": {"cpu": "200m"}},
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        },
        "speakerConfig": {
            "priorityClassName": "higher", "runtimeClassName": "smaller", "annotations": {"a": "speaker"}, "labels": {"team": "net"},
            "resources": {"requests": {"memory": "1Mi"}},
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 1, "preference": {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}}]}},
        },
        "frrk8sConfig": {"alwaysBlock": ["192.0.2.0/24"], "namespace": "frr", "secretPassthrough": true},
    }));
    let usual: Vec<Object> = operands(&MetalLBSpec::default(), &installation());
    let objects: Vec<Object> = operands(&all, &installation())
        .into_iter()
        .filter(|object| !usual.contains(object))
        .collect();
    insta::assert_snapshot!(yaml::to_string_all(&objects).unwrap());
}

/// Each field alone: what it adds to flags, variables and ports, or takes away.
#[test]
fn settings_turn_things_off() {
    let pod = |value: serde_json::Value| {
        let template = speaker_daemon_set(&spec(value), &installation())
            .spec
            .unwrap()
            .template;
        serde_json::to_value(&template.spec.unwrap().containers[0]).unwrap()
    };
    let names = |list: &serde_json::Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let alone = pod(json!({"memberlist": {"enabled": false}, "metrics": {"enabled": false}}));
    assert_eq!(names(&alone["ports"]), Vec::<String>::new());
    assert_eq!(alone["args"][0], "--port=0");
    let variables = names(&alone["env"]);
    assert!(
        !variables.iter().any(|name| name.starts_with("METALLB_ML_BIND")),
        "{variables:?}"
    );

    let alone = pod(json!({"speakerGratuitousARPInterval": "10s"}));
    let arguments = alone["args"].as_array().unwrap();
    assert!(
        arguments.contains(&json!("--gratuitous-arp-interval=10s")),
        "{arguments:?}"
    );

    let plain = pod(json!({"metrics": {"plain": true}}));
    assert_eq!(names(&plain["ports"]), ["metrics", "memberlist-udp"]);
    assert!(
        plain["args"]
            .as_array()
            .unwrap()
            .contains(&json!("--metrics-plain"))
    );

    let by_hand = speaker_daemon_set(
        &spec(json!({"speakerUpdateStrategy": {"type": "OnDelete"}})),
        &installation(),
    );
    assert_eq!(
        serde_json::to_value(by_hand.spec.unwrap().update_strategy).unwrap(),
        json!({"type": "OnDelete"})
    );
    let silent = spec(
        json!({"metrics": {"enabled": false, "monitor": "ServiceMonitor", "alerts": {"enabled": true}}}),
    );
    assert_eq!(
        operands(&silent, &installation()).len(),
        operands(&MetalLBSpec::default(), &installation()).len()
    );
    assert_eq!(
        operands(&spec(json!({"excludeInterfaces": []})), &installation())
            .into_iter()
            .find_map(|object| match object {
                Object::ConfigMap(map) => map.data.unwrap().remove("excludel2.yaml"),
                _ => None,
            })
            .unwrap(),
        "{\"announcedInterfacesToExclude\":[]}\n"
    );
}

#[test]
fn a_pod_monitor_reads_with_the_token_that_it_is_given() {
    let all = spec(json!({"metrics": {"monitor": "PodMonitor", "tokenSecret": {"name": "t"}}}));
    let monitors: Vec<serde_json::Value> = operands(&all, &installation())
        .iter()
        .filter(|object| object.kind() == Kind::PodMonitor)
        .map(Object::to_value)
        .collect();
    assert_eq!(monitors.len(), 2);
    for monitor in monitors {
        assert_eq!(
            monitor["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"],
            json!({"name": "t", "key": "token"})
        );
    }
}

#[test]
fn backends_differ_in_one_variable() {
    for (backend, wanted) in [
        ("", Some("frr")),
        ("native", None),
        ("frr", Some("frr")),
        ("frr-k8s", Some("frr-k8s")),
        ("frr-k8s-external", Some("frr-k8s")),
    ] {
        let spec = spec(json!({"bgpBackend": backend}));
        let pods = [
            controller_deployment(&spec, &installation())
                .spec
                .unwrap()
                .template
                .spec
                .unwrap(),
            speaker_daemon_set(&spec, &installation())
                .spec
                .unwrap()
                .template
                .spec
                .unwrap(),
        ];
        for pod in pods {
            let env = pod.containers[0].env.as_ref().unwrap();
            let found = env
                .iter()
                .find(|env| env.name == "METALLB_BGP_TYPE")
                .and_then(|env| env.value.as_deref());
            assert_eq!(found, wanted, "{backend}");
        }
    }
}

#[test]
fn ids_are_unique_and_scopes_are_right() {
    let objects = operands(&MetalLBSpec::default(), &installation());
    let ids: BTreeSet<ObjectId> = objects.iter().map(Object::id).collect();
    assert_eq!(ids.len(), objects.len());
    for id in &ids {
        assert_eq!(id.namespace.is_some(), id.kind.is_namespaced(), "{id}");
        assert!(
            Kind::OWNED.contains(&id.kind),
            "{id} would never be watched or pruned"
        );
    }
}

/// Selectors are immutable: another one would need the workload deleted, and with it every announcement.
#[test]
fn selectors_are_those_of_metallb() {
    let deployment = controller_deployment(&MetalLBSpec::default(), &installation())
        .spec
        .unwrap();
    let daemon_set = speaker_daemon_set(&MetalLBSpec::default(), &installation())
        .spec
        .unwrap();
    assert_eq!(
        serde_json::to_value(deployment.selector).unwrap(),
        json!({"matchLabels": {"app": "metallb", "component": "controller"}})
    );
    assert_eq!(
        serde_json::to_value(daemon_set.selector).unwrap(),
        json!({"matchLabels": {"app": "metallb", "component": "speaker"}})
    );
}

/// The API server lets nobody grant what they do not hold.
#[test]
fn the_operator_holds_every_right_that_it_grants() {
    let held = operator::rules();
    let covers = |have: &PolicyRule, group: &str, resource: &str, verb: &str, name: Option<&str>| {
        let has = |list: &Option<Vec<String>>, word: &str| {
            list.as_ref().is_some_and(|l| l.iter().any(|w| w == word))
        };
        has(&have.api_groups, group)
            && has(&have.resources, resource)
            && have.verbs.iter().any(|v| v == verb)
            && match (&have.resource_names, name) {
                (None, _) => true,
                (Some(names), Some(name)) => names.iter().any(|n| n == name),
                (Some(_), None) => false,
            }
    };
    let everything = spec(json!({"metrics": {"prometheus": {"serviceAccount": "p", "namespace": "m"}}}));
    let with_peers = Installation {
        installer: Installer::Operator {
            uid: "u".into(),
            namespace_uid: "n".into(),
            speaker_secrets: BTreeSet::from(["router".to_owned()]),
        },
        ..installation()
    };
    for object in operands(&everything, &with_peers) {
        let rules = match object {
            Object::Role(role) => role.rules,
            Object::ClusterRole(role) => role.rules,
            _ => continue,
        };
        for rule in rules.unwrap_or_default() {
            let names: Vec<Option<&str>> = match &rule.resource_names {
                Some(names) => names.iter().map(|name| Some(name.as_str())).collect(),
                None => vec![None],
            };
            for url in rule.non_resource_urls.iter().flatten() {
                let has = |have: &PolicyRule| have.non_resource_urls.iter().flatten().any(|held| held == url);
                assert!(held.iter().any(has), "the operator may not get {url}");
            }
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    for verb in &rule.verbs {
                        for name in &names {
                            assert!(
                                held.iter().any(|have| covers(have, group, resource, verb, *name)),
                                "the operator may not {verb} {resource}.{group} {name:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A binary that must answer for an object needs the right to write its status, for every kind there is.
#[test]
fn every_kind_of_configuration_is_read_and_answered() {
    let kinds: BTreeSet<String> = metallb_api::crd::operands()
        .into_iter()
        .map(|crd| crd.spec.names.plural)
        .filter(|plural| {
            !["configurationstates", "servicebgpstatuses", "servicel2statuses"].contains(&plural.as_str())
        })
        .collect();
    let may = |rules: &[PolicyRule], resource: &str, verb: &str| {
        rules.iter().any(|rule| {
            rule.resource_names.is_none()
                && rule.verbs.iter().any(|v| v == verb)
                && rule.resources.iter().flatten().any(|r| r == resource)
        })
    };
    for kind in &kinds {
        for verb in ["list", "watch"] {
            assert!(
                may(&rbac::controller_cluster_rules(), kind, verb),
                "controller: {verb} {kind}"
            );
            assert!(
                may(&rbac::speaker_rules(&Installer::Manifests), kind, verb),
                "speaker: {verb} {kind}"
            );
        }
        let status = format!("{kind}/status");
        assert!(
            may(&rbac::controller_cluster_rules(), &status, "patch"),
            "controller: patch {status}"
        );
    }
}

/// A ConfigMap may hold other people's things: only the one by MetalLB's name is ours to read.
#[test]
fn one_config_map_is_read_by_its_name() {
    let by_hand = rbac::controller_rules(&Installer::Manifests);
    for rule in by_hand
        .into_iter()
        .chain(rbac::speaker_rules(&Installer::Manifests))
    {
        if rule.resources.unwrap().contains(&"configmaps".to_owned()) {
            assert_eq!(rule.resource_names.unwrap(), ["config"]);
        }
    }
}

/// Under the operator speakers read the Secrets that peers name and no others; without it, any that they are told the name of.
/// Nobody lists Secrets, and nobody reads those of other namespaces.
#[test]
fn secrets_are_read_by_name() {
    let secrets = |rules: Vec<PolicyRule>| -> Vec<PolicyRule> {
        rules
            .into_iter()
            .filter(|rule| {
                rule.resources
                    .iter()
                    .flatten()
                    .any(|resource| resource == "secrets")
            })
            .collect()
    };
    for cluster in [rbac::speaker_cluster_rules(), rbac::controller_cluster_rules()] {
        assert_eq!(secrets(cluster), []);
    }
    let by_hand = [
        rbac::speaker_rules(&Installer::Manifests),
        rbac::controller_rules(&Installer::Manifests),
    ];
    for rule in by_hand.into_iter().flat_map(secrets) {
        assert!(
            !rule
                .verbs
                .iter()
                .any(|verb| ["list", "watch", "*"].contains(&verb.as_str())),
            "{rule:?}"
        );
    }

    let mut with_peers = installation();
    let mut named = BTreeSet::from(["router-1".to_owned(), "router-2".to_owned()]);
    for _ in 0..2 {
        with_peers.installer = Installer::Operator {
            uid: "u".into(),
            namespace_uid: "n".into(),
            speaker_secrets: named.clone(),
        };
        let of_speakers: Vec<PolicyRule> = operands(&MetalLBSpec::default(), &with_peers)
            .into_iter()
            .filter_map(|object| match object {
                Object::Role(role) if role.metadata.name.as_deref() != Some("controller") => role.rules,
                _ => None,
            })
            .flat_map(secrets)
            .collect();
        let wanted: Vec<PolicyRule> = (!named.is_empty())
            .then(|| {
                rbac::named(
                    rbac::rule(&[""], &["secrets"], &["get"]),
                    &["router-1", "router-2"],
                )
            })
            .into_iter()
            .collect();
        assert_eq!(of_speakers, wanted);
        named.clear();
    }
}
