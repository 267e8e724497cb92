//! MetalLB's Go module, read at test time.

use std::{path::PathBuf, process::Command};

use anyhow::Context as _;
use metallb_api::yaml;
use serde_json::Value;

const MODULE: &str = "go.universe.tf/metallb@v0.16.1";

/// The module's directory in Go's cache, which is filled on first use.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(std::env::temp_dir())
        .output()
        .context("cannot run go, which reads MetalLB's definitions for the comparison: install Go")?;
    let answer: Value = yaml::from_str(&String::from_utf8_lossy(&output.stdout))?;
    let directory = answer["Dir"].as_str().with_context(|| {
        format!(
            "go mod download {MODULE}: {} {}",
            answer["Error"].as_str().unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok(directory.into())
}
