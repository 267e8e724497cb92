//! What each binary may do, rule by rule.

use crate::{Installation, Installer, Object};
use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use metallb_api::names::{self, objects};

const RBAC: &str = "rbac.authorization.k8s.io";
/// Configuration that people write.
pub const CONFIG_KINDS: [&str; 7] = [
    "addresspools",
    "bfdprofiles",
    "bgpadvertisements",
    "bgppeers",
    "communities",
    "ipaddresspools",
    "l2advertisements",
];
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 4] = ["create", "update", "patch", "delete"];

/// A rule: in these groups, on these resources, these verbs.
pub(crate) fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(owned(groups)),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..Default::default()
    }
}

/// The same for objects of these names only.
pub(crate) fn named(rule: PolicyRule, names: &[&str]) -> PolicyRule {
    PolicyRule {
        resource_names: Some(names.iter().map(ToString::to_string).collect()),
        ..rule
    }
}

fn with_status(kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|kind| format!("{kind}/status")).collect()
}

fn events() -> PolicyRule {
    rule(&["", "events.k8s.io"], &["events"], &["create", "patch"])
}

/// Who asks for metrics is found out by the API server, and whether they may have them.
fn reviews() -> [PolicyRule; 2] {
    [
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
    ]
}

/// The ConfigMap of old. Its name limits lists and watches too, as long as they ask for it by a field selector.
fn legacy_config(verbs: &[&str]) -> PolicyRule {
    named(rule(&[""], &["configmaps"], verbs), &[objects::LEGACY_CONFIG_MAP])
}

/// Rights of the allocator in the whole cluster.
pub fn controller_cluster_rules() -> Vec<PolicyRule> {
    let statuses = with_status(&CONFIG_KINDS);
    let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
    let mut rules = vec![
        rule(&[""], &["services", "namespaces", "nodes"], &READ),
        rule(&[""], &["services/status"], &["patch", "update"]),
        events(),
        // In all namespaces: an object in the wrong one is answered.
        rule(&[names::GROUP], &CONFIG_KINDS, &READ),
        rule(&[names::GROUP], &statuses, &["patch", "update"]),
    ];
    rules.extend(reviews());
    rules
}

/// Rights of the allocator in its own namespace.
pub fn controller_rules(installer: &Installer) -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(
            &[names::GROUP],
            &["configurationstates"],
            &[&READ[..], &WRITE[..]].concat(),
        ),
        rule(
            &[names::GROUP],
            &["configurationstates/status"],
            &["get", "patch", "update"],
        ),
        rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "get", "list", "watch", "update", "patch"],
        ),
        // What it writes besides is owned by its Deployment, and goes with it.
        named(
            rule(&["apps"], &["deployments"], &["get"]),
            &[objects::CONTROLLER],
        ),
        // Its last valid text is recorded in an annotation of its own.
        legacy_config(&[&READ[..], &["patch"]].concat()),
        // Whether the Secret that a BGPPeer names is there; people choose the name, so no name can stand here.
        rule(&[""], &["secrets"], &["get"]),
    ];
    if *installer == Installer::Manifests {
        // Nobody else makes the membership key.
        rules.push(rule(&[""], &["secrets"], &["create"]));
    }
    rules
}

/// Rights of the speakers in the whole cluster.
pub fn speaker_cluster_rules() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(&[""], &["services", "namespaces", "nodes"], &READ),
        rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
        events(),
    ];
    rules.extend(reviews());
    rules
}

/// Rights of the speakers in their own namespace. They read no Secret: the keys they need are mounted.
pub fn speaker_rules() -> Vec<PolicyRule> {
    let status_kinds = ["servicel2statuses", "servicebgpstatuses", "configurationstates"];
    let statuses = with_status(&status_kinds);
    let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
    vec![
        rule(&[names::GROUP], &CONFIG_KINDS, &READ),
        legacy_config(&READ),
        rule(&[names::GROUP], &status_kinds, &[&READ[..], &WRITE[..]].concat()),
        rule(&[names::GROUP], &statuses, &["get", "patch", "update"]),
        rule(&[""], &["pods"], &READ),
    ]
}

/// Roles and bindings of both operands.
pub(crate) fn operand_objects(installation: &Installation) -> Vec<Object> {
    let mut all = Vec::new();
    for (account, cluster_rules, rules) in [
        (
            objects::CONTROLLER,
            controller_cluster_rules(),
            controller_rules(&installation.installer),
        ),
        (objects::SPEAKER, speaker_cluster_rules(), speaker_rules()),
    ] {
        let cluster = installation.cluster_scoped(account, Some(account));
        let local = installation.namespaced(account, Some(account));
        all.push(Object::ClusterRole(cluster_role(cluster.clone(), cluster_rules)));
        all.push(Object::ClusterRoleBinding(cluster_role_binding(
            cluster,
            account,
            &installation.namespace,
        )));
        all.push(Object::Role(Role {
            metadata: local.clone(),
            rules: Some(rules),
        }));
        all.push(Object::RoleBinding(RoleBinding {
            role_ref: role_ref("Role", account),
            subjects: Some(vec![service_account(account, &installation.namespace)]),
            metadata: local,
        }));
    }
    all
}

pub(crate) fn cluster_role(metadata: ObjectMeta, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole {
        metadata,
        rules: Some(rules),
        ..Default::default()
    }
}

/// Binds an account to the ClusterRole of the same name as the binding.
pub(crate) fn cluster_role_binding(
    metadata: ObjectMeta,
    account: &str,
    namespace: &str,
) -> ClusterRoleBinding {
    ClusterRoleBinding {
        role_ref: role_ref("ClusterRole", metadata.name.as_deref().unwrap_or_default()),
        subjects: Some(vec![service_account(account, namespace)]),
        metadata,
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: RBAC.into(),
        kind: kind.into(),
        name: name.into(),
    }
}

fn service_account(name: &str, namespace: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: name.into(),
        namespace: Some(namespace.into()),
        ..Default::default()
    }
}
