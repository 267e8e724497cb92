//! Names that the outside world sees: users' manifests, scripts and dashboards depend on each of them.
//!
//! They are `MetalLB`'s own names; what is new here has a new name beside them.

/// API group of every kind in this crate.
pub const GROUP: &str = "metallb.io";

/// Annotation keys. Users' keys exist under two prefixes; the current one wins when both are present.
pub mod annotations {
    /// The current prefix.
    pub const PREFIX: &str = "metallb.io/";
    /// The prefix of releases before 0.14.9; still read, and its use is answered with an Event.
    pub const DEPRECATED_PREFIX: &str = "metallb.universe.tf/";

    /// On a Service: the pool to allocate from, by name.
    pub const ADDRESS_POOL: &str = "metallb.io/address-pool";
    /// The same under the deprecated prefix.
    pub const DEPRECATED_ADDRESS_POOL: &str = "metallb.universe.tf/address-pool";
    /// On a Service: the addresses wanted, comma separated, at most one per family.
    pub const LOAD_BALANCER_IPS: &str = "metallb.io/loadBalancerIPs";
    /// The same under the deprecated prefix.
    pub const DEPRECATED_LOAD_BALANCER_IPS: &str = "metallb.universe.tf/loadBalancerIPs";
    /// On a Service: services with the same key may share an address.
    pub const ALLOW_SHARED_IP: &str = "metallb.io/allow-shared-ip";
    /// The same under the deprecated prefix.
    pub const DEPRECATED_ALLOW_SHARED_IP: &str = "metallb.universe.tf/allow-shared-ip";
    /// Written by the allocator on a Service: the pool that its addresses came from.
    pub const ALLOCATED_FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";
    /// Written by the allocator on the ConfigMap [`objects::LEGACY_CONFIG_MAP`](super::objects::LEGACY_CONFIG_MAP): its text
    /// that was last valid, which stays in force while the present one is not.
    pub const LAST_VALID_CONFIG: &str = "metallb.io/last-valid-config";
    /// On the operands' pods: the UID of their ServiceAccount. Pods of an account that was deleted and made again hold
    /// tokens that nobody honours; with another value here they are rolled.
    pub const SERVICE_ACCOUNT_UID: &str = "metallb.io/service-account-uid";
}

/// Label keys and values.
pub mod labels {
    /// `app=metallb` on every operand and its pods.
    pub const APP: &str = "app";
    /// Value of [`APP`].
    pub const APP_METALLB: &str = "metallb";
    /// `component=controller|speaker` on operands and pods; with [`APP`] the immutable selector of the workloads.
    pub const COMPONENT: &str = "component";
    /// Value of [`COMPONENT`] for the allocator's pods.
    pub const COMPONENT_CONTROLLER: &str = "controller";
    /// Value of [`COMPONENT`] for the speaker's pods.
    pub const COMPONENT_SPEAKER: &str = "speaker";
    /// On speakers' pods: which implementation they are. Speakers of Go `MetalLB` have no such label.
    pub const ENGINE: &str = "metallb.io/engine";
    /// Value of [`ENGINE`] on our own.
    pub const ENGINE_RUST: &str = "rust";
    /// Who manages an object.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Value of [`MANAGED_BY`] on what the operator made.
    pub const MANAGED_BY_OPERATOR: &str = "metallb-operator";
    /// Value of [`MANAGED_BY`] on the membership key that the allocator made.
    pub const MANAGED_BY_CONTROLLER: &str = "metallb-controller";
    /// On what the operator made: UID of the `MetalLB` resource it was made for.
    pub const METALLB_UID: &str = "metallb.io/metallb-uid";
    /// On status objects: the node that wrote them.
    pub const NODE: &str = "metallb.io/node";
    /// On status objects: name of the service they are about.
    pub const SERVICE_NAME: &str = "metallb.io/service-name";
    /// On status objects: namespace of the service they are about.
    pub const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";
    /// On `ConfigurationState` objects: `controller` or `speaker`.
    pub const COMPONENT_TYPE: &str = "metallb.io/component-type";
    /// On `ConfigurationState` objects of speakers: the node.
    pub const NODE_NAME: &str = "metallb.io/node-name";
    /// A node with this label announces nothing unless `--ignore-exclude-lb` says so (set by cloud providers and administrators).
    pub const EXCLUDE_FROM_LB: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    /// On an `EndpointSlice`: the service it belongs to.
    pub const SLICE_SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// Pod Security level that a namespace enforces.
    pub const POD_SECURITY_ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    /// Pod Security level that a namespace audits.
    pub const POD_SECURITY_AUDIT: &str = "pod-security.kubernetes.io/audit";
    /// Pod Security level that a namespace warns about.
    pub const POD_SECURITY_WARN: &str = "pod-security.kubernetes.io/warn";
}

