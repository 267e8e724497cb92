//! Many seeds. `SIM_SEEDS` sets how many (1,000 by default), `SIM_SEED` replays one and prints its history.

use metallb_sim::{Bounds, Run, Statistics};

/// Disturbances a run.
const FAULTS: usize = 12;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

#[test]
fn invariants_hold_over_many_seeds() {
    let one = number("SIM_SEED");
    let seeds = one.map_or(0..number("SIM_SEEDS").unwrap_or(1_000), |seed| seed..seed + 1);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let results: Vec<Result<Statistics, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let mine = seeds.clone().filter(move |seed| seed % workers == worker);
                let run = |seed| {
                    Run::new(seed, Bounds::default())
                        .run(FAULTS)
                        .map_err(|e| e.to_string())
                };
                scope.spawn(move || mine.map(run).collect::<Vec<_>>())
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("no panic"))
            .collect()
    });
    let failures: Vec<&String> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    let passed: Vec<&Statistics> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let faults: usize = passed.iter().map(|s| s.faults).sum();
    let changes: usize = passed.iter().map(|s| s.changes).sum();
    let datagrams: u64 = passed.iter().map(|s| s.datagrams).sum();
    println!(
        "{} runs, {faults} faults, {changes} owner changes, {datagrams} datagrams",
        results.len()
    );
    for failure in failures.iter().take(5) {
        println!("{failure}\n");
    }
    assert!(
        failures.is_empty(),
        "{} of {} seeds failed, the first: {}",
        failures.len(),
        results.len(),
        failures[0]
    );
}
