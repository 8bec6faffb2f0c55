//! T13, F12: nodes that disagree about the time, and clocks that jump: order, receipts (C7, C10) and presence (C15).

use std::time::Duration;

use stonechat_tests::checker::Check;
use stonechat_tests::simulation::cluster::{Counts, Faults, PerMille, Setup, run, watch_presence};

use super::cluster::NEEDED;
use super::seeds;

const HOUR_MS: i64 = 3_600_000;

#[test]
fn t13_f12_order_receipts_and_server_time_hold_whatever_the_clocks_say() {
    let faults = Faults {
        clock_jump_every: Duration::from_millis(500),
        crash_every: Duration::from_secs(8),
        astray: PerMille(200),
        flap_every: Duration::from_secs(1),
        ..Faults::default()
    };
    let mut counts = Counts::default();
    for seed in seeds(1, 5) {
        let mut setup = Setup::new(seed, faults);
        setup.clocks = [-HOUR_MS, 0, HOUR_MS];
        let outcome = run(setup);
        outcome.assert_clean(&NEEDED);
        counts.merge(&outcome.counts);
    }
    println!("T13: {counts}");
    assert!(counts.of("jumps of clocks") > 100, "{counts}");
}

/// Ten simulated minutes in which people come and go at three nodes whose clocks are an hour apart and jump; with every other
/// seed nodes die.
pub(crate) fn watched(seed: u64) -> Setup {
    let faults = Faults {
        clock_jump_every: Duration::from_secs(5),
        crash_every: if seed.is_multiple_of(2) {
            Duration::from_secs(90)
        } else {
            Duration::ZERO
        },
        bus_lost: PerMille(100),
        bus_late: PerMille(50),
        ..Faults::default()
    };
    Setup {
        safety: Duration::from_secs(600),
        people: 6,
        guests: 0,
        rooms: 1,
        clocks: [-HOUR_MS, 0, HOUR_MS],
        ..Setup::new(seed, faults)
    }
}

#[test]
fn t13_c15_nobody_is_hidden_or_kept_online_whatever_the_clocks_say() {
    let mut counts = Counts::default();
    let seeds = seeds(1, 5);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = watch_presence(watched(seed));
        println!("T13: seed {seed}");
        outcome.verdict.assert_clean(&[Check::C15]);
        counts.merge(&outcome.counts);
    }
    println!("T13, C15: {runs} seeds, 0 violations: {counts}");
    for happened in [
        "jumps of clocks",
        "streams of dead nodes",
        "streams that ended",
        "devices that fell silent",
        "changes told",
    ] {
        assert!(runs < 2 || counts.of(happened) > 0, "no {happened}: {counts}");
    }
}
