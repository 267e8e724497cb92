//! Helm itself, on the chart of this checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use metallb_api::yaml;
use metallb_e2e::{Progress, build};
use serde_json::Value;

use crate::{CHART, root};

/// Helm of an exact version, built if it is not in the cache.
pub struct Helm {
    program: PathBuf,
}

impl Helm {
    /// Builds it if need be.
    ///
    /// # Errors
    /// The build's.
    pub fn new() -> Result<Self> {
        Ok(Self {
            program: build::ensure_helm(&Progress::start())?,
        })
    }

    /// A command of Helm that knows nothing of the user's clusters and repositories.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let nowhere = std::env::temp_dir().join(format!("metallb-charts-{}", std::process::id()));
        command
            .env_remove("KUBECONFIG")
            .env("HELM_KUBEAPISERVER", "http://127.0.0.1:9");
        for (variable, dir) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(variable, nowhere.join(dir));
        }
        command
    }

    /// What it prints.
    ///
    /// # Errors
    /// Its own words.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args)?;
        if !output.status.success() {
            bail!(
                "helm {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("helm prints no text")
    }

    /// Output and status, for what is expected to fail.
    ///
    /// # Errors
    /// It can't be started.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        self.command().args(args).output().context("start helm")
    }

    /// The chart rendered as release `metallb` in `namespace` with further arguments.
    ///
    /// # Errors
    /// Helm's own words.
    pub fn template(&self, namespace: &str, args: &[&str]) -> Result<Vec<Value>> {
        self.template_of(&root().join(CHART), namespace, args)
    }

    /// The same for another chart.
    ///
    /// # Errors
    /// Helm's own words.
    pub fn template_of(&self, chart: &Path, namespace: &str, args: &[&str]) -> Result<Vec<Value>> {
        let chart = chart.display().to_string();
        let base = ["template", "metallb", &chart, "--namespace", namespace];
        let text = self.run(&[&base, args].concat())?;
        yaml::from_str_all(&text).with_context(|| format!("what helm template {} renders", args.join(" ")))
    }
}

/// `MetalLB`'s own chart in the Go module that the lab pins: read, never copied.
///
/// # Errors
/// The module can't be had.
pub fn metallb_chart() -> Result<PathBuf> {
    let module = format!("go.universe.tf/metallb@v{}", build::METALLB);
    let output = Command::new("go")
        .args(["mod", "download", "-json", &module])
        // Outside any module, so that no go.mod changes.
        .current_dir(std::env::temp_dir())
        .env("GOFLAGS", "-mod=mod")
        .output()
        .context("start go mod download")?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "go mod download: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })?;
    let dir = answer["Dir"]
        .as_str()
        .with_context(|| format!("go mod download: {answer}"))?;
    Ok(PathBuf::from(dir).join("charts/metallb"))
}
