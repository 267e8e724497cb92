//! Writes what is generated from the Rust types and checked in, and fails when what is checked in differs.

mod bundle;
mod cases;
mod catalog;
mod checks;
mod generate;
mod manifests;
mod olm;
mod release;
mod samples;

use anyhow::{Context as _, bail};
use bundle::Contents;
use clap::{Args, Parser, Subcommand};
use generate::Files;
use release::Release;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Writes what is generated from the Rust types. `IMAGE_REPO`, `VERSION` and `REPLACES` name the images and the release (defaults:
/// quay.io/metallb-rs, v0.1.0, v0.0.9).
#[derive(Parser)]
#[command(name = "cargo run -p xtask --")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// config/crd: one `CustomResourceDefinition` a file
    Crds(Output),
    /// config/manifests: the operator, installations without it, and kustomizations of these beside it
    Manifests(Output),
    /// bundle: the OLM bundle, images by tag
    Bundle(Output),
    /// olm: the catalog of two versions, and what a user creates
    Olm(Output),
    /// All of these
    All,
    /// Compare all with what is checked in; differences are errors, and so are samples that an API server would refuse
    Check,
    /// A bundle with the digests of images: below DIR/bundle
    Release {
        /// Version, such as v0.1.0
        #[arg(long)]
        version: String,
        /// Version that an upgrade to this one starts from
        #[arg(long)]
        replaces: Option<String>,
        /// Directory with operator.oci.tar, controller.oci.tar and speaker.oci.tar, as `make images` writes them
        #[arg(long, value_name = "DIR")]
        digests: Option<PathBuf>,
        /// An image that is not in an archive, such as operator=registry.example/operator@sha256:…
        #[arg(long = "image", value_name = "NAME=REFERENCE", value_parser = pair)]
        images: Vec<(String, String)>,
        /// Where to write
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// A catalog of bundles: DIR/catalog and DIR/catalog.Containerfile
    Catalog {
        /// A bundle: version, its image's complete reference and the directory it was built from
        #[arg(long = "bundle", value_name = "VERSION=IMAGE:DIR", required = true, value_parser = catalog_entry)]
        bundles: Vec<CatalogEntry>,
        /// Where to write
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// What the Operator Framework and the OperatorHub pipelines would say to a bundle
    Judge {
        /// The bundle: manifests, metadata, tests
        bundle: PathBuf,
    },
    /// The cases of crates/api/tests/admission as JSON, their objects in a namespace, for a real API server
    Cases {
        /// That namespace
        namespace: String,
    },
}

#[derive(Args)]
struct Output {
    /// Write below another directory than the repository, for images that are not checked in
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Output {
    fn root(self) -> PathBuf {
        self.output.unwrap_or_else(repository)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct CatalogEntry {
    version: String,
    image: String,
    directory: PathBuf,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write NAME=REFERENCE".to_owned())
}

/// The directory begins after the last colon: a reference may hold others.
fn catalog_entry(text: &str) -> Result<CatalogEntry, String> {
    let parts = text
        .split_once('=')
        .and_then(|(version, rest)| rest.rsplit_once(':').map(|(image, dir)| (version, image, dir)));
    match parts {
        Some((version, image, directory)) if !image.is_empty() && !directory.is_empty() => Ok(CatalogEntry {
            version: version.to_owned(),
            image: image.to_owned(),
            directory: directory.into(),
        }),
        _ => Err("write VERSION=IMAGE:DIRECTORY".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crds(output) => write(&output.root(), &generate::crds()?),
        Command::Manifests(output) => write(&output.root(), &manifests::manifests(&Release::from_env()?)?),
        Command::Bundle(output) => write(&output.root(), &bundle::bundle(&Release::from_env()?)?),
        Command::Olm(output) => write(
            &output.root(),
            &olm::olm(&Release::checked_in(), &Release::previous())?,
        ),
        Command::All => {
            let release = Release::from_env()?;
            write(&repository(), &generate::crds()?)?;
            write(&repository(), &manifests::manifests(&release)?)?;
            write(&repository(), &bundle::bundle(&release)?)?;
            write(
                &repository(),
                &olm::olm(&Release::checked_in(), &Release::previous())?,
            )
        }
        Command::Check => check(&repository()),
        Command::Release {
            version,
            replaces,
            digests,
            images,
            output,
        } => {
            let given: BTreeMap<String, String> = images.into_iter().collect();
            let release = Release::pinned(&version, replaces.as_deref(), digests.as_deref(), &given)?;
            write(&output, &bundle::bundle(&release)?)
        }
        Command::Catalog { bundles, output } => write(&output, &catalog_of(&bundles)?),
        Command::Judge { bundle } => judge(&bundle),
        Command::Cases { namespace } => cases::print(&repository(), &namespace),
    }
}

fn catalog_of(bundles: &[CatalogEntry]) -> anyhow::Result<Files> {
    let mut entries = Vec::new();
    for CatalogEntry {
        version,
        image,
        directory,
    } in bundles
    {
        let contents = Contents::in_directory(directory)?;
        let found = contents.csv["spec"]["version"].as_str().unwrap_or_default();
        if version.strip_prefix('v') != Some(found) {
            bail!(
                "--bundle {version}=…: the bundle in {} is version v{found}",
                directory.display()
            );
        }
        entries.push(catalog::Entry {
            image: image.clone(),
            contents,
        });
    }
    let findings = checks::of_catalog(&catalog::documents(&entries)?, &entries);
    if !findings.is_empty() {
        bail!("the catalog would be refused:\n{}", findings.join("\n"));
    }
    catalog::catalog("", &entries)
}

fn judge(directory: &Path) -> anyhow::Result<()> {
    let findings = checks::bundle(&Contents::in_directory(directory)?);
    if !findings.is_empty() {
        bail!("{}:\n{}", directory.display(), findings.join("\n"));
    }
    println!(
        "{}: nothing to complain about in {} checks",
        directory.display(),
        checks::count()
    );
    Ok(())
}

/// The root of the repository, wherever the command was started.
fn repository() -> PathBuf {
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

fn write(root: &Path, files: &Files) -> anyhow::Result<()> {
    for (path, text) in files {
        let path = root.join(path);
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn check(root: &Path) -> anyhow::Result<()> {
    let release = Release::checked_in();
    let mut wanted = generate::crds()?;
    wanted.extend(manifests::manifests(&release)?);
    wanted.extend(bundle::bundle(&release)?);
    wanted.extend(olm::olm(&release, &Release::previous())?);
    let mut problems = Vec::new();
    for (path, text) in &wanted {
        match fs::read_to_string(root.join(path)) {
            Ok(found) if found == *text => {}
            Ok(found) => {
                let line = found
                    .lines()
                    .zip(text.lines())
                    .take_while(|(a, b)| a == b)
                    .count()
                    + 1;
                problems.push(format!(
                    "{path} differs from the Rust types, first at line {line}"
                ));
            }
            Err(error) => problems.push(format!("{path}: {error}")),
        }
    }
    for directory in generate::DIRECTORIES.iter().chain(&manifests::DIRECTORIES) {
        let directory = root.join(directory);
        for entry in
            fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?
        {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            if !wanted.contains_key(&name) {
                problems.push(format!("{name} is generated by nothing: remove it"));
            }
        }
    }
    if !problems.is_empty() {
        bail!(
            "{}\nrun `make manifests` and commit the result",
            problems.join("\n")
        );
    }
    let problems = samples::problems(&root.join("config/samples"))?;
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn what_is_checked_in_is_what_the_types_say() {
        check(&repository()).unwrap();
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bundles_of_a_catalog_are_named_with_image_and_directory() {
        let parsed = catalog_entry("v0.1.0=registry.example:5000/a/b@sha256:00:target/x").unwrap();
        assert_eq!(parsed.version, "v0.1.0");
        assert_eq!(parsed.image, "registry.example:5000/a/b@sha256:00");
        assert_eq!(parsed.directory, Path::new("target/x"));
        for wrong in ["", "v1", "v1=image", "v1=image:", "v1=:dir"] {
            assert!(catalog_entry(wrong).is_err(), "{wrong}");
        }
    }
}
