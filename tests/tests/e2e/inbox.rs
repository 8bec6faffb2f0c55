//! The list of conversations and its counts when things go wrong or end (inbox_SUITE, Complement's ignored users and
//! memberships).

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::conversation_service_client::ConversationServiceClient;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::user_service_client::UserServiceClient;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, RawSession, UNHURRIED, header, send_frame};

use crate::support::{appended, judge, mark_delivered, mark_read, reaches, refusal, rows, sync};

/// A block ends a watch by then; streams look again by themselves after 30 s.
const BLOCK_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

async fn row(session: &mut RawSession, room: &str) -> v1::ConversationSummary {
    let list = rows(session.request(sync(b"", 0), PATIENCE).await);
    let found = list.conversations.into_iter().find(|row| row.conversation_id == room);
    found.expect("a row")
}

/// The row once the acknowledgements of what the stream received are counted, which happens behind it.
async fn delivered(session: &mut RawSession, room: &str, seq: u64) -> v1::ConversationSummary {
    let counted = async {
        loop {
            let row = row(session, room).await;
            if row.markers.as_ref().is_some_and(|markers| markers.delivered_seq >= seq) {
                return row;
            }
        }
    };
    tokio::time::timeout(PATIENCE, counted)
        .await
        .unwrap_or_else(|_| panic!("seq {seq} of {room} is never counted as delivered"))
}

fn unread(row: &v1::ConversationSummary) -> (u64, u64) {
    row.markers
        .as_ref()
        .map_or((0, 0), |markers| (markers.read_seq, markers.unread_count))
}

fn mark_unread(room: &str, from_seq: u64) -> Asked {
    Asked::MarkUnread(v1::MarkUnreadRequest {
        conversation_id: room.to_owned(),
        from_seq,
    })
}

fn is_refused(answer: &Seen) -> bool {
    use v1::{mark_delivered_response as delivered, mark_read_response as read, mark_unread_response as unread};
    matches!(
        answer,
        Seen::Refusal(_)
            | Seen::MarkRead(v1::MarkReadResponse {
                outcome: Some(read::Outcome::Refusal(_))
            })
            | Seen::MarkDelivered(v1::MarkDeliveredResponse {
                outcome: Some(delivered::Outcome::Refusal(_))
            })
            | Seen::MarkUnread(v1::MarkUnreadResponse {
                outcome: Some(unread::Outcome::Refusal(_))
            })
    )
}

/// `try_to_reset_unread_counter_with_bad_marker`
#[tokio::test]
async fn bad_markers_change_no_count() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let foreign = bench.direct("alice", "carol").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut head = 0;
    for number in 0..3 {
        head = bench.send(&mut alice, &room, &format!("m{number}")).await;
    }
    reaches(&mut bob, &room, head).await;
    let before = delivered(&mut bob, &room, head).await;
    assert_eq!(unread(&before), (0, 3));
    let nowhere = "6f1d9a52-8a1c-4b7e-9f57-0f2d3c4b5a69";
    for bad in [
        mark_read(&room, head + 1, false),
        mark_read(&room, u64::MAX, true),
        mark_read(&foreign, 1, false),
        mark_read(nowhere, 1, false),
        mark_read("not an id", 1, false),
        mark_delivered(&room, head + 1),
        mark_unread(&room, head + 1),
        mark_unread(nowhere, 1),
    ] {
        let what = format!("{bad:?}");
        let answer = bob.request(bad, PATIENCE).await;
        assert!(is_refused(&answer), "{what}: {answer:?}");
        assert_eq!(row(&mut bob, &room).await.markers, before.markers, "{what}");
    }
    reaches(&mut alice, &room, head).await;
}

async fn configure(
    bench: &Bench,
    user: &str,
    request: v1::UpdateConversationSettingsRequest,
) -> v1::ConversationSummary {
    let mut client = ConversationServiceClient::new(bench.call_as(&Claims::user(user), "phone"));
    let answer = client.update_conversation_settings(request).await;
    match answer.expect("an answer").into_inner().outcome {
        Some(v1::update_conversation_settings_response::Outcome::Conversation(row)) => row,
        other => panic!("{other:?}"),
    }
}

