//! T13, F12: nodes that disagree about the time, and clocks that jump.

use std::time::Duration;

use stonechat_tests::simulation::cluster::{Counts, Faults, PerMille, Setup, run};

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
