//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, in a network namespace of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns;
use crate::pki::Files;
use crate::plan::{API_PORT, POD_CIDRS, Plan, SERVICE_CIDRS, control};
use crate::process::{self, Room, Spec};
use crate::sh;
use crate::state::{ClusterRecord, State};
use crate::wait::wait_every;

/// Part name of the control plane: namespace, cgroup, log directory.
pub const PART: &str = "control";
/// Process name of the API server.
pub const APISERVER: &str = "kube-apiserver";
/// The processes that follow the API server.
pub const FOLLOWERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Where certificates and configuration of the control plane are.
pub fn files(plan: &Plan) -> Files {
    Files::at(&dir(plan).join("pki"))
}

/// The API server's audit log.
pub fn audit_log(plan: &Plan) -> PathBuf {
    plan.log_dir().join("audit.log")
}

fn dir(plan: &Plan) -> PathBuf {
    plan.data_dir().join(PART)
}

/// Starts etcd and the API server, without waiting for them.
pub fn start_api(state: &State, record: &ClusterRecord) -> Result<()> {
    let plan = &record.plan;
    let etcd_dir = dir(plan).join("etcd");
    fs::create_dir_all(&etcd_dir).with_context(|| format!("create {}", etcd_dir.display()))?;
    files(plan).write("audit.yaml", AUDIT_POLICY)?;
    process::start(
        state,
        &spec(record, "etcd", etcd_args(&etcd_dir.display().to_string())),
    )?;
    process::start(state, &spec(record, APISERVER, apiserver_args(plan)))?;
    Ok(())
}

/// Starts controller manager and scheduler.
pub fn start_followers(state: &State, record: &ClusterRecord) -> Result<()> {
    let files = files(&record.plan);
    process::start(
        state,
        &spec(record, "kube-controller-manager", controller_manager_args(&files)),
    )?;
    process::start(
        state,
        &spec(
            record,
            "kube-scheduler",
            follower_args(&files.path("scheduler.kubeconfig")),
        ),
    )?;
    Ok(())
}

/// Waits until the API server says that it is ready.
pub fn wait_ready(state: &State, plan: &Plan) -> Result<()> {
    let log = plan.log_dir().join(format!("{APISERVER}.log"));
    let ready = wait_every(
        "the API server to be ready",
        Duration::from_millis(200),
        Duration::from_secs(90),
        || {
            let alive = process::lookup(state, APISERVER)?.is_some_and(|p| p.is_alive());
            if !alive {
                // No use in waiting out the deadline.
                return Ok(Some(false));
            }
            Ok(is_ready(plan).then_some(true))
        },
    )
    .with_context(|| format!("see {}", log.display()))?;
    anyhow::ensure!(
        ready,
        "kube-apiserver ended; the end of {}:\n{}",
        log.display(),
        process::log_tail(&log, 5)
    );
    Ok(())
}

/// Asks `/readyz` once, from inside the control plane's namespace.
pub fn is_ready(plan: &Plan) -> bool {
    let ca = files(plan).path("ca.crt");
    let url = format!("https://{}:{API_PORT}/readyz", control().v4);
    let mut command = netns::command(&plan.netns(PART), "curl");
    sh::succeeds(command.args(["--silent", "--fail", "--max-time", "2", "--cacert", &ca, &url]))
}

/// Stops the API server with SIGKILL: what a crash looks like to its clients.
pub fn stop_api(state: &State) -> Result<()> {
    if let Some(running) = process::lookup(state, APISERVER)? {
        running.kill()?;
        crate::wait::wait_for("the API server to end", Duration::from_secs(10), || {
            Ok((!running.is_alive()).then_some(()))
        })?;
    }
    Ok(())
}

fn spec(record: &ClusterRecord, program: &str, args: Vec<String>) -> Spec {
    let plan = &record.plan;
    Spec {
        id: program.to_owned(),
        program: record.tools.kubernetes.join(program),
        args,
        env: Vec::new(),
        room: Room::Netns {
            name: plan.netns(PART),
        },
        cgroup: format!("{}/{PART}", plan.cgroup()),
        log: plan.log_dir().join(format!("{program}.log")),
    }
}

/// One argument for each `--name=value` line; lines keep the tables below readable.
fn args(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| format!("--{line}"))
        .collect()
}

