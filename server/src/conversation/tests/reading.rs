//! History by seq, edits, redactions, pins, and the conversation list.

use super::bed::{Bed, caller, member, page, page_of, seqs, text, user};
use super::lying_log::kept_from;
use crate::conversation::{HistoryAnchor, HistoryQuery, Limits};
use crate::domain::limits::{HISTORY_PAGE_BYTES_MAX, PINS_MAX, PINS_SHOWN_MAX};
use crate::domain::{Body, Change, Content, Effect, MessageContent, Reason, Role, Seq};

#[tokio::test]
async fn p6_pages_forward_backward_and_around_join_without_gap() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    for n in 2..=15 {
        bed.send("alice", group, &format!("m{n}")).await;
    }
    let first = page(&bed, group, HistoryAnchor::After(Seq(0)), 5).await.unwrap();
    assert_eq!(
        (seqs(&first), first.has_more, first.head),
        (vec![1, 2, 3, 4, 5], true, Seq(15))
    );
    let last = page(&bed, group, HistoryAnchor::After(Seq(10)), 5).await.unwrap();
    assert_eq!((seqs(&last), last.has_more), (vec![11, 12, 13, 14, 15], false));
    let newest = page(&bed, group, HistoryAnchor::Before(None), 4).await.unwrap();
    assert_eq!((seqs(&newest), newest.has_more), (vec![12, 13, 14, 15], true));
    let oldest = page(&bed, group, HistoryAnchor::Before(Some(Seq(4))), 9).await.unwrap();
    assert_eq!((seqs(&oldest), oldest.has_more), (vec![1, 2, 3], false));
    let around = page(&bed, group, HistoryAnchor::Around(Seq(8)), 4).await.unwrap();
    assert_eq!((seqs(&around), around.has_more), (vec![6, 7, 8, 9], true));
    let at_head = page(&bed, group, HistoryAnchor::After(Seq(15)), 5).await.unwrap();
    assert_eq!((seqs(&at_head), at_head.has_more), (vec![], false));
    let beyond = page(&bed, group, HistoryAnchor::After(Seq(16)), 5).await.unwrap_err();
    assert_eq!(beyond.reason, Reason::BeyondHead { head: Seq(15) });
}

/// The oldest seq that can be read does not hang on where the page ends.
#[tokio::test]
async fn p6_a_page_that_ends_before_a_stay_says_where_that_begins() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[]).await;
    for n in 2..=4 {
        bed.send("alice", group, &format!("m{n}")).await;
    }
    let add = Change::SetMembers(vec![member("bob", Role::Member)]);
    let joined = bed.append("alice", group, "add", add).await.unwrap().seq;
    bed.send("alice", group, "m6").await;
    for until in [Seq(2), joined, Seq(6)] {
        let query = HistoryQuery {
            conversation: group,
            anchor: HistoryAnchor::Before(None),
            limit: 10,
            until: Some(until),
        };
        let page = bed.conversations.history(&caller("bob"), query).await.unwrap();
        assert_eq!((page.first_available, page.head), (joined, Seq(6)), "until {until}");
        assert_eq!(page.entries.len() as u64, (until.0 + 1).saturating_sub(joined.0));
    }
}

/// I9: a page around a seq is as large as any other, and the seq is in it.
#[tokio::test]
async fn i9_a_page_around_a_seq_keeps_to_the_bytes_of_a_page() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    let long = "x".repeat(16 * 1024);
    for n in 2..=130 {
        bed.append("alice", group, &format!("m{n}"), text(&long)).await.unwrap();
    }
    let around = page(&bed, group, HistoryAnchor::Around(Seq(65)), 130).await.unwrap();
    let bytes: usize = around.entries.iter().map(|stored| stored.wire.len()).sum();
    let entry = around.entries[0].wire.len();
    assert!(
        bytes <= HISTORY_PAGE_BYTES_MAX + entry && bytes > HISTORY_PAGE_BYTES_MAX - 2 * entry,
        "{bytes}"
    );
    let seqs = seqs(&around);
    assert!(
        seqs.contains(&64) && seqs.contains(&65) && seqs.contains(&66),
        "{seqs:?}"
    );
}

/// Where retention took the oldest part, a cursor into it is refused with where reading can start.
#[tokio::test]
async fn p6_a_cursor_below_what_is_kept_is_refused() {
    const FLOOR: Seq = Seq(5);
    let bed = Bed::with(&["alice"], Limits::default(), kept_from(FLOOR)).await;
    let group = bed.group("alice", &[]).await;
    for n in 2..=8 {
        bed.send("alice", group, &format!("m{n}")).await;
    }
    let reason = Reason::CursorExpired {
        first_available: FLOOR,
        head: Seq(8),
    };
    let node = bed.other_node();
    for anchor in [
        HistoryAnchor::After(Seq(3)),
        HistoryAnchor::Before(Some(Seq(3))),
        HistoryAnchor::Around(Seq(1)),
    ] {
        let refusal = page_of(&node, "alice", group, anchor, 10).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.effect), (reason.clone(), Effect::NotDone));
    }
    for anchor in [
        HistoryAnchor::After(Seq(4)),
        HistoryAnchor::After(Seq(0)),
        HistoryAnchor::Before(None),
        HistoryAnchor::Around(FLOOR),
    ] {
        let kept = page_of(&node, "alice", group, anchor, 10).await.unwrap();
        assert_eq!((seqs(&kept), kept.has_more), (vec![5, 6, 7, 8], false), "{anchor:?}");
        assert_eq!(kept.first_available, FLOOR);
    }
}

