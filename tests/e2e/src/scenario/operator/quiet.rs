//! In steady state nothing is written but Leases.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};

use super::{super::install::NAMESPACE, audit, settled, versions};
use crate::{Cluster, clock};

/// How long is looked on; `QUIET_SECONDS` says otherwise.
const USUAL: u64 = 60;

/// Nobody of ours writes anything but Leases.
pub fn quiet(cluster: &mut Cluster) -> Result<()> {
    let seconds = std::env::var("QUIET_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(USUAL);
    settled(cluster)?;
    let before = versions(cluster)?;
    let counted = writes_counted(cluster)?;
    let since = clock::rfc3339(std::time::SystemTime::now());
    // Not a wait for something to happen: this is how long nothing must.
    std::thread::sleep(Duration::from_secs(seconds));
    let after = versions(cluster)?;
    ensure!(
        before == after,
        "these have changed in {seconds} s of peace: {:?}",
        after
            .iter()
            .filter(|(name, version)| before.get(*name) != Some(version))
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    );
    let counted_after = writes_counted(cluster)?;
    ensure!(
        counted == counted_after,
        "the API server has counted writes in MetalLB's group: {counted:?} became {counted_after:?}"
    );
    let ours = audit::requests(cluster, &[NAMESPACE])?;
    let ours: Vec<_> = ours.iter().filter(|request| request.at > since).collect();
    let (leases, others): (Vec<_>, Vec<_>) = ours
        .iter()
        .copied()
        .filter(|request| request.writes())
        .partition(|request| request.resource == "leases");
    ensure!(others.is_empty(), "written in {seconds} s of peace: {others:?}");
    ensure!(
        !leases.is_empty(),
        "not even a Lease was renewed: the audit log tells nothing"
    );
    println!(
        "{seconds} s without a write but {} renewals of Leases; {} reads",
        leases.len(),
        ours.len() - leases.len()
    );
    Ok(())
}

/// `apiserver_request_total` of writes in MetalLB's own group, by its labels.
fn writes_counted(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"])?;
    let lines = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains("group=\"metallb.io\"")
            && ["POST", "PUT", "PATCH", "APPLY", "DELETE"]
                .iter()
                .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    Ok(lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(labels, count)| (labels.to_owned(), count.to_owned()))
        .collect())
}
