//! A bundle as tools see it: the objects and the metadata in its files.

use crate::generate::Files;
use anyhow::{Context as _, bail};
use metallb_api::yaml;
use serde_json::Value;
use std::{fs, path::Path};

/// What is in a bundle.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// The `ClusterServiceVersion`.
    pub(crate) csv: Value,
    /// The other objects of `manifests/`, the `CustomResourceDefinition`s among them.
    pub(crate) objects: Vec<Value>,
    /// `annotations` of `metadata/annotations.yaml`.
    pub(crate) annotations: Value,
    /// `tests/scorecard/config.yaml`.
    pub(crate) scorecard: Value,
    /// `bundle.Containerfile`.
    pub(crate) containerfile: String,
    /// Bytes of all manifests.
    pub(crate) size: usize,
}

impl Contents {
    /// Those of generated files (paths begin with `bundle/`).
    pub(crate) fn of(files: &Files) -> anyhow::Result<Self> {
        Self::read(
            |path| {
                files
                    .get(&format!("bundle/{path}"))
                    .cloned()
                    .with_context(|| format!("there is no bundle/{path}"))
            },
            files
                .keys()
                .filter_map(|path| path.strip_prefix("bundle/manifests/").map(str::to_owned)),
        )
    }

    /// Those of a directory.
    pub(crate) fn in_directory(directory: &Path) -> anyhow::Result<Self> {
        let manifests = directory.join("manifests");
        let mut names = Vec::new();
        for entry in
            fs::read_dir(&manifests).with_context(|| format!("cannot list {}", manifests.display()))?
        {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Self::read(
            |path| {
                let path = directory.join(path);
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
            },
            names,
        )
    }

    fn read(
        text: impl Fn(&str) -> anyhow::Result<String>,
        manifests: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<Self> {
        let one = |path: &str| -> anyhow::Result<Value> {
            yaml::from_str(&text(path)?).with_context(|| path.to_owned())
        };
        let (mut versions, mut objects, mut size) = (Vec::new(), Vec::new(), 0);
        for name in manifests {
            let path = format!("manifests/{name}");
            size += text(&path)?.len();
            let object = one(&path)?;
            if object["kind"] == "ClusterServiceVersion" {
                versions.push(object);
            } else {
                objects.push(object);
            }
        }
        let Ok([csv]) = <[Value; 1]>::try_from(versions) else {
            bail!("manifests/ must hold exactly one ClusterServiceVersion");
        };
        Ok(Contents {
            csv,
            objects,
            annotations: one("metadata/annotations.yaml")?["annotations"].clone(),
            scorecard: one("tests/scorecard/config.yaml")?,
            containerfile: text("bundle.Containerfile")?,
            size,
        })
    }

    /// Name of the `ClusterServiceVersion`.
    pub(crate) fn name(&self) -> &str {
        self.csv["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// An annotation of the `ClusterServiceVersion`; empty if it has none.
    pub(crate) fn annotation(&self, key: &str) -> &str {
        self.csv["metadata"]["annotations"][key]
            .as_str()
            .unwrap_or_default()
    }

    /// The kinds that the `ClusterServiceVersion` says it owns.
    pub(crate) fn owned(&self) -> &[Value] {
        list(&self.csv["spec"]["customresourcedefinitions"]["owned"])
    }

    /// The objects of the annotation `alm-examples`; none if it is no JSON list.
    pub(crate) fn examples(&self) -> Vec<Value> {
        serde_json::from_str(self.annotation("alm-examples")).unwrap_or_default()
    }

    /// The `CustomResourceDefinition`s.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Value> {
        self.objects
            .iter()
            .filter(|object| object["kind"] == "CustomResourceDefinition")
    }

    /// The Deployments that OLM makes.
    pub(crate) fn deployments(&self) -> &[Value] {
        list(&self.csv["spec"]["install"]["spec"]["deployments"])
    }

    /// The containers of all Deployments.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Value> {
        self.deployments()
            .iter()
            .flat_map(|deployment| list(&deployment["spec"]["template"]["spec"]["containers"]))
    }
}

/// The elements of a list; none of what is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
