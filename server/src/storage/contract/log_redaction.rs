//! `MessageLog`: what a redaction leaves.

use std::sync::Arc;

use super::samples::{append, conversation, edit, everything, id, message, redact, sender, wish};
use crate::domain::{Body, Seq};
use crate::storage::{AppendError, MessageLog, StoredEntry};

type AnyLog = Arc<dyn MessageLog>;

fn redacted_by(stored: &StoredEntry) -> Option<u64> {
    match stored.entry.body {
        Body::Tombstone { redacted_by } => Some(redacted_by.0),
        _ => None,
    }
}

fn reaction(id_text: &str, target: u64) -> super::samples::Wish {
    wish(
        id_text,
        Body::Reaction {
            target: Seq(target),
            reaction: "+1".to_owned(),
            removed: false,
        },
    )
}

/// The bytes that were written are gone from every read: entries keep place, time, ordinal, sender and id.
pub(crate) async fn a_redaction_leaves_tombstones_of_target_and_edits(log: AnyLog) {
    let here = conversation(1);
    append(&*log, here, &[message("a"), message("b"), edit("c", 1), edit("d", 2)])
        .await
        .expect("appended");
    append(&*log, here, &[edit("e", 1)]).await.expect("appended");
    let before = everything(&*log, here).await;
    append(&*log, here, &[redact("f", 1)]).await.expect("appended");
    let after = everything(&*log, here).await;
    let tombstones: Vec<_> = after.iter().map(|stored| redacted_by(stored)).collect();
    assert_eq!(tombstones, [Some(6), None, Some(6), None, Some(6), None]);
    for (before, after) in before.iter().zip(&after) {
        let same = crate::domain::Entry {
            body: before.entry.body.clone(),
            ..after.entry.clone()
        };
        assert_eq!(before.entry, same, "nothing but the body changes");
        assert_eq!(crate::wire::entry::decode(&after.wire).expect("an entry"), after.entry);
    }
    assert!(matches!(after[5].entry.body, Body::Redacted { target: Seq(1), .. }));
}

/// Also what was appended in the same batch, and the answer shows it as stored.
pub(crate) async fn a_redaction_reaches_entries_of_its_own_batch(log: AnyLog) {
    let here = conversation(1);
    let stored = append(&*log, here, &[message("a"), edit("b", 1), redact("c", 1)])
        .await
        .expect("appended");
    let tombstones: Vec<_> = stored.iter().map(|stored| redacted_by(stored)).collect();
    assert_eq!(tombstones, [Some(3), Some(3), None]);
    assert_eq!(everything(&*log, here).await, stored);
}

pub(crate) async fn the_first_redaction_stays_and_other_entries_are_left_alone(log: AnyLog) {
    let here = conversation(1);
    append(&*log, here, &[message("a"), reaction("b", 1), message("c")])
        .await
        .expect("appended");
    append(&*log, here, &[redact("d", 1), redact("e", 1)])
        .await
        .expect("appended");
    // Not a message, and not there: nothing to take away.
    append(&*log, here, &[redact("f", 2), redact("g", 99)])
        .await
        .expect("appended");
    let all = everything(&*log, here).await;
    let tombstones: Vec<_> = all.iter().map(|stored| redacted_by(stored)).collect();
    assert_eq!(tombstones, [Some(4), None, None, None, None, None, None]);
    // A redaction does not reach forward, in its own batch neither.
    let forward = append(&*log, conversation(3), &[redact("a", 2), message("b"), edit("c", 2)]).await;
    assert!(
        forward
            .expect("appended")
            .iter()
            .all(|stored| redacted_by(stored).is_none())
    );
    let elsewhere = conversation(2);
    append(&*log, elsewhere, &[message("a")]).await.expect("appended");
    append(&*log, here, &[redact("h", 3)]).await.expect("appended");
    assert_eq!(redacted_by(&everything(&*log, elsewhere).await[0]), None);
}

/// I2 outlives the content.
pub(crate) async fn a_redacted_id_still_counts_for_duplicates(log: AnyLog) {
    let here = conversation(1);
    append(&*log, here, &[message("a"), redact("b", 1)])
        .await
        .expect("appended");
    let found = log.find(here, &sender("ada", "phone"), &id("a"), Seq::ZERO).await;
    assert_eq!(found.expect("readable").map(|prior| prior.seq), Some(Seq(1)));
    let refused = append(&*log, here, &[message("a")]).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
}

/// D3: what an audit finds is damage, never what the store itself wrote; what came since it began is not looked at.
pub(crate) async fn d3_what_was_appended_contradicts_nothing(log: AnyLog) {
    let here = conversation(1);
    let mut of_bob = message("a");
    of_bob.sender = super::samples::sender("bob", "web");
    append(&*log, here, &[message("a"), of_bob, edit("b", 1)])
        .await
        .expect("appended");
    append(&*log, here, &[redact("c", 1)]).await.expect("appended");
    append(&*log, here, &[message("d"), message("e")])
        .await
        .expect("appended");
    for up_to in 1..=6 {
        let found = log.contradictions(here, Seq(up_to)).await.expect("readable");
        assert!(found.is_empty(), "up to {up_to}: {found:?}");
    }
}
