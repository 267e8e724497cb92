//! What is deleted or edited by hand is back as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    super::{
        install::{NAMESPACE, wait_available},
        workload::{SOON, fresh_namespace, remove_namespace, serve_page},
    },
    Id, KINDS, configure, metallb, monitoring_definitions, owned, record, settled,
};
use crate::{Cluster, figures::percentile, wait_for};

const PEER: &str = "{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: drift, namespace: metallb-system}, \
    spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, passwordSecret: {name: drift-password}}}";
/// How long the soak goes on; `SOAK_SECONDS` says otherwise.
const SOAK: u64 = 600;

/// A spec with which there is an object of each kind but one: there is one kind of monitors at a time.
fn everything(monitor: &str) -> Value {
    json!({
        "networkPolicies": {"enabled": true},
        "metrics": {
            "monitor": monitor,
            "tokenSecret": {"name": "prometheus-token"},
            "prometheus": {"serviceAccount": "prometheus-k8s", "namespace": "monitoring"},
            "alerts": {"enabled": true},
        },
    })
}

/// One object of each kind at least, and what is restored is measured.
pub fn drift(cluster: &mut Cluster) -> Result<()> {
    with_everything(cluster, |cluster| {
        let mut times = Vec::new();
        let mut kinds = BTreeSet::new();
        for monitor in ["ServiceMonitor", "PodMonitor"] {
            configure(cluster, &everything(monitor))?;
            wait_kind(cluster, monitor)?;
            // The second round is for what the first had not.
            let all: Vec<(Id, Value)> = owned(cluster)?
                .into_iter()
                .filter(|(id, _)| !kinds.contains(id.kind))
                .collect();
            kinds.extend(all.iter().map(|(id, _)| id.kind));
            // Workloads come when their accounts are there, so they are for themselves.
            let is_workload =
                |(id, _): &(Id, Value)| ["deployments.apps", "daemonsets.apps"].contains(&id.kind);
            let (workloads, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_workload);
            times.extend(disturb(cluster, others)?);
            times.extend(disturb(cluster, workloads)?);
        }
        follow_account(cluster)?;
        let missed: Vec<_> = KINDS.iter().filter(|kind| !kinds.contains(**kind)).collect();
        ensure!(
            missed.is_empty(),
            "no object of {missed:?} was there to be deleted"
        );
        let slowest = times.iter().max().copied().unwrap_or_default();
        record(
            "drift",
            &[
                ("drift_repair_p50", "ms", percentile(&times, 50), times.len()),
                ("drift_repair_max", "ms", slowest.as_secs_f64() * 1e3, times.len()),
            ],
        )
    })
}

/// Deletes and edits each of these objects, some at a time; how long each repair took.
fn disturb(cluster: &Cluster, objects: Vec<(Id, Value)>) -> Result<Vec<Duration>> {
    let next = Mutex::new(objects.into_iter());
    let worker = || -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        while let Some((id, object)) = next.lock().ok().and_then(|mut next| next.next()) {
            times.push(deleted(cluster, &id, &object)?);
            for edit in edits(&id) {
                times.push(edited(cluster, &id, &edit)?);
            }
        }
        Ok(times)
    };
    std::thread::scope(|scope| {
        let workers = [(); 3].map(|()| scope.spawn(worker));
        let results = workers.map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        });
        let times: Result<Vec<_>> = results.into_iter().collect();
        Ok(times?.concat())
    })
}

/// Pods of an account that was made anew hold tokens of the former one: the speakers are rolled, with nothing else to remind the
/// operator of it.
fn follow_account(cluster: &Cluster) -> Result<()> {
    settled(cluster)?;
    let all = owned(cluster)?;
    let find = |kind: &str| {
        let found = all.iter().find(|(id, _)| id.kind == kind && id.name == "speaker");
        found.with_context(|| format!("no {kind} of the speakers"))
    };
    let ((account, before), (speakers, _)) = (find("serviceaccounts")?, find("daemonsets.apps")?);
    deleted(cluster, account, before)?;
    let uid = account.get(cluster)?["metadata"]["uid"].clone();
    wait_for("the speakers to be rolled for their new account", SOON, || {
        let now = speakers.get(cluster)?;
        let annotations = &now["spec"]["template"]["metadata"]["annotations"];
        Ok((annotations["metallb.io/service-account-uid"] == uid).then_some(()))
    })?;
    settled(cluster)
}