/// Reasons of Events. Those of `MetalLB` first, then ours.
pub mod events {
    /// Normal, on a Service: it was given its addresses.
    pub const IP_ALLOCATED: &str = "IPAllocated";
    /// Warning, on a Service: it cannot be given an address now.
    pub const ALLOCATION_FAILED: &str = "AllocationFailed";
    /// Normal, on a Service: its addresses were taken back.
    pub const CLEAR_ASSIGNMENT: &str = "ClearAssignment";
    /// Normal, on a dual-stack Service: the second family could not be added.
    pub const ADDITIONAL_ASSIGN_FAILED: &str = "AdditionalAssignFailed";
    /// Warning, on a Service: what it asks for cannot be understood.
    pub const LOAD_BALANCER_FAILED: &str = "LoadBalancerFailed";
    /// Warning, on a Service: `RequireDualStack` with fewer than two cluster addresses.
    pub const NOT_ENOUGH_CLUSTER_IPS: &str = "not enough clusterips";
    /// Warning, on a Service: the wanted addresses have no readable family.
    pub const NO_LB_IPS_FAMILY: &str = "nolbIPsIPFamily";
    /// Warning, on a Service: the cluster addresses have no readable family.
    pub const NO_CLUSTER_IPS_FAMILY: &str = "noclusterIPsIPFamily";
    /// Warning: a fault of ours.
    pub const INTERNAL_ERROR: &str = "InternalError";
    /// Warning, on a Service: it uses the deprecated annotation prefix.
    pub const DEPRECATED_ANNOTATION: &str = "deprecatedAnnotation";
    /// Normal, on a Service: this node announces it now.
    pub const NODE_ASSIGNED: &str = "nodeAssigned";
    /// Warning, on a Service: it should be announced and cannot be.
    pub const ANNOUNCE_FAILED: &str = "announceFailed";
    /// Warning, on a Service: a station outside the cluster has one of its addresses too.
    pub const ADDRESS_CONFLICT: &str = "addressConflict";
    /// Warning, on a configuration object: it is not valid, what it last validly said stays in force.
    pub const CONFIGURATION_INVALID: &str = "ConfigurationInvalid";
    /// Normal, on a configuration object: it is valid again.
    pub const CONFIGURATION_VALID: &str = "ConfigurationValid";
    /// Warning, on a configuration object: it is of a kind that another one replaces, and works as ever.
    pub const DEPRECATED_CONFIGURATION: &str = "DeprecatedConfiguration";
    /// Event source of the allocator.
    pub const SOURCE_CONTROLLER: &str = "metallb-controller";
    /// Event source of the speakers.
    pub const SOURCE_SPEAKER: &str = "metallb-speaker";
    /// Event source of the operator.
    pub const SOURCE_OPERATOR: &str = "metallb-operator";
}

