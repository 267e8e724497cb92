//! Many seeds. `SIM_SEEDS` sets how many (1,000 by default), `SIM_SEED` replays one and prints everything that happens.

use std::time::Duration;

use metallb_sim::{Failure, Run, Statistics, percentile};

/// Disturbances a run.
const FAULTS: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn run_all(seeds: &[u64]) -> Vec<Result<Statistics, Box<Failure>>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let run = |seed: &u64| Run::new(*seed).verbose(seeds.len() == 1).run(FAULTS);
        let work = |worker| {
            move || {
                seeds
                    .iter()
                    .skip(worker)
                    .step_by(workers)
                    .map(run)
                    .collect::<Vec<_>>()
            }
        };
        let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("no panic"))
            .collect()
    })
}

fn times(what: &str, mut all: Vec<Duration>) {
    all.sort_unstable();
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(&all, percent).as_millis());
    println!(
        "{what}: {} times, p50 {p50} ms, p99 {p99} ms, longest {max} ms",
        all.len()
    );
}

#[test]
fn invariants_hold_over_many_seeds() {
    let seeds: Vec<u64> = match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_SEEDS").unwrap_or(1_000)).collect(),
    };
    let (passed, failed): (Vec<_>, Vec<_>) = run_all(&seeds).into_iter().partition(Result::is_ok);
    let passed: Vec<Statistics> = passed.into_iter().filter_map(Result::ok).collect();
    let mut failed: Vec<Box<Failure>> = failed.into_iter().filter_map(Result::err).collect();
    failed.sort_by_key(|failure| failure.seed);
    let sum = |of: fn(&Statistics) -> usize| passed.iter().map(of).sum::<usize>();
    println!(
        "{} runs, {} s of virtual time, {} faults, {} owner changes ({} without a reason), {} datagrams",
        seeds.len(),
        passed.iter().map(|s| s.time).sum::<Duration>().as_secs(),
        sum(|s| s.faults),
        sum(|s| s.seen.changes),
        sum(|s| s.seen.groundless),
        passed.iter().map(|s| s.datagrams).sum::<u64>(),
    );
    for loss in [0, 1, 5, 10, 20, 30] {
        let with = || passed.iter().filter(|s| s.loss == loss).map(|s| &s.seen);
        times(
            &format!("{loss:2} % loss, nobody answers"),
            with().flat_map(|seen| seen.gaps.clone()).collect(),
        );
        times(
            &format!("{loss:2} % loss, two answer    "),
            with().flat_map(|seen| seen.doubles.clone()).collect(),
        );
    }
    for failure in failed.iter().take(3) {
        println!("{failure}\n");
    }
    for failure in failed.iter().skip(3).take(30) {
        println!(
            "seed {} ({} nodes, {} % loss): {}",
            failure.seed, failure.setup.nodes, failure.setup.loss, failure.what
        );
    }
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed, the first: {}",
        failed.len(),
        seeds.len(),
        failed[0].seed
    );
}
