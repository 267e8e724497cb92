//! Several replicas of the allocator on one API server, in virtual time, disturbed from a seed.
//!
//! `ALLOC_SEEDS` sets how many seeds are run (120 by default, well over 100,000 steps), `ALLOC_SEED` replays one and
//! prints everything that happens.

#[path = "replicas/api.rs"]
mod api;
#[path = "replicas/judge.rs"]
mod judge;
#[path = "replicas/replica.rs"]
mod replica;
#[path = "replicas/sim.rs"]
mod sim;
#[path = "replicas/users.rs"]
mod users;

use sim::{Failure, Sim, Statistics};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn run_all(seeds: &[u64]) -> Vec<Result<Statistics, Failure>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let own = seeds.iter().skip(worker).step_by(workers);
                    own.map(|seed| Sim::new(*seed).run()).collect::<Vec<_>>()
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("no panic"))
            .collect()
    })
}

#[test]
fn replicas_under_faults_keep_addresses_and_never_give_one_twice() {
    if let Some(seed) = number("ALLOC_SEED") {
        let outcome = Sim::new(seed).verbose().run();
        println!("{outcome:?}");
        assert!(outcome.is_ok(), "seed {seed} fails");
        return;
    }
    let seeds: Vec<u64> = (0..number("ALLOC_SEEDS").unwrap_or(120)).collect();
    let mut total = Statistics::default();
    let mut failures = Vec::new();
    for outcome in run_all(&seeds) {
        match outcome {
            Ok(statistics) => total.add(&statistics),
            Err(failure) => failures.push(failure),
        }
    }
    println!("{} seeds: {total:?}", seeds.len());
    failures.sort_by_key(|failure| failure.seed);
    for failure in failures.iter().take(3) {
        println!("{failure}\nreplay it with ALLOC_SEED={}", failure.seed);
    }
    assert!(
        failures.is_empty(),
        "{} of {} seeds fail",
        failures.len(),
        seeds.len()
    );
    if seeds.len() >= 120 {
        assert!(total.steps >= 100_000, "the runs are too short: {total:?}");
        assert!(
            total.doubles > 0 && total.late_writes > 0 && total.take_overs > seeds.len(),
            "the faults do not bite: {total:?}"
        );
    }
}
