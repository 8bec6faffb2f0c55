//! gRPC-Web over HTTP/1.1: how requests are framed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bed::on_a_node;

/// Rpcs that a request may go to.
pub const PATHS: [&str; 4] = [
    "/stonechat.v1.MessageService/Send",
    "/stonechat.v1.ConversationService/ListConversations",
    "/stonechat.v1.SessionService/Submit",
    "/stonechat.v1.SessionService/Listen",
];
const CONTENT_TYPES: [&str; 3] = [
    "application/grpc-web+proto",
    "application/grpc-web",
    "application/grpc-web-text",
];
/// UNKNOWN and INTERNAL: what clients take for a fault of the server.
const FAULTS: [u8; 2] = [2, 13];

/// Any body: it is answered, by HTTP or by a status that is the client's fault; and the next one is answered, too.
pub fn web_framing(data: &[u8]) {
    let (first, body) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let path = PATHS[usize::from(first) % PATHS.len()];
    let content_type = CONTENT_TYPES[usize::from(first) / PATHS.len() % CONTENT_TYPES.len()];
    on_a_node(async |bed| {
        // A Listen that is accepted would go on for ever: it comes without a token.
        let token = if path.ends_with("Listen") {
            "none".to_owned()
        } else {
            bed.token("alice")
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
             authorization: Bearer {token}\r\nstonechat-device-id: fuzz\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut pipe = bed.pipe().await;
        pipe.write_all(head.as_bytes()).await.expect("written");
        // A server that knows enough may answer and close before it has read everything.
        let _unread = pipe.write_all(body).await;
        let mut answer = Vec::new();
        pipe.read_to_end(&mut answer).await.expect("an answer");
        judge(&String::from_utf8_lossy(&answer));
    });
}

fn judge(answer: &str) {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    match status {
        Some("200") => {}
        Some(code) if code.starts_with('4') => return,
        _ => panic!("no answer, or a fault: {answer}"),
    }
    // Of the text form only the head is plain; its trailers are not looked at.
    let Some(at) = answer.find("grpc-status:") else {
        assert!(answer.contains("application/grpc-web-text"), "no status: {answer}");
        return;
    };
    let digits = answer[at + "grpc-status:".len()..].trim_start();
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    let code: u8 = digits.parse().expect("a number");
    assert!(!FAULTS.contains(&code), "{answer}");
}
