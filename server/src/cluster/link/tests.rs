//! What a line keeps while its node does not take it.

use std::io;

use async_trait::async_trait;
use stonechat_host::BoxedIo;

use super::*;
use crate::conversation::{Caller, Forwarded};
use crate::domain::authorization::Actor;
use crate::domain::limits::FRAME_BYTES_MAX;
use crate::domain::{Change, CorrelationId, Seq};
use crate::storage::contract::samples;

/// A node that takes no connection.
struct Nowhere;

#[async_trait]
impl Connector for Nowhere {
    async fn connect(&self, _authority: &str) -> io::Result<BoxedIo> {
        std::future::pending().await
    }
}

fn large() -> Forwarded {
    let text = "x".repeat(FRAME_BYTES_MAX - 1_024);
    Forwarded {
        unsure: false,
        caller: Caller {
            actor: Actor::User(samples::user("ada")),
            device: Some(samples::device("phone")),
            correlation: CorrelationId([9; 16]),
        },
        request: AppendRequest {
            conversation: samples::conversation(7),
            client_msg_id: samples::id("m"),
            previous: None,
            known_head: Seq(0),
            change: Change::Message(samples::text(&text)),
            origin_time: None,
        },
    }
}

/// I9: what waits for another node is bounded by bytes, not by number alone; and who asked has its room back when the
/// line drops what waited.
#[tokio::test(start_paused = true)]
async fn i9_a_line_is_bounded_by_bytes() {
    let node = NodeRecord {
        name: "stuck".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        core: true,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    let link = Link::open(node, Arc::new(Nowhere));
    let append = large();
    let send = || link.send(forward::request(&append, 1), append.request.clone());
    let mut waiting: Vec<_> = std::iter::from_fn(send).take(QUEUE_MAX).collect();
    let bytes = waiting.len() * FRAME_BYTES_MAX;
    assert!((LINE_BYTES_MAX / 4..=LINE_BYTES_MAX).contains(&bytes), "{bytes} bytes");
    assert!(send().is_none(), "one more");
    // The connection is given up, and with it what waited for it.
    for answer in waiting.drain(..) {
        assert!(answer.await.is_err());
    }
    assert!(send().is_some());
}
