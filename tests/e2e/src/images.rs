//! The lab's own images: the pause container and the test servers, built from `testserver` into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, fnv64};
use crate::node_files::PAUSE_IMAGE;
use crate::progress::Progress;
use crate::sh;

/// The web server of the demo and the scenarios. A stand-in: the lab's own small program, under the public name that
/// people's manifests use.
pub const WHOAMI_IMAGE: &str = "docker.io/traefik/whoami:v1.11";
/// All test servers; the first argument chooses one.
pub const TESTSERVER_IMAGE: &str = "quay.io/metallb-rs/testserver:v0.1.0";

/// Build target in the Containerfile, and the name it is pushed under.
const IMAGES: [(&str, &str); 3] = [
    ("pause", PAUSE_IMAGE),
    ("whoami", WHOAMI_IMAGE),
    ("testserver", TESTSERVER_IMAGE),
];

/// An image of the lab: archive and full name.
pub struct Image {
    /// OCI archive in the cache.
    pub archive: PathBuf,
    /// Full public name with tag.
    pub name: &'static str,
}

/// Builds the images if the cache does not have those of these sources.
pub fn ensure(progress: &Progress) -> Result<Vec<Image>> {
    let here = &crate::checkout::package();
    let cache = cache::dir()?;
    let dir = cache
        .join("images")
        .join(format!("lab-{:016x}", sources_hash(here)?));
    let dir = cache::entry(&dir, |scratch| {
        progress.long(
            "building the lab's images (pause, test servers)",
            || "cargo and buildah work".to_owned(),
            || build(here, &cache, scratch),
        )
    })?;
    Ok(IMAGES
        .map(|(target, name)| Image {
            archive: dir.join(format!("{target}.oci.tar")),
            name,
        })
        .into())
}

fn sources_hash(here: &Path) -> Result<u64> {
    let mut parts = Vec::new();
    let mut files = vec![here.join("Containerfile"), here.join("testserver/Cargo.toml")];
    let src = here.join("testserver/src");
    for entry in fs::read_dir(&src).with_context(|| format!("list {}", src.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    for file in files {
        parts.push(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    parts.push(std::env::consts::ARCH.as_bytes().to_vec());
    Ok(fnv64(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

fn build(here: &Path, cache: &Path, scratch: &Path) -> Result<()> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // A target directory of its own: no waiting for, and no rebuilding after, the workspace's other builds.
    let target = cache.join("testserver-target");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    sh::run(
        Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--release",
                "-p",
                "metallb-testserver",
                "--target",
                &triple,
            ])
            .current_dir(here)
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols"),
    )?;
    let context = scratch.join("context");
    fs::create_dir(&context).context("make the build context")?;
    fs::copy(
        target.join(&triple).join("release/metallb-testserver"),
        context.join("testserver"),
    )
    .context("take the built testserver")?;
    for (name, _) in IMAGES {
        let archive = scratch.join(format!("{name}.oci.tar"));
        build_image(cache, &here.join("Containerfile"), &context, name, &archive)?;
    }
    fs::remove_dir_all(&context).context("remove the build context")
}

/// Builds the target `name` of a Containerfile into an OCI archive; `cache` holds buildah's own files.
///
/// # Errors
/// buildah's own words.
pub fn build_image(
    cache: &Path,
    containerfile: &Path,
    context: &Path,
    name: &str,
    archive: &Path,
) -> Result<()> {
    let buildah = || {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(cache.join("buildah/root"));
        command.arg("--runroot").arg(cache.join("buildah/run"));
        command.args(["--storage-driver", "vfs"]);
        command
    };
    let tag = format!("localhost/lab-{name}:build");
    let bud = [
        "bud",
        "--quiet",
        "--isolation",
        "chroot",
        "--timestamp",
        "0",
        "--target",
        name,
        "--tag",
        &tag,
    ];
    sh::run(buildah().args(bud).arg("--file").arg(containerfile).arg(context))?;
    let to = format!("oci-archive:{}:{tag}", archive.display());
    sh::run(buildah().args(["push", "--quiet", &tag, &to])).map(drop)
}
