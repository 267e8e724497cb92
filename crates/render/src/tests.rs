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
        "controllerConfig": {
            "priorityClassName": "high", "runtimeClassName": "small", "annotations": {"a": "controller"},
            "resources": {"limits": {"cpu": "200m"}},
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        },
        "speakerConfig": {
            "priorityClassName": "higher", "runtimeClassName": "smaller", "annotations": {"a": "speaker"},
            "resources": {"requests": {"memory": "1Mi"}},
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                [{"weight": 1, "preference": {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}}]}},
        },
        "frrk8sConfig": {"alwaysBlock": ["192.0.2.0/24"], "namespace": "frr", "secretPassthrough": true},
    }));
    let objects = [
        Object::Deployment(controller_deployment(&all, &installation())),
        Object::DaemonSet(speaker_daemon_set(&all, &installation())),
    ];
    insta::assert_snapshot!(yaml::to_string_all(&objects).unwrap());
}

#[test]
fn backends_differ_in_one_variable() {
    for (backend, wanted) in [
        ("", Some("frr")),
        ("native", None),
        ("frr", Some("frr")),
        ("frr-k8s", Some("frr-k8s")),
        ("frr-k8s-external", Some("frr-k8s-external")),
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
    for object in operands(&MetalLBSpec::default(), &installation()) {
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
            for group in rule.api_groups.as_ref().unwrap() {
                for resource in rule.resources.as_ref().unwrap() {
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
            assert!(may(&rbac::speaker_rules(), kind, verb), "speaker: {verb} {kind}");
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
    for rule in by_hand.into_iter().chain(rbac::speaker_rules()) {
        if rule.resources.unwrap().contains(&"configmaps".to_owned()) {
            assert_eq!(rule.resource_names.unwrap(), ["config"]);
        }
    }
}

#[test]
fn speakers_read_no_secrets() {
    for rule in rbac::speaker_rules()
        .into_iter()
        .chain(rbac::speaker_cluster_rules())
    {
        assert!(!rule.resources.unwrap().contains(&"secrets".to_owned()));
    }
}
