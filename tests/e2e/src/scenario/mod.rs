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
pub mod layer2;
pub mod manifests;
pub mod olm;
pub mod operator;
pub mod outages;
pub mod restarts;
pub mod s2;
pub mod s4;
pub mod s5;
pub mod services;
pub mod sources;
pub mod tour;
pub mod workload;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{Cluster, Progress, turn};

/// A scenario.
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Runs it; an error is its failure.
    pub run: fn(&mut Cluster) -> Result<()>,
}

/// The scenarios of `make test` after [`BARE`], in the order in which they run on one installation of the product: the harmless
/// ones first, node kills last.
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
        name: "ip-address-pool",
        about: "the samples of pools: by labels and priority, reserved, without addresses that end in .0 or .255",
        run: tour::pools::ip_address_pool,
    },
    Scenario {
        name: "l2-advertisement",
        about: "the samples of L2Advertisement: nodes, preferences, interfaces, services",
        run: tour::layer2::l2_advertisement,
    },
    Scenario {
        name: "bgp-peer",
        about: "the samples of BGPPeer in both versions: read, judged, waiting for what they name",
        run: tour::bgp::bgp_peer,
    },
    Scenario {
        name: "bgp-advertisement",
        about: "the samples of BGPAdvertisement: read, judged, waiting for the community they name",
        run: tour::bgp::bgp_advertisement,
    },
    Scenario {
        name: "bfd-profile",
        about: "the sample of BFDProfile is read and judged",
        run: tour::bgp::bfd_profile,
    },
    Scenario {
        name: "community",
        about: "the sample of Community is read and judged",
        run: tour::bgp::community,
    },
    Scenario {
        name: "samples",
        about: "the samples of services: next free, fixed, shared, dual-stack, of another class",
        run: tour::services::samples,
    },
    Scenario {
        name: "readme",
        about: "the README's YAML, applied as it is shown, serves",
        run: tour::installation::readme,
    },
    Scenario {
        name: "metallb-tuned",
        about: "the sample MetalLB with settings: nodes, class, fair reuse; and back",
        run: tour::installation::metallb,
    },
    Scenario {
        name: "s5",
        about: "one address for TCP and UDP: iperf3 runs, fails without the TCP service, and runs again",
        run: s5::shared_address,
    },
    Scenario {
        name: "quiet",
        about: "in steady state nothing is written but Leases (QUIET_SECONDS=60)",
        run: operator::quiet,
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
        name: "api-loss",
        about: "the API server away for a minute, traffic flows on",
        run: outages::api_loss,
    },
    Scenario {
        name: "foreign-host",
        about: "a host outside the cluster has an address of ours: announced all the same, and an Event names the host",
        run: layer2::foreign::foreign_host,
    },
    Scenario {
        name: "planned-moves",
        about: "drain and then a pulled cable, out of service, a preference: addresses move and nothing is lost",
        run: layer2::moves::planned_moves,
    },
    Scenario {
        name: "speaker-restart",
        about: "kill -9, standstill and rolling restart of speakers: no address moves, connections live",
        run: layer2::restart::speaker_restart,
    },
    Scenario {
        name: "partition",
        about: "the LAN falls into two halves and they meet again: soon one answers",
        run: layer2::partition::partition,
    },
    Scenario {
        name: "strict",
        about: "--l2-strict: served by whoever holds the Lease, and the Leases belong to the MetalLB resource",
        run: layer2::strict::strict,
    },
    Scenario {
        name: "link-cut",
        about: "the owner's cable is cut, with and without API server, and flaps: another takes over",
        run: layer2::cut::link_cut,
    },
    Scenario {
        name: "bind-address",
        about: "membership listens on all addresses: the owner's cable is cut, another takes over",
        run: layer2::cut::bind_address,
    },
    Scenario {
        name: "node-kill",
        about: "the owner loses its power under traffic, and returns",
        run: layer2::node::node_kill,
    },
    Scenario {
        name: "restart-node",
        about: "power cut of the owner and its return change no address",
        run: restarts::restart_node,
    },
    Scenario {
        name: "rights",
        about: "each component has used the rights that it holds, and has asked for no others",
        run: operator::rights,
    },
    // These take rights away and break things on purpose, so they come after `rights`, which judges all that was asked for before.
    Scenario {
        name: "drift",
        about: "every kind of object of the operator's, deleted or edited by hand, is as before within seconds",
        run: operator::drift,
    },
    Scenario {
        name: "conditions",
        about: "the MetalLB resource says what is wrong, and what to do: nodes, images, crashes, Pod Security, rights, definitions",
        run: operator::conditions,
    },
];

