//! F9: members who come and go while everybody talks.

use std::time::Duration;

use stonechat_tests::checker::Check;
use stonechat_tests::simulation::cluster::{Faults, PerMille, Setup, run};

fn f9(guests: usize, changes: usize, messages: usize) {
    let faults = Faults {
        bus_lost: PerMille(50),
        untold: PerMille(20),
        unread: PerMille(10),
        crash_every: Duration::from_secs(30),
        flap_every: Duration::from_secs(5),
        ..Faults::default()
    };
    let setup = Setup {
        rooms: 1,
        guests,
        changes,
        messages,
        safety: Duration::from_secs(60),
        ..Setup::new(9, faults)
    };
    let outcome = run(setup);
    println!("F9: {guests} guests: {}", outcome.counts);
    outcome.assert_clean(&[Check::C1, Check::C4, Check::C12, Check::C13, Check::C14, Check::C16]);
    let changed = outcome.counts.of("changes of members");
    assert!(changed >= changes as u64 * 8 / 10, "{}", outcome.counts);
}

#[test]
fn f9_whoever_leaves_gets_nothing_more_and_whoever_joins_misses_nothing() {
    f9(30, 240, 50);
}

/// The nightly figure: 20,000 sends by the four who stay.
#[test]
#[ignore = "takes many minutes"]
fn f9_nightly_five_hundred_come_and_go() {
    f9(500, 50_000, 5_000);
}
