//! What each binary may do, rule by rule.

use crate::{Installation, Installer, Object};
use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use metallb_api::{
    MetalLBSpec,
    names::{self, objects},
};

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
/// What components say about it.
pub const STATUS_KINDS: [&str; 3] = ["servicel2statuses", "servicebgpstatuses", "configurationstates"];
/// What a watch needs: an API server without streaming lists is asked for lists.
const READ: [&str; 2] = ["list", "watch"];
/// What a component needs to keep one object of its own by server-side apply.
const KEEP: [&str; 4] = ["list", "watch", "create", "patch"];
/// What a speaker needs to keep one object a service.
const KEEP_MANY: [&str; 4] = ["list", "watch", "create", "delete"];

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
    rule(&[""], &["events"], &["create", "patch"])
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
        // One is read again when it has changed under a write.
        rule(&[""], &["services"], &["get", "list", "watch"]),
        rule(&[""], &["namespaces", "nodes"], &READ),
        rule(&[""], &["services/status"], &["patch"]),
        events(),
        // In all namespaces: an object in the wrong one is answered.
        rule(&[names::GROUP], &CONFIG_KINDS, &READ),
        rule(&[names::GROUP], &statuses, &["patch"]),
    ];
    rules.extend(reviews());
    rules
}

/// Rights of the allocator in its own namespace.
pub fn controller_rules(installer: &Installer) -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(&[names::GROUP], &["configurationstates"], &KEEP),
        rule(&[names::GROUP], &["configurationstates/status"], &["patch"]),
        rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "get", "update"],
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
        // The key belongs to the Deployment and to the DaemonSet, and goes with the last of them.
        rules.push(named(
            rule(&[""], &["secrets"], &["patch"]),
            &[objects::MEMBERLIST_SECRET],
        ));
        rules.push(named(
            rule(&["apps"], &["daemonsets"], &["get"]),
            &[objects::SPEAKER],
        ));
    }
    rules
}

/// Rights of the speakers in the whole cluster.
pub fn speaker_cluster_rules() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(&[""], &["services", "nodes"], &READ),
        rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
        events(),
    ];
    rules.extend(reviews());
    rules
}

/// Rights of the speakers in their own namespace. The keys of membership are mounted; passwords of BGP sessions are read, one
/// by one: under the operator only those that a `BGPPeer` names ([`speaker_secrets`]), else whichever it will name.
pub fn speaker_rules(installer: &Installer) -> Vec<PolicyRule> {
    let statuses = with_status(&STATUS_KINDS);
    let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
    let mut rules = vec![
        rule(&[names::GROUP], &CONFIG_KINDS, &READ),
        legacy_config(&READ),
        rule(&[names::GROUP], &["configurationstates"], &KEEP),
        rule(
            &[names::GROUP],
            &["servicel2statuses", "servicebgpstatuses"],
            &KEEP_MANY,
        ),
        rule(&[names::GROUP], &statuses, &["patch"]),
        rule(&[""], &["pods"], &READ),
    ];
    if *installer == Installer::Manifests {
        rules.push(rule(&[""], &["secrets"], &["get"]));
        // The flag `--l2-strict` may be set by hand.
        rules.push(tenures());
    }
    rules
}

/// The Leases of strict mode. Their names are those of nodes and addresses, so no names can stand here.
pub(crate) fn tenures() -> PolicyRule {
    let verbs = ["create", "get", "list", "watch", "update"];
    rule(&["coordination.k8s.io"], &["leases"], &verbs)
}

/// The right to read the Secrets that `BGPPeer`s name; no rule when they name none.
fn speaker_secrets(installer: &Installer) -> Option<PolicyRule> {
    let Installer::Operator { speaker_secrets, .. } = installer else {
        return None;
    };
    let names: Vec<&str> = speaker_secrets.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| named(rule(&[""], &["secrets"], &["get"]), &names))
}

/// Roles and bindings of both operands.
pub(crate) fn operand_objects(spec: &MetalLBSpec, installation: &Installation) -> Vec<Object> {
    let mut all = Vec::new();
    let strict = spec.layer2.as_ref().is_some_and(|layer2| layer2.strict);
    let mut speaker_rules = speaker_rules(&installation.installer);
    if strict && installation.installer != Installer::Manifests {
        speaker_rules.push(tenures());
    }
    for (account, cluster_rules, rules) in [
        (
            objects::CONTROLLER,
            controller_cluster_rules(),
            controller_rules(&installation.installer),
        ),
        (objects::SPEAKER, speaker_cluster_rules(), speaker_rules),
    ] {
        let cluster = installation.cluster_scoped(account, Some(account));
        all.push(Object::ClusterRole(cluster_role(cluster.clone(), cluster_rules)));
        all.push(Object::ClusterRoleBinding(cluster_role_binding(
            cluster,
            account,
            &installation.namespace,
        )));
        all.extend(role(installation, account, account, rules));
    }
    if let Some(rule) = speaker_secrets(&installation.installer) {
        all.extend(role(
            installation,
            objects::SPEAKER_SECRETS,
            objects::SPEAKER,
            vec![rule],
        ));
    }
    all
}

/// A Role and its binding to an account, which is its component as well.
fn role(installation: &Installation, name: &str, account: &str, rules: Vec<PolicyRule>) -> [Object; 2] {
    let metadata = installation.namespaced(name, Some(account));
    [
        Object::Role(Role {
            metadata: metadata.clone(),
            rules: Some(rules),
        }),
        Object::RoleBinding(RoleBinding {
            role_ref: role_ref("Role", name),
            subjects: Some(vec![service_account(account, &installation.namespace)]),
            metadata,
        }),
    ]
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

pub(crate) fn role_ref(kind: &str, name: &str) -> RoleRef {
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
