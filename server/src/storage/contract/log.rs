//! `MessageLog`: appending, finding, reading, fan-out pending.

use std::sync::Arc;

use super::samples::{
    WIDE, append, batch, conversation, device, everything, id, message, payload_of, sender, seqs, user, wish,
};
use crate::domain::{Body, Epoch, Kind, Sender, Seq};
use crate::storage::{AppendError, Head, MessageLog, PageLimit, Prior};
use crate::wire::entry;

type AnyLog = Arc<dyn MessageLog>;

const HERE: u16 = 1;

pub(crate) async fn an_empty_log_has_nothing(log: AnyLog) {
    let here = conversation(HERE);
    assert_eq!(log.head(here).await.expect("readable"), None);
    assert!(everything(&*log, here).await.is_empty());
    let found = log.find(here, &sender("ada", "phone"), &id("a"), Seq::ZERO).await;
    assert_eq!(found.expect("readable"), None);
    let newest = log.newest_id(here, &sender("ada", "phone")).await;
    assert_eq!(newest.expect("readable"), None);
    assert!(log.fanout_pending().await.expect("readable").is_empty());
}

/// I1, atomicity: entries, head, duplicate rows, newest id and fan-out pending are there together.
pub(crate) async fn an_append_stores_everything_together(log: AnyLog) {
    let here = conversation(HERE);
    let created = Body::Created {
        kind: Kind::Group,
        name: "g".to_owned(),
        members: Vec::new(),
    };
    let wanted = batch(here, Head::default(), &[wish("a", created), message("b"), message("c")]);
    let stored = log.append(wanted.clone()).await.expect("appended");
    assert_eq!(log.head(here).await.expect("readable"), Some(wanted.head));
    assert_eq!(wanted.head.epoch, Epoch(1));
    for (pending, stored) in wanted.entries.iter().zip(&stored) {
        assert_eq!(pending.entry, stored.entry);
        assert_eq!(entry::decode(&stored.wire).expect("an entry"), stored.entry);
        let prior = Prior {
            seq: pending.entry.seq,
            payload: pending.payload,
        };
        let found = log
            .find(here, &pending.entry.sender, &pending.entry.client_msg_id, Seq::ZERO)
            .await;
        assert_eq!(found.expect("readable"), Some(prior));
    }
    assert_eq!(everything(&*log, here).await, stored);
    let newest = log.newest_id(here, &sender("ada", "phone")).await;
    assert_eq!(newest.expect("readable"), Some(id("c")));
    assert_eq!(log.fanout_pending().await.expect("readable"), [(here, Seq(1))]);
}

/// The compare-and-set: seq and epoch both count.
pub(crate) async fn a_stale_head_is_a_conflict_and_changes_nothing(log: AnyLog) {
    let here = conversation(HERE);
    append(&*log, here, &[message("a"), message("b")])
        .await
        .expect("appended");
    let head = log.head(here).await.expect("readable").expect("a head");
    let stale = [
        Head::default(),
        Head { seq: Seq(1), ..head },
        Head { seq: Seq(3), ..head },
        Head {
            epoch: Epoch(head.epoch.0 + 1),
            ..head
        },
    ];
    for expected in stale {
        let refused = log.append(batch(here, expected, &[message("c")])).await;
        assert!(
            matches!(refused, Err(AppendError::Conflict)),
            "{expected:?}: {refused:?}"
        );
    }
    let nowhere = conversation(HERE + 1);
    let refused = log.append(batch(nowhere, head, &[message("c")])).await;
    assert!(matches!(refused, Err(AppendError::Conflict)));
    assert_eq!(log.head(nowhere).await.expect("readable"), None);
    assert_eq!(log.head(here).await.expect("readable"), Some(head));
    assert_eq!(seqs(&everything(&*log, here).await), [1, 2]);
    let found = log.find(here, &sender("ada", "phone"), &id("c"), Seq::ZERO).await;
    assert_eq!(found.expect("readable"), None);
}

