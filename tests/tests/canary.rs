//! F16: no body and no token in the logs, at the most talkative level, whatever goes wrong.

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_tests::harness::{Acks, Bench, Claims, Hello, PATIENCE, header, send_frame, text};

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

#[tokio::test]
async fn no_body_and_no_token_is_logged() {
    let mut bench = Bench::start(&["--log-filter", TALKATIVE]).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    for frame in with_canary(&room, "first") {
        alice.request(frame, PATIENCE).await;
    }
    // The same ids with other payloads, malformed ones, and a stranger: refusals are logged, too.
    alice
        .request(send_frame(&room, "first-send", &format!("{CANARY} again")), PATIENCE)
        .await;
    alice
        .request(send_frame(&room, "nul", &format!("{CANARY}\0")), PATIENCE)
        .await;
    alice
        .request(send_frame(&room, "long", &CANARY.repeat(2_000)), PATIENCE)
        .await;
    bench.users(&["mallory"]).await;
    let mut mallory = bench.open("mallory", "phone").await;
    mallory.request(send_frame(&room, "m", CANARY), PATIENCE).await;
    let tokens = [
        bench.token(&Claims::user("alice")),
        bench.token(&Claims::user("alice").expiring_in(-60)),
        format!("{CANARY}.not.a-token"),
    ];
    for token in &tokens {
        let hello = Hello {
            token: token.clone(),
            ..bench.hello("alice", "laptop")
        };
        let mut session = bench.open_with("alice", hello, Acks::Each).await;
        session
            .until("an answer", PATIENCE, |seen| {
                seen.welcome.is_some() || seen.ended.is_some()
            })
            .await;
    }
    bob.ping(PATIENCE).await;
    bench.server.kill_and_restart().await;
    bench.server.signal("TERM").await;
    bench.server.wait().await;
    let log = std::fs::read_to_string(bench.server.log_file()).expect("the log");
    assert!(
        log.lines().count() > 50,
        "it was talkative: {} lines",
        log.lines().count()
    );
    let signature = |token: &str| token.rsplit('.').next().unwrap_or_default().to_owned();
    let mut secrets: Vec<String> = tokens
        .iter()
        .filter(|token| !token.starts_with(CANARY))
        .map(|t| signature(t))
        .collect();
    secrets.push(CANARY.to_owned());
    let key = std::fs::read_to_string(bench.server.data_folder().join("secret.hs256")).expect("the secret");
    secrets.push(key.trim().to_owned());
    for (number, line) in log.lines().enumerate() {
        let found = secrets.iter().find(|secret| line.contains(secret.as_str()));
        assert!(found.is_none(), "line {} has a secret: {line}", number + 1);
    }
}