/// Condition types, and reasons that several components use.
pub mod conditions {
    /// On configuration objects: whether the object is in force as written.
    pub const VALID: &str = "Valid";
    /// Reason of `Valid=True`.
    pub const REASON_ACCEPTED: &str = "Accepted";
    /// Reason of `Valid=False`: the object cannot be used as written.
    pub const REASON_INVALID: &str = "Invalid";
    /// Reason of `Valid=False`: the object is in a namespace that this installation does not read.
    pub const REASON_WRONG_NAMESPACE: &str = "WrongNamespace";
    /// On `MetalLB`: everything runs as asked.
    pub const AVAILABLE: &str = "Available";
    /// On `MetalLB`: a change is being rolled out.
    pub const PROGRESSING: &str = "Progressing";
    /// On `MetalLB`: something needs a person, or has failed.
    pub const DEGRADED: &str = "Degraded";
    /// On `MetalLB`: an upgrade may start.
    pub const UPGRADEABLE: &str = "Upgradeable";
}

/// Field managers: one per writer, so that server-side apply can tell them apart.
pub mod field_managers {
    /// The operator, on operands and on the status of `MetalLB`.
    pub const OPERATOR: &str = "metallb-operator";
    /// The allocator, on Services and on the status of configuration objects.
    pub const CONTROLLER: &str = "metallb-controller";
    /// Prefix of a speaker's field manager; the node name follows.
    pub const SPEAKER_PREFIX: &str = "metallb-speaker/";
}

/// Names of objects.
pub mod objects {
    /// The name that the `MetalLB` resource must have.
    pub const METALLB: &str = "metallb";
    /// Namespace of installations that do not choose another.
    pub const DEFAULT_NAMESPACE: &str = "metallb-system";
    /// The allocator's Deployment, ServiceAccount, Role and container.
    pub const CONTROLLER: &str = "controller";
    /// The speakers' DaemonSet, ServiceAccount, Role and container.
    pub const SPEAKER: &str = "speaker";
    /// Role and binding that let both operands read the configuration in their namespace.
    pub const CONFIG_READER: &str = "metallb-config-reader";
    /// The membership key that we make.
    pub const MEMBERLIST_SECRET: &str = "metallb-memberlist";
    /// The membership key that a user made; wins over [`MEMBERLIST_SECRET`].
    pub const USER_MEMBERLIST_SECRET: &str = "memberlist";
    /// Key of both Secrets.
    pub const MEMBERLIST_SECRET_KEY: &str = "secretkey";
    /// `ConfigMap` with the interface patterns that are never announced on.
    pub const EXCLUDE_L2_CONFIG_MAP: &str = "metallb-excludel2";
    /// Key in [`EXCLUDE_L2_CONFIG_MAP`], and the file name under [`crate::names::paths::EXCLUDE_L2_DIR`].
    pub const EXCLUDE_L2_FILE: &str = "excludel2.yaml";
    /// `ConfigMap` with the whole configuration, as MetalLB 0.3 to 0.12 read it.
    pub const LEGACY_CONFIG_MAP: &str = "config";
    /// Key in [`LEGACY_CONFIG_MAP`].
    pub const LEGACY_CONFIG_KEY: &str = "config";
    /// The allocator's Lease.
    pub const CONTROLLER_LEASE: &str = "metallb-controller";
    /// The operator's Lease; metallb-operator's has the same name, so that the two never work at a time.
    pub const OPERATOR_LEASE: &str = "metallb.io.metallboperator";
    /// Role and binding by which a speaker reads the Secrets that BGPPeers name.
    pub const SPEAKER_SECRETS: &str = "speaker-secrets";
    /// Role and binding by which Prometheus finds the pods.
    pub const PROMETHEUS: &str = "prometheus-k8s";
    /// ClusterRole and binding by which Prometheus reads the metrics; the namespace goes in front.
    pub const METRICS_READER: &str = "metrics-reader";
    /// The `PrometheusRule`.
    pub const ALERTS: &str = "metallb-alerts";
    /// The operator's Deployment.
    pub const OPERATOR_DEPLOYMENT: &str = "metallb-operator-controller-manager";
    /// The operator's ServiceAccount and ClusterRole.
    pub const OPERATOR_ACCOUNT: &str = "metallb-operator";
    /// `ConfigurationState` written by the allocator; a speaker's is `speaker-<node>`.
    pub const CONFIGURATION_STATE_CONTROLLER: &str = "controller";
    /// Prefix of a speaker's `ConfigurationState`; the node name follows.
    pub const CONFIGURATION_STATE_SPEAKER_PREFIX: &str = "speaker-";
    /// `generateName` of `ServiceL2Status`.
    pub const SERVICE_L2_STATUS_PREFIX: &str = "l2-";
}

