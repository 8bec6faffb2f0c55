//! Text that is meant to deceive or to run: strict for names, untouched and inert in bodies.

use prost::Message;
use stonechat_proto::admin::v1 as admin;
use stonechat_proto::v1;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, RawSession, append_outcome, send_frame};

use crate::raw::{http, unary};

/// What must not stand in a name: controls, NUL, bidi overrides and isolates, what takes no room.
const DECEIVING: [&str; 12] = [
    "nul\0",
    "bell\u{7}",
    "two\nlines",
    "\u{202e}nimda",
    "\u{2066}isolated\u{2069}",
    "left\u{200e}to",
    "zero\u{200b}width",
    "joined\u{200d}ascii",
    "word\u{2060}joiner",
    "\u{feff}bom",
    "soft\u{ad}hyphen",
    "\u{2028}line",
];

/// What runs, were it put into a page as it is.
const SCRIPTS: [&str; 9] = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>",
    "javascript:alert(1)",
    "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'>",
    "{{constructor.constructor('alert(1)')()}}",
    "<a href=\"data:text/html;base64,PHNjcmlwdD4=\">x</a>",
    "</title><style>*{display:none}</style>",
    "%3Cscript%3Ealert(1)%3C/script%3E",
];

/// What stores and screens have stumbled over, and bodies may hold.
const ODD: [&str; 6] = [
    "\u{202e}reversed",
    "zero\u{200b}width and \u{feff}bom",
    "bell\u{7} and escape \u{1b}[31mred",
    "'; DROP TABLE users; --",
    "e\u{301} is not é",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
];

fn rejects(answer: &Result<bytes::Bytes, tonic::Status>) -> bool {
    let refusal = answer.as_ref().err().and_then(stonechat_proto::refusal_of_status);
    refusal.is_some_and(|refusal| refusal.reason() == v1::RefusalReason::Invalid && refusal.field.contains("name"))
}

/// A name is read as an identity: what reorders, hides or ends it is refused wherever a name is given.
#[tokio::test]
async fn deceiving_names_are_refused_everywhere() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.group(&["alice", "bob"]).await;
    let user = bench.token(&Claims::user("alice"));
    let service = bench.token(&Claims::scoped("admin.users admin.conversations"));
    for name in DECEIVING {
        let name = name.to_owned();
        let header = |id: &str| Some(stonechat_tests::harness::header(&room, id));
        let calls = [
            (
                "/stonechat.v1.UserService/UpdateProfile",
                &user,
                v1::UpdateProfileRequest {
                    display_name: name.clone(),
                }
                .encode_to_vec(),
            ),
            (
                "/stonechat.v1.ConversationService/RenameConversation",
                &user,
                v1::RenameConversationRequest {
                    header: header("rename"),
                    name: name.clone(),
                }
                .encode_to_vec(),
            ),
            (
                "/stonechat.v1.ConversationService/CreateConversation",
                &user,
                v1::CreateConversationRequest {
                    client_msg_id: "create".to_owned(),
                    kind: v1::ConversationKind::Group.into(),
                    name: name.clone(),
                    ..Default::default()
                }
                .encode_to_vec(),
            ),
            (
                "/stonechat.admin.v1.UserAdminService/UpsertUser",
                &service,
                admin::UpsertUserRequest {
                    user_id: "eve".to_owned(),
                    display_name: name.clone(),
                }
                .encode_to_vec(),
            ),
            (
                "/stonechat.admin.v1.ConversationAdminService/RenameConversation",
                &service,
                admin::RenameConversationRequest {
                    header: header("rename"),
                    name: name.clone(),
                }
                .encode_to_vec(),
            ),
        ];
        for (path, token, request) in calls {
            let answer = unary(&bench, path, token, request).await;
            assert!(rejects(&answer), "{path} took {name:?}: {answer:?}");
        }
    }
    assert_eq!(bench.entries(&room).await.len(), 1);
}

async fn stored(session: &mut RawSession, room: &str, id: &str, body: &str) -> bool {
    let answer = session.request(send_frame(room, id, body), PATIENCE).await;
    matches!(append_outcome(&answer), Some(Ok(_)))
}

/// Bodies are data: every byte of them comes back, only NUL is refused, and no page of the server ever shows one.
#[tokio::test]
async fn html_in_bodies_is_inert_and_comes_back_byte_for_byte() {
    let mut bench = Bench::start(&[]).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let bodies: Vec<&str> = SCRIPTS.into_iter().chain(ODD).collect();
    for (number, body) in bodies.iter().enumerate() {
        assert!(stored(&mut alice, &room, &format!("m{number}"), body).await, "{body:?}");
    }
    for wrong in ["\0", "a\0b", "<script>\0"] {
        assert!(!stored(&mut alice, &room, "nul", wrong).await, "{wrong:?}");
    }
    let last = 1 + bodies.len() as u64;
    bob.until("all of it", PATIENCE, |seen| seen.reached(&room) >= last)
        .await;
    assert_eq!(bob.observed().texts(&room), bodies);
    // After a restart it comes from the disk.
    bench.server.kill_and_restart().await;
    let entries = bench.entries(&room).await;
    let texts: Vec<&str> = entries.iter().skip(1).map(stonechat_tests::harness::text_of).collect();
    assert_eq!(texts, bodies);
}

/// What is asked for is not shown either: pages are constant, and those that are not there are plain text.
#[tokio::test]
async fn no_page_shows_what_was_asked_for() {
    let bench = Bench::start(&[]).await;
    let plain = http(&bench, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    for path in [
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/?q=<script>alert(1)</script>",
        "/a?<script>alert(1)</script>",
        "//evil.example.org/",
        "/..%2f..%2fetc/passwd",
    ] {
        let more = "referer: <script>alert(1)</script>\r\nuser-agent: <script>alert(1)</script>\r\n";
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{more}connection: close\r\n\r\n");
        let answer = http(&bench, request.as_bytes()).await;
        let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        assert!(!answer.contains("alert"), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}: {answer}");
        let is_page = answer.starts_with("HTTP/1.1 200") && body(&answer) == body(&plain);
        let is_text = answer.contains("content-type: text/plain") || answer.starts_with("HTTP/1.1 4");
        assert!(is_page || is_text, "{path}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("location:"), "{path}: {answer}");
    }
}
