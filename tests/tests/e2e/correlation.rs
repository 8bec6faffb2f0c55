//! One id from end to end: what a caller chose joins the answer, the entry, each delivery, and the log lines about them.

use stonechat_proto::v1;
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, header, text};

use crate::support::reaches;

const CORRELATION: &str = "stonechat-correlation-id";
/// Chosen by the caller.
const CHOSEN: &str = "0123456789abcdef0123456789abcdef";
/// The log lines of a message's way: at the caller's gateway, in the conversation, at the fan-out, at each recipient's stream.
const LINES: [&str; 4] = ["operation done", "append answered", "published", "deliver"];
/// Everything of ours, without what the transport says.
const TALKATIVE: &str = "debug,hyper=info,h2=info,hyper_util=info";

#[tokio::test]
async fn the_id_a_caller_chose_comes_back_and_joins_everything_that_follows() {
    let mut bench = Bench::start(&["--log-filter", TALKATIVE]).await;
    let room = bench.direct("alice", "bob").await;
    let mut bob = bench.open("bob", "phone").await;
    let mut client = MessageServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
    let mut request = tonic::Request::new(v1::SendRequest {
        header: Some(header(&room, "chosen")),
        content: Some(text("hello")),
    });
    request
        .metadata_mut()
        .insert(CORRELATION, CHOSEN.parse().expect("ASCII"));
    let answer = client.send(request).await.expect("an answer");
    let told = answer
        .metadata()
        .get(CORRELATION)
        .expect("an id")
        .to_str()
        .expect("ASCII")
        .to_owned();
    assert_eq!(told, CHOSEN, "the metadata of the answer");
    let Some(v1::send_response::Outcome::Appended(appended)) = answer.into_inner().outcome else {
        panic!("not stored");
    };
    assert_eq!(appended.correlation_id, CHOSEN, "the answer");
    reaches(&mut bob, &room, appended.seq).await;
    let stored = bench.entries(&room).await;
    assert_eq!(stored.last().expect("an entry").correlation_id, CHOSEN, "the entry");
    let seen = bob.observed();
    assert_eq!(
        seen.entries(&room).last().expect("a delivery").correlation_id,
        CHOSEN,
        "the delivery"
    );
    bob.ping(PATIENCE).await;
    let log = std::fs::read_to_string(bench.server.log_file()).expect("the log");
    for what in LINES {
        let about = |line: &&str| line.contains(what) && line.contains(CHOSEN);
        assert!(log.lines().any(|line| about(&line)), "no line {what:?} with the id");
    }
    // Another request has another id: it is not all one.
    let other = client.send(v1::SendRequest {
        header: Some(header(&room, "not-chosen")),
        content: Some(text("hello again")),
    });
    let other = other.await.expect("an answer");
    let drawn = other
        .metadata()
        .get(CORRELATION)
        .expect("an id")
        .to_str()
        .expect("ASCII");
    assert!(drawn != CHOSEN && drawn.len() == CHOSEN.len(), "{drawn}");
}