/// I2: all or none, also when only the last entry's id is taken.
pub(crate) async fn a_taken_id_is_a_conflict_and_nothing_of_the_batch_is_stored(log: AnyLog) {
    let here = conversation(HERE);
    append(&*log, here, &[message("a")]).await.expect("appended");
    let before = log.head(here).await.expect("readable");
    let refused = append(&*log, here, &[message("b"), message("c"), message("a")]).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    assert_eq!(log.head(here).await.expect("readable"), before);
    assert_eq!(seqs(&everything(&*log, here).await), [1]);
    for fresh in ["b", "c"] {
        let found = log.find(here, &sender("ada", "phone"), &id(fresh), Seq::ZERO).await;
        assert_eq!(found.expect("readable"), None);
    }
    let newest = log.newest_id(here, &sender("ada", "phone")).await;
    assert_eq!(newest.expect("readable"), Some(id("a")));
    append(&*log, here, &[message("b")])
        .await
        .expect("the id is still free");
}

pub(crate) async fn an_id_twice_in_one_batch_is_a_conflict(log: AnyLog) {
    let here = conversation(HERE);
    let refused = append(&*log, here, &[message("a"), message("a")]).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    assert_eq!(log.head(here).await.expect("readable"), None);
}

/// I2, D10: the namespace of an id is (user, device, conversation), and no two of them run together.
pub(crate) async fn ids_are_apart_per_user_device_and_conversation(log: AnyLog) {
    let here = conversation(HERE);
    let senders = [
        sender("ab", "c"),
        sender("a", "bc"),
        Sender {
            user: Some(user("abc")),
            device: None,
        },
        Sender {
            user: None,
            device: Some(device("abc")),
        },
        Sender {
            user: None,
            device: None,
        },
        sender("abc", "x"),
    ];
    for (number, sender) in senders.iter().enumerate() {
        let mut wanted = message("x");
        wanted.sender = sender.clone();
        append(&*log, here, &[wanted]).await.expect("its own namespace");
        for (other, sender) in senders.iter().enumerate() {
            let found = log.find(here, sender, &id("x"), Seq::ZERO).await.expect("readable");
            let seq = found.map(|prior| prior.seq.0);
            assert_eq!(seq, (other <= number).then_some(other as u64 + 1), "{sender:?}");
        }
    }
    let elsewhere = log.find(conversation(HERE + 1), &senders[0], &id("x"), Seq::ZERO).await;
    assert_eq!(elsewhere.expect("readable"), None);
}

/// I2: not for a window of entries, for ever.
pub(crate) async fn an_id_is_found_for_ever(log: AnyLog) {
    let here = conversation(HERE);
    for round in 0..12 {
        let wishes: Vec<_> = (0..64).map(|number| message(&format!("{round}-{number}"))).collect();
        append(&*log, here, &wishes).await.expect("appended");
    }
    for (name, seq) in [("0-0", 1), ("0-63", 64), ("11-63", 768)] {
        let found = log.find(here, &sender("ada", "phone"), &id(name), Seq(seq - 1)).await;
        let prior = found.expect("readable").expect("stored");
        assert_eq!((prior.seq, prior.payload), (Seq(seq), payload_of(&id(name))));
        let refused = append(&*log, here, &[message(name)]).await;
        assert!(matches!(refused, Err(AppendError::Conflict)), "{name}: {refused:?}");
    }
}

