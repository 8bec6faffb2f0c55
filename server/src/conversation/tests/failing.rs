//! Stores that fail while somebody reads: a typed refusal, never a page that is shorter than the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::bed::{Bed, caller, member, page, page_of, request, seqs, text, user};
use super::lying_log::{Lie, failing, lying};
use crate::conversation::{Conversations, HistoryAnchor, Limits};
use crate::domain::{Change, ConversationId, Effect, Reason, Role, Seq};
use crate::storage::embedded::directory::{Patience, SqliteDirectory};
use crate::storage::{Directory, ReadError};

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

/// Another node appended what this one has not seen when the directory fails: it follows by the log, as long as nothing came that the
/// directory is to know before anything later.
#[tokio::test]
async fn i3_messages_of_other_nodes_are_followed_without_the_directory() {
    let mut bed = Bed::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory.sqlite");
    let directory = Arc::new(SqliteDirectory::open(&path, Patience::default()).await.unwrap());
    for name in ["alice", "bob"] {
        directory.ensure_user(&user(name), Default::default()).await.unwrap();
    }
    bed.backends.directory = Arc::clone(&directory) as _;
    bed.conversations = Conversations::new(bed.backends.clone(), bed.host.clone(), Limits::default());
    let (talks, renames) = (bed.group("alice", &[]).await, bed.group("bob", &[]).await);
    let other = bed.other_node();
    let says = request(talks, "theirs", text("theirs"));
    other.append(&caller("alice"), says).await.unwrap();
    let renamed = request(renames, "theirs", Change::Rename("Crew".to_owned()));
    other.append(&caller("bob"), renamed).await.unwrap();
    directory.close().await;
    assert_eq!(bed.send("alice", talks, "after").await.seq, Seq(3));
    let refused = bed.append("bob", renames, "after", text("after")).await.unwrap_err();
    assert!(matches!(refused.reason, Reason::Unavailable { .. }), "{refused:?}");
}

/// C9: after a lost outcome the log may also fail while it is asked what became of it. Whichever of its reads that is, the
/// sender is not told that nothing was stored.
#[tokio::test]
async fn c9_a_read_that_fails_after_an_unknown_outcome_makes_no_definite_refusal() {
    let mut refused = 0;
    for failing_read in 0..8 {
        let reads = AtomicU64::new(0);
        let fail = failing(move |_, from, _| {
            let fails = from == Seq(2) && reads.fetch_add(1, Ordering::Relaxed) == failing_read;
            fails.then(|| ReadError::Unavailable("no answer".to_owned()))
        });
        let lie = lying(|number, _| (number == 1).then_some(Lie::DoneButUnknown));
        let bed = Bed::with(&["alice"], Limits::default(), |log| lie(fail(log))).await;
        let group = bed.group("alice", &[]).await;
        let first = bed.append("alice", group, "m", text("m")).await;
        if let Err(refusal) = &first {
            assert_eq!(refusal.effect, Effect::Unknown, "read {failing_read}: {refusal:?}");
            refused += 1;
        }
        // One read fails in all, perhaps that of a retry: the next one finds out.
        let retry = match bed.append("alice", group, "m", text("m")).await {
            Ok(appended) => appended,
            Err(_) => bed.send("alice", group, "m").await,
        };
        assert_eq!(retry.seq, Seq(2));
    }
    assert!(refused > 1, "no read of a later try was made to fail");
}

/// I7: a node that sees a newer head but cannot read what came in between does not go on with the members it knows: who was
/// removed meanwhile would read on.
#[tokio::test]
async fn i7_nobody_reads_on_with_the_members_of_before() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let fail = failing(move |_, from, to| {
        let removal = from <= Seq(3) && Seq(3) <= to;
        let fails = switch.load(Ordering::Relaxed) && removal;
        fails.then(|| ReadError::Unavailable("no answer".to_owned()))
    });
    let bed = Bed::with(&["alice", "bob"], Limits::default(), fail).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    bed.send("alice", group, "two").await;
    let stale = bed.other_node();
    let after = HistoryAnchor::After(Seq(3));
    assert!(
        page_of(&stale, "bob", group, HistoryAnchor::After(Seq(0)), 10)
            .await
            .is_ok()
    );
    let removal = bed
        .append("alice", group, "three", Change::RemoveMember(user("bob")))
        .await;
    assert_eq!(removal.unwrap().seq, Seq(3));
    bed.send("alice", group, "four").await;
    broken.store(true, Ordering::Relaxed);
    let refusal = page_of(&stale, "bob", group, after, 1).await.unwrap_err();
    assert!(matches!(refusal.reason, Reason::Unavailable { .. }), "{refusal:?}");
    broken.store(false, Ordering::Relaxed);
    let seen = page_of(&stale, "bob", group, after, 1).await;
    assert!(seen.is_err() || seen.is_ok_and(|page| page.entries.is_empty()));
}
