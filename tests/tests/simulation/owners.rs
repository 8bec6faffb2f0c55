//! T4, F11: two nodes that both believe they own a conversation.

use std::time::Duration;

use stonechat_tests::simulation::cluster::{Faults, Outcome, PerMille, Setup, run};

use super::cluster::NEEDED;

/// Two people who always have something to say.
fn busy(seconds: u32, flap_every: Duration, astray: PerMille) -> Outcome {
    let setup = Setup {
        nodes: 2,
        rooms: 1,
        people: 2,
        guests: 0,
        messages: seconds as usize * 100,
        changes: 0,
        pipeline: 1,
        safety: Duration::from_secs(seconds.into()),
        ..Setup::new(
            1,
            Faults {
                flap_every,
                astray,
                ..Faults::default()
            },
        )
    };
    run(setup)
}

fn t4(seconds: u32) {
    let steady = busy(seconds, Duration::from_secs(3_600), PerMille(0));
    let flapping = busy(seconds, Duration::from_millis(200), PerMille(300));
    for outcome in [&steady, &flapping] {
        outcome.assert_clean(&NEEDED);
        let (conflicts, appends) = (outcome.counts.of("conflicts"), outcome.counts.of("appends"));
        let rate = conflicts as f64 * 100.0 / appends as f64;
        println!(
            "T4: {} acks in {seconds} s, {rate:.1} % conflicts: {}",
            outcome.acks_in_safety, outcome.counts
        );
    }
    assert!(flapping.counts.of("conflicts") > 100, "{}", flapping.counts);
    let (with, without) = (flapping.acks_in_safety, steady.acks_in_safety);
    assert!(
        with * 2 >= without,
        "F11: {with} acks with an owner that changes, {without} without"
    );
}

#[test]
fn t4_f11_an_owner_that_changes_every_200_ms_costs_conflicts_and_nothing_else() {
    t4(12);
}

#[test]
#[ignore = "takes half a minute"]
fn t4_f11_nightly_the_same_for_a_minute() {
    t4(60);
}
