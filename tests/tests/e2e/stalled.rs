//! Readers that stop reading (P18, I9): what they cost the server does not grow with what is sent to them.

use stonechat_server::gateway::limits::QUEUE_BYTES_MAX;
use stonechat_tests::harness::{Acks, Bench, PATIENCE, RawSession, UNHURRIED};

use crate::support::{appended, judge, reaches};

/// Users with streams that stall, and how many each has.
const USERS: usize = 20;
const STREAMS_EACH: usize = 10;
/// Messages while they stall, more than a window, and bytes of each: 6 MiB in all.
const MESSAGES: usize = 400;
const MESSAGE_BYTES: usize = 15 * 1024;
/// Most that one stalled stream may cost: buffers of the session and the connection, and its part of what the server keeps
/// once. What waits in its queue is shared with all others; copies of it would take twice this.
const BYTES_PER_STREAM_MAX: u64 = QUEUE_BYTES_MAX as u64 / 2;

async fn stalled(bench: &Bench, names: &[String]) -> Vec<RawSession> {
    let mut streams = Vec::new();
    for name in names {
        for device in 0..STREAMS_EACH {
            let device = format!("device-{device}");
            let mut stream = bench.open_with(name, bench.hello(name, &device), Acks::Each).await;
            stream
                .until("the end of the backlog", PATIENCE, |seen| seen.caught_up)
                .await;
            stream.pause();
            streams.push(stream);
        }
    }
    streams
}

#[tokio::test]
async fn i9_two_hundred_stalled_readers_cost_no_copies_of_what_they_are_owed() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let names: Vec<String> = (0..USERS).map(|number| format!("reader{number}")).collect();
    let members: Vec<&str> = ["alice"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let room = bench.group(&members).await;
    let mut alice = bench.open("alice", "phone").await;
    let mut streams = stalled(&bench, &names).await;
    let before = bench.server.resident_bytes();
    let mut requests = Vec::new();
    for number in 0..MESSAGES {
        let text = format!("{number:0MESSAGE_BYTES$}");
        let frame = stonechat_tests::harness::send_frame(&room, &format!("m{number}"), &text);
        requests.push(alice.ask(frame).await);
    }
    let mut newest = 0;
    for request in requests {
        newest = appended(&alice.answer(request, PATIENCE).await).seq;
    }
    reaches(&mut alice, &room, newest).await;
    let growth = bench.server.resident_bytes().saturating_sub(before);
    let each = growth / streams.len() as u64;
    println!("{} stalled streams: {growth} bytes more, {each} each", streams.len());
    assert!(each <= BYTES_PER_STREAM_MAX, "{each} bytes each");
    // Whoever reads on gets all of it, in order.
    let mut again = streams.swap_remove(0);
    drop(streams);
    again.go_on();
    reaches(&mut again, &room, newest).await;
    judge(&bench.verdict().await, &[]);
}