#[tokio::test]
async fn p7_a_redaction_leaves_a_tombstone_at_its_seq_and_takes_the_edits_with_it() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let sent = bed.send("bob", group, "m").await;
    let content = MessageContent {
        content: Content::Text("edited".to_owned()),
        reply_to: None,
        media: Vec::new(),
    };
    let edit = Change::Edit {
        target: sent.seq,
        content,
    };
    assert_eq!(
        bed.append("alice", group, "e", edit.clone()).await.unwrap_err().reason,
        Reason::Forbidden
    );
    let edited = bed.append("bob", group, "e", edit.clone()).await.unwrap();
    let redact = Change::Redact {
        target: sent.seq,
        reason: "off topic".to_owned(),
    };
    let redacted = bed.append("alice", group, "r", redact.clone()).await.unwrap();
    let all = page(&bed, group, HistoryAnchor::After(Seq(0)), 50).await.unwrap();
    for seq in [sent.seq, edited.seq] {
        let body = &all.entries[usize::try_from(seq.0).unwrap() - 1].entry.body;
        assert_eq!(
            *body,
            Body::Tombstone {
                redacted_by: redacted.seq
            }
        );
    }
    for (msg_id, change) in [("e2", edit), ("r2", redact)] {
        assert_eq!(
            bed.append("bob", group, msg_id, change).await.unwrap_err().reason,
            Reason::NotFound
        );
    }
    // The retry of what was redacted is still the same entry (I2).
    assert_eq!(bed.send("bob", group, "m").await.seq, sent.seq);
}

#[tokio::test]
async fn pins_are_kept_in_order_and_leave_with_their_message() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    let (one, two) = (
        bed.send("alice", group, "1").await.seq,
        bed.send("alice", group, "2").await.seq,
    );
    for (msg_id, target, unpin) in [("p1", two, false), ("p2", one, false)] {
        bed.append("alice", group, msg_id, Change::Pin { target, unpin })
            .await
            .unwrap();
    }
    let pins = |info: crate::conversation::ConversationInfo| info.pins;
    assert_eq!(
        pins(bed.conversations.get(&caller("alice"), group).await.unwrap()),
        [two, one]
    );
    let redact = Change::Redact {
        target: two,
        reason: String::new(),
    };
    bed.append("alice", group, "r", redact).await.unwrap();
    bed.conversations.settled(&user("alice")).await;
    assert_eq!(
        pins(bed.other_node().get(&caller("alice"), group).await.unwrap()),
        [one]
    );
    let again = Change::Pin {
        target: one,
        unpin: false,
    };
    bed.append("alice", group, "again", again).await.unwrap();
    let beyond = Change::Pin {
        target: Seq(99),
        unpin: false,
    };
    let refusal = bed.append("alice", group, "p3", beyond).await.unwrap_err();
    assert!(matches!(refusal.reason, Reason::BeyondHead { .. }));
}

#[tokio::test]
async fn p14_the_list_returns_only_what_changed_since_its_cursor() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[member("bob", Role::Member)]).await;
    let me = caller("bob");
    let first = bed.conversations.list(&me, &[], 10).await.unwrap();
    assert_eq!(first.rows.len(), 1);
    let again = bed.conversations.list(&me, &first.next_cursor, 10).await.unwrap();
    assert!(again.rows.is_empty() && !again.has_more);
    bed.append("alice", group, "m", text("m")).await.unwrap();
    let changed = bed.conversations.list(&me, &again.next_cursor, 10).await.unwrap();
    assert_eq!(
        (changed.rows[0].head, changed.rows[0].markers.unread_count),
        (Seq(2), 1)
    );
    let foreign = [1_u8; 24];
    for bad in [&foreign[..], &changed.next_cursor[1..], &[0xff]] {
        assert_eq!(
            bed.conversations.list(&me, bad, 10).await.unwrap_err().reason,
            Reason::ResyncRequired
        );
    }
    assert_eq!(changed.rows[0].id, group);
    assert!(
        bed.conversations
            .summary(&user("nobody"), None, group)
            .await
            .unwrap()
            .is_none()
    );
}

/// What is pinned is the same for a node that saw it happen and for one that loads it, also above what is shown; and it is bounded.
#[tokio::test]
async fn i9_older_pins_are_shown_again_once_newer_ones_are_gone() {
    let bed = Bed::with(&["alice"], Limits::unpaced(), |log| log).await;
    let group = bed.group("alice", &[]).await;
    let pin = async |number: usize, target, unpin| {
        let change = Change::Pin { target, unpin };
        bed.append("alice", group, &format!("{number}:{unpin}"), change).await
    };
    let mut seqs = Vec::new();
    for number in 0..=PINS_MAX {
        seqs.push(bed.send("alice", group, &format!("m{number}")).await.seq);
    }
    for (number, seq) in seqs[..PINS_MAX].iter().enumerate() {
        pin(number, *seq, false).await.unwrap();
    }
    let refusal = pin(PINS_MAX, seqs[PINS_MAX], false).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::LimitReached);
    let newest = &seqs[PINS_MAX - PINS_SHOWN_MAX..PINS_MAX];
    assert_eq!(
        bed.conversations.get(&caller("alice"), group).await.unwrap().pins,
        newest
    );
    let gone = PINS_MAX - PINS_SHOWN_MAX / 2;
    for (number, seq) in seqs[PINS_SHOWN_MAX / 4..gone].iter().enumerate() {
        pin(number, *seq, true).await.unwrap();
    }
    bed.conversations.settled(&user("alice")).await;
    let shown = [&seqs[..PINS_SHOWN_MAX / 4], &seqs[gone..PINS_MAX]].concat();
    for node in [&bed.conversations, &bed.other_node()] {
        assert_eq!(node.get(&caller("alice"), group).await.unwrap().pins, shown);
    }
}
