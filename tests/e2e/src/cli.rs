//! Commands of `lab`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use metallb_e2e::plan::Pair;
use metallb_e2e::{
    Cluster, Progress, UpOutcome, bench, build, cluster, olm, olm_check, process, proxy, scenario, selftest,
};

/// A real multi-node Kubernetes on this machine, in network namespaces.
#[derive(Parser)]
#[command(name = "lab", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Args)]
struct Name {
    /// Name of the cluster; clusters of different names run side by side
    #[arg(long, default_value = "lab", global = true)]
    name: String,
}

#[derive(Subcommand)]
enum Cmd {
    /// Bring a cluster up (installs and builds what is missing; a running one is left as it is)
    Up {
        /// Number of nodes
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        #[command(flatten)]
        name: Name,
    },
    /// Take a cluster down, whatever state it is in
    Down {
        /// All clusters of this tool
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        name: Name,
    },
    /// Install, build and cache everything that `up` needs, without starting a cluster
    Prepare {
        /// What the scenarios of `make test` need as well: Helm, OLM, Go `MetalLB`
        #[arg(long)]
        scenarios: bool,
    },
    /// Print the path of a kubeconfig that works on this host
    Kubeconfig {
        #[command(flatten)]
        name: Name,
    },
    /// Show the clusters, their processes and nodes
    Status,
    /// Run a command in a place: a node (n1 ...), client, control, gw, lan
    Exec {
        /// The place
        place: String,
        #[command(flatten)]
        name: Name,
        /// The command and its arguments, after `--`
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run kubectl on the cluster
    Kubectl {
        #[command(flatten)]
        name: Name,
        /// Arguments of kubectl, after `--`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run Helm (built if need be) on the cluster
    Helm {
        #[command(flatten)]
        name: Name,
        /// Arguments of helm, after `--`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Push an image archive into the cluster's registry under its public name
    Push {
        /// OCI or Docker archive, or a directory in OCI layout
        #[arg(long)]
        archive: PathBuf,
        /// Full public name with tag, as manifests use it
        #[arg(long)]
        image: String,
        #[command(flatten)]
        name: Name,
    },
    /// Cut a node's power, boot it, freeze it
    Node {
        /// What happens to it
        action: NodeAction,
        /// The node
        node: String,
        #[command(flatten)]
        name: Name,
    },
    /// Plug the cable between a place (node, client, control) and the LAN in or out
    Link {
        /// The place
        place: String,
        /// Up or down
        to: UpDown,
        #[command(flatten)]
        name: Name,
    },
    /// Stop (SIGKILL) or start the API server
    Apiserver {
        /// Stop or start
        action: StopStart,
        #[command(flatten)]
        name: Name,
    },
    /// Add a segment (a further bridge)
    Segment {
        /// Its name
        segment: String,
        #[command(flatten)]
        name: Name,
    },
    /// Add a host or router
    Host {
        /// Its name
        host: String,
        /// An interface, as SEGMENT,IPV4,IPV6; repeat for more. The LAN is the segment `lan`
        #[arg(long = "port", required = true)]
        ports: Vec<String>,
        /// It forwards
        #[arg(long)]
        router: bool,
        /// Its default gateway, as IPV4,IPV6
        #[arg(long)]
        via: Option<String>,
        #[command(flatten)]
        name: Name,
    },
    /// Test the cluster itself, without the product: pages, streams, cables, power cuts, the API server away
    Selftest {
        #[command(flatten)]
        name: Name,
    },
    /// Save objects, events and logs into a directory
    Collect {
        /// The directory
        dir: PathBuf,
        #[command(flatten)]
        name: Name,
    },
    /// Run the main job and show it, on a local cluster or (with --kubeconfig) on one of your own
    Demo {
        /// Kubeconfig of your own cluster; nothing is built then
        #[arg(long, default_value = "")]
        kubeconfig: String,
        /// Free addresses on your cluster's network, as FIRST-LAST or CIDR
        #[arg(long, default_value = "")]
        pool: String,
        #[command(flatten)]
        name: Name,
    },
    /// The Operator Lifecycle Manager on the cluster
    Olm {
        /// What happens to it
        action: OlmAction,
        #[command(flatten)]
        name: Name,
    },
    /// Judge a catalog, and bundles in it, with opm and operator-sdk; a warning fails
    OlmCheck {
        /// Directory of the catalog
        catalog: PathBuf,
        /// Directories of bundles
        bundles: Vec<PathBuf>,
    },
    /// Install the product and run scenarios; without a name the list is printed
    E2e {
        /// Their names
        scenarios: Vec<String>,
        /// A whole list of them, on a cluster that is brought up before and taken down after success
        #[arg(long, conflicts_with = "scenarios")]
        whole: Option<Whole>,
        #[command(flatten)]
        name: Name,
    },
    /// Measure layer 2 beside Go `MetalLB` on one cluster: a table and target/bench/l2.json
    BenchL2 {
        /// Cuts and kills of each kind
        #[arg(long, env = "L2_ROUNDS", default_value_t = 50)]
        rounds: usize,
        /// The same of Go `MetalLB`; a round of it takes longest
        #[arg(long, env = "L2_PEER_ROUNDS", default_value_t = 50)]
        peer_rounds: usize,
        /// Parts: link-cut, node-kill, speaker-kill, moves, resources, status, replies (all, if none is named)
        #[arg(long, env = "L2_PARTS", value_delimiter = ',')]
        parts: Vec<String>,
        /// Leave Go `MetalLB` out
        #[arg(long, env = "L2_OURS_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
        ours_only: bool,
        /// Measure everything anew; else what an earlier run of the same builds measured is kept
        #[arg(long, env = "L2_FRESH", value_parser = clap::builder::FalseyValueParser::new())]
        fresh: bool,
        #[command(flatten)]
        name: Name,
    },
    /// Check and install what the tests need, before anything else is done
    Prerequisites,
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

/// Lists of scenarios.
#[derive(Clone, Copy, ValueEnum)]
enum Whole {
    /// All but the long ones
    All,
    /// Those that begin without the product
    Bare,
    /// Those on an installation of the product
    Installed,
    /// The long ones
    Long,
}

#[derive(Clone, Copy, ValueEnum)]
enum NodeAction {
    /// Power cut: link down, every process killed
    Kill,
    /// Boot
    Start,
    /// Stop every process without its noticing
    Freeze,
    /// Continue
    Thaw,
}

#[derive(Clone, Copy, ValueEnum)]
enum OlmAction {
    /// Bring it up, with a cluster DNS (built the first time)
    Up,
    /// Take it off, with all that was installed through it
    Down,
    /// Bring it up, install the product through it and show that it works
    Demo,
}

#[derive(Clone, Copy, ValueEnum)]
enum UpDown {
    Up,
    Down,
}

#[derive(Clone, Copy, ValueEnum)]
enum StopStart {
    Stop,
    Start,
}

/// What the tool starts itself as.
#[derive(Subcommand)]
enum Internal {
    Run {
        spec: PathBuf,
        record: PathBuf,
    },
    Hold {
        what: String,
    },
    Proxy {
        listen: SocketAddr,
        netns: String,
        target: SocketAddr,
    },
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Cmd::Up { nodes, name } => up(&name.name, nodes)?,
        Cmd::Down { all, name } => down(all, &name.name)?,
        Cmd::Prepare { scenarios } => {
            let progress = Progress::start();
            cluster::prepare(&progress)?;
            if scenarios {
                build::ensure_helm(&progress)?;
                build::ensure_metallb(&progress)?;
                olm::prepare(&progress)?;
            }
            progress.line("everything that a cluster needs is in the cache");
        }
        Cmd::Kubeconfig { name } => println!("{}", Cluster::open(&name.name)?.kubeconfig().display()),
        Cmd::Status => status()?,
        Cmd::Exec { place, name, command } => {
            let (program, args) = command.split_first().context("a command to run")?;
            return pass_through(Cluster::open(&name.name)?.exec(&place, program)?.args(args));
        }
        Cmd::Kubectl { name, args } => {
            return pass_through(Cluster::open(&name.name)?.kubectl_command().args(args));
        }
        Cmd::Helm { name, args } => {
            let kubeconfig = Cluster::open(&name.name)?.kubeconfig();
            let mut helm = Command::new(build::ensure_helm(&Progress::start())?);
            return pass_through(helm.env("KUBECONFIG", kubeconfig).args(args));
        }
        Cmd::Push { archive, image, name } => {
            Cluster::open(&name.name)?.push(&archive, &image)?;
            println!("{image} is in the registry of cluster {}", name.name);
        }
        Cmd::Node { action, node, name } => {
            let mut cluster = Cluster::open(&name.name)?;
            match action {
                NodeAction::Kill => cluster.node_kill(&node)?,
                NodeAction::Start => cluster.node_start(&node)?,
                NodeAction::Freeze => cluster.node_freeze(&node)?,
                NodeAction::Thaw => cluster.node_thaw(&node)?,
            }
        }
        Cmd::Link { place, to, name } => Cluster::open(&name.name)?.link(&place, matches!(to, UpDown::Up))?,
        Cmd::Apiserver { action, name } => {
            let cluster = Cluster::open(&name.name)?;
            match action {
                StopStart::Stop => cluster.apiserver_stop()?,
                StopStart::Start => cluster.apiserver_start()?,
            }
        }
        Cmd::Segment { segment, name } => Cluster::open(&name.name)?.add_segment(&segment)?,
        Cmd::Host {
            host,
            ports,
            router,
            via,
            name,
        } => {
            let ports: Vec<_> = ports.iter().map(|p| port(p)).collect::<Result<_>>()?;
            let via = via.as_deref().map(pair).transpose()?;
            Cluster::open(&name.name)?.add_host(&host, &ports, router, via)?;
        }
        Cmd::Selftest { name } => selftest::run(&mut Cluster::open(&name.name)?)?,
        Cmd::Collect { dir, name } => Cluster::open(&name.name)?.collect_logs(&dir)?,
        Cmd::Demo {
            kubeconfig,
            pool,
            name,
        } if kubeconfig.is_empty() => {
            if !pool.is_empty() {
                bail!("--pool is for a cluster of your own: give its --kubeconfig too");
            }
            scenario::demo::on_lab(&Cluster::open(&name.name)?, &Progress::start())?;
        }
        Cmd::Demo { kubeconfig, pool, .. } => scenario::demo::on_own(&kubeconfig, &pool, &Progress::start())?,
        Cmd::Olm { action, name } => {
            let (cluster, progress) = (Cluster::open(&name.name)?, Progress::start());
            match action {
                OlmAction::Up => olm::up(&cluster, &progress)?,
                OlmAction::Down => olm::remove(&cluster)?,
                OlmAction::Demo => scenario::olm::demo::demo(&cluster, &progress)?,
            }
        }
        Cmd::OlmCheck { catalog, bundles } => olm_check::run(&catalog, &bundles, &Progress::start())?,
        Cmd::E2e {
            scenarios,
            whole,
            name,
        } => {
            let chosen = match whole {
                None | Some(Whole::All) => scenario::choose(&scenarios)?,
                Some(Whole::Bare) => scenario::BARE.iter().collect(),
                Some(Whole::Installed) => scenario::ALL.iter().collect(),
                Some(Whole::Long) => scenario::LONG_BARE.iter().chain(scenario::LONG).collect(),
            };
            e2e(&chosen, &scenarios, whole.is_some(), &name.name)?;
        }
        Cmd::BenchL2 {
            rounds,
            peer_rounds,
            parts,
            ours_only,
            fresh,
            name,
        } => {
            let settings = bench::Settings {
                rounds,
                peer_rounds,
                parts,
                peer: !ours_only,
                fresh,
            };
            bench::run(&name.name, &settings, &Progress::start())?;
        }
        Cmd::Prerequisites => cluster::prerequisites(&Progress::start())?,
        Cmd::Internal(internal) => run_internal(internal)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_internal(internal: Internal) -> Result<()> {
    match internal {
        Internal::Run { spec, record } => match process::become_program(&spec, &record)? {},
        Internal::Hold { .. } => loop {
            std::thread::park();
        },
        Internal::Proxy {
            listen,
            netns,
            target,
        } => proxy::serve(listen, &netns, target),
    }
}

fn up(name: &str, nodes: u8) -> Result<()> {
    let progress = Progress::start();
    let (cluster, outcome) = Cluster::up(name, nodes, &progress)?;
    let off = match cluster.powered_off() {
        [] => String::new(),
        nodes => format!(" (switched off: {})", nodes.join(", ")),
    };
    progress.line(&match outcome {
        UpOutcome::AlreadyUp => format!("cluster {name} is already up{off}"),
        UpOutcome::Repaired => format!("cluster {name} runs again{off}"),
        UpOutcome::Started => format!("cluster {name} is up: {} nodes are Ready", cluster.nodes().len()),
    });
    progress.line(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
    Ok(())
}

fn down(all: bool, name: &str) -> Result<()> {
    let progress = Progress::start();
    let names = if all {
        cluster::all_names()?
    } else {
        vec![name.to_owned()]
    };
    for name in &names {
        if !Cluster::down(name, &progress)? {
            progress.line(&format!("there is no cluster {name}"));
        }
    }
    Ok(())
}

/// Lists the scenarios if none is named; `whole` lists are run on a cluster of their own.
fn e2e(chosen: &[&scenario::Scenario], names: &[String], whole: bool, cluster: &str) -> Result<()> {
    if names.is_empty() && !whole {
        for scenario in scenario::every() {
            println!("{:<18} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let progress = Progress::start();
    let (mut cluster, _) = Cluster::up(cluster, 3, &progress)?;
    scenario::run_all(&mut cluster, chosen, &progress)?;
    if whole {
        // A failed run leaves its cluster to be looked at; a good one leaves nothing.
        Cluster::down(cluster.name(), &progress)?;
    }
    Ok(())
}

fn status() -> Result<()> {
    for name in cluster::all_names()? {
        let cluster = match Cluster::open(&name) {
            Ok(cluster) => cluster,
            Err(error) => {
                println!("{error:#}");
                continue;
            }
        };
        println!("cluster {name}: KUBECONFIG={}", cluster.kubeconfig().display());
        for (id, process) in cluster.processes()? {
            let state = if process.is_alive() { "running" } else { "ended" };
            println!("  {id:<28} {:>7}  {state}", process.pid);
        }
        match cluster.kubectl(&["get", "nodes", "-o", "wide"]) {
            Ok(nodes) => nodes.lines().for_each(|line| println!("  {line}")),
            Err(error) => println!("  nodes: {error:#}"),
        }
        println!("  logs: {}", cluster.log_dir().display());
    }
    Ok(())
}

/// Runs a command in the foreground and ends as it ends.
fn pass_through(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn pair(text: &str) -> Result<Pair> {
    let Some((v4, v6)) = text.split_once(',') else {
        bail!("{text:?}: write IPV4,IPV6")
    };
    Ok(Pair {
        v4: v4.parse().with_context(|| format!("{v4:?} is no IPv4 address"))?,
        v6: v6.parse().with_context(|| format!("{v6:?} is no IPv6 address"))?,
    })
}

fn port(text: &str) -> Result<(&str, Pair)> {
    let Some((segment, addresses)) = text.split_once(',') else {
        bail!("{text:?}: write SEGMENT,IPV4,IPV6")
    };
    Ok((segment, pair(addresses)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ports_are_parsed_or_refused_with_the_form() {
        let (segment, addresses) = port("far,10.9.0.1,fd00:9::1").unwrap();
        assert_eq!((segment, addresses.v4.to_string().as_str()), ("far", "10.9.0.1"));
        assert!(port("far").unwrap_err().to_string().contains("SEGMENT"));
        assert!(port("far,10.9.0.1").is_err());
    }
}