/// The scenarios of `make test` on a cluster where the product is not installed: each installs it in another way than the
/// operator, and takes it off again.
pub const BARE: &[Scenario] = &[
    Scenario {
        name: "s4",
        about: "a training class: manifests, a Secret by hand, the ConfigMap, whoami in a real browser",
        run: s4::training_class,
    },
    Scenario {
        name: "manifests",
        about: "kubectl apply in every form: one file, two, kustomized, with Prometheus; a key by hand before, after or never",
        run: manifests::manifests,
    },
    Scenario {
        name: "removal",
        about: "the operator in a namespace of its own; resource, operator or namespace is removed first, and nothing is left",
        run: operator::removal,
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
        name: "s1",
        about: "operator users: OLM, a Subscription with either OperatorGroup, an AddressPool, a transfer server; and away with it",
        run: olm::s1,
    },
];

/// The scenarios of `make test-long` on a cluster where the product is not installed.
pub const LONG_BARE: &[Scenario] = &[
    Scenario {
        name: "scorecard",
        about: "the Operator SDK's scorecard: its six tests of the bundle, as pods",
        run: olm::scorecard::scorecard,
    },
    Scenario {
        name: "olm-upgrade",
        about: "approved upgrades through OLM under traffic: one node at a time, nothing lost; a broken version harms nothing",
        run: olm::upgrade,
    },
];

/// The scenarios of `make test-long`, on an installation of the product: too long for every change.
pub const LONG: &[Scenario] = &[
    Scenario {
        name: "drift-soak",
        about: "random deletes and edits of the operator's objects for ten minutes, under traffic (SOAK_SECONDS=60 for less)",
        run: operator::soak,
    },
    Scenario {
        name: "many-services",
        about: "500 services of both families at once: one node answers for each of 1,000 addresses",
        run: layer2::many::many_services,
    },
    Scenario {
        name: "mixed-fleet",
        about: "speakers of Go MetalLB and ours in one cluster: one answers for each address",
        run: layer2::mixed::mixed_fleet,
    },
    Scenario {
        name: "starved",
        about: "two busy loops a core for half an hour: no address moves (L2_STARVED_SECONDS=60 for less)",
        run: layer2::starved::starved,
    },
];

/// Scenarios that measure how long clients are without an answer, or what they lose: they have the machine to themselves, so that
/// another cluster on it does not slow them down.
const ALONE: [&str; 12] = [
    "planned-moves",
    "speaker-restart",
    "partition",
    "link-cut",
    "bind-address",
    "node-kill",
    "restart-node",
    "drift",
    "many-services",
    "mixed-fleet",
    "starved",
    "olm-upgrade",
];

/// All scenarios in the order in which they run: before the product is installed, then after.
pub fn every() -> impl Iterator<Item = &'static Scenario> {
    BARE.iter().chain(LONG_BARE).chain(ALL).chain(LONG)
}

/// The scenarios with these names, in the order of [`every`]; for no name those of `make test`.
///
/// # Errors
/// A name that there is none of; the message lists them.
pub fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if let Some(unknown) = names.iter().find(|name| every().all(|s| s.name != **name)) {
        let known: Vec<_> = every().map(|s| s.name).collect();
        bail!("there is no scenario {unknown}; there are: {}", known.join(", "));
    }
    if names.is_empty() {
        return Ok(BARE.iter().chain(ALL).collect());
    }
    Ok(every()
        .filter(|s| names.iter().any(|name| name == s.name))
        .collect())
}