/// Runs `work` on an installation with objects of all kinds, which is as before after it.
fn with_everything(cluster: &Cluster, work: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let before = metallb(cluster)?["spec"].clone();
    cluster.apply(&monitoring_definitions())?;
    cluster.apply(PEER)?;
    work(cluster)?;
    cluster.delete(PEER)?;
    let mut back = before;
    // Also when an interrupted run has left them there.
    for field in ["networkPolicies", "metrics"] {
        back[field] = Value::Null;
    }
    configure(cluster, &back)?;
    wait_for("what a setting brought to go with it", SOON, || {
        let left: Vec<String> = owned(cluster)?
            .keys()
            .filter(|id| {
                id.kind.contains("monitor")
                    || id.kind.starts_with("networkpolicies")
                    || id.name == "speaker-secrets"
            })
            .map(Id::to_string)
            .collect();
        if left.is_empty() {
            return Ok(Some(()));
        }
        bail!("there are still {left:?}")
    })?;
    cluster.delete(&monitoring_definitions())?;
    wait_available(cluster, Duration::from_secs(120))
}

/// Waits for the monitors of one kind and the rule, each of which the operator finds to be known now for itself.
fn wait_kind(cluster: &Cluster, monitor: &str) -> Result<()> {
    let monitors = format!("{}s.", monitor.to_lowercase());
    // Kinds that were not there are asked for every 30 s.
    wait_for(
        &format!("the {monitor}s and the PrometheusRule"),
        Duration::from_secs(90),
        || {
            let all = owned(cluster)?;
            let count = |kind: &str| all.keys().filter(|id| id.kind.starts_with(kind)).count();
            Ok((count(&monitors) == 2 && count("prometheusrules.") == 1).then_some(()))
        },
    )?;
    settled(cluster)
}

/// Longer is worth a line: two seconds is what is promised on a machine with nothing else to do.
const SLOW: Duration = Duration::from_millis(1_500);

fn told(what: &str, took: Duration) -> Duration {
    if took > SLOW {
        println!("  {what}: {} ms", took.as_millis());
    }
    took
}

/// Deletes an object and waits until there is another; how long that took.
fn deleted(cluster: &Cluster, id: &Id, object: &Value) -> Result<Duration> {
    let old = object["metadata"]["uid"].clone();
    cluster.kubectl(&[&["delete", "--wait=false"], &id.args()[..]].concat())?;
    let start = Instant::now();
    wait_for(&format!("{id} to be made again"), SOON, || {
        let new = id.get(cluster)?;
        Ok((new["metadata"]["uid"] != old).then_some(start.elapsed()))
    })
    .map(|took| told(&format!("{id} deleted"), took))
}

/// A change by hand, and what must not be there any more when it is put right.
struct Edit {
    patch: Value,
    /// What kubectl calls the kind of patch.
    how: &'static str,
    wrong: &'static str,
}