/// I3: whatever would make a hole or a head without its entry is refused before anything is written.
pub(crate) async fn a_batch_that_contradicts_itself_is_not_done(log: AnyLog) {
    let here = conversation(HERE);
    let good = batch(here, Head::default(), &[message("a"), message("b")]);
    let mut hole = good.clone();
    hole.entries[1].entry.seq = Seq(3);
    hole.head.seq = Seq(3);
    let mut head = good.clone();
    head.head.seq = Seq(9);
    let mut elsewhere = good.clone();
    elsewhere.entries[0].entry.conversation = conversation(HERE + 1);
    let mut empty = good.clone();
    empty.entries.clear();
    let wishes: Vec<_> = (0..65).map(|number| message(&number.to_string())).collect();
    let too_many = batch(here, Head::default(), &wishes);
    for wrong in [hole, head, elsewhere, empty, too_many] {
        let refused = log.append(wrong).await;
        assert!(matches!(refused, Err(AppendError::NotDone(_))), "{refused:?}");
    }
    assert_eq!(log.head(here).await.expect("readable"), None);
    log.append(good).await.expect("the good one is still taken");
}

pub(crate) async fn pages_end_at_entries_or_bytes_and_hold_at_least_one(log: AnyLog) {
    let here = conversation(HERE);
    let wishes: Vec<_> = (1..=20).map(|number| message(&format!("m{number:02}"))).collect();
    let stored = append(&*log, here, &wishes).await.expect("appended");
    let bytes = stored[0].wire.len();
    let page = async |from: u64, to: u64, entries: usize, bytes: usize| {
        let limit = PageLimit { entries, bytes };
        seqs(&log.read(here, Seq(from), Seq(to), limit).await.expect("readable"))
    };
    assert_eq!(page(1, 20, 5, usize::MAX).await, [1, 2, 3, 4, 5]);
    assert_eq!(page(6, 20, 5, usize::MAX).await, [6, 7, 8, 9, 10]);
    assert_eq!(page(19, 20, 5, usize::MAX).await, [19, 20]);
    assert_eq!(page(3, 3, 5, usize::MAX).await, [3]);
    assert_eq!(
        page(1, 20, 5, bytes * 2).await,
        [1, 2],
        "ends when the bytes are reached"
    );
    assert_eq!(page(1, 20, 5, 1).await, [1], "always holds one");
    assert_eq!(page(7, 20, 0, 0).await, [7], "always holds one");
    assert!(page(9, 8, 5, usize::MAX).await.is_empty());
}

pub(crate) async fn pages_stay_within_their_conversation_and_head(log: AnyLog) {
    for number in 1..=3 {
        append(&*log, conversation(number), &[message("a"), message("b")])
            .await
            .expect("appended");
    }
    for number in 1..=3 {
        let here = conversation(number);
        let page = log.read(here, Seq(0), Seq(u64::MAX), WIDE).await.expect("readable");
        assert_eq!(seqs(&page), [1, 2]);
        assert!(page.iter().all(|stored| stored.entry.conversation == here));
        let beyond = log.read(here, Seq(3), Seq(u64::MAX), WIDE).await;
        assert!(beyond.expect("readable").is_empty());
    }
}

/// A crash between append and fan-out hides nothing: the oldest seq stays until it is done.
pub(crate) async fn fanout_pending_keeps_the_oldest_seq_until_done(log: AnyLog) {
    let (one, two) = (conversation(1), conversation(2));
    let pending = async || log.fanout_pending().await.expect("readable");
    append(&*log, one, &[message("a"), message("b")])
        .await
        .expect("appended");
    append(&*log, one, &[message("c")]).await.expect("appended");
    append(&*log, two, &[message("a")]).await.expect("appended");
    assert_eq!(pending().await, [(one, Seq(1)), (two, Seq(1))]);
    log.fanout_done(one, Seq(2)).await;
    assert_eq!(pending().await, [(one, Seq(3)), (two, Seq(1))]);
    log.fanout_done(one, Seq(1)).await;
    assert_eq!(
        pending().await,
        [(one, Seq(3)), (two, Seq(1))],
        "an older answer does not move it back"
    );
    log.fanout_done(two, Seq(1)).await;
    log.fanout_done(two, Seq(1)).await;
    log.fanout_done(conversation(3), Seq(5)).await;
    assert_eq!(pending().await, [(one, Seq(3))]);
    append(&*log, two, &[message("b")]).await.expect("appended");
    assert_eq!(pending().await, [(one, Seq(3)), (two, Seq(2))]);
    for (conversation, first) in [(one, Some(Seq(3))), (two, Some(Seq(2))), (conversation(3), None)] {
        let from = log.fanout_pending_from(conversation).await;
        assert_eq!(from.expect("readable"), first);
    }
    log.fanout_done(one, Seq(3)).await;
    log.fanout_done(two, Seq(2)).await;
    assert!(pending().await.is_empty());
}