/// Paths inside the operands' containers.
pub mod paths {
    /// The user's [`super::objects::USER_MEMBERLIST_SECRET`], when there is one.
    pub const MEMBERLIST_DIR: &str = "/etc/ml_secret_key";
    /// Our [`super::objects::MEMBERLIST_SECRET`].
    pub const MEMBERLIST_GENERATED_DIR: &str = "/etc/ml_secret_key_generated";
    /// Directory of [`super::objects::EXCLUDE_L2_FILE`].
    pub const EXCLUDE_L2_DIR: &str = "/etc/metallb";
}

/// Port numbers.
pub mod ports {
    /// Metrics of controller and speaker.
    pub const METRICS: u16 = 9120;
    /// `/healthz` and `/readyz` of controller and speaker. On the speaker, which shares the node's network, on the loopback only,
    /// and `/state` and `/metrics` with them.
    pub const HEALTH: u16 = 17472;
    /// Membership, UDP.
    pub const MEMBERLIST: u16 = 7946;
    /// Usual port of the API server's endpoints.
    pub const API_SERVER: u16 = 6443;
    /// `/healthz`, `/readyz` and `/metrics` of the operator.
    pub const OPERATOR_HEALTH: u16 = 8080;
}

/// Environment variables of the operands.
pub mod env {
    /// Namespace the component runs in.
    pub const NAMESPACE: &str = "METALLB_NAMESPACE";
    /// Own pod's name.
    pub const POD_NAME: &str = "METALLB_POD_NAME";
    /// Own pod's UID: holder identity of the Lease, owner of status objects.
    pub const POD_UID: &str = "METALLB_POD_UID";
    /// Own node's name.
    pub const NODE_NAME: &str = "METALLB_NODE_NAME";
    /// On the operator: its release, such as `v0.1.0`, as the status of the `MetalLB` resource shows it.
    pub const OPERATOR_VERSION: &str = "OPERATOR_VERSION";
    /// Name of the allocator's Deployment.
    pub const DEPLOYMENT: &str = "METALLB_DEPLOYMENT";
    /// Name of the speakers' DaemonSet, for whom the allocator makes the membership key.
    pub const DAEMON_SET: &str = "METALLB_DAEMONSET";
    /// BGP flavour: `frr`, `frr-k8s` or absent for `native`.
    pub const BGP_TYPE: &str = "METALLB_BGP_TYPE";
    /// Address of the node, as `MetalLB`'s manifests give it by fieldRef status.hostIP.
    pub const HOST: &str = "METALLB_HOST";
    /// Address that membership binds to.
    pub const ML_BIND_ADDR: &str = "METALLB_ML_BIND_ADDR";
    /// Port that membership binds to.
    pub const ML_BIND_PORT: &str = "METALLB_ML_BIND_PORT";
    /// Label selector of the pods that are members.
    pub const ML_LABELS: &str = "METALLB_ML_LABELS";
    /// Directory of the membership key.
    pub const ML_SECRET_KEY_PATH: &str = "METALLB_ML_SECRET_KEY_PATH";
    /// Name of the membership Secret that is made for the installation.
    pub const ML_SECRET_NAME: &str = "METALLB_ML_SECRET_NAME";
}