/// What a person might change: the label by which the operator finds its objects, and what the kind is about.
fn edits(id: &Id) -> Vec<Edit> {
    let edit = |wrong, patch| Edit {
        patch,
        how: "merge",
        wrong,
    };
    let mut all = vec![edit(
        "/metadata/labels/metallb.io~1metallb-uid",
        json!({"metadata": {"labels": {"metallb.io/metallb-uid": null}}}),
    )];
    let kind = id.kind.split('.').next().unwrap_or_default();
    all.extend(match kind {
        "roles" | "clusterroles" => Some(edit("/rules", json!({"rules": []}))),
        "rolebindings" | "clusterrolebindings" => Some(edit("/subjects", json!({"subjects": []}))),
        "configmaps" => Some(edit(
            "/data",
            json!({"data": {"excludel2.yaml": "by hand", "by-hand": "x"}}),
        )),
        "services" => Some(edit(
            "/spec",
            json!({"spec": {"selector": {"component": "by-hand"}, "externalIPs": ["192.0.2.9"]}}),
        )),
        "serviceaccounts" => Some(edit(
            "/automountServiceAccountToken",
            json!({"automountServiceAccountToken": false}),
        )),
        "networkpolicies" => Some(edit(
            "/spec",
            json!({"spec": {"egress": [], "ingress": [{}], "policyTypes": ["Ingress", "Egress"]}}),
        )),
        "servicemonitors" | "podmonitors" => {
            Some(edit("/spec/jobLabel", json!({"spec": {"jobLabel": "by-hand"}})))
        }
        "prometheusrules" => Some(edit("/spec/groups", json!({"spec": {"groups": []}}))),
        "deployments" => Some(edit("/spec/replicas", json!({"spec": {"replicas": 0}}))),
        "daemonsets" => Some(edit(
            "/spec/template/spec/hostNetwork",
            json!({"spec": {"template": {"spec": {"hostNetwork": false}}}}),
        )),
        "secrets" => Some(edit("/data/secretkey", json!({"data": {"secretkey": ""}}))),
        _ => None,
    });
    // What is not rendered is nobody else's: a variable, limits that no pod lives with, another container, a scheduler.
    let added = |container: &str| {
        let env = json!([{"name": "METALLB_BY_HAND", "value": "x"}]);
        let limits = json!({"limits": {"memory": "1Gi"}});
        let containers = json!([{"name": container, "env": env, "resources": limits}, {"name": "by-hand", "image": "by-hand"}]);
        Edit {
            patch: json!({"spec": {"template": {"spec": {"schedulerName": "nobody", "containers": containers}}}}),
            how: "strategic",
            wrong: "/spec/template/spec",
        }
    };
    match kind {
        "deployments" => {
            all.push(edit("/spec/paused", json!({"spec": {"paused": true}})));
            all.push(added("controller"));
        }
        "daemonsets" => {
            all.push(added("speaker"));
            // The way to switch a DaemonSet off that is found everywhere.
            let nowhere = json!({"non-existing": "true"});
            all.push(edit(
                "/spec/template/spec/nodeSelector",
                json!({"spec": {"template": {"spec": {"nodeSelector": nowhere}}}}),
            ));
            // As `kubectl set env` does: with it, every apply is refused that does not remove it first.
            let env = json!([{"name": "METALLB_NODE_NAME", "value": "by-hand", "valueFrom": null}]);
            all.push(Edit {
                patch: json!({"spec": {"template": {"spec": {"containers": [{"name": "speaker", "env": env}]}}}}),
                how: "strategic",
                wrong: "/spec/template/spec/containers/0/env",
            });
        }
        _ => {}
    }
    all
}

/// Changes an object by hand and waits until it is as before; how long that took.
fn edited(cluster: &Cluster, id: &Id, edit: &Edit) -> Result<Duration> {
    let right = id.get(cluster)?.pointer(edit.wrong).cloned();
    let patch = edit.patch.to_string();
    let kind = format!("--type={}", edit.how);
    let patched = cluster.kubectl_output(&[&["patch", &kind, "-p", &patch], &id.args()[..]].concat())?;
    // An object that is just being made again may be gone for a moment.
    ensure!(
        patched.status.success(),
        "patch {id}: {}",
        String::from_utf8_lossy(&patched.stderr)
    );
    let start = Instant::now();
    wait_for(&format!("{} of {id} to be put right", edit.wrong), SOON, || {
        let now = id.get(cluster)?;
        if now.pointer(edit.wrong) == right.as_ref() {
            return Ok(Some(start.elapsed()));
        }
        bail!("it is {:?}, not {right:?}", now.pointer(edit.wrong))
    })
    .map(|took| told(&format!("{} of {id}", edit.wrong), took))
}

