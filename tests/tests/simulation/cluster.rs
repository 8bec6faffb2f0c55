//! F1, F20: many nodes over one store that lies, everything goes wrong, nothing is lost, doubled, reordered or hidden.

use std::collections::BTreeSet;

use stonechat_tests::checker::Check;
use stonechat_tests::simulation::cluster::{Counts, Faults, Setup, run};

use super::seeds;

/// What every run of people who talk gives the checker to look at.
pub(crate) const NEEDED: [Check; 13] = [
    Check::C1,
    Check::C2,
    Check::C3,
    Check::C4,
    Check::C5,
    Check::C6,
    Check::C7,
    Check::C8,
    Check::C10,
    Check::C11,
    Check::C12,
    Check::C14,
    Check::C16,
];

#[test]
fn f20_one_seed_gives_one_run_of_the_cluster() {
    let (mut hashes, seeds) = (BTreeSet::new(), seeds(1, 3));
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let (first, again) = (run(Setup::new(seed, Faults::ALL)), run(Setup::new(seed, Faults::ALL)));
        assert_eq!(first.hash(), again.hash(), "seed {seed}");
        hashes.insert(first.hash());
    }
    println!("F20: {runs} seeds of the cluster twice, the same events");
    assert_eq!(hashes.len() as u64, runs, "seeds make a difference");
}

/// Everything goes wrong for these seeds; as many messages a minute, however many there are. At least so many sends a seed
/// are stored, or the figure is not worth its name.
fn f1(seeds: std::ops::Range<u64>, messages: usize, sends_per_seed: u64) {
    let (runs, mut counts) = (seeds.end - seeds.start, Counts::default());
    for seed in seeds {
        let mut setup = Setup::new(seed, Faults::ALL);
        setup.safety = setup.safety.mul_f64((messages as f64 / setup.messages as f64).max(1.0));
        setup.messages = messages;
        let outcome = run(setup);
        outcome.assert_clean(&[]);
        counts.merge(&outcome.counts);
    }
    let sends = counts.of("acks");
    println!("F1: {runs} seeds, N = {sends} sends acknowledged, 0 violations: {counts}");
    assert!(
        runs < 10 || sends >= runs * sends_per_seed,
        "only {sends} sends in {runs} seeds"
    );
    for happened in [
        "crashes",
        "freezes",
        "conflicts",
        "appends done late",
        "outages of a store",
        "events lost",
    ] {
        assert!(runs < 10 || counts.of(happened) > 0, "no {happened}: {counts}");
    }
}

#[test]
fn f1_whatever_fails_nothing_is_lost_doubled_reordered_or_hidden() {
    f1(seeds(1, 50), 12, 100);
}

/// The nightly figure: almost three simulated minutes each, two million acknowledged sends in all.
#[test]
#[ignore = "takes over an hour"]
fn f1_nightly_a_thousand_seeds() {
    f1(seeds(1_000, 1_000), 230, 2_000);
}

#[test]
fn every_check_has_something_to_look_at() {
    run(Setup::new(1, Faults::ALL)).assert_clean(&NEEDED);
}
