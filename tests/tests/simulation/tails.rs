//! T11, F5: the last message of a conversation is never followed by another one that would show the hole.

use std::time::Duration;

use stonechat_tests::checker::Check;
use stonechat_tests::simulation::cluster::{Counts, Faults, PerMille, Setup, run};

/// I5: every ten seconds a session looks at its inbox, and everything is there within 15 s.
const WITHIN: Duration = Duration::from_secs(15);

#[test]
fn t11_f5_the_tails_of_a_thousand_conversations_arrive_though_every_event_is_lost() {
    let faults = Faults {
        bus_lost: PerMille(1_000),
        ..Faults::default()
    };
    let setup = Setup {
        nodes: 2,
        rooms: 1_000,
        people: 2,
        guests: 0,
        messages: 1,
        changes: 0,
        safety: Duration::from_secs(20),
        ..Setup::new(1, faults)
    };
    let outcome = run(setup);
    outcome.assert_clean(&[Check::C1, Check::C14]);
    let lags = outcome.tail_lags();
    let (last, p99) = (lags[lags.len() - 1], lags[lags.len() * 99 / 100]);
    println!(
        "T11: {} tails, p99 {p99:?}, last {last:?}: {}",
        lags.len(),
        outcome.counts
    );
    assert_eq!(lags.len(), 2_000, "a tail never arrived");
    assert!(last <= WITHIN, "a tail came after {last:?}");
}

/// Found by this simulation: a store that did not answer for two seconds left the inbox of whoever had lost the event
/// behind until the next start, and a change of members out of the directory for ever.
#[test]
fn i5_i7_an_outage_of_a_store_hides_nothing_once_it_is_over() {
    let faults = Faults {
        bus_lost: PerMille(1_000),
        outage_every: Duration::from_secs(3),
        ..Faults::default()
    };
    let mut counts = Counts::default();
    for seed in super::seeds(10, 3) {
        let setup = Setup {
            nodes: 1,
            rooms: 100,
            people: 2,
            guests: 1,
            messages: 3,
            changes: 3,
            ..Setup::new(seed, faults)
        };
        let outcome = run(setup);
        outcome.assert_clean(&[Check::C12, Check::C13, Check::C14]);
        counts.merge(&outcome.counts);
    }
    println!("outages: {counts}");
    assert!(counts.of("outages of a store") > 10, "{counts}");
}
