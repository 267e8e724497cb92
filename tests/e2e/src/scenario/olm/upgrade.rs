//! From one version to the next with every step approved; and a next one that is broken.

use anyhow::{Context, Result, bail, ensure};

use super::{
    OPERATOR,
    install::{
        self, Form, approve, change_catalog, create, uninstall, versions, wait_catalog, wait_plan,
        wait_repair, wait_succeeded, wait_version,
    },
    release::{self, Published, Release, catalog_source},
    rollout::{SpeakerWatch, wait_all_of},
};
use crate::scenario::{
    install::{NAMESPACE, read, wait_available},
    layer2::{
        Figures, STEADY,
        field::Field,
        lossless, soon_answered,
        watch::{ALL_CLIENTS, Outcome, Watch},
    },
    workload::SOON,
};
use crate::{Cluster, Progress, olm::csv_text, wait_for};

/// A version that cannot be pulled, and the one that mends it.
const BROKEN: &str = "v0.1.1";
const MENDED: &str = "v0.1.2";

/// The whole scenario.
pub fn upgrade(cluster: &mut Cluster) -> Result<()> {
    let cluster: &Cluster = cluster;
    let progress = Progress::start();
    let mut figures = Figures::new("olm-upgrade");
    let Published {
        previous,
        present,
        catalog,
    } = Published::beside_olm(cluster, &progress)?;
    create(cluster, &catalog_source(&catalog)?)?;
    create(cluster, &Form::AllNamespaces.with_approval(&previous.csv())?)?;
    wait_catalog(cluster, &catalog)?;

    let plan = wait_plan(cluster, &previous.csv())?;
    ensure!(
        versions(cluster)?.is_empty(),
        "without an approval there is already {:?}",
        versions(cluster)?
    );
    approve(cluster, &plan)?;
    wait_succeeded(cluster, &previous.csv())?;
    create(cluster, &read("config/samples/metallb.yaml")?)?;
    wait_version(cluster, &previous.version)?;
    let field = Field::lay(cluster, "olm-upgrade")?;
    // Unpacking bundles and building catalogs' caches keeps two cores busy for so long that an ARP reply may wait for 200 ms.
    field.patient(true);
    progress.line(&format!("{} serves, {} waits", previous.version, present.version));

    let (outcomes, most) = from_to(cluster, &field, &previous, &present)?;
    figures.outcomes("upgrade", &outcomes);
    figures.add(
        "upgrade_nodes_without_speaker",
        "nodes",
        most as f64,
        "most at a time",
    );
    progress.line(&format!("{} serves", present.version));

    let harmless = broken(cluster, &field, &[&previous, &present]).context("a broken version")?;
    figures.outcomes("broken_version", &harmless);
    progress.line("the broken version has harmed nothing");
    let mended = mended(cluster, &field, &[&previous, &present])?;
    figures.outcomes("mended_version", &mended);
    figures.write()?;

    ensure!(
        most <= 1,
        "{most} nodes were without a ready speaker at the same time"
    );
    for (what, outcomes) in [
        ("an upgrade through OLM", &outcomes),
        ("a version that cannot be pulled", &harmless),
        ("the version that mends it", &mended),
    ] {
        soon_answered(what, outcomes)?;
        lossless(what, outcomes)?;
    }

    field.clear(cluster)?;
    cluster.kubectl(&["delete", "metallb", "-n", NAMESPACE, "metallb", "--timeout=60s"])?;
    uninstall(cluster)?;
    install::clear(cluster)
}

/// Approves the next version under traffic; what the clients saw, and how many nodes were without a speaker at a time.
fn from_to(cluster: &Cluster, field: &Field, from: &Release, to: &Release) -> Result<(Vec<Outcome>, usize)> {
    let plan = wait_plan(cluster, &to.csv())?;
    ensure!(
        versions(cluster)? == [(from.csv(), "Succeeded".to_owned())],
        "before the approval there is {:?}",
        versions(cluster)?
    );
    let watch = Watch::start(cluster, field.target(), ALL_CLIENTS)?;
    let speakers = SpeakerWatch::start(cluster)?;
    approve(cluster, &plan)?;
    wait_succeeded(cluster, &to.csv())?;
    wait_for("the version before to go", SOON, || {
        let now = versions(cluster)?;
        ensure!(now.len() == 1, "there are {now:?}");
        Ok(Some(()))
    })?;
    wait_all_of(cluster, &to.digest("speaker")?)?;
    wait_version(cluster, &to.version)?;
    let mark = watch.mark();
    field.wait_as_laid(cluster).context("after the upgrade")?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    let most = speakers.stop(cluster)?;
    Ok((watch.stop()?, most))
}

/// A version whose operator cannot be pulled: it does not get `Succeeded`, and nobody else notices.
fn broken(cluster: &Cluster, field: &Field, before: &[&Release; 2]) -> Result<Vec<Outcome>> {
    let present = before[1];
    let broken = Release::broken(cluster, BROKEN, present)?;
    let image = release::catalog(cluster, BROKEN, &[before[0], present, &broken])?;
    let watch = Watch::start(cluster, field.target(), ALL_CLIENTS)?;
    change_catalog(cluster, &image)?;
    approve(cluster, &wait_plan(cluster, &broken.csv())?)?;
    wait_for(
        "a pod of the broken version that cannot start",
        super::PATIENCE,
        || {
            let pods = cluster.kubectl_json(&["get", "pods", "-n", OPERATOR])?;
            let waiting = pods["items"].to_string();
            if waiting.contains("ImagePullBackOff") || waiting.contains("ErrImagePull") {
                return Ok(Some(()));
            }
            bail!(
                "{} is {}",
                broken.csv(),
                csv_text(cluster, OPERATOR, &broken.csv())
            )
        },
    )?;
    let now = versions(cluster)?;
    ensure!(
        now.iter()
            .any(|(name, phase)| *name == broken.csv() && phase != "Succeeded"),
        "the versions are {now:?}"
    );
    // The operator before still works: it repairs, and says so.
    wait_repair(cluster).context("by the operator before")?;
    wait_version(cluster, &present.version)?;
    let mark = watch.mark();
    field.wait_as_laid(cluster)?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}

/// The publisher withdraws the broken version and publishes another; the user removes the one that does not work, as OLM's
/// documentation says, and subscribes anew.
fn mended(cluster: &Cluster, field: &Field, before: &[&Release; 2]) -> Result<Vec<Outcome>> {
    let present = before[1];
    let mended = Release::next(cluster, MENDED, present)?;
    let image = release::catalog(cluster, MENDED, &[before[0], present, &mended])?;
    let watch = Watch::start(cluster, field.target(), ALL_CLIENTS)?;
    uninstall(cluster)?;
    change_catalog(cluster, &image)?;
    cluster.apply(&Form::AllNamespaces.text()?)?;
    wait_succeeded(cluster, &mended.csv())?;
    wait_all_of(cluster, &mended.digest("speaker")?)?;
    wait_version(cluster, &mended.version)?;
    wait_available(cluster, super::PATIENCE)?;
    let mark = watch.mark();
    field.wait_as_laid(cluster)?;
    watch.wait_flow(&mark, STEADY, SOON)?;
    watch.stop()
}