/// Mutes and archives are the user's own: their other device is told, a cursor of before lists that row alone, one setting
/// leaves the other as it is, and the other member sees nothing of it.
#[tokio::test]
async fn mutes_and_archives_reach_the_users_other_devices() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    bench.direct("alice", "carol").await;
    let mut tablet = bench.open("alice", "tablet").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut list = rows(tablet.request(sync(b"", 0), PATIENCE).await);
    assert_eq!(list.conversations.len(), 2);
    let steps = [
        (Some(i64::MAX), Some(true), (i64::MAX, true)),
        (None, Some(false), (i64::MAX, false)),
        (Some(0), None, (0, false)),
    ];
    for (muted_until_ms, archived, expected) in steps {
        let request = v1::UpdateConversationSettingsRequest {
            conversation_id: room.clone(),
            muted_until_ms,
            archived,
        };
        let set = |row: &v1::ConversationSummary| (row.muted_until_ms, row.archived);
        assert_eq!(set(&configure(&bench, "alice", request).await), expected);
        let is_told = |event: &Seen| matches!(event, Seen::Conversation(row) if row.conversation_id == room && set(row) == expected);
        let what = format!("the row with {expected:?}");
        tablet
            .until(&what, PATIENCE, |seen| seen.events.iter().any(is_told))
            .await;
        list = rows(tablet.request(sync(&list.next_cursor, 0), PATIENCE).await);
        let changed: Vec<_> = list
            .conversations
            .iter()
            .map(|row| (row.conversation_id.as_str(), set(row)))
            .collect();
        assert_eq!(changed, [(room.as_str(), expected)]);
        assert_eq!(set(&row(&mut bob, &room).await), (0, false));
    }
}

async fn leave(bench: &Bench, room: &str, user: &str) -> u64 {
    let mut client = ConversationServiceClient::new(bench.call_as(&Claims::user(user), "phone"));
    let request = v1::RemoveMemberRequest {
        header: Some(header(room, "leaving")),
        user_id: user.to_owned(),
    };
    let answer = client.remove_member(request).await.expect("an answer").into_inner();
    match answer.outcome {
        Some(v1::remove_member_response::Outcome::Appended(appended)) => appended.seq,
        other => panic!("{other:?}"),
    }
}

/// Kicked and left rooms: the row stays, says so, and counts nothing more; coming back makes it an ordinary row again.
#[tokio::test]
async fn rows_of_rooms_one_left_or_was_removed_from_stay_as_they_were() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let kicked = bench.group(&["alice", "bob"]).await;
    let left = bench.group(&["alice", "bob"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    for room in [&kicked, &left] {
        bench.send(&mut alice, room, "before").await;
    }
    let ends = [
        (&kicked, bench.remove(&kicked, "bob").await),
        (&left, leave(&bench, &left, "bob").await),
    ];
    for (room, end) in ends {
        reaches(&mut bob, room, end).await;
        let before = row(&mut bob, room).await;
        assert!(before.former_member, "{before:?}");
        assert_eq!((before.head_seq, unread(&before).1), (end, 1));
        for number in 0..3 {
            bench.send(&mut alice, room, &format!("after {number}")).await;
        }
        let after = row(&mut bob, room).await;
        assert_eq!((after.head_seq, unread(&after)), (end, unread(&before)));
        let back = bench.add(room, "bob").await;
        let again = bench.send(&mut alice, room, "again").await;
        reaches(&mut bob, room, again).await;
        let row = row(&mut bob, room).await;
        assert!(!row.former_member, "{row:?}");
        assert_eq!((row.head_seq, unread(&row).1), (again, 1), "joined at {back}");
        reaches(&mut alice, room, again).await;
    }
    judge(&bench.verdict().await, &[Check::C12, Check::C13]);
}

/// `TestCumulativeJoinLeaveJoinSync`: all of it happened while the device was away.
#[tokio::test]
async fn joins_and_leaves_while_away_leave_exactly_ones_stays() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.group(&["alice", "bob"]).await;
    let mut alice = bench.open("alice", "phone").await;
    bench.users(&["carol"]).await;
    let mut mine = Vec::new();
    for round in 0..3 {
        let joined = bench.add(&room, "carol").await;
        bench.send(&mut alice, &room, &format!("with carol {round}")).await;
        let left = bench.remove(&room, "carol").await;
        mine.extend(joined..=left);
        bench.send(&mut alice, &room, &format!("without carol {round}")).await;
    }
    let joined = bench.add(&room, "carol").await;
    let head = bench.send(&mut alice, &room, "for good").await;
    mine.extend(joined..=head);
    let mut carol = bench.open("carol", "phone").await;
    assert_eq!(carol.observed().seqs(&room), mine);
    let row = row(&mut carol, &room).await;
    assert_eq!((row.former_member, row.head_seq, unread(&row).1), (false, head, 1));
    reaches(&mut alice, &room, head).await;
    judge(&bench.verdict().await, &[Check::C12, Check::C13]);
}

