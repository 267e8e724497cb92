//! The image registry on the LAN gateway.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::netns;
use crate::node_files::MIRRORED;
use crate::pki::write_private;
use crate::plan::{Plan, REGISTRY_PORT, gateway};
use crate::process::{self, Room, Spec};
use crate::sh;
use crate::state::{ClusterRecord, State};
use crate::wait::wait_every;

/// Part name of the gateway, where the registry runs.
pub const PART: &str = "gw";

/// Starts the registry.
pub fn start(state: &State, record: &ClusterRecord) -> Result<()> {
    let plan = &record.plan;
    let dir = plan.data_dir().join("registry");
    let config = dir.join("config.yml");
    write_private(
        &config,
        &format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp: {{addr: \":{REGISTRY_PORT}\"}}\n",
            dir.join("data").display()
        ),
    )?;
    let spec = Spec {
        id: "registry".to_owned(),
        program: "/usr/bin/docker-registry".into(),
        args: vec!["serve".into(), config.display().to_string()],
        env: Vec::new(),
        room: Room::Netns {
            name: plan.netns(PART),
        },
        cgroup: format!("{}/{PART}", plan.cgroup()),
        log: plan.log_dir().join("registry.log"),
    };
    process::start(state, &spec).map(drop)
}

/// Waits until it answers.
pub fn wait_ready(plan: &Plan) -> Result<()> {
    let url = format!("http://{}:{REGISTRY_PORT}/v2/", gateway().v4);
    wait_every(
        "the image registry",
        Duration::from_millis(50),
        Duration::from_secs(20),
        || {
            let mut command = netns::command(&plan.netns(PART), "curl");
            Ok(
                sh::succeeds(command.args(["--silent", "--fail", "--noproxy", "*", "--max-time", "1", &url]))
                    .then_some(()),
            )
        },
    )
    .with_context(|| format!("see {}", plan.log_dir().join("registry.log").display()))
}

/// Copies an image archive (OCI or Docker) or OCI layout directory into the registry under its public name.
pub fn push(plan: &Plan, archive: &Path, image: &str) -> Result<()> {
    let path = registry_path(image)?;
    let source = format!("{}:{}", transport(archive)?, archive.display());
    let target = format!("docker://{}:{REGISTRY_PORT}/{path}", gateway().v4);
    let mut command = netns::command(&plan.netns(PART), "skopeo");
    for variable in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(variable);
    }
    let args = [
        "--insecure-policy",
        "copy",
        "--quiet",
        "--preserve-digests",
        "--dest-tls-verify=false",
    ];
    sh::run(command.args(args).args([&source, &target]))
        .with_context(|| format!("push {} as {image}", archive.display()))
        .map(drop)
}

/// Digest of the one image in an OCI archive; it keeps it when it is pushed.
pub fn digest(archive: &Path) -> Result<String> {
    let index = sh::run(Command::new("tar").arg("-xOf").arg(archive).arg("index.json"))?;
    let index: serde_json::Value = serde_json::from_str(&index).context("index.json of the image archive")?;
    index["manifests"][0]["digest"]
        .as_str()
        .map(str::to_owned)
        .context("the image archive names no manifest")
}

fn transport(archive: &Path) -> Result<&'static str> {
    if archive.is_dir() {
        return Ok("oci");
    }
    if !archive.is_file() {
        bail!("{} is not there", archive.display());
    }
    let names = sh::run(Command::new("tar").arg("-tf").arg(archive)).context("list the image archive")?;
    let is_oci = names.lines().any(|n| n.trim_start_matches("./") == "oci-layout");
    Ok(if is_oci { "oci-archive" } else { "docker-archive" })
}

/// The path in the lab's registry of an image's full public name: the name itself, with the public registry as first part.
fn registry_path(image: &str) -> Result<&str> {
    let host = image.split('/').next().unwrap_or_default();
    if !MIRRORED.contains(&host) || !image.contains('/') {
        bail!(
            "image {image:?}: write the full name, beginning with one of {}",
            MIRRORED.join(", ")
        );
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    if !last.contains(':') || image.contains('@') {
        bail!("image {image:?}: give it a tag, as in {host}/team/name:v1");
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_in_full() {
        assert!(registry_path("quay.io/metallb-rs/speaker:v0.1.0").is_ok());
        for bad in [
            "speaker:v1",
            "quay.io/a/b",
            "example.org/a/b:v1",
            "quay.io/a/b@sha256:00",
            "quay.io",
        ] {
            assert!(registry_path(bad).is_err(), "{bad}");
        }
    }
}
