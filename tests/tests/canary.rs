//! F16: no body and no token in the logs, at the most talkative level, whatever goes wrong. The logs of all other suites are
//! looked at when their servers end (`ServerProcess`).

use stonechat_proto::admin::v1 as admin;
use stonechat_proto::admin::v1::conversation_admin_service_client::ConversationAdminServiceClient;
use stonechat_proto::admin::v1::message_admin_service_client::MessageAdminServiceClient;
use stonechat_proto::admin::v1::token_admin_service_client::TokenAdminServiceClient;
use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_proto::v1::session_service_client::SessionServiceClient;
use stonechat_proto::v1::user_service_client::UserServiceClient;
use stonechat_tests::harness::{
    Acks, Bench, Claims, Hello, Observed, PATIENCE, SECRETS, base64, header, send_frame, text,
};

/// In every body; the log must not have it.
const CANARY: &str = "canary-7d1f";

/// All of ours, and what stands between us and the wire; hyper and h2 would write every byte of a frame.
const TALKATIVE: &str = "trace,hyper=info,h2=info,hyper_util=info";

fn with_canary(room: &str, id: &str) -> Vec<Asked> {
    let body = format!("{CANARY} in a body");
    let secret = v1::MessageContent {
        content: Some(v1::message_content::Content::Ciphertext(v1::Ciphertext {
            scheme: "olm.v1".to_owned(),
            data: body.clone().into_bytes().into(),
        })),
        media: vec![v1::MediaReference {
            uri: format!("{CANARY}/cat.jpg"),
            ..v1::MediaReference::default()
        }],
        ..v1::MessageContent::default()
    };
    let head = |suffix: &str| Some(header(room, &format!("{id}-{suffix}")));
    vec![
        send_frame(room, &format!("{id}-send"), &body),
        Asked::Send(v1::SendRequest {
            header: head("secret"),
            content: Some(secret),
        }),
        Asked::Edit(v1::EditRequest {
            header: head("edit"),
            target_seq: 2,
            content: Some(text(&body)),
        }),
        Asked::React(v1::ReactRequest {
            header: head("react"),
            target_seq: 2,
            reaction: CANARY.to_owned(),
            remove: false,
        }),
        Asked::Redact(v1::RedactRequest {
            header: head("redact"),
            target_seq: 3,
            reason: body,
        }),
    ]
}

/// Everything that is wrong in some way: refusals are logged, too.
fn refused(room: &str) -> Vec<Asked> {
    vec![
        // The id of another payload.
        send_frame(room, "first-send", &format!("{CANARY} again")),
        send_frame(room, "nul", &format!("{CANARY}\0")),
        send_frame(room, "long", &CANARY.repeat(2_000)),
    ]
}

/// The same by unary calls, and what integrators say.
async fn unary_calls(bench: &Bench, room: &str) {
    let mut messages = MessageServiceClient::new(bench.call_as(&Claims::user("alice"), "laptop"));
    for body in [
        format!("{CANARY} by a call"),
        format!("{CANARY}\0"),
        CANARY.repeat(2_000),
    ] {
        let request = v1::SendRequest {
            header: Some(header(room, "unary")),
            content: Some(text(&body)),
        };
        let _refused = messages.send(request).await;
    }
    let mut users = UserServiceClient::new(bench.call_as(&Claims::user("alice"), "laptop"));
    let profile = v1::UpdateProfileRequest {
        display_name: CANARY.to_owned(),
    };
    users.update_profile(profile).await.expect("an answer");
    let mut admins = MessageAdminServiceClient::new(bench.admin());
    let request = admin::SendRequest {
        header: Some(header(room, "admin")),
        on_behalf_of: "alice".to_owned(),
        content: Some(text(&format!("{CANARY} by an integrator"))),
        origin_time_ms: 0,
    };
    admins.send(request).await.expect("an answer");
    let mut conversations = ConversationAdminServiceClient::new(bench.admin());
    let request = admin::RenameConversationRequest {
        header: Some(header(room, "rename")),
        name: CANARY.to_owned(),
    };
    conversations.rename_conversation(request).await.expect("an answer");
}

/// A token that was issued by the server itself.
async fn issued(bench: &Bench) -> String {
    let request = admin::IssueTokenRequest {
        user_id: "alice".to_owned(),
        device_id: String::new(),
        ttl_seconds: 60,
    };
    let mut tokens = TokenAdminServiceClient::new(bench.admin());
    let answer = tokens.issue_token(request).await.expect("an answer").into_inner();
    match answer.outcome {
        Some(admin::issue_token_response::Outcome::Token(issued)) => issued.token,
        other => panic!("no token: {other:?}"),
    }
}