/// Random deletes and edits for some minutes: everything is as before in the end, the operator did not spin, and the page was
/// there all the time.
pub fn soak(cluster: &mut Cluster) -> Result<()> {
    let seconds = std::env::var("SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SOAK);
    with_everything(cluster, |cluster| {
        configure(cluster, &everything("ServiceMonitor"))?;
        wait_kind(cluster, "ServiceMonitor")?;
        let ns = "drift-soak";
        fresh_namespace(cluster, ns)?;
        let address = serve_page(cluster, ns)?;

        let before = shapes(cluster)?;
        let passes = passes(cluster)?;
        let start = Instant::now();
        let mut random = 0x2545_f491_u32;
        let mut done = 0_u32;
        while start.elapsed() < Duration::from_secs(seconds) {
            let all = owned(cluster)?;
            // xorshift: the same run each time.
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let Some((id, object)) = all.iter().nth(random as usize % all.len().max(1)) else {
                bail!("nothing of the operator's is left");
            };
            let edits = edits(id);
            let choice = (random >> 8) as usize % (edits.len() + 1);
            match edits.get(choice) {
                Some(edit) => drop(edited(cluster, id, edit)?),
                None => drop(deleted(cluster, id, object)?),
            }
            done += 1;
            cluster
                .client_http_get(address, 80, 10)
                .with_context(|| format!("the page after {done} changes, the last of {id}"))?;
        }
        let spent = start.elapsed().as_secs_f64();
        let passed = passes_since(cluster, &passes)?;
        // The operator keeps to it by itself, however fast changes come: less than one a second, and a few at the beginning.
        ensure!(
            passed <= spent * 0.9 + 8.0,
            "{passed} passes in {spent:.0} s: more than one a second"
        );
        settled(cluster)?;
        let after = shapes(cluster)?;
        ensure!(
            before == after,
            "after {done} changes it is not as before: {before:#?} became {after:#?}"
        );
        record(
            "drift-soak",
            &[
                ("drift_soak_changes", "changes", f64::from(done), 1),
                (
                    "drift_soak_passes_per_change",
                    "passes",
                    passed / f64::from(done.max(1)),
                    1,
                ),
                ("drift_soak_passes_per_second", "passes/s", passed / spent, 1),
            ],
        )?;
        remove_namespace(cluster, ns)
    })
}

/// All owned objects without what changes with each life.
fn shapes(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for (id, mut object) in owned(cluster)? {
        let metadata = &object["metadata"];
        let shape = json!({"labels": metadata["labels"], "owners": metadata["ownerReferences"]});
        for field in ["metadata", "status", "secrets"] {
            object[field] = Value::Null;
        }
        // Of each life of the account another one.
        object["spec"]["template"]["metadata"]["annotations"] = Value::Null;
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"][field] = Value::Null;
        }
        object["data"]["secretkey"] = Value::Null;
        object["shape"] = shape;
        all.insert(id.to_string(), object);
    }
    Ok(all)
}

/// Passes of each operator's pod, by its name.
fn passes(cluster: &Cluster) -> Result<BTreeMap<String, f64>> {
    let pods = cluster.kubectl_json(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "control-plane=controller-manager",
    ])?;
    let names = pods["items"].as_array().into_iter().flatten();
    names
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .map(|name| {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
            let metrics = cluster.kubectl(&["get", "--raw", &path])?;
            let count = metrics
                .lines()
                .find_map(|line| line.strip_prefix("metallb_operator_reconciles_total "))
                .and_then(|count| count.parse().ok())
                .unwrap_or(0.0);
            Ok((name.to_owned(), count))
        })
        .collect()
}

fn passes_since(cluster: &Cluster, before: &BTreeMap<String, f64>) -> Result<f64> {
    Ok(passes(cluster)?
        .iter()
        .map(|(pod, count)| count - before.get(pod).copied().unwrap_or(0.0))
        .sum())
}
