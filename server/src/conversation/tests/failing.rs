//! Stores that fail while somebody reads: a typed refusal, never a page that is shorter than the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bed::{Bed, caller, user};
use super::lying_log::failing;
use crate::conversation::{Conversations, HistoryAnchor, HistoryPage, HistoryQuery, Limits};
use crate::domain::{ConversationId, Effect, Reason, Refusal, Seq};
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::{Directory, ReadError};

async fn page(bed: &Bed, group: ConversationId, anchor: HistoryAnchor, limit: usize) -> Result<HistoryPage, Refusal> {
    let query = HistoryQuery {
        conversation: group,
        anchor,
        limit,
        until: None,
    };
    bed.conversations.history(&caller("alice"), query).await
}

fn seqs(page: &HistoryPage) -> Vec<u64> {
    page.entries.iter().map(|stored| stored.entry.seq.0).collect()
}

/// `pm_sql_query_failed`: the reader is told that nothing was read, and when the store answers again the page is whole.
#[tokio::test]
async fn p6_a_page_that_cannot_be_read_is_refused_not_shortened() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let fail = failing(move |_, _, to| {
        let fails = switch.load(Ordering::Relaxed) && to > Seq(3);
        fails.then(|| ReadError::Unavailable("no answer".to_owned()))
    });
    let bed = Bed::with(&["alice"], Limits::default(), fail).await;
    let group = bed.group("alice", &[]).await;
    for number in 0..5 {
        bed.send("alice", group, &format!("m{number}")).await;
    }
    broken.store(true, Ordering::Relaxed);
    for anchor in [
        HistoryAnchor::After(Seq(0)),
        HistoryAnchor::Before(None),
        HistoryAnchor::Around(Seq(4)),
    ] {
        let refusal = page(&bed, group, anchor, 10).await.unwrap_err();
        assert!(
            matches!(refusal.reason, Reason::Unavailable { .. }),
            "{anchor:?}: {refusal:?}"
        );
        assert_eq!(refusal.effect, Effect::NotDone, "{anchor:?}");
    }
    broken.store(false, Ordering::Relaxed);
    let whole = page(&bed, group, HistoryAnchor::After(Seq(0)), 10).await.unwrap();
    assert_eq!(seqs(&whole), [1, 2, 3, 4, 5, 6]);
    // Writing was never hindered.
    assert_eq!(bed.send("alice", group, "later").await.seq, Seq(7));
}

/// `failed_to_decode_message_in_database`: a damaged entry is told from a failure that passes, is never left out, and harms
/// neither the pages around it nor other conversations.
#[tokio::test]
async fn p6_a_damaged_entry_is_told_and_never_skipped() {
    const DAMAGED: Seq = Seq(4);
    let target = Arc::new(std::sync::Mutex::new(None));
    let damaged_in = Arc::clone(&target);
    let fail = failing(move |conversation, from, to| {
        let here = *damaged_in.lock().unwrap() == Some(conversation) && from <= DAMAGED && DAMAGED <= to;
        here.then(|| ReadError::Corrupt("a bad checksum".to_owned()))
    });
    let bed = Bed::with(&["alice"], Limits::default(), fail).await;
    let group = bed.group("alice", &[]).await;
    for number in 0..6 {
        bed.send("alice", group, &format!("m{number}")).await;
    }
    *target.lock().unwrap() = Some(group);
    for (anchor, limit) in [
        (HistoryAnchor::After(Seq(0)), 10),
        (HistoryAnchor::Before(None), 10),
        (HistoryAnchor::Around(DAMAGED), 1),
    ] {
        let refusal = page(&bed, group, anchor, limit).await.unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.effect),
            (Reason::Internal, Effect::NotDone),
            "{anchor:?}"
        );
    }
    let newest = page(&bed, group, HistoryAnchor::Before(None), 3).await.unwrap();
    assert_eq!((seqs(&newest), newest.has_more), (vec![5, 6, 7], true));
    *target.lock().unwrap() = Some(ConversationId([9; 16]));
    let whole = page(&bed, group, HistoryAnchor::After(Seq(0)), 10).await.unwrap();
    assert_eq!(seqs(&whole).len(), 7);
}

/// The same for what the directory holds: the list is refused, and what needs no directory goes on.
#[tokio::test]
async fn p15_without_the_directory_the_list_is_refused_and_messages_go_on() {
    let mut bed = Bed::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory.sqlite");
    let directory = Arc::new(SqliteDirectory::open(&path, Patience::default()).await.unwrap());
    directory.ensure_user(&user("alice"), Default::default()).await.unwrap();
    bed.backends.directory = Arc::clone(&directory) as _;
    bed.conversations = Conversations::new(bed.backends.clone(), bed.host.clone(), Limits::default());
    let group = bed.group("alice", &[]).await;
    bed.send("alice", group, "before").await;
    bed.conversations.settled(&user("alice")).await;
    let listed = bed.conversations.list(&caller("alice"), &[], 10).await.unwrap();
    assert_eq!(listed.rows.len(), 1);
    directory.close().await;
    let refused = bed.conversations.list(&caller("alice"), &[], 10).await.unwrap_err();
    assert!(matches!(refused.reason, Reason::Unavailable { .. }), "{refused:?}");
    assert_eq!(bed.send("alice", group, "after").await.seq, Seq(3));
    let read = page(&bed, group, HistoryAnchor::After(Seq(0)), 10).await.unwrap();
    assert_eq!(seqs(&read), [1, 2, 3]);
}
