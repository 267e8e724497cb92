//! Versions of the operator as a publisher makes them: images, a bundle image, a catalog image; all in the cluster's registry, all
//! named by digest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::install::{image_names, read};
use crate::{Cluster, Progress, cache, checkout::root, images, olm, registry, sh};

/// The version before the present one. None was ever published: it has the same programs, in images of another digest.
pub(super) const PREVIOUS: &str = "v0.0.9";
const IMAGES: [&str; 3] = ["operator", "controller", "speaker"];

/// A version whose images and bundle image are in the registry.
pub(super) struct Release {
    /// Its tag.
    pub(super) version: String,
    /// The bundle's directory.
    directory: PathBuf,
    /// The bundle image by digest.
    image: String,
    /// The directory of its images' archives.
    images: PathBuf,
}

impl Release {
    /// Digest of its image `operator`, `controller` or `speaker`.
    pub(super) fn digest(&self, image: &str) -> Result<String> {
        registry::digest(&self.images.join(format!("{image}.oci.tar")))
    }

    /// Name of its `ClusterServiceVersion`.
    pub(super) fn csv(&self) -> String {
        format!("{}.{}", super::PACKAGE, self.version)
    }

    /// The present version, from `target/images`.
    fn present(cluster: &Cluster) -> Result<Self> {
        let (_, version) = image_names();
        let images = root().join("target/images");
        Self::make(cluster, &version, Some(PREVIOUS), &images)
    }

    /// The one before: the same programs, so nothing is compiled.
    fn previous(cluster: &Cluster) -> Result<Self> {
        let images = images_of(PREVIOUS)?;
        Self::make(cluster, PREVIOUS, None, &images)
    }

    /// A version with the present programs that replaces another one.
    pub(super) fn next(cluster: &Cluster, version: &str, replaces: &Self) -> Result<Self> {
        let images = images_of(version)?;
        Self::make(cluster, version, Some(&replaces.version), &images)
    }

    /// A version whose operator image nobody can pull.
    pub(super) fn broken(cluster: &Cluster, version: &str, replaces: &Self) -> Result<Self> {
        let (repository, _) = image_names();
        let out = root().join("target/bundle").join(version);
        clear(&out)?;
        let nowhere = format!("@sha256:{}", "0".repeat(64));
        let mut xtask = script(&cargo(), version)?;
        xtask.args(["run", "--locked", "-q", "-p", "xtask", "--", "release"]);
        xtask.args(["--version", version, "--replaces", &replaces.version]);
        for image in IMAGES {
            xtask.args(["--image", &format!("{image}={repository}/{image}{nowhere}")]);
        }
        sh::run(xtask.arg("--output").arg(&out))?;
        let directory = out.join("bundle");
        let archive = out.join("bundle.oci.tar");
        images::build_image(
            &cache::dir()?,
            &directory.join("bundle.Containerfile"),
            &directory,
            "bundle",
            &archive,
        )?;
        let name = format!("{repository}/metallb-operator-bundle:{version}");
        cluster.push(&archive, &name)?;
        Ok(Self {
            version: version.to_owned(),
            directory,
            image: format!("{}@{}", untagged(&name), registry::digest(&archive)?),
            images: replaces.images.clone(),
        })
    }

    fn make(cluster: &Cluster, version: &str, replaces: Option<&str>, images: &Path) -> Result<Self> {
        let (repository, _) = image_names();
        for image in IMAGES {
            let archive = images.join(format!("{image}.oci.tar"));
            ensure!(
                archive.exists(),
                "{} is not there: run `make images` first",
                archive.display()
            );
            cluster.push(&archive, &format!("{repository}/{image}:{version}"))?;
        }
        let directory = root().join("target/bundle").join(version);
        let mut bundle = script("scripts/bundle", version)?;
        bundle.env("REPLACES", replaces.unwrap_or_default());
        let image = last_line(&sh::run(bundle.arg(images).arg(&directory))?)?;
        cluster.push(
            &directory.join("bundle.oci.tar"),
            &format!("{repository}/metallb-operator-bundle:{version}"),
        )?;
        Ok(Self {
            version: version.to_owned(),
            directory,
            image,
            images: images.to_owned(),
        })
    }
}

/// The previous and the present version, and a catalog of both.
pub(super) struct Published {
    /// The previous version.
    pub(super) previous: Release,
    /// The present one.
    pub(super) present: Release,
    /// The catalog image by digest.
    pub(super) catalog: String,
}

