//! The command line.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use metallb_alloc_tests::bench::{core, measure, report};
use metallb_alloc_tests::controller::{Binaries, Build};
use metallb_alloc_tests::differential::run::{self, Pair, Settings};
use metallb_alloc_tests::ha;
use metallb_alloc_tests::plane::{Flavour, Programs};
use metallb_e2e::{Progress, checkout, figures};

/// The allocator on real API servers without nodes.
#[derive(Parser)]
#[command(name = "alloc-lab")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Ours and Go's controller under the same random sequences; any difference that is not on the list fails
    Differential {
        /// How many seeds
        #[arg(long, env = "DIFF_SEEDS", default_value_t = 3)]
        seeds: u64,
        /// The first seed
        #[arg(long, env = "DIFF_FIRST", default_value_t = 1)]
        first: u64,
        /// Steps of a sequence
        #[arg(long, default_value_t = 50)]
        steps: usize,
        /// After a failure, plays that may be spent on finding fewer steps that fail
        #[arg(long, default_value_t = 0)]
        shrink: usize,
        /// Print every step with its outcome
        #[arg(long)]
        verbose: bool,
        /// Play the steps of this file (as a failure leaves it) instead
        #[arg(long)]
        replay: Option<std::path::PathBuf>,
        /// With --replay: the class that the controllers serve
        #[arg(long, default_value = "")]
        class: String,
    },
    /// Replicas of ours that are killed, frozen and cut off while services come and go
    Ha {
        /// How many seeds
        #[arg(long, env = "HA_SEEDS", default_value_t = 1)]
        seeds: u64,
        /// The first seed
        #[arg(long, env = "HA_FIRST", default_value_t = 1)]
        first: u64,
        /// Seconds with faults in each run
        #[arg(long, env = "HA_SECONDS", default_value_t = 40)]
        seconds: u64,
        /// How many replicas
        #[arg(long, default_value_t = 3)]
        replicas: usize,
    },
    /// A late write of a deposed leader makes a duplicate, which is repaired within a second
    Duplicate,
    /// Figures of ours beside Go's controller, in turn, each on a fresh API server
    Bench {
        /// How many services
        #[arg(long, env = "BENCH_SERVICES", default_value_t = 10_000)]
        services: usize,
        /// How many single services are made among them
        #[arg(long, env = "BENCH_SINGLES", default_value_t = 50)]
        singles: usize,
        /// Leave Go out
        #[arg(long)]
        only_ours: bool,
        /// Leave the figures of the pure core out
        #[arg(long)]
        no_core: bool,
        /// File for the figures
        #[arg(long, default_value = "target/bench/alloc.json")]
        out: std::path::PathBuf,
    },
}

pub(crate) async fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("alloc-lab: a TLS provider was installed already");
    }
    // An interrupt ends the work like an error would: everything that was started is stopped and removed on the way out.
    let outcome = tokio::select! {
        outcome = perform(cli.command) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alloc-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(command: Cmd) -> Result<()> {
    let progress = Progress::start();
    match command {
        Cmd::Differential {
            seeds,
            first,
            steps,
            shrink,
            verbose,
            replay,
            class,
        } => {
            let programs = Programs::ensure(&progress)?;
            let binaries = Binaries::ensure(Build::Dev, &progress)?;
            let settings = Settings {
                steps,
                shrink,
                verbose,
            };
            if let Some(file) = replay {
                let text =
                    std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
                let steps: Vec<_> =
                    serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?;
                let mut pair = Pair::start(&programs, &binaries).await?;
                let class = Some(class.as_str()).filter(|class| !class.is_empty());
                let report = pair.play(class, &steps, true).await?;
                progress.line(&format!("{report:#?}"));
                progress.line(&format!("logs: {}", pair.save_logs()?.display()));
                anyhow::ensure!(report.failures.is_empty(), "ours and Go's differ");
                return Ok(());
            }
            run::run(&programs, &binaries, first..first + seeds, &settings, &progress).await
        }
        Cmd::Ha {
            seeds,
            first,
            seconds,
            replicas,
        } => {
            let programs = Programs::ensure(&progress)?;
            let time = std::time::Duration::from_secs(seconds);
            for seed in first..first + seeds {
                ha::run::run(&programs, seed, ha::run::Settings { replicas, time }, &progress).await?;
            }
            Ok(())
        }
        Cmd::Duplicate => {
            let programs = Programs::ensure(&progress)?;
            ha::duplicate::duplicate(&programs, &progress).await
        }
        Cmd::Bench {
            services,
            singles,
            only_ours,
            no_core,
            out,
        } => {
            let programs = Programs::ensure(&progress)?;
            let binaries = Binaries::ensure(Build::Image, &progress)?;
            let course = async |flavour, program: &Path| {
                measure::measure(&programs, flavour, program, services, singles, &progress).await
            };
            // What takes seconds comes first, and every part is written down: an hour's work is not lost by what comes after it.
            let file = checkout::root().join(&out);
            let core = if no_core {
                Vec::new()
            } else {
                core::figures(&progress)?
            };
            let ours = course(Flavour::Ours, &binaries.ours).await?;
            let all = |go: Option<&measure::Measured>, backlogs: &[measure::Backlog]| {
                let mut entries = report::entries(&ours, go, backlogs, services);
                entries.extend(core.iter().cloned());
                entries
            };
            let mut entries = all(None, &[]);
            figures::write(&file, &entries)?;
            if !only_ours {
                let go = course(Flavour::Go, &binaries.go).await?;
                figures::write(&file, &all(Some(&go), &[]))?;
                let mut backlogs = Vec::new();
                for (flavour, program) in [(Flavour::Ours, &binaries.ours), (Flavour::Go, &binaries.go)] {
                    backlogs.push(measure::backlog(&programs, flavour, program, services, &progress).await?);
                    entries = all(Some(&go), &backlogs);
                    figures::write(&file, &entries)?;
                }
            }
            println!("{}", figures::table(&entries));
            println!("{}", out.display());
            Ok(())
        }
    }
}
