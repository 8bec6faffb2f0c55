//! Dies at every named step of append, group commit, fan-out, receipts and creation, then looks.

use std::collections::BTreeSet;
use std::path::Path;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Acks, Bench, DELIVERY, Exit, Sender, ServerProcess, each_once, reaches_head};

/// Each crash point that a server passes while people chat, and at which passes to die.
const POINTS: [(&str, [u64; 3]); 14] = [
    ("append.planned", [1, 4, 9]),
    ("append.stored", [1, 4, 9]),
    ("append.acked", [1, 4, 9]),
    ("create.decided", [1, 2, 3]),
    ("fanout.published", [1, 3, 7]),
    ("fanout.projected", [1, 3, 7]),
    ("fanout.recorded", [1, 3, 7]),
    ("fanout.done", [1, 3, 7]),
    ("receipt.raised", [1, 2, 3]),
    ("receipt.sent", [1, 2, 3]),
    ("writer.batch_checked", [2, 5, 11]),
    ("writer.committed", [2, 5, 11]),
    ("writer.witnessed", [2, 5, 11]),
    ("writer.answered", [2, 5, 11]),
];

/// Passed by imports, which have their own suite.
const ELSEWHERE: [&str; 1] = ["import.appended"];

/// Rounds of talk in which the process must have died.
const ROUNDS_MAX: usize = 300;

/// What calls like `crash_point("name")` name in the server's source.
pub(crate) fn named_in_source(call: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    named_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src"),
        call,
        &mut found,
    );
    found
}

fn named_in(folder: &Path, call: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the server's source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            named_in(&path, call, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            let call = format!("{call}(\"");
            let calls = text.split(&call).skip(1);
            found.extend(calls.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_crash_point_has_a_case() {
    let named = named_in_source("crash_point");
    let cases = POINTS.iter().map(|(name, _)| *name).chain(ELSEWHERE);
    let cases: BTreeSet<String> = cases.map(str::to_owned).collect();
    assert_eq!(named, cases);
}

/// What the recipient does while the process lives: reads and marks.
async fn mark(bench: &Bench, bob: &stonechat_tests::harness::RawSession, room: &str) {
    let newest = bob.observed().newest(room);
    if newest > 0 {
        let read = v1::MarkReadRequest {
            conversation_id: room.to_owned(),
            seq: newest,
            private: false,
        };
        bob.ask(Asked::MarkRead(read)).await;
    }
    create(bench).await;
}

/// A new conversation; the process may die while it answers.
async fn create(bench: &Bench) {
    use stonechat_proto::admin::v1 as admin;
    let id = bench.fresh_id();
    let mut client = admin::conversation_admin_service_client::ConversationAdminServiceClient::new(bench.admin());
    let request = admin::CreateConversationRequest {
        client_msg_id: id.clone(),
        owner_user_id: "alice".to_owned(),
        kind: v1::ConversationKind::Group as i32,
        name: id,
        members: vec![stonechat_tests::harness::member("bob")],
    };
    let _unknown = client.create_conversation(request).await;
}

/// Talks until the process dies at its crash point.
async fn talk_until_death(bench: &mut Bench, alice: &mut Sender, room: &str, point: &str) {
    bench.server.spawn(Some(point));
    if !bench.server.ready_or_gone().await {
        // Recovery passes some points, too.
        assert_eq!(
            bench.server.exited(),
            Some(Exit::Signal),
            "{point}:\n{}",
            bench.server.log_tail()
        );
        return;
    }
    alice.connect(bench).await;
    let mut bob = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Each).await;
    for _ in 0..ROUNDS_MAX {
        if let Some(exit) = bench.server.exited() {
            assert_eq!(exit, Exit::Signal, "{point}:\n{}", bench.server.log_tail());
            return;
        }
        alice.send(5).await;
        mark(bench, &bob, room).await;
        // A round trip gives the server time for what follows an ack; without an answer it is dead.
        let answered = tokio::time::timeout(std::time::Duration::from_millis(50), alice.answers());
        let _dead = answered.await;
        if bob.observed().ended.is_some() && bench.server.exited().is_none() {
            bob = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Each).await;
        }
    }
    panic!(
        "{point} was not passed in {ROUNDS_MAX} rounds:\n{}",
        bench.server.log_tail()
    );
}

async fn die_at(name: &str, passes: [u64; 3]) {
    let mut bench = Bench::on(ServerProcess::start(&["--conversation-entries-per-second", "100000"]).await);
    let room = bench.group(&["alice", "bob"]).await;
    let mut alice = Sender::new("alice", &room);
    bench.server.kill().await;
    for pass in passes {
        talk_until_death(&mut bench, &mut alice, &room, &format!("{name}:{pass}")).await;
    }
    bench.server.restart(None).await;
    alice.finish(&bench).await;
    let mut bob = bench.open("bob", "phone").await;
    reaches_head(&bench, &mut bob, &room).await;
    reaches_head(&bench, alice.session(), &room).await;
    // Deaths may come before any receipt was seen; these must not be below what was.
    mark(&bench, &bob, &room).await;
    let total = each_once(&bench, &room, &[&alice]).await;
    println!(
        "{name}: {total} messages, {} acknowledged, each there once",
        alice.acked()
    );
    bench.verdict().await.assert_clean(&DELIVERY);
    create_is_whole(&bench).await;
    assert!(bench.recorder.history().events.len() > 10, "people talked");
    let looked = bench.verdict().await;
    assert!(looked.examined(Check::C10) > 0, "receipts were looked at:\n{looked}");
    bench.server.kill_and_audit().await;
}

/// Every conversation that bob's list names can be read, with its first entry.
async fn create_is_whole(bench: &Bench) {
    use stonechat_proto::admin::v1 as admin;
    let mut client = admin::conversation_admin_service_client::ConversationAdminServiceClient::new(bench.admin());
    let request = admin::ListConversationsRequest {
        after_conversation_id: String::new(),
        limit: 500,
    };
    let answer = client.list_conversations(request).await.expect("a list").into_inner();
    let Some(admin::list_conversations_response::Outcome::Page(page)) = answer.outcome else {
        panic!("no list: {answer:?}");
    };
    for conversation in page.conversation_ids {
        let first = bench.entries(&conversation).await.into_iter().next();
        let created = first.and_then(|entry| entry.body);
        assert!(
            matches!(created, Some(v1::entry::Body::Created(_))),
            "{conversation}: {created:?}"
        );
    }
}

macro_rules! die_at {
    ($($test:ident = $index:literal,)*) => {
        $(#[tokio::test]
        async fn $test() {
            let (name, passes) = POINTS[$index];
            die_at(name, passes).await;
        })*

        #[test]
        fn every_case_has_a_test() {
            assert_eq!([$($index),*].len(), POINTS.len());
        }
    };
}

die_at! {
    dies_when_an_append_is_planned = 0,
    dies_when_an_append_is_stored = 1,
    dies_when_an_append_is_acknowledged = 2,
    dies_when_a_creation_is_decided = 3,
    dies_when_entries_are_published = 4,
    dies_when_unread_floors_are_raised = 5,
    dies_when_inboxes_are_raised = 6,
    dies_when_a_fan_out_is_done = 7,
    dies_when_a_receipt_is_raised = 8,
    dies_when_a_receipt_is_sent = 9,
    dies_when_the_writer_has_checked_a_batch = 10,
    dies_when_the_writer_has_committed = 11,
    dies_when_the_writer_has_witnessed = 12,
    dies_when_the_writer_has_answered = 13,
}
