//! Every client frame of the contract, on a live stream, by everybody who may and who may not.

use std::collections::BTreeSet;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::{CloseReason, RefusalReason};
use stonechat_tests::harness::{
    Bench, Claims, Observed, PATIENCE, RawSession, UNHURRIED, header, history_after, send_frame, text,
};

use crate::call::{Outcome, answered, client_frames};
use crate::rows::{ANYBODY, BELONGED, CALLERS, Each, LATE_ADMINS, MEMBERS, SENDER, Scene, marks_of};
use crate::{blocked_scene, expected, scene};

/// What must come of a frame.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// An answer, for each caller.
    Each(Each),
    /// This refusal, for everybody.
    Refused(RefusalReason),
    /// The end of the stream, for everybody.
    Ends(CloseReason),
}

use Wanted::{Ends, Refused};

/// A frame by its name in the contract, and what must come of it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) frame: Asked,
    wanted: Wanted,
}

/// Whom and what frames are about.
pub(crate) struct Target {
    scene: Scene,
    user: String,
    hello: v1::Hello,
    own_token: String,
    foreign_token: String,
}

impl Target {
    pub(crate) fn new(bench: &Bench, scene: &Scene, user: &str) -> Self {
        Self {
            scene: scene.clone(),
            user: user.to_owned(),
            hello: bench.hello(user, "phone"),
            own_token: bench.token(&Claims::user(user)),
            foreign_token: bench.token(&Claims::user("zoe")),
        }
    }

    fn header(&self, suffix: &str) -> Option<v1::AppendHeader> {
        Some(header(&self.scene.room, &format!("{}-{suffix}", self.user)))
    }
}

fn row(name: &'static str, frame: Asked, wanted: Wanted) -> Row {
    Row { name, frame, wanted }
}

/// One row or more for each arm of the oneof of `ClientFrame`.
pub(crate) fn rows(target: &Target) -> Vec<Row> {
    let mut rows = appends(target);
    rows.extend(marks(target));
    rows.extend(reads(target));
    rows.extend(of_the_session(target));
    rows
}

fn appends(target: &Target) -> Vec<Row> {
    let scene = &target.scene;
    let send = send_frame(&scene.room, &format!("{}-send", target.user), "may I?");
    let edit = v1::EditRequest {
        header: target.header("edit"),
        target_seq: scene.seq,
        content: Some(text("edited")),
    };
    let react = v1::ReactRequest {
        header: target.header("react"),
        target_seq: scene.seq,
        reaction: "👍".to_owned(),
        remove: false,
    };
    let pin = v1::PinRequest {
        header: target.header("pin"),
        target_seq: scene.seq,
        unpin: false,
    };
    let redact = v1::RedactRequest {
        header: target.header("redact"),
        target_seq: scene.late_of(&target.user),
        reason: String::new(),
    };
    vec![
        row("send", send, Wanted::Each(MEMBERS)),
        row("edit", Asked::Edit(edit), Wanted::Each(SENDER)),
        row("react", Asked::React(react), Wanted::Each(MEMBERS)),
        row("pin", Asked::Pin(pin), Wanted::Each(MEMBERS)),
        row("redact", Asked::Redact(redact), Wanted::Each(LATE_ADMINS)),
    ]
}

fn marks(target: &Target) -> Vec<Row> {
    let (delivered, read, unread) = marks_of(&target.scene.room);
    let typing = v1::SetTypingRequest {
        conversation_id: target.scene.room.clone(),
        stopped: false,
    };
    vec![
        row(
            "mark_delivered",
            Asked::MarkDelivered(delivered),
            Wanted::Each(BELONGED),
        ),
        row("mark_read", Asked::MarkRead(read), Wanted::Each(BELONGED)),
        row("mark_unread", Asked::MarkUnread(unread), Wanted::Each(BELONGED)),
        row("typing", Asked::Typing(typing), Wanted::Each(MEMBERS)),
    ]
}

/// What these show of others is looked at by `foreign`.
fn reads(target: &Target) -> Vec<Row> {
    let history = history_after(&target.scene.room, 0, 100);
    let watch = v1::WatchPresence {
        user_ids: vec!["alice".to_owned()],
        replace: true,
    };
    let unwatch = v1::UnwatchPresence {
        user_ids: vec!["alice".to_owned()],
    };
    vec![
        row("history", Asked::History(history), Wanted::Each(BELONGED)),
        row(
            "sync",
            Asked::Sync(v1::ListConversationsRequest::default()),
            Wanted::Each(ANYBODY),
        ),
        row("ping", Asked::Ping(v1::Ping {}), Wanted::Each(ANYBODY)),
        row("watch_presence", Asked::WatchPresence(watch), Wanted::Each(ANYBODY)),
        row(
            "unwatch_presence",
            Asked::UnwatchPresence(unwatch),
            Wanted::Each(ANYBODY),
        ),
    ]
}

