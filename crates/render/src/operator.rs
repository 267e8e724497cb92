//! The operator itself: what an installation without OLM applies, and what the OLM bundle carries.

use crate::{Images, Installer, Object, monitoring, pod, rbac};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            Affinity, Container, ContainerPort, Namespace, PodAffinityTerm, PodAntiAffinity, PodSpec,
            PodTemplateSpec, ServiceAccount, WeightedPodAffinityTerm,
        },
        rbac::v1::PolicyRule,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use metallb_api::names::{self, labels, objects, ports};
use std::collections::{BTreeMap, BTreeSet};

/// Namespace, account, rights and Deployment of the operator. `version` is the release, such as `v0.1.0`: the operator reports it
/// in the status of the `MetalLB` resource.
pub fn objects(namespace: &str, version: &str, image: &str, operands: &Images) -> Vec<Object> {
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        labels: Some(own_labels()),
        ..Default::default()
    };
    let cluster = ObjectMeta {
        namespace: None,
        ..metadata(objects::OPERATOR_ACCOUNT)
    };
    vec![
        Object::Namespace(self::namespace(namespace)),
        Object::ServiceAccount(ServiceAccount {
            metadata: metadata(objects::OPERATOR_ACCOUNT),
            ..Default::default()
        }),
        Object::ClusterRole(rbac::cluster_role(cluster.clone(), rules())),
        Object::ClusterRoleBinding(rbac::cluster_role_binding(
            cluster,
            objects::OPERATOR_ACCOUNT,
            namespace,
        )),
        Object::Deployment(deployment(
            metadata(objects::OPERATOR_DEPLOYMENT),
            container(version, image, operands),
        )),
    ]
}

/// A namespace that lets speakers in: they use the node's network and a raw socket, which Pod Security calls privileged.
pub fn namespace(name: &str) -> Namespace {
    let levels = [
        labels::POD_SECURITY_ENFORCE,
        labels::POD_SECURITY_AUDIT,
        labels::POD_SECURITY_WARN,
    ];
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(
                levels
                    .map(|level| (level.to_owned(), "privileged".to_owned()))
                    .into(),
            ),
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Rights of the operator. It must itself hold each right that it hands to the operands, so theirs are included.
pub fn rules() -> Vec<PolicyRule> {
    // Server-side apply: what is made needs the right to create as well.
    let owned = ["list", "watch", "create", "patch", "delete"];
    let read = ["list", "watch"];
    let mut all = vec![
        rbac::rule(&[names::GROUP], &["metallbs"], &read),
        rbac::rule(&[names::GROUP], &["metallbs/status"], &["patch"]),
        // Some clusters let nobody make an object whose owner waits for it without this.
        rbac::rule(&[names::GROUP], &["metallbs/finalizers"], &["update"]),
        rbac::rule(&["apps"], &["deployments", "daemonsets"], &owned),
        // Its own, which its Lease belongs to; and the namespace, which what is in no namespace belongs to.
        rbac::rule(&["apps"], &["deployments"], &["get"]),
        rbac::rule(&[""], &["namespaces"], &["get"]),
        rbac::rule(&[""], &["serviceaccounts", "configmaps", "services"], &owned),
        rbac::rule(&["networking.k8s.io"], &["networkpolicies"], &owned),
        rbac::rule(
            &["monitoring.coreos.com"],
            &["servicemonitors", "podmonitors", "prometheusrules"],
            &owned,
        ),
        rbac::rule(
            &["rbac.authorization.k8s.io"],
            &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
            &owned,
        ),
        // Of all Secrets it touches only the membership key, in whichever namespace the MetalLB resource is; the watch names
        // it. (It may get others only because the controller may, see below. That gives away nothing: whoever may create
        // Deployments may mount any Secret.)
        rbac::rule(&[""], &["secrets"], &["create"]),
        rbac::named(
            rbac::rule(&[""], &["secrets"], &["list", "watch", "patch", "delete"]),
            &[objects::MEMBERLIST_SECRET],
        ),
        // Why a pod does not run: its own status, and the events of a DaemonSet that may make none.
        rbac::rule(&[""], &["pods", "events"], &read),
    ];
    let installer = Installer::Operator {
        uid: String::new(),
        namespace_uid: String::new(),
        speaker_secrets: BTreeSet::new(),
    };
    let of_operands = [
        rbac::controller_cluster_rules(),
        rbac::controller_rules(&installer),
        rbac::speaker_cluster_rules(),
        rbac::speaker_rules(&installer),
        vec![rbac::tenures()],
        monitoring::discovery_rules().into(),
        vec![monitoring::metrics_url()],
    ];
    for rule in of_operands.into_iter().flatten() {
        if !all.contains(&rule) {
            all.push(rule);
        }
    }
    all
}

fn own_labels() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "metallb-operator".to_owned()),
        ("control-plane".to_owned(), "controller-manager".to_owned()),
    ])
}

fn deployment(metadata: ObjectMeta, container: Container) -> Deployment {
    let selector = BTreeMap::from([("control-plane".to_owned(), "controller-manager".to_owned())]);
    Deployment {
        spec: Some(DeploymentSpec {
            // One works; the other, on another node where there is one, takes over within seconds.
            replicas: Some(2),
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(selector.clone()),
                ..Default::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(own_labels()),
                    ..Default::default()
                }),
                spec: Some(PodSpec {
                    service_account_name: Some(objects::OPERATOR_ACCOUNT.into()),
                    security_context: Some(pod::unprivileged_pod()),
                    node_selector: Some(pod::node_selector(&BTreeMap::new())),
                    tolerations: Some(pod::tolerations(&[])),
                    termination_grace_period_seconds: Some(10),
                    affinity: Some(apart(selector)),
                    containers: vec![container],
                    ..Default::default()
                }),
            },
            ..Default::default()
        }),
        metadata,
        ..Default::default()
    }
}

/// Replicas avoid each other's nodes, and share one rather than not run.
fn apart(selector: BTreeMap<String, String>) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(selector),
            ..Default::default()
        }),
        topology_key: "kubernetes.io/hostname".into(),
        ..Default::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container(version: &str, image: &str, operands: &Images) -> Container {
    Container {
        name: "manager".into(),
        image: Some(image.into()),
        image_pull_policy: Some("IfNotPresent".into()),
        // The last words of a container that fails reach the pod's status, and from there the MetalLB resource's.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        env: Some(vec![
            pod::env_from("OPERATOR_NAMESPACE", "metadata.namespace"),
            pod::env_from(names::env::POD_UID, "metadata.uid"),
            pod::env(names::env::OPERATOR_VERSION, version),
            pod::env("CONTROLLER_IMAGE", &operands.controller),
            pod::env("SPEAKER_IMAGE", &operands.speaker),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("health".into()),
            container_port: ports::OPERATOR_HEALTH.into(),
            protocol: Some("TCP".into()),
            ..Default::default()
        }]),
        liveness_probe: Some(pod::http_probe(
            "/healthz",
            None,
            ports::OPERATOR_HEALTH,
            &pod::LIVENESS,
        )),
        readiness_probe: Some(pod::http_probe(
            "/readyz",
            None,
            ports::OPERATOR_HEALTH,
            &pod::READINESS,
        )),
        resources: Some(pod::requests(pod::SOME_CPU, "24Mi")),
        security_context: Some(pod::container_security(&[])),
        ..Default::default()
    }
}
