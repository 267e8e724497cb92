//! A release: its version, the one that it replaces, and the names of its images.

use anyhow::{Context as _, bail, ensure};
use semver::Version;
use serde_json::Value;
use std::{collections::BTreeMap, env, path::Path, process::Command};

/// The images of a release.
pub(crate) const IMAGES: [&str; 3] = ["operator", "controller", "speaker"];

const DEFAULT_REPO: &str = "quay.io/metallb-rs";
/// The version in the checked-in files.
const DEFAULT_VERSION: &str = "v0.1.0";
/// The version before it, which the checked-in catalog upgrades from.
const PREVIOUS_VERSION: &str = "v0.0.9";
/// Annotation of an OCI index: the name that an image was saved under.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One release of the product.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    /// As images are tagged, such as `v0.1.0`.
    tag: String,
    /// Tag of the release that an upgrade to this one starts from.
    replaces: Option<String>,
    /// Where the images are looked for when they are named by tag.
    repo: String,
    /// Complete references by name ([`IMAGES`]).
    images: BTreeMap<&'static str, String>,
}

impl Release {
    /// The release in the checked-in files.
    pub(crate) fn checked_in() -> Self {
        Release::tagged(DEFAULT_REPO, DEFAULT_VERSION, Some(PREVIOUS_VERSION))
    }

    /// The release before [`Release::checked_in`].
    pub(crate) fn previous() -> Self {
        Release::tagged(DEFAULT_REPO, PREVIOUS_VERSION, None)
    }

    /// What `IMAGE_REPO`, `VERSION` and `REPLACES` say, as the Makefile exports them.
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let get = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let repo = get("IMAGE_REPO").unwrap_or(DEFAULT_REPO.into());
        ensure!(
            !repo.ends_with('/') && !repo.contains("://"),
            "IMAGE_REPO={repo:?} must be a registry and path such as registry.example.org/metallb, without scheme and without a trailing slash"
        );
        let tag = get("VERSION").unwrap_or(DEFAULT_VERSION.into());
        let replaces =
            get("REPLACES").or_else(|| (tag == DEFAULT_VERSION).then(|| PREVIOUS_VERSION.to_owned()));
        Ok(Release::tagged(&repo, &tag, replaces.as_deref()))
    }

    /// A release whose images are named by the digests of archives: `DIR/operator.oci.tar` and so on, as `scripts/images` writes
    /// them. `given` takes the place of archives, by image name.
    pub(crate) fn pinned(
        tag: &str,
        replaces: Option<&str>,
        archives: Option<&Path>,
        given: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        if let Some(unknown) = given.keys().find(|name| !IMAGES.contains(&name.as_str())) {
            bail!(
                "--image {unknown}=…: there is no such image; there are: {}",
                IMAGES.join(", ")
            );
        }
        let mut images = BTreeMap::new();
        for name in IMAGES {
            let reference = match (given.get(name), archives) {
                (Some(reference), _) => reference.clone(),
                (None, Some(directory)) => {
                    let archive = directory.join(format!("{name}.oci.tar"));
                    let index = index_of(&archive)?;
                    reference(&index, tag).with_context(|| archive.display().to_string())?
                }
                (None, None) => {
                    bail!(
                        "no image {name}: give --digests, a directory with {name}.oci.tar, or --image {name}=REFERENCE"
                    )
                }
            };
            images.insert(name, reference);
        }
        let release = Release {
            tag: tag.to_owned(),
            replaces: replaces.map(str::to_owned),
            repo: DEFAULT_REPO.to_owned(),
            images,
        };
        release.version()?;
        release.replaced()?;
        Ok(release)
    }

    fn tagged(repo: &str, tag: &str, replaces: Option<&str>) -> Self {
        Release {
            tag: tag.to_owned(),
            replaces: replaces.map(str::to_owned),
            repo: repo.to_owned(),
            images: IMAGES.map(|name| (name, format!("{repo}/{name}:{tag}"))).into(),
        }
    }

    /// The tag, such as `v0.1.0`.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// The version, which a bundle is ordered by.
    pub(crate) fn version(&self) -> anyhow::Result<Version> {
        version(&self.tag).context("VERSION (--version)")
    }

    /// The version that this one replaces.
    pub(crate) fn replaced(&self) -> anyhow::Result<Option<Version>> {
        let Some(replaces) = &self.replaces else {
            return Ok(None);
        };
        let (old, new) = (
            version(replaces).context("REPLACES (--replaces)")?,
            self.version()?,
        );
        ensure!(old < new, "{new} cannot replace {old}, which is not older");
        Ok(Some(old))
    }

    /// Complete reference of an image of the release.
    pub(crate) fn image(&self, name: &str) -> &str {
        self.images.get(name).map_or("", String::as_str)
    }

    /// Complete reference, by tag, of another image of this release.
    pub(crate) fn tagged_image(&self, name: &str) -> String {
        format!("{}/{name}:{}", self.repo, self.tag)
    }

    /// Images of the operands.
    pub(crate) fn operands(&self) -> metallb_render::Images {
        metallb_render::Images {
            controller: self.image("controller").into(),
            speaker: self.image("speaker").into(),
        }
    }

    /// Whether each image is named by its digest, so that a mirror can hold exactly what runs.
    pub(crate) fn is_pinned(&self) -> bool {
        self.images.values().all(|image| image.contains("@sha256:"))
    }
}

