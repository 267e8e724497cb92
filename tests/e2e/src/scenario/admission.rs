//! What the real API server says to objects: the same cases that the unit tests put to an evaluator of the schemas.

use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::workload::{SOON, fresh_namespace, remove_namespace};
use crate::{Cluster, checkout::root, sh, wait_for};

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
    let send = |verb: &str, path: &str, body: &Value| {
        let mut command = cluster.kubectl_command();
        command.args([verb, "--raw", &format!("{path}?{strict}"), "-f", "-"]);
        let output = sh::output_with_input(&mut command, &body.to_string())?;
        Ok::<_, anyhow::Error>((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let (admitted, said) = if case["old"].is_null() {
        send("create", path, &named(&case["object"]))?
    } else {
        let old = named(&case["old"]).to_string();
        cluster.kubectl_with_input(&["create", "--raw", path, "-f", "-"], &old)?;
        let path = format!("{path}/{name}");
        // The allocator answers the stored object in its status meanwhile: then it is another version.
        wait_for(
            "an update of the object as it is, not as it was before its status",
            SOON,
            || {
                let stored: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", &path])?)
                    .context("the stored object")?;
                let mut object = named(&case["object"]);
                object["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
                let answer = send("replace", &path, &object)?;
                Ok((!answer.1.contains("(Conflict)")).then_some(answer))
            },
        )?
    };
    if case["admitted"] == true {
        ensure!(admitted, "refused: {said}");
        return Ok(());
    }
    ensure!(!admitted, "admitted");
    if let Some(part) = case["messageContains"].as_str() {
        ensure!(said.contains(part), "refused without {part:?}: {said}");
    }
    Ok(())
}
