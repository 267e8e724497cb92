//! Scenarios: what users must be able to do, run on a real cluster.
//!
//! Each works in a namespace of its own and leaves the cluster as it found it; one that fails leaves its evidence under
//! `target/e2e/NAME/` and the cluster as it is.

pub mod admission;
pub mod clean;
pub mod configuration;
pub mod demo;
pub mod helm;
pub mod install;
pub mod outages;
pub mod restarts;
pub mod s2;
pub mod s4;
pub mod s5;
pub mod services;
pub mod sources;
pub mod workload;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{Cluster, Progress};

/// A scenario.
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Runs it; an error is its failure.
    pub run: fn(&mut Cluster) -> Result<()>,
}

/// All scenarios, in the order in which they run: the harmless ones first, node kills last.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "main-job",
        about: "a service gets an address, one node answers, the client reads the page",
        run: services::main_job,
    },
    Scenario {
        name: "recreate",
        about: "a deleted service frees its address, created again it answers",
        run: services::recreate,
    },
    Scenario {
        name: "explicit",
        about: "addresses asked for in every way",
        run: services::explicit,
    },
    Scenario {
        name: "exhausted",
        about: "an empty pool: pending with an event, served once an address is free",
        run: services::exhausted,
    },
    Scenario {
        name: "local-policy",
        about: "the owner follows the pod",
        run: services::local_policy,
    },
    Scenario {
        name: "exclude-label",
        about: "the label moves addresses away and back",
        run: services::exclude_label,
    },
    Scenario {
        name: "refused",
        about: "wrong values are refused with a sentence",
        run: configuration::refused,
    },
    Scenario {
        name: "admission",
        about: "the API server admits and refuses objects of every kind as the unit tests' evaluator does",
        run: admission::admission,
    },
    Scenario {
        name: "overlap",
        about: "of two overlapping pools the first works, the second is named",
        run: configuration::overlap,
    },
    Scenario {
        name: "stricter-rule",
        about: "a pool stored before a rule got stricter is named, the others work",
        run: configuration::stricter_rule,
    },
    Scenario {
        name: "address-pool",
        about: "an AddressPool of the first generation announces without an advertisement, and says what replaces it",
        run: sources::address_pool,
    },
    Scenario {
        name: "config-map",
        about: "the ConfigMap of v0.3 to v0.12: served, a typo takes nothing away, not even over restarts",
        run: sources::config_map,
    },
    Scenario {
        name: "wrong-namespace",
        about: "an object elsewhere is answered, not ignored",
        run: sources::wrong_namespace,
    },
    Scenario {
        name: "s5",
        about: "one address for TCP and UDP: iperf3 runs, fails without the TCP service, and runs again",
        run: s5::shared_address,
    },
    Scenario {
        name: "drift",
        about: "what is deleted or edited by hand is put right",
        run: restarts::drift,
    },
    Scenario {
        name: "rollout-restart",
        about: "rolling restarts change no address",
        run: restarts::rollout_restart,
    },
    Scenario {
        name: "kill-components",
        about: "kill -9 of each component and of all together changes no address",
        run: restarts::kill_components,
    },
    Scenario {
        name: "helm",
        about: "Helm from a web server and from a registry: install, upgrade, uninstall, install again",
        run: helm::helm,
    },
    Scenario {
        name: "s2",
        about: "an edge site: Helm into namespace default, one address, a client behind 1:1 NAT",
        run: s2::edge_site,
    },
    Scenario {
        name: "s4",
        about: "a training class: manifests, a Secret by hand, the ConfigMap, whoami in a real browser",
        run: s4::training_class,
    },
    Scenario {
        name: "api-loss",
        about: "the API server away for a minute, traffic flows on",
        run: outages::api_loss,
    },
    Scenario {
        name: "link-cut",
        about: "the owner's cable is cut, another takes over",
        run: outages::link_cut,
    },
    Scenario {
        name: "restart-node",
        about: "power cut of the owner and its return change no address",
        run: restarts::restart_node,
    },
];

/// The scenarios with these names, in the order of [`ALL`]; all of them for no name.
///
/// # Errors
/// A name that there is none of; the message lists them.
pub fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|s| s.name != **name)) {
        let known: Vec<_> = ALL.iter().map(|s| s.name).collect();
        bail!("there is no scenario {unknown}; there are: {}", known.join(", "));
    }
    Ok(ALL
        .iter()
        .filter(|s| names.is_empty() || names.iter().any(|name| name == s.name))
        .collect())
}

/// Installs the product and runs the scenarios one after the other, all of them even if some fail.
///
/// # Errors
/// Some failed; the message says which, and where their evidence is.
pub fn run_all(cluster: &mut Cluster, scenarios: &[&Scenario], progress: &Progress) -> Result<()> {
    install::install(cluster, progress)
        .map_err(|error| error.context(evidence_note(cluster, "install")))
        .context("the product could not be installed")?;
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for scenario in scenarios {
        progress.line(&format!("scenario {}: {}", scenario.name, scenario.about));
        let start = Instant::now();
        let outcome = run(cluster, scenario);
        let verdict = match &outcome {
            Ok(()) => "passed",
            Err(error) => {
                progress.line(&format!("scenario {} FAILED: {error:#}", scenario.name));
                failed.push(scenario.name);
                "FAILED"
            }
        };
        rows.push(format!(
            "{:<18} {verdict:<7} {:>7.1} s",
            scenario.name,
            start.elapsed().as_secs_f64()
        ));
    }
    println!(
        "\n{}\n\n{} passed, {} failed",
        rows.join("\n"),
        rows.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("scenarios failed: {}", failed.join(", "))
    }
}

/// Where a scenario's evidence goes.
pub fn evidence_dir(name: &str) -> PathBuf {
    crate::checkout::root().join("target/e2e").join(name)
}

/// Runs one scenario with a packet capture of the LAN; a failure leaves capture, objects, events and logs.
fn run(cluster: &mut Cluster, scenario: &Scenario) -> Result<()> {
    let dir = evidence_dir(scenario.name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("clear {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    // Neighbour discovery, membership and what goes to the pools; image pulls and API traffic would drown it.
    let filter = "arp or icmp6 or udp port 7946 or net 192.168.124.128/25";
    let capture = cluster.capture("lan", crate::lan::LAN_BRIDGE, filter, &dir.join("lan.pcap"))?;
    let outcome = (scenario.run)(cluster);
    capture.stop()?;
    match outcome {
        Ok(()) => fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display())),
        Err(error) => Err(error.context(evidence_note(cluster, scenario.name))),
    }
}

/// Saves objects, events and logs, and says where.
fn evidence_note(cluster: &Cluster, name: &str) -> String {
    let dir = evidence_dir(name);
    match cluster.collect_logs(&dir) {
        Ok(()) => format!("{name}: logs, objects and capture are in {}", dir.display()),
        Err(error) => format!("{name}: the evidence could not be saved: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name_in_their_own_order() {
        let named = |names: &[&str]| -> Vec<&str> {
            let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
            choose(&names).unwrap().iter().map(|s| s.name).collect()
        };
        assert_eq!(named(&["restart-node", "main-job"]), ["main-job", "restart-node"]);
        assert_eq!(named(&[]).len(), ALL.len());
        assert!(
            choose(&["nothing".to_owned()])
                .err()
                .unwrap()
                .to_string()
                .contains("main-job")
        );
    }
}
