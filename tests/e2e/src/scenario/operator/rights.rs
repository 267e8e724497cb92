//! Each component holds the rights that it uses, and no others.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    super::{
        install::NAMESPACE,
        workload::{SOON, fresh_namespace, remove_namespace, serve_page},
    },
    audit::{self, Request},
    settled,
};
use crate::{Cluster, control_plane, sh, wait_for};

/// Rights that a run of this length does not use, and why they are held nevertheless: component, verb, resource.
const SELDOM: &[(&str, &str, &str, &str)] = &[
    ("controller", "create", "configurationstates", APPLIED),
    ("speaker", "create", "configurationstates", APPLIED),
    ("controller", "patch", "events", REPEATED),
    ("speaker", "patch", "events", REPEATED),
    (
        "controller",
        "get",
        "services",
        "when one has changed under a write",
    ),
    ("controller", "create", "leases", "once in a cluster's life"),
    ("speaker", "create", "servicebgpstatuses", SESSIONS),
    ("speaker", "delete", "servicebgpstatuses", SESSIONS),
    ("speaker", "list", "servicebgpstatuses", SESSIONS),
    ("speaker", "watch", "servicebgpstatuses", SESSIONS),
    ("speaker", "patch", "servicebgpstatuses/status", SESSIONS),
];
const APPLIED: &str = "asked for within a patch that makes the object";
const REPEATED: &str = "an event that comes again is counted";
const SESSIONS: &str = "once a BGP session is up";

/// What the audit log holds of everything that ran on this cluster before, beside what is done here.
pub fn rights(cluster: &mut Cluster) -> Result<()> {
    let cluster: &Cluster = cluster;
    exercise(cluster)?;
    // Installations before this one were removed in every order: components may have outlived their rights for a moment.
    let account = cluster.kubectl_json(&["get", "serviceaccount", "-n", NAMESPACE, "controller"])?;
    let since = account["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default();
    let mut requests = audit::requests(cluster, &[NAMESPACE])?;
    requests.retain(|request| request.at.as_str() >= since);
    ensure!(
        requests.iter().any(|r| r.account.ends_with(":speaker")),
        "the audit log has no request of a speaker"
    );
    let what = |r: &Request| {
        format!(
            "{} {} {} {}/{} {}",
            r.account, r.verb, r.resource, r.namespace, r.name, r.url
        )
    };
    // An API server that starts refuses everybody until it has read all roles and bindings: what was allowed at another time
    // is no right that is lacking.
    let allowed = requests.iter().filter(|r| r.decision == "allow");
    let allowed: BTreeSet<String> = allowed.map(what).collect();
    let forbidden: BTreeSet<String> = requests
        .iter()
        .filter(|r| r.decision == "forbid" && !expected(r))
        .map(what)
        .filter(|what| !allowed.contains(what))
        .collect();
    let mut unused = BTreeSet::new();
    for component in ["controller", "speaker"] {
        let used: Vec<&Request> = requests
            .iter()
            .filter(|r| r.account == format!("{NAMESPACE}:{component}") && r.decision == "allow")
            .collect();
        for rule in rules(cluster, component)? {
            unused.extend(
                unused_rights(&rule, &used)
                    .into_iter()
                    .filter(|(verb, resource)| {
                        !SELDOM
                            .iter()
                            .any(|(c, v, r, _)| *c == component && v == verb && r == resource)
                    })
                    .map(|(verb, resource)| format!("{component}: {verb} {resource}")),
            );
        }
    }
    println!("{} requests looked at", requests.len());
    ensure!(
        forbidden.is_empty(),
        "asked for without the right: {forbidden:#?}"
    );
    ensure!(unused.is_empty(), "rights that nobody has used: {unused:#?}");
    Ok(())
}

/// Other scenarios take rights away on purpose, and a token outlives its account for a moment.
fn expected(request: &Request) -> bool {
    request.resource == "daemonsets" || request.code == 401
}

/// Every kind of configuration, good and bad, a service with an address, a restart of each component.
fn exercise(cluster: &Cluster) -> Result<()> {
    let ns = "rights";
    fresh_namespace(cluster, ns)?;
    let bad = [
        ("v1beta1", "IPAddressPool", "{addresses: [192.0.2.20-192.0.2.10]}"),
        (
            "v1beta1",
            "AddressPool",
            "{protocol: layer2, addresses: [192.0.2.20-192.0.2.10]}",
        ),
        ("v1beta1", "L2Advertisement", "{ipAddressPools: [none]}"),
        ("v1beta1", "BGPAdvertisement", "{communities: [none]}"),
        (
            "v1beta2",
            "BGPPeer",
            "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, passwordSecret: {name: none}}",
        ),
        ("v1beta1", "BFDProfile", "{receiveInterval: 100}"),
        (
            "v1beta1",
            "Community",
            "{communities: [{name: a, value: '1:2'}, {name: a, value: '1:3'}]}",
        ),
    ];
    let manifest: Vec<String> = bad
        .iter()
        .map(|(version, kind, spec)| {
            format!("{{apiVersion: metallb.io/{version}, kind: {kind}, metadata: {{name: rights, namespace: {NAMESPACE}}}, spec: {spec}}}")
        })
        .collect();
    let manifest = manifest.join("\n---\n");
    cluster.apply(&manifest)?;
    serve_page(cluster, ns)?;
    wait_for("every object to be judged", SOON, || {
        let judged = bad.iter().all(|(_, kind, _)| {
            cluster
                .kubectl_json(&["get", kind, "-n", NAMESPACE, "rights"])
                .is_ok_and(|object| object["status"]["conditions"].is_array())
        });
        Ok(judged.then_some(()))
    })?;
    cluster.delete(&manifest)?;
    // The record of what the ConfigMap last validly said.
    let config = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: config, namespace: {NAMESPACE}}}, \
         data: {{config: 'address-pools: [{{name: rights, protocol: layer2, addresses: [192.0.2.8/30]}}]'}}}}"
    );
    cluster.apply(&config)?;
    wait_for("the ConfigMap's last valid text to be recorded", SOON, || {
        let object = cluster.kubectl_json(&["get", "configmap", "-n", NAMESPACE, "config"])?;
        let recorded = &object["metadata"]["annotations"]["metallb.io/last-valid-config"];
        Ok(recorded.is_string().then_some(()))
    })?;
    cluster.delete(&config)?;
    ask_for_metrics(cluster)?;
    remove_namespace(cluster, ns)?;
    for what in ["deployment/controller", "daemonset/speaker"] {
        cluster.kubectl(&["rollout", "restart", "-n", NAMESPACE, what])?;
        cluster.kubectl(&["rollout", "status", "-n", NAMESPACE, what, "--timeout=180s"])?;
    }
    settled(cluster)
}