/// A browser's session: the same frames by Submit. Returns its resume token.
async fn browser(bench: &Bench, room: &str) -> Vec<u8> {
    let mut client = SessionServiceClient::new(bench.call_as(&Claims::user("alice"), "browser"));
    let hello = Some(bench.hello("alice", "browser"));
    let answer = client.listen(v1::ListenRequest { hello }).await;
    let mut frames = answer.expect("a session").into_inner();
    let first = frames.message().await.expect("a frame").expect("a frame");
    let Some(Seen::Welcome(welcome)) = first.frame.and_then(|frame| frame.body) else {
        panic!("welcome comes first");
    };
    let reauthenticate = Asked::Reauthenticate(v1::Reauthenticate {
        token: bench.token(&Claims::user("alice")),
    });
    let asked = with_canary(room, "browser")
        .into_iter()
        .chain(refused(room))
        .chain([reauthenticate]);
    let frames = asked.zip(1..).map(|(body, request_id)| v1::ClientFrame {
        request_id,
        body: Some(body),
    });
    let request = v1::SubmitRequest {
        session_id: welcome.session_id,
        frames: frames.collect(),
    };
    client.submit(request).await.expect("answers");
    welcome.resume_token.to_vec()
}

/// Hellos with good tokens and bad ones, and with resume tokens.
async fn hellos(bench: &Bench, tokens: &[String], resume: &[Vec<u8>]) {
    for token in tokens {
        for resume_token in resume {
            let hello = Hello {
                token: token.clone(),
                resume_token: resume_token.clone().into(),
                ..bench.hello("alice", "laptop")
            };
            let mut session = bench.open_with("alice", hello, Acks::Each).await;
            let answered = |seen: &Observed| seen.welcome.is_some() || seen.ended.is_some();
            session.until("an answer", PATIENCE, answered).await;
        }
    }
}

/// Ways in which bytes get into a log.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let escaped = format!("{:?}", bytes::Bytes::copy_from_slice(bytes));
    vec![hex, list, escaped, base64(bytes)]
}

#[tokio::test]
async fn no_body_and_no_token_is_logged() {
    let mut bench = Bench::start(&["--log-filter", TALKATIVE]).await;
    let room = bench.group(&["alice", "bob"]).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    for frame in with_canary(&room, "first").into_iter().chain(refused(&room)) {
        alice.request(frame, PATIENCE).await;
    }
    bench.users(&["mallory"]).await;
    let mut mallory = bench.open("mallory", "phone").await;
    mallory.request(send_frame(&room, "m", CANARY), PATIENCE).await;
    unary_calls(&bench, &room).await;
    let resume = [
        browser(&bench, &room).await,
        alice.welcome(PATIENCE).await.resume_token.to_vec(),
        vec![7; 32],
    ];
    let tokens = [
        bench.token(&Claims::user("alice")),
        bench.token(&Claims::user("alice").expiring_in(-60)),
        issued(&bench).await,
        format!("{CANARY}.not.a-token"),
    ];
    hellos(&bench, &tokens, &resume).await;
    bob.ping(PATIENCE).await;
    bench.server.kill_and_restart().await;
    bench.server.signal("TERM").await;
    bench.server.wait().await;
    let log = std::fs::read_to_string(bench.server.log_file()).expect("the log");
    let lines = log.lines().count();
    assert!(lines > 50, "it was talkative: {lines} lines");
    let key = std::fs::read_to_string(bench.server.data_folder().join("secret.hs256")).expect("the secret");
    // Every part of a token, and so every token as a whole.
    let parts = tokens
        .iter()
        .flat_map(|token| token.split('.'))
        .filter(|part| part.len() > 8);
    let mut secrets: Vec<String> = parts.map(str::to_owned).collect();
    secrets.extend(SECRETS.map(str::to_owned));
    secrets.extend(resume.iter().flat_map(|token| spellings(token)));
    secrets.push(key.trim().to_owned());
    assert!(secrets.contains(&CANARY.to_owned()), "every suite looks for it");
    for (number, line) in log.lines().enumerate() {
        let found = secrets.iter().find(|secret| line.contains(secret.as_str()));
        assert!(found.is_none(), "line {} has a secret: {line}", number + 1);
    }
}