fn of_the_session(target: &Target) -> Vec<Row> {
    let status = v1::SetStatusRequest {
        status: v1::Status::Online.into(),
    };
    let state = v1::SetAppState {
        app_state: v1::AppState::Foreground.into(),
    };
    let token = |token: &str| {
        Asked::Reauthenticate(v1::Reauthenticate {
            token: token.to_owned(),
        })
    };
    // Nobody was ever sent so much of it.
    let ack = v1::Ack {
        conversation_id: target.scene.room.clone(),
        seq: 1_000_000,
    };
    vec![
        row("set_status", Asked::SetStatus(status), Wanted::Each(ANYBODY)),
        row("set_app_state", Asked::SetAppState(state), Wanted::Each(ANYBODY)),
        row("reauthenticate", token(&target.own_token), Wanted::Each(ANYBODY)),
        row(
            "reauthenticate",
            token(&target.foreign_token),
            Refused(RefusalReason::Unauthenticated),
        ),
        row("ack", Asked::Ack(ack), Ends(CloseReason::ProtocolError)),
        row(
            "hello",
            Asked::Hello(target.hello.clone()),
            Ends(CloseReason::ProtocolError),
        ),
        row("bye", Asked::Bye(v1::Bye {}), Ends(CloseReason::Bye)),
    ]
}

#[tokio::test]
async fn every_frame_by_everybody_in_and_out_of_the_conversation() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (group, pair) = (scene(&mut bench).await, blocked_scene(&mut bench).await);
    let _online = bench.open("alice", "desktop").await;
    let mut wrong = Vec::new();
    let mut sent = 0;
    // The owner comes last: what they may do changes the scene.
    for (place, (who, user, in_group)) in CALLERS.into_iter().enumerate().rev() {
        let scene = if in_group { &group } else { &pair };
        let known: BTreeSet<String> = rows(&Target::new(&bench, scene, user))
            .iter()
            .map(|row| row.name.to_owned())
            .collect();
        assert_eq!(known, client_frames(), "a row for every frame of the contract");
        let mut session = bench.open(user, "phone").await;
        for row in rows(&Target::new(&bench, scene, user)) {
            sent += 1;
            if let Err(got) = play(&mut session, &row, place).await {
                wrong.push(format!("{} by {who}: {got}", row.name));
            }
            let seen = session.observed();
            wrong.extend(foreign(&seen, scene, who).map(|what| format!("{} showed {who} {what}", row.name)));
            if seen.ended.is_some() {
                session = bench.open(user, "phone").await;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{sent} frames, 0 unexpected");
}

/// Sends a frame; says what came of it when that is not what was wanted.
async fn play(session: &mut RawSession, row: &Row, place: usize) -> Result<(), String> {
    let request = session.ask(row.frame.clone()).await;
    let came = |seen: &Observed| match row.wanted {
        Ends(_) => seen.ended.is_some(),
        _ => seen.answers.contains_key(&request) || seen.ended.is_some(),
    };
    session.until("what comes of a frame", PATIENCE, came).await;
    let seen = session.observed();
    let got = seen.answers.get(&request).map(|body| {
        answered(&v1::ServerFrame {
            request_id: request,
            body: Some(body.clone()),
        })
    });
    let ended = seen.closed.as_ref().map(v1::StreamClosed::reason);
    let as_wanted = match row.wanted {
        Wanted::Each(each) => ended.is_none() && got == Some(expected(each[place])),
        Refused(reason) => ended.is_none() && got == Some(Outcome::Refused(reason)),
        Ends(reason) => ended == Some(reason),
    };
    if as_wanted {
        Ok(())
    } else {
        Err(format!("{got:?}, ended {ended:?}"))
    }
}

/// Something of a conversation, or of its people, that who never was in it, or is no more, must not see.
fn foreign(seen: &Observed, scene: &Scene, who: &str) -> Option<String> {
    let up_to = match who {
        "stranger" => 0,
        "former member" => scene.late_seqs[0] - 1,
        "member" => {
            return online(seen)
                .is_some_and(|online| !online)
                .then(|| "that alice is offline".to_owned());
        }
        _ => return None,
    };
    if online(seen) == Some(true) {
        return Some("that alice is online".to_owned());
    }
    let beyond = seqs_of(seen, &scene.room).into_iter().find(|seq| *seq > up_to);
    beyond.map(|seq| format!("seq {seq}"))
}

/// Whether alice was said to be online, when that was asked.
fn online(seen: &Observed) -> Option<bool> {
    let lists = seen.answers.values().filter_map(|answer| match answer {
        Seen::Watching(list) => list.presences.first(),
        _ => None,
    });
    lists.last().map(|presence| presence.status() != v1::Status::Offline)
}

/// Every seq of a conversation that something on the stream told: entries, pages, heads and rows.
fn seqs_of(seen: &Observed, room: &str) -> Vec<u64> {
    use v1::{get_history_response::Outcome::Page, list_conversations_response::Outcome::List};
    let mut seqs = seen.seqs(room);
    let rows = |rows: &[v1::ConversationSummary]| -> Vec<u64> {
        let of_room = rows.iter().filter(|row| row.conversation_id == room);
        of_room.map(|row| row.head_seq).collect()
    };
    seqs.extend(seen.welcome.iter().flat_map(|welcome| rows(&welcome.conversations)));
    for answer in seen.answers.values() {
        match answer {
            Seen::History(v1::GetHistoryResponse {
                outcome: Some(Page(page)),
            }) => {
                seqs.extend(page.entries.iter().map(|entry| entry.seq).chain([page.head_seq]));
            }
            Seen::Sync(v1::ListConversationsResponse {
                outcome: Some(List(list)),
            }) => seqs.extend(rows(&list.conversations)),
            Seen::Pong(pong) => {
                let of_room = pong.heads.iter().filter(|head| head.conversation_id == room);
                seqs.extend(of_room.map(|head| head.head_seq));
            }
            _ => {}
        }
    }
    seqs
}