/// Runs the scenarios one after the other, all of them even if some fail: first those that want a cluster without the product,
/// then the others on the product. If it was there before, it is there afterwards.
///
/// # Errors
/// Some failed, and which; the message says where their evidence is. Or the product could not be installed.
pub fn run_all(cluster: &mut Cluster, scenarios: &[&Scenario], progress: &Progress) -> Result<()> {
    let is_bare = |scenario: &Scenario| {
        BARE.iter()
            .chain(LONG_BARE)
            .any(|bare| bare.name == scenario.name)
    };
    let (bare, others): (Vec<&Scenario>, Vec<&Scenario>) =
        scenarios.iter().copied().partition(|scenario| is_bare(scenario));
    let mut report = Report::default();
    let mut was_there = false;
    if !bare.is_empty() {
        was_there = clean::remove_the_product(cluster).context("the product could not be removed")?;
        for scenario in bare {
            if !report.run(cluster, scenario, progress)? {
                clean::sweep(cluster)?;
            }
        }
    }
    if was_there || !others.is_empty() {
        install::install(cluster, progress)
            .map_err(|error| error.context(evidence_note(cluster, "install")))
            .context("the product could not be installed")?;
    }
    let namespaces = clean::namespaces(cluster)?;
    for scenario in others {
        if report.run(cluster, scenario, progress)? {
            continue;
        }
        progress.line("making the cluster as new");
        let renewed = clean::renew(cluster, &namespaces).and_then(|()| install::install(cluster, progress));
        if let Err(error) = renewed {
            report.give_up(scenario.name, &error);
            break;
        }
    }
    report.finish()
}

/// What came of the scenarios so far.
#[derive(Default)]
struct Report {
    rows: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    /// Runs one when its turn has come; whether it passed.
    fn run(&mut self, cluster: &mut Cluster, scenario: &Scenario, progress: &Progress) -> Result<bool> {
        let how = if ALONE.contains(&scenario.name) {
            turn::Use::Alone
        } else {
            turn::Use::Shared
        };
        let _turn = turn::take(how, progress)?;
        progress.line(&format!("scenario {}: {}", scenario.name, scenario.about));
        let start = Instant::now();
        let outcome = run(cluster, scenario);
        let verdict = match &outcome {
            Ok(()) => "passed",
            Err(error) => {
                progress.line(&format!("scenario {} FAILED: {error:#}", scenario.name));
                self.failed.push(format!("{}: {}", scenario.name, reason(error)));
                "FAILED"
            }
        };
        self.rows.push(format!(
            "{:<18} {verdict:<7} {:>7.1} s",
            scenario.name,
            start.elapsed().as_secs_f64()
        ));
        Ok(outcome.is_ok())
    }

    /// Prints all that ran.
    fn finish(self) -> Result<()> {
        let failed = self.failed.len();
        println!(
            "\n{}\n\n{} passed, {failed} failed",
            self.rows.join("\n"),
            self.rows.len() - failed
        );
        if failed == 0 {
            Ok(())
        } else {
            bail!("scenarios failed:\n  {}", self.failed.join("\n  "))
        }
    }

    /// No further scenario can run after this one.
    fn give_up(&mut self, after: &str, error: &anyhow::Error) {
        let why = format!("the cluster could not be made as new after {after}: {error:#}");
        self.rows.push(format!("{why}; what comes after it was not run"));
        self.failed.push(reason(&anyhow::Error::msg(why)));
    }
}

/// Letters of a reason in the last lines of a run; the whole of it stands where the scenario failed.
const REASON: usize = 300;

/// An error as one line: its causes, without the note on evidence that comes first.
fn reason(error: &anyhow::Error) -> String {
    let skip = usize::from(error.chain().count() > 1);
    let causes: Vec<String> = error.chain().skip(skip).map(ToString::to_string).collect();
    let words: Vec<&str> = causes.iter().flat_map(|cause| cause.split_whitespace()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
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
    fn a_reason_is_one_short_line() {
        let error = anyhow::anyhow!("nobody answers\n  for 192.0.2.1").context("evidence is in /somewhere");
        assert_eq!(reason(&error), "nobody answers for 192.0.2.1");
        assert_eq!(reason(&anyhow::anyhow!("plain")), "plain");
        let long = reason(&anyhow::anyhow!("é".repeat(REASON + 1)));
        assert_eq!(long, format!("{}…", "é".repeat(REASON)));
    }

    #[test]
    fn scenarios_are_chosen_by_name_in_their_own_order() {
        let named = |names: &[&str]| -> Vec<&str> {
            let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
            choose(&names).unwrap().iter().map(|s| s.name).collect()
        };
        assert_eq!(named(&["restart-node", "main-job"]), ["main-job", "restart-node"]);
        assert_eq!(named(&["main-job", "s2"]), ["s2", "main-job"]);
        assert_eq!(named(&[]).len(), BARE.len() + ALL.len());
        let mut names: Vec<&str> = every().map(|s| s.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "two scenarios have one name");
        for alone in ALONE {
            assert!(names.contains(&alone), "there is no scenario {alone}");
        }
        assert!(
            choose(&["nothing".to_owned()])
                .err()
                .unwrap()
                .to_string()
                .contains("main-job")
        );
    }
}
