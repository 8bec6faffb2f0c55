//! Unknown outcomes (D1, D2), and two nodes that both believe they own a conversation.

use super::super::client::Fault::{LostAnswer, LostRequest, Pass, Twice};
use super::*;
use crate::domain::{ClientMsgId, Seq};
use crate::storage::contract::samples::{append, batch, conversation, everything, id, message, sender, seqs};
use crate::storage::{AppendError, Head};

async fn place_of(store: &CqlStore, number: u16, name: &ClientMsgId) -> Option<u64> {
    let sender = sender("ada", "phone");
    let found = store.find(conversation(number), &sender, name, Seq::ZERO).await;
    found.expect("readable").map(|prior| prior.seq.0)
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_out() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    for (number, fault) in [(1, LostAnswer), (2, LostRequest), (3, Twice)] {
        let here = conversation(number);
        store.let_happen(&[fault]);
        append(&store, here, &[message("a"), message("b")])
            .await
            .expect("found out");
        store.let_happen(&[fault]);
        append(&store, here, &[message("c")]).await.expect("found out");
        assert_eq!(seqs(&everything(&store, here).await), [1, 2, 3], "{fault:?}");
        assert_eq!(place_of(&store, number, &id("c")).await, Some(3));
    }
}

#[tokio::test]
async fn a_batch_lost_on_the_way_behind_a_rival_is_a_conflict() {
    let Some((one, other)) = two(BUCKET_SEQS).await else {
        return;
    };
    let here = conversation(1);
    append(&one, here, &[message("a")]).await.expect("appended");
    let head = one.head(here).await.expect("readable").expect("a head");
    append(&other, here, &[message("b")]).await.expect("appended");
    for fault in [LostRequest, LostAnswer, Twice, Pass] {
        one.let_happen(&[fault]);
        let refused = one.append(batch(here, head, &[message("c")])).await;
        assert!(matches!(refused, Err(AppendError::Conflict)), "{fault:?}: {refused:?}");
    }
    assert_eq!(seqs(&everything(&one, here).await), [1, 2]);
    assert_eq!(place_of(&other, 1, &id("c")).await, None);
}

/// The head alone would not tell: another batch lies on top of ours by then.
#[tokio::test]
async fn a_batch_that_others_built_upon_is_still_ours() {
    let Some((one, other)) = two(BUCKET_SEQS).await else {
        return;
    };
    let here = conversation(1);
    let ours = batch(here, Head::default(), &[message("a")]);
    let place = one.inner.place_of(here, Seq(1));
    let writes = [
        super::super::log_table::Write::Open {
            head: ours.head,
            append_id: [7; 16],
        },
        super::super::log_table::Write::Entry {
            seq: Seq(1),
            wire: crate::wire::entry::encode(&ours.entries[0].entry).to_vec(),
            append_id: [7; 16],
        },
    ];
    let applied = one.inner.log.decide(&one.inner.client, place, &writes).await;
    assert!(applied.expect("decided"));
    append(&other, here, &[message("b")]).await.expect("appended");
    let settled = one.inner.settle_append(&ours, place, &writes, [7; 16]).await;
    settled.expect("its entry names it");
    let theirs = one.inner.settle_append(&ours, place, &writes, [8; 16]).await;
    assert!(matches!(theirs, Err(AppendError::Conflict)), "{theirs:?}");
}

#[tokio::test]
async fn what_cannot_be_found_out_is_unknown_and_may_be_tried_again() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let here = conversation(1);
    store.let_happen(&[LostRequest; 6]);
    let unknown = append(&store, here, &[message("a")]).await;
    assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{unknown:?}");
    assert!(
        store.inner.client.faults.lock().expect("no panic").is_empty(),
        "it was tried as often as it may be"
    );
    append(&store, here, &[message("a")])
        .await
        .expect("the head is where it was");
    assert_eq!(seqs(&everything(&store, here).await), [1]);
    let pending = store.fanout_pending().await.expect("readable");
    assert_eq!(pending, [(here, Seq(1))]);
}

/// I3: whoever wins a head, on whichever node, also over the edge of a bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_racing_nodes_make_one_order_without_holes() {
    const EACH: usize = 40;
    let Some((one, other)) = two(64).await else { return };
    let here = conversation(1);
    let mut tasks = tokio::task::JoinSet::new();
    for (node, store) in [one.clone(), other, one.clone()].into_iter().enumerate() {
        tasks.spawn(async move {
            for number in 0..EACH {
                let name = format!("{node}-{number}");
                while place_of(&store, 1, &id(&name)).await.is_none() {
                    let refused = append(&store, here, &[message(&name)]).await.err();
                    assert!(
                        matches!(refused, None | Some(AppendError::Conflict | AppendError::Unknown(_))),
                        "{refused:?}"
                    );
                }
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.expect("no panic");
    }
    let all = everything(&one, here).await;
    let wanted: Vec<u64> = (1..=3 * EACH as u64).collect();
    assert_eq!(seqs(&all), wanted);
    let mut ids: Vec<_> = all.iter().map(|stored| stored.entry.client_msg_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3 * EACH, "I2: nothing is stored twice");
}