/// I5: what is adopted is this process's to see to up to the head, and nothing is left to who is responsible for nothing.
pub(crate) async fn i5_fanout_is_adopted_up_to_the_head(log: AnyLog) {
    let here = conversation(1);
    append(&*log, here, &[message("a"), message("b")])
        .await
        .expect("appended");
    assert_eq!(log.adopt_fanout(here, Seq(1)).await.expect("adopted"), Seq(2));
    assert_eq!(log.fanout_own(here).await.expect("readable"), Some(Seq(1)));
    log.fanout_adopted(here, Seq(2)).await;
    assert!(log.fanout_left(&|_| false).await.expect("readable").is_empty());
    log.fanout_done(here, Seq(2)).await;
    log.retire().await;
    assert!(log.fanout_pending().await.expect("readable").is_empty());
    assert_eq!(log.fanout_own(here).await.expect("readable"), None);
    let nothing = log.adopt_fanout(conversation(2), Seq(1)).await;
    assert_eq!(nothing.expect("nothing to adopt"), Seq::ZERO);
}

/// I3: whoever wins a head, the order has no hole and every id is there once.
pub(crate) async fn racing_appends_make_one_order_without_holes(log: AnyLog) {
    const TASKS: usize = 8;
    const EACH: usize = 10;
    let here = conversation(HERE);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            for number in 0..EACH {
                let wanted = [message(&format!("{task}-{number}"))];
                // Every lost race means that another task won one: the loop ends.
                while let Err(error) = append(&*log, here, &wanted).await {
                    let is_raced = matches!(error, AppendError::Conflict | AppendError::Unknown(_));
                    assert!(is_raced, "{error}");
                    let found = log.find(here, &wanted[0].sender, &wanted[0].id, Seq::ZERO).await;
                    if found.expect("readable").is_some() {
                        break;
                    }
                }
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.expect("no panic");
    }
    let all = everything(&*log, here).await;
    assert_eq!(all.len(), TASKS * EACH);
    let mut ids: Vec<_> = all.iter().map(|stored| stored.entry.client_msg_id.clone()).collect();
    for task in 0..TASKS {
        let of_task = format!("{task}-");
        let in_order = ids.iter().filter(|id| id.as_str().starts_with(&of_task));
        let wanted = (0..EACH).map(|number| id(&format!("{task}-{number}")));
        assert!(in_order.cloned().eq(wanted), "I4: each task's own order");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), TASKS * EACH);
}

/// Group commit across conversations mixes nothing up.
pub(crate) async fn many_conversations_append_at_once(log: AnyLog) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            for round in 0..5 {
                let wanted = [
                    message(&format!("{number}-{round}a")),
                    message(&format!("{number}-{round}b")),
                ];
                append(&*log, conversation(number), &wanted)
                    .await
                    .expect("nobody else appends here");
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.expect("no panic");
    }
    for number in 0..40 {
        let all = everything(&*log, conversation(number)).await;
        assert_eq!(seqs(&all), (1..=10).collect::<Vec<_>>());
        let own = format!("{number}-");
        assert!(
            all.iter()
                .all(|stored| stored.entry.client_msg_id.as_str().starts_with(&own))
        );
    }
    assert_eq!(log.fanout_pending().await.expect("readable").len(), 40);
}
