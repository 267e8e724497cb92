//! The pure core alone: an example of crates/alloc measures it, without any API server.

use std::process::Command;

use anyhow::{Context, Result};
use metallb_e2e::{Progress, checkout, figures::Entry, sh};

/// Runs the example, built as it goes into images, and returns its figures.
///
/// # Errors
/// It cannot be built or run, or writes something else.
pub fn figures(progress: &Progress) -> Result<Vec<Entry>> {
    progress.line("the pure core");
    let root = checkout::root();
    let file = root.join("target/bench/core.json");
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let mut command = Command::new("cargo");
    command
        .args([
            "run",
            "--locked",
            "-q",
            "--profile",
            "image",
            "-p",
            "metallb-alloc",
            "--example",
            "core_bench",
            "--",
            "--json",
        ])
        .arg(&file)
        .current_dir(&root);
    sh::run(&mut command).context("run the benchmark of the pure core")?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", file.display()))
}
