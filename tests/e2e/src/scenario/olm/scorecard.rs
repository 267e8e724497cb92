//! The scorecard of the Operator SDK: each of its tests is a pod that looks at the bundle.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::workload::{fresh_namespace, remove_namespace};
use crate::cache::{self, fnv64};
use crate::{Cluster, Progress, build, checkout, images, olm, sh};

const TESTS: [&str; 6] = [
    "basic-check-spec",
    "olm-bundle-validation",
    "olm-crds-have-resources",
    "olm-crds-have-validation",
    "olm-spec-descriptors",
    "olm-status-descriptors",
];

/// The only suggestion that is not followed: examples of what people write have no status, because a console would put it into
/// its forms.
const NO_STATUS: &str = "does not have status spec";

const CONTAINERFILE: &str = r"FROM scratch AS test
COPY scorecard-test /bin/
ENV PATH=/bin
USER 1001

FROM scratch AS untar
COPY tar /bin/
ENV PATH=/bin
USER 1001
";

/// All six tests pass, and suggest nothing that is not decided otherwise.
///
/// # Errors
/// What the scorecard says.
pub fn scorecard(cluster: &mut Cluster) -> Result<()> {
    let progress = Progress::start();
    let sdk = build::ensure_operator_sdk(&progress)?;
    let archives = archives(&sdk, &progress)?;
    let name = |image: &str| format!("quay.io/operator-framework/{image}:v{}", build::OPERATOR_SDK);
    let (test, untar) = (name("scorecard-test"), name("scorecard-untar"));
    cluster.push(&archives.join("test.oci.tar"), &test)?;
    cluster.push(&archives.join("untar.oci.tar"), &untar)?;

    let bundle = checkout::root().join("bundle");
    let config = bundle.join("tests/scorecard/config.yaml");
    let text = fs::read_to_string(&config).with_context(|| format!("read {}", config.display()))?;
    ensure!(
        text.contains(&format!("image: {test}")),
        "{} names another image than {test}",
        config.display()
    );

    let namespace = "scorecard";
    fresh_namespace(cluster, namespace)?;
    let mut command = Command::new(sdk.join("operator-sdk"));
    command
        .arg("scorecard")
        .arg(&bundle)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["--namespace", namespace, "--untar-image", &untar])
        .args(["--pod-security", "restricted"])
        .args(["--wait-time", "180s", "--output", "json"]);
    let output = sh::output(&mut command)?;
    let result: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "operator-sdk scorecard: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    judge(&result)?;
    remove_namespace(cluster, namespace)
}

/// All tests ran, passed, and had nothing to add.
fn judge(result: &Value) -> Result<()> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let results: Vec<Value> = list(&result["items"])
        .iter()
        .flat_map(|test| list(&test["status"]["results"]))
        .collect();
    let ran: BTreeSet<&str> = results.iter().filter_map(|test| test["name"].as_str()).collect();
    ensure!(ran == TESTS.into(), "these tests ran: {ran:?}");
    for test in &results {
        let name = test["name"].as_str().unwrap_or_default();
        ensure!(
            test["state"] == "pass" && list(&test["errors"]).is_empty(),
            "{name}: {} {}",
            test["state"],
            test["errors"]
        );
        let further: Vec<Value> = list(&test["suggestions"])
            .into_iter()
            .filter(|suggestion| !suggestion.as_str().is_some_and(|text| text.contains(NO_STATUS)))
            .collect();
        ensure!(further.is_empty(), "{name} suggests {further:?}");
    }
    Ok(())
}

/// The directory in the cache with the archives of the two images.
fn archives(sdk: &Path, progress: &Progress) -> Result<PathBuf> {
    let busybox = olm::busybox(progress)?;
    let tar = fs::read(busybox).with_context(|| format!("read {busybox}"))?;
    // The cache's programs are told by their directory's name.
    let sdk_name = sdk.display().to_string();
    let hash = fnv64(&[sdk_name.as_bytes(), &tar, CONTAINERFILE.as_bytes()]);
    let cache = cache::dir()?;
    let dir = cache.join("images").join(format!("scorecard-{hash:016x}"));
    cache::entry(&dir, |scratch| {
        let context = scratch.join("context");
        fs::create_dir(&context).context("make the build context")?;
        for (from, to) in [
            (sdk.join("scorecard-test"), "scorecard-test"),
            (busybox.into(), "tar"),
        ] {
            fs::copy(&from, context.join(to)).with_context(|| format!("copy {}", from.display()))?;
        }
        let containerfile = scratch.join("Containerfile");
        fs::write(&containerfile, CONTAINERFILE).context("write the Containerfile")?;
        for stage in ["test", "untar"] {
            let archive = scratch.join(format!("{stage}.oci.tar"));
            images::build_image(&cache, &containerfile, &context, stage, &archive)?;
        }
        fs::remove_dir_all(&context).context("remove the build context")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(change: impl Fn(&str, &mut Value)) -> Value {
        let items: Vec<Value> = TESTS
            .iter()
            .map(|name| {
                let mut result = json!({"name": name, "state": "pass"});
                change(name, &mut result);
                json!({"status": {"results": [result]}})
            })
            .collect();
        json!({ "items": items })
    }

    #[test]
    fn a_suggestion_fails_unless_it_is_decided_otherwise() {
        judge(&result(|_, _| {})).unwrap();
        let suggest = |text: &'static str| {
            result(move |name, result| {
                if name == "olm-status-descriptors" {
                    result["suggestions"] = json!([text]);
                }
            })
        };
        judge(&suggest(
            "metallbs.metallb.io does not have status spec. Note that",
        ))
        .unwrap();
        let error = judge(&suggest("add status descriptor for the crd x")).unwrap_err();
        assert!(error.to_string().contains("add status descriptor"), "{error}");
    }

    #[test]
    fn a_test_that_fails_or_does_not_run_is_told() {
        let failed = result(|name, result| {
            if name == "olm-spec-descriptors" {
                *result = json!({"name": name, "state": "fail", "errors": ["addresses does not have a spec descriptor"]});
            }
        });
        let error = judge(&failed).unwrap_err().to_string();
        assert!(
            error.contains("olm-spec-descriptors") && error.contains("addresses"),
            "{error}"
        );
        let mut fewer = result(|_, _| {});
        fewer["items"].as_array_mut().unwrap().pop();
        assert!(judge(&fewer).is_err());
    }
}