impl Published {
    /// Publishes them while OLM is brought up.
    pub(super) fn beside_olm(cluster: &Cluster, progress: &Progress) -> Result<Self> {
        std::thread::scope(|scope| {
            let published = scope.spawn(|| Self::publish(cluster));
            let up = olm::up(cluster, progress);
            let published = published
                .join()
                .map_err(|_| anyhow::anyhow!("the thread that publishes versions panicked"))?;
            up.and(published)
        })
    }

    fn publish(cluster: &Cluster) -> Result<Self> {
        let (previous, present) = (Release::previous(cluster)?, Release::present(cluster)?);
        let catalog = catalog(cluster, &present.version, &[&previous, &present])?;
        Ok(Self {
            previous,
            present,
            catalog,
        })
    }
}

/// A catalog image of these versions, pushed; its name by digest.
pub(super) fn catalog(cluster: &Cluster, tag: &str, releases: &[&Release]) -> Result<String> {
    let (repository, _) = image_names();
    let out = root().join("target/catalog").join(tag);
    let mut catalog = script("scripts/catalog", tag)?;
    catalog.arg(&out);
    for release in releases {
        catalog.arg(format!(
            "{}={}:{}",
            release.version,
            release.image,
            release.directory.display()
        ));
    }
    let image = last_line(&sh::run(&mut catalog)?)?;
    cluster.push(
        &out.join("catalog.oci.tar"),
        &format!("{repository}/metallb-operator-catalog:{tag}"),
    )?;
    Ok(image)
}

/// The checked-in `CatalogSource` with this catalog image.
pub(super) fn catalog_source(image: &str) -> Result<String> {
    let path = "olm/catalogsource.yaml";
    let checked_in = read(path)?;
    let line = checked_in
        .lines()
        .find(|line| line.trim_start().starts_with("image: "))
        .with_context(|| format!("{path} names no image"))?;
    let indent = &line[..line.len() - line.trim_start().len()];
    Ok(checked_in.replace(line, &format!("{indent}image: {image}")))
}

/// The images of another version of the present programs. They are packed anew when the programs differ.
fn images_of(version: &str) -> Result<PathBuf> {
    let present = root().join("target/images");
    let dir = root().join(format!("target/images-{version}"));
    if !same_programs(&present, &dir)? {
        let host = sh::run(Command::new("rustc").arg("-vV"))?;
        let host = host
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("rustc names its host")?;
        sh::run(script("scripts/images", version)?.arg(&dir).arg(host))
            .with_context(|| format!("pack the images of {version}"))?;
        ensure!(
            same_programs(&present, &dir)?,
            "target/images is older than the sources: run `make images` first"
        );
    }
    Ok(dir)
}

fn same_programs(one: &Path, other: &Path) -> Result<bool> {
    for name in ["metallb-operator", "metallb-allocator", "metallb-speaker"] {
        let (one, other) = (one.join("bin").join(name), other.join("bin").join(name));
        if !other.exists() {
            return Ok(false);
        }
        let bytes = |path: &Path| {
            fs::read(path).with_context(|| format!("read {}: run `make images` first", path.display()))
        };
        if bytes(&one)? != bytes(&other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A program at the root of the checkout, with the variables that the Makefile exports.
fn script(program: &str, version: &str) -> Result<Command> {
    let cache = cache::dir()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache.join("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .env("METALLB_LAB_CACHE", &cache)
        .env("CARGO_TARGET_DIR", target)
        .env("IMAGE_REPO", image_names().0)
        .env("VERSION", version);
    Ok(command)
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

/// The name of an image without its tag.
fn untagged(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(name, _)| name)
}

fn last_line(output: &str) -> Result<String> {
    let line = output.lines().last().unwrap_or_default().trim();
    ensure!(
        line.contains("@sha256:"),
        "no image by digest at the end of {output:?}"
    );
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_an_image_by_digest() {
        let image = "quay.io/metallb-rs/metallb-operator-bundle@sha256:00";
        assert_eq!(last_line(&format!("packed\n{image}\n")).unwrap(), image);
        assert!(last_line("packed\n").is_err());
    }

    #[test]
    fn the_catalog_source_gets_the_image() {
        let text = catalog_source("quay.io/a/b@sha256:00").unwrap();
        assert!(text.contains("  image: quay.io/a/b@sha256:00\n"), "{text}");
        assert!(!text.contains("metallb-operator-catalog:v"), "{text}");
    }
}