fn version(tag: &str) -> anyhow::Result<Version> {
    tag.strip_prefix('v')
        .and_then(|text| Version::parse(text).ok())
        .with_context(|| format!("{tag:?} must be v and a semantic version, such as {DEFAULT_VERSION}: bundles are named and ordered by it"))
}

fn index_of(archive: &Path) -> anyhow::Result<Value> {
    let output = Command::new("tar")
        .arg("-xOf")
        .arg(archive)
        .arg("index.json")
        .output()
        .context("start tar")?;
    ensure!(
        output.status.success(),
        "cannot read {}: {}; `make images` writes it",
        archive.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("index.json in {} is no JSON", archive.display()))
}

/// `REPO/NAME@sha256:…` of the only image in an OCI archive, which must be tagged as the release is.
fn reference(index: &Value, tag: &str) -> anyhow::Result<String> {
    let manifests = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    let [manifest] = manifests else {
        bail!("it holds {} images instead of one", manifests.len());
    };
    let digest = manifest["digest"].as_str().context("its image has no digest")?;
    let name = manifest["annotations"][REF_NAME]
        .as_str()
        .context("its image has no name")?;
    let (repo, found) = name.rsplit_once(':').context("its image has no tag")?;
    ensure!(
        found == tag,
        "its image is {name} and the release is {tag}: build the images with VERSION={tag}"
    );
    Ok(format!("{repo}@{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn archive(name: &str) -> Value {
        json!({"manifests": [{"digest": "sha256:aa", "annotations": {REF_NAME: name}}]})
    }

    #[test]
    fn an_image_is_named_by_its_digest() {
        let index = archive("registry.example:5000/team/operator:v1.2.3");
        assert_eq!(
            reference(&index, "v1.2.3").unwrap(),
            "registry.example:5000/team/operator@sha256:aa"
        );
        let error = reference(&index, "v1.2.4").unwrap_err().to_string();
        assert!(error.contains("build the images with VERSION=v1.2.4"), "{error}");
        assert!(reference(&json!({"manifests": []}), "v1.2.3").is_err());
    }

    #[test]
    fn a_release_is_pinned_when_all_of_its_images_are() {
        let digest = |name: &str| (name.to_owned(), format!("registry.example/{name}@sha256:aa"));
        let mut given: BTreeMap<String, String> = IMAGES.map(digest).into();
        let pinned =
            |given: &BTreeMap<String, String>| Release::pinned("v0.2.0", Some("v0.1.0"), None, given);
        assert!(pinned(&given).unwrap().is_pinned());
        assert!(!Release::checked_in().is_pinned());
        given.insert("speaker".into(), "registry.example/speaker:v0.2.0".into());
        assert!(!pinned(&given).unwrap().is_pinned());
        given.remove("speaker");
        let error = pinned(&given).unwrap_err().to_string();
        assert!(error.contains("no image speaker"), "{error}");
        given.insert("speeker".into(), "x".into());
        let error = pinned(&given).unwrap_err().to_string();
        assert!(error.contains("there are: operator"), "{error}");
    }

    #[test]
    fn versions_are_semantic_and_rise() {
        let release = |tag, replaces| Release::tagged("r", tag, replaces);
        assert!(release("v1", None).version().is_err());
        assert!(release("1.0.0", None).version().is_err());
        assert!(release("v1.0.0-rc.1", None).version().is_ok());
        assert!(release("v1.0.0", Some("v1.0.0")).replaced().is_err());
        assert_eq!(
            release("v1.0.0", Some("v0.9.0"))
                .replaced()
                .unwrap()
                .unwrap()
                .to_string(),
            "0.9.0"
        );
    }
}
