//! What the real API server says to objects: the same cases that the unit tests put to an evaluator of the schemas.

use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::workload::{fresh_namespace, remove_namespace};
use crate::{Cluster, checkout::root, sh};

const NAMESPACE: &str = "admission";

/// Every case, each as one request that stores nothing.
pub fn admission(cluster: &mut Cluster) -> Result<()> {
    fresh_namespace(cluster, NAMESPACE)?;
    let text = sh::run(
        Command::new("cargo")
            .args(["run", "--locked", "-q", "-p", "xtask", "--", "cases", NAMESPACE])
            .current_dir(root()),
    )
    .context("the cases of crates/api/tests/admission")?;
    let cases: Vec<Value> = serde_json::from_str(&text).context("the list of cases")?;
    ensure!(cases.len() > 100, "only {} cases", cases.len());
    let shared: &Cluster = cluster;
    let next = Mutex::new(cases.iter().enumerate());
    let worker = || {
        let mut wrong = Vec::new();
        while let Some((index, case)) = next.lock().ok().and_then(|mut next| next.next()) {
            if let Err(error) = try_case(shared, index, case) {
                wrong.push(format!("{}: {error:#}", case["name"]));
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers = [(); 4].map(|()| scope.spawn(worker));
        let results = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        results
            .flat_map(|result| result.unwrap_or_else(|_| vec!["a worker panicked".to_owned()]))
            .collect()
    });
    ensure!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    println!("{} objects admitted or refused as the cases say", cases.len());
    remove_namespace(cluster, NAMESPACE)
}

/// One case: `{name, path, object, old?, admitted, messageContains?}`; `path` is the collection of the kind.
fn try_case(cluster: &Cluster, index: usize, case: &Value) -> Result<()> {
    let path = case["path"].as_str().context("a case without a path")?;
    let name = format!("case-{index}");
    let named = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["name"] = name.clone().into();
        object
    };
    let strict = "dryRun=All&fieldValidation=Strict";
    let (args, body) = if case["old"].is_null() {
        (
            ["create", "--raw", &format!("{path}?{strict}")].map(str::to_owned),
            named(&case["object"]),
        )
    } else {
        let stored = cluster.kubectl_with_input(
            &["create", "--raw", path, "-f", "-"],
            &named(&case["old"]).to_string(),
        )?;
        let stored: Value = serde_json::from_str(&stored).context("the stored object")?;
        let mut object = named(&case["object"]);
        object["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        (
            ["replace", "--raw", &format!("{path}/{name}?{strict}")].map(str::to_owned),
            object,
        )
    };
    let mut command = cluster.kubectl_command();
    command.args(&args).args(["-f", "-"]);
    let output = sh::output_with_input(&mut command, &body.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if case["admitted"] == true {
        ensure!(output.status.success(), "refused: {said}");
        return Ok(());
    }
    ensure!(!output.status.success(), "admitted");
    if let Some(part) = case["messageContains"].as_str() {
        ensure!(said.contains(part), "refused without {part:?}: {said}");
    }
    Ok(())
}