/// Asks one pod of each component for its metrics, with an account that may not have them.
fn ask_for_metrics(cluster: &Cluster) -> Result<()> {
    let token = cluster.kubectl(&["create", "token", "-n", NAMESPACE, "default"])?;
    let bearer = format!("Authorization: Bearer {}", token.trim());
    for component in ["controller", "speaker"] {
        let selector = format!("app=metallb,component={component}");
        let pods = cluster.kubectl_json(&["get", "pods", "-n", NAMESPACE, "-l", &selector])?;
        let address = pods["items"][0]["status"]["podIP"]
            .as_str()
            .with_context(|| format!("no {component} has an address"))?;
        let url = format!("https://{address}:9120/metrics");
        let mut curl = cluster.exec(control_plane::PART, "curl")?;
        curl.args([
            "-sk",
            "--max-time",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            &bearer,
            &url,
        ]);
        let code = sh::run(&mut curl)?;
        ensure!(
            code.trim() == "403",
            "{component} answers {code} to an account without rights"
        );
    }
    Ok(())
}

/// Rules of the roles that are bound to a component's account by the operator.
fn rules(cluster: &Cluster, component: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let cluster_role = format!("{NAMESPACE}:{component}");
    for args in [
        vec!["get", "clusterrole", cluster_role.as_str()],
        vec!["get", "role", "-n", NAMESPACE, component],
    ] {
        let role = cluster.kubectl_json(&args)?;
        all.extend(role["rules"].as_array().cloned().unwrap_or_default());
    }
    Ok(all)
}

/// Verb and resource of a rule that no request has used.
fn unused_rights(rule: &Value, used: &[&Request]) -> Vec<(String, String)> {
    let words = |field: &str| -> Vec<String> {
        let all = rule[field].as_array().into_iter().flatten();
        all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let (groups, resources, verbs, names) = (
        words("apiGroups"),
        words("resources"),
        words("verbs"),
        words("resourceNames"),
    );
    let mut unused = Vec::new();
    for resource in &resources {
        for verb in &verbs {
            let hit = used.iter().any(|request| {
                // A list is what an API server without streaming lists is asked for.
                (request.verb == *verb || (verb == "list" && request.verb == "watch"))
                    && request.resource == *resource
                    && groups.contains(&request.group)
                    && (names.is_empty() || request.name.is_empty() || names.contains(&request.name))
            });
            if !hit {
                unused.push((verb.clone(), resource.clone()));
            }
        }
    }
    unused
}
