//! The demo of OLM: a catalog, a Subscription, one resource, a page served to the LAN client; shown.

use anyhow::Result;

use super::{
    OPERATOR, PACKAGE,
    install::{Form, uninstall, versions, wait_catalog, wait_succeeded},
    release::{Published, catalog_source},
};
use crate::scenario::{
    clean::remove_the_product,
    demo::{serve_whoami, show, show_memory},
    install::{NAMESPACE, read, wait_available},
};
use crate::{Cluster, Progress, olm};

/// Installs OLM and with it the product, and prints what a person wants to see. The cluster is left as it then is.
///
/// # Errors
/// What did not work, with the words of whoever refused.
pub fn demo(cluster: &Cluster, progress: &Progress) -> Result<()> {
    if olm::is_there(cluster)? {
        if !versions(cluster)?.is_empty() {
            progress
                .line("an earlier installation is there: Subscription and version go, what they run stays");
            uninstall(cluster)?;
        }
    } else if remove_the_product(cluster)? {
        progress.line("what was installed without OLM has been removed");
    }
    progress.line("a publisher's work meanwhile: two bundle images and a catalog image, into the registry");
    let Published { present, catalog, .. } = Published::beside_olm(cluster, progress)?;

    progress.line("kubectl apply -f olm/catalogsource.yaml -f olm/metallb-operator.yaml");
    cluster.apply(&catalog_source(&catalog)?)?;
    cluster.apply(&Form::AllNamespaces.text()?)?;
    wait_catalog(cluster, &catalog)?;
    wait_succeeded(cluster, &present.csv())?;
    progress.line(&format!(
        "{} is Succeeded; creating the MetalLB resource, a pool and its advertisement",
        present.csv()
    ));
    for sample in ["metallb.yaml", "pool.yaml", "l2-advertisement.yaml"] {
        cluster.apply(&read(&format!("config/samples/{sample}"))?)?;
    }
    wait_available(cluster, super::PATIENCE)?;
    progress.line("MetalLB is Available; creating a web server and a LoadBalancer service");
    let (address, page) = serve_whoami(cluster, progress)?;

    for words in [
        "get packagemanifests",
        "get catalogsources -n olm",
        &format!("get subscriptions,installplans,csv -n {OPERATOR}"),
        "get metallb -A",
        &format!("get pods -n {NAMESPACE}"),
        "get service whoami",
    ] {
        show(cluster, words)?;
    }
    println!("\n(LAN client)$ curl http://{address}/\n{}", page.trim_end());
    show_memory(cluster)?;
    println!(
        "\nThe cluster stays. What to try next:\n  export KUBECONFIG={}",
        cluster.kubeconfig().display()
    );
    for (command, what) in [
        (
            format!("kubectl get packagemanifest {PACKAGE} -o yaml"),
            "what OLM knows of the package",
        ),
        (
            format!("kubectl delete daemonset speaker -n {NAMESPACE}"),
            "the operator repairs it",
        ),
        (
            format!("kubectl delete subscription,csv --all -n {OPERATOR}"),
            "the operator goes, the page stays",
        ),
        (
            format!("kubectl delete metallb metallb -n {NAMESPACE}"),
            "and now the page goes, with all that served it",
        ),
        (
            format!("make cluster-down NAME={}", cluster.name()),
            "remove everything",
        ),
    ] {
        println!("  {command:<66} # {what}");
    }
    Ok(())
}
