//! Seeded simulation: the real server and client on simulated time and network, judged by the history checker.
//!
//! `STONECHAT_SEEDS=1000` runs as many seeds; `STONECHAT_SEED=7` runs that one. The nightly figures are the ignored tests:
//! `cargo test -p stonechat-tests --test simulation -- --ignored --nocapture f1`.

mod clocks;
mod cluster;
mod members;
mod owners;
mod receipts;
mod sabotage;
mod tails;
mod unknown;

use std::collections::BTreeSet;
use std::time::Duration;

use stonechat_tests::checker::Check;
use stonechat_tests::simulation::{Faults, Setup, run};

const NEEDED: [Check; 8] = [
    Check::C1,
    Check::C2,
    Check::C3,
    Check::C4,
    Check::C5,
    Check::C7,
    Check::C8,
    Check::C16,
];

/// Seeds of F20 in CI; each is run twice.
const SEEDS_RUN_TWICE: u64 = 4;

fn setup(seed: u64, faults: Faults) -> Setup {
    Setup {
        seed,
        faults,
        safety: Duration::from_secs(30),
        messages: 40,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of a test: as many as it takes in CI, more, or one alone.
fn seeds(from: u64, count: u64) -> std::ops::Range<u64> {
    match number("STONECHAT_SEED") {
        Some(seed) => seed..seed + 1,
        None => from..from + number("STONECHAT_SEEDS").unwrap_or(count),
    }
}

#[test]
fn f20_one_seed_gives_one_run() {
    let (mut hashes, mut crashes, mut partitions) = (BTreeSet::new(), 0, 0);
    let seeds = seeds(1, SEEDS_RUN_TWICE);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let (first, again) = (run(setup(seed, Faults::ALL)), run(setup(seed, Faults::ALL)));
        assert_eq!(first.hash, again.hash, "seed {seed}");
        hashes.insert(first.hash);
        crashes += first.crashes;
        partitions += first.partitions;
    }
    println!("F20: {runs} seeds twice, the same events");
    assert_eq!(hashes.len() as u64, runs, "seeds make a difference");
    assert!(
        runs < SEEDS_RUN_TWICE || crashes > 0 && partitions > 0,
        "nothing went wrong: {crashes} crashes, {partitions} partitions"
    );
}

#[test]
fn f1_a_healthy_run_is_clean() {
    run(setup(3, Faults::NONE)).verdict.assert_clean(&NEEDED);
}

#[test]
fn f1_nothing_is_lost_doubled_or_reordered_whatever_fails() {
    let (mut crashes, mut partitions) = (0, 0);
    for seed in seeds(100, 10) {
        let outcome = run(setup(seed, Faults::ALL));
        println!(
            "seed {seed}: {} crashes, {} partitions, {:?} simulated",
            outcome.crashes, outcome.partitions, outcome.simulated
        );
        outcome.verdict.assert_clean(&NEEDED);
        crashes += outcome.crashes;
        partitions += outcome.partitions;
    }
    assert!(
        crashes > 0 && partitions > 0,
        "nothing went wrong: {crashes} crashes, {partitions} partitions"
    );
}
