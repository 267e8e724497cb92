//! What is left on a cluster when all has been removed, and whose it is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::super::install::NAMESPACE;
use super::{OPERATOR, transfer::WORK};
use crate::Cluster;

/// Kinds outside of namespaces that an operator or OLM makes objects of.
const OUTSIDE: &str = "namespaces,clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,\
                       priorityclasses,apiservices,customresourcedefinitions,operators.operators.coreos.com";
/// Kinds within a namespace.
const INSIDE: &str = "deployments,daemonsets,replicasets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,roles,rolebindings,\
                      networkpolicies,poddisruptionbudgets,leases,servicel2statuses,servicebgpstatuses,configurationstates,metallbs";

/// Names of all objects outside of namespaces.
pub(super) fn outside(cluster: &Cluster) -> Result<BTreeSet<String>> {
    names(cluster, &["get", OUTSIDE, "-o", "name"])
}

fn names(cluster: &Cluster, args: &[&str]) -> Result<BTreeSet<String>> {
    Ok(cluster.kubectl(args)?.lines().map(str::to_owned).collect())
}

/// Whose an object outside of namespaces is that was not there before; `None` if it should have gone.
fn owner(name: &str) -> Option<&'static str> {
    let (kind, name) = name.split_once('/')?;
    let kind = kind.split('.').next()?;
    let users = [OPERATOR, NAMESPACE, WORK];
    match kind {
        "namespace" if users.contains(&name) => Some("the user's"),
        // OLM never removes a CRD, as the users' objects would go with it. What follows from CRDs stays with them.
        "customresourcedefinition" | "apiservice" if name.ends_with(".metallb.io") => Some("definitions"),
        "clusterrole" if name.contains(".metallb.io-v1") => {
            Some("OLM's roles for the definitions, which go with them")
        }
        "operator" if name.ends_with(OPERATOR) => {
            Some("OLM's record of the operator, which goes with the definitions")
        }
        _ => None,
    }
}

/// Makes sure that nothing is left but definitions, what OLM keeps beside them, and the users' own objects; prints what is.
pub(super) fn judge(cluster: &Cluster, before: &BTreeSet<String>) -> Result<()> {
    let mut foreign = Vec::new();
    let mut left: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for name in outside(cluster)?.difference(before) {
        match owner(name) {
            Some(owner) => left.entry(owner).or_default().push(name.clone()),
            None => foreign.push(name.clone()),
        }
    }
    for (owner, names) in left {
        let first = names.first().map_or("", String::as_str);
        println!("  left: {} x {owner}, {first} for one", names.len());
    }
    for namespace in [OPERATOR, NAMESPACE] {
        for name in names(cluster, &["get", INSIDE, "-n", namespace, "-o", "name"])? {
            // Every namespace has these.
            if !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(&name.as_str()) {
                foreign.push(format!("{name} in {namespace}"));
            }
        }
    }
    ensure!(foreign.is_empty(), "there is still {}", foreign.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_its_name() {
        let left = |name: &str| owner(name).is_some();
        assert!(left(
            "customresourcedefinition.apiextensions.k8s.io/metallbs.metallb.io"
        ));
        assert!(left(
            "clusterrole.rbac.authorization.k8s.io/metallbs.metallb.io-v1beta1-view"
        ));
        assert!(left(
            "operator.operators.coreos.com/metallb-operator.my-metallb-operator"
        ));
        assert!(left("namespace/metallb-system"));
        assert!(!left(
            "clusterrole.rbac.authorization.k8s.io/metallb-system:speaker"
        ));
        assert!(!left(
            "clusterrolebinding.rbac.authorization.k8s.io/metallb-operator"
        ));
        assert!(!left("namespace/other"));
    }
}
