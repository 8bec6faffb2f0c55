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
    let mut hashes = BTreeSet::new();
    for seed in 1..=3 {
        let (first, again) = (run(Setup::new(seed, Faults::ALL)), run(Setup::new(seed, Faults::ALL)));
        assert_eq!(first.hash(), again.hash(), "seed {seed}");
        hashes.insert(first.hash());
    }
    assert_eq!(hashes.len(), 3, "seeds make a difference");
}

/// Everything goes wrong for these seeds; as many messages a minute, however many there are.
fn f1(seeds: std::ops::Range<u64>, messages: usize) {
    let (runs, mut counts) = (seeds.end - seeds.start, Counts::default());
    for seed in seeds {
        let mut setup = Setup::new(seed, Faults::ALL);
        setup.safety = setup.safety.mul_f64((messages as f64 / setup.messages as f64).max(1.0));
        setup.messages = messages;
        let outcome = run(setup);
        outcome.assert_clean(&[]);
        counts.merge(&outcome.counts);
    }
    println!("F1: {runs} seeds, 0 violations: {counts}");
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
    f1(seeds(1, 50), 12);
}

/// The nightly figure: two simulated minutes each, more than two million sends in all.
#[test]
#[ignore = "takes most of an hour"]
fn f1_nightly_a_thousand_seeds() {
    f1(seeds(1_000, 1_000), 160);
}

#[test]
fn every_check_has_something_to_look_at() {
    run(Setup::new(1, Faults::ALL)).assert_clean(&NEEDED);
}
