//! F10: receipts that are shuffled and doubled over several nodes.

use std::time::Duration;

use stonechat_tests::simulation::cluster::{Faults, PerMille, ReceiptsSetup, shuffle_receipts};

fn f10(updates: u64) {
    let faults = Faults {
        side_stores: PerMille(50),
        unread: PerMille(20),
        slow: PerMille(20),
        clock_jump_every: Duration::from_secs(1),
        ..Faults::default()
    };
    let outcome = shuffle_receipts(ReceiptsSetup {
        seed: super::number("STONECHAT_SEED").unwrap_or(1),
        updates,
        messages: 200,
        faults,
    });
    println!("F10: {updates} updates: {}", outcome.counts);
    assert!(
        outcome.wrong.is_empty(),
        "{} wrong: {:#?}",
        outcome.wrong.len(),
        outcome.wrong
    );
    for happened in ["updates again", "updates that failed", "looks"] {
        assert!(outcome.counts.of(happened) > 0, "no {happened}: {}", outcome.counts);
    }
}

#[test]
fn f10_receipts_in_any_order_converge_and_never_go_down() {
    f10(20_000);
}

#[test]
#[ignore = "takes minutes"]
fn f10_nightly_a_million_updates() {
    f10(1_000_000);
}