/// Limits of lists are caps.
#[tokio::test]
async fn a_list_gives_at_most_what_it_may() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    assert_eq!(
        rows(alice.request(sync(b"", 500), PATIENCE).await).conversations[0].conversation_id,
        room
    );
    let answer = alice.request(sync(b"", 501), PATIENCE).await;
    let refused = match &answer {
        Seen::Refusal(refusal)
        | Seen::Sync(v1::ListConversationsResponse {
            outcome: Some(v1::list_conversations_response::Outcome::Refusal(refusal)),
        }) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (refused.reason(), refused.effect()),
        (v1::RefusalReason::Invalid, v1::Effect::NotDone)
    );
}

async fn set_block(bench: &Bench, user: &str, target: &str, blocked: bool) {
    let mut client = UserServiceClient::new(bench.call_as(&Claims::user(user), "phone"));
    let request = v1::SetBlockRequest {
        user_id: target.to_owned(),
        blocked,
    };
    let answer = client.set_block(request).await.expect("an answer").into_inner();
    let set = matches!(answer.outcome, Some(v1::set_block_response::Outcome::Blocks(_)));
    assert!(set, "{answer:?}");
}

/// Ignored users: the pair is silent both ways while there is a block, what they share with others goes on, and nothing of
/// the time before is lost.
#[tokio::test]
async fn a_block_silences_the_pair_alone() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let pair = bench.direct("alice", "bob").await;
    let group = bench.group(&["carol", "alice", "bob"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let before = bench.send(&mut alice, &pair, "before").await;
    reaches(&mut bob, &pair, before).await;
    set_block(&bench, "bob", "alice", true).await;
    for (session, id) in [(&mut alice, "to-bob"), (&mut bob, "to-alice")] {
        let answer = session.request(send_frame(&pair, id, "hello?"), PATIENCE).await;
        let refused = refusal(&answer);
        assert_eq!(
            (refused.reason(), refused.effect()),
            (v1::RefusalReason::Blocked, v1::Effect::NotDone)
        );
    }
    let shared = bench.send(&mut alice, &group, "to all").await;
    reaches(&mut bob, &group, shared).await;
    assert_eq!(row(&mut bob, &pair).await.head_seq, before, "what was said stays");
    set_block(&bench, "bob", "alice", false).await;
    let answer = alice.request(send_frame(&pair, "to-bob", "hello?"), PATIENCE).await;
    let after = appended(&answer).seq;
    assert_eq!(after, before + 1, "nothing was stored meanwhile");
    reaches(&mut bob, &pair, after).await;
    reaches(&mut alice, &pair, after).await;
    reaches(&mut alice, &group, shared).await;
    judge(&bench.verdict().await, &[Check::C9]);
}

/// A block ends what the two see of each other's presence also on streams that watch already, long before these would look
/// again by themselves.
#[tokio::test]
async fn a_block_ends_a_live_watch() {
    let mut bench = Bench::start(&UNHURRIED).await;
    bench.direct("alice", "bob").await;
    let _alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let watch = Asked::WatchPresence(v1::WatchPresence {
        user_ids: vec!["alice".to_owned()],
        replace: true,
    });
    let answer = bob.request(watch, PATIENCE).await;
    let online = |presence: &v1::Presence| presence.status() == v1::Status::Online;
    assert!(
        matches!(&answer, Seen::Watching(list) if list.presences.iter().any(online)),
        "{answer:?}"
    );
    set_block(&bench, "alice", "bob", true).await;
    let offline = |event: &Seen| matches!(event, Seen::Presence(presence) if presence.status() == v1::Status::Offline);
    bob.until("alice looks offline", BLOCK_WITHIN, |seen| {
        seen.events.iter().any(offline)
    })
    .await;
}

/// I11: so does the removal from the last group that both were in.
#[tokio::test]
async fn i11_a_removal_ends_a_live_watch() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let group = bench.group(&["alice", "bob"]).await;
    let _bob = bench.open("bob", "phone").await;
    let mut alice = bench.open("alice", "phone").await;
    let watch = Asked::WatchPresence(v1::WatchPresence {
        user_ids: vec!["bob".to_owned()],
        replace: true,
    });
    let answer = alice.request(watch, PATIENCE).await;
    let online = |presence: &v1::Presence| presence.status() == v1::Status::Online;
    assert!(
        matches!(&answer, Seen::Watching(list) if list.presences.iter().any(online)),
        "{answer:?}"
    );
    bench.remove(&group, "bob").await;
    let offline = |event: &Seen| matches!(event, Seen::Presence(presence) if presence.status() == v1::Status::Offline);
    alice
        .until("bob looks offline", BLOCK_WITHIN, |seen| {
            seen.events.iter().any(offline)
        })
        .await;
}