fn etcd_args(data: &str) -> Vec<String> {
    // No fsync: a killed process loses nothing that it has written, and the cluster does not outlive the machine anyway.
    args(&format!(
        "data-dir={data}
         unsafe-no-fsync=true
         listen-client-urls=http://127.0.0.1:2379
         advertise-client-urls=http://127.0.0.1:2379
         listen-peer-urls=http://127.0.0.1:2380
         initial-advertise-peer-urls=http://127.0.0.1:2380
         initial-cluster=default=http://127.0.0.1:2380
         log-level=warn"
    ))
}

fn apiserver_args(plan: &Plan) -> Vec<String> {
    let f = files(plan);
    let p = |name: &str| f.path(name);
    args(&format!(
        "etcd-servers=http://127.0.0.1:2379
         advertise-address={address}
         secure-port={API_PORT}
         service-cluster-ip-range={SERVICE_CIDRS}
         authorization-mode=Node,RBAC
         enable-admission-plugins=NodeRestriction
         allow-privileged=true
         client-ca-file={ca}
         tls-cert-file={cert}
         tls-private-key-file={key}
         kubelet-certificate-authority={ca}
         kubelet-client-certificate={kubelet_cert}
         kubelet-client-key={kubelet_key}
         kubelet-preferred-address-types=InternalIP
         service-account-issuer=https://kubernetes.default.svc
         service-account-key-file={sa_pub}
         service-account-signing-key-file={sa_key}
         requestheader-client-ca-file={front_ca}
         requestheader-allowed-names=front-proxy-client
         requestheader-username-headers=X-Remote-User
         requestheader-group-headers=X-Remote-Group
         requestheader-extra-headers-prefix=X-Remote-Extra-
         proxy-client-cert-file={front_cert}
         proxy-client-key-file={front_key}
         enable-aggregator-routing=true
         audit-policy-file={audit_policy}
         audit-log-path={audit_log}
         audit-log-maxsize=20
         audit-log-maxbackup=4",
        address = control().v4,
        ca = p("ca.crt"),
        cert = p("apiserver.crt"),
        key = p("apiserver.key"),
        kubelet_cert = p("apiserver-kubelet.crt"),
        kubelet_key = p("apiserver-kubelet.key"),
        sa_pub = p("sa.pub"),
        sa_key = p("sa.key"),
        front_ca = p("front-proxy-ca.crt"),
        front_cert = p("front-proxy.crt"),
        front_key = p("front-proxy.key"),
        audit_policy = p("audit.yaml"),
        audit_log = audit_log(plan).display(),
    ))
}

/// Common to controller manager and scheduler. One of each, so no leader election: with it they would end when the API
/// server is away for longer than their lease.
fn follower_args(kubeconfig: &str) -> Vec<String> {
    args(&format!(
        "kubeconfig={kubeconfig}
         authentication-kubeconfig={kubeconfig}
         authorization-kubeconfig={kubeconfig}
         leader-elect=false"
    ))
}

fn controller_manager_args(f: &Files) -> Vec<String> {
    let mut all = follower_args(&f.path("controller-manager.kubeconfig"));
    all.extend(args(&format!(
        "allocate-node-cidrs=true
         cluster-cidr={POD_CIDRS}
         node-cidr-mask-size-ipv4=24
         node-cidr-mask-size-ipv6=64
         service-cluster-ip-range={SERVICE_CIDRS}
         use-service-account-credentials=true
         root-ca-file={ca}
         cluster-signing-cert-file={ca}
         cluster-signing-key-file={ca_key}
         service-account-private-key-file={sa_key}",
        ca = f.path("ca.crt"),
        ca_key = f.path("ca.key"),
        sa_key = f.path("sa.key"),
    )));
    all
}

/// Who asked for what, without bodies; reads of the cluster's own parts are left out, they would be most of it.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:apiserver, system:kube-scheduler, system:kube-controller-manager, system:kube-proxy]
- level: None
  userGroups: [system:nodes]
- level: Metadata
";

/// The kubectl of the cluster's own version with the administrator's kubeconfig for the host.
pub fn kubectl(state: &State, record: &ClusterRecord) -> Command {
    let mut command = Command::new(record.tools.kubernetes.join("kubectl"));
    command.arg("--kubeconfig").arg(state.kubeconfig());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_one_a_line() {
        assert_eq!(args("a=1\n   b=2\n\n"), ["--a=1", "--b=2"]);
        let plan = Plan::new("lab", 3).unwrap();
        assert!(
            apiserver_args(&plan)
                .iter()
                .all(|a| a.starts_with("--") && a.contains('=') && !a.contains(' '))
        );
    }
}
