//! The store without a server: logs made as fast as it takes them.

use std::path::Path;

use hdrhistogram::Histogram;
use stonechat_host::Host;
use stonechat_server::domain::{
    Body, ClientMsgId, Content, ConversationId, CorrelationId, DeviceId, Entry, MessageContent, Ordinal, Sender, Seq,
    UserId,
};
use stonechat_server::storage::embedded::EmbeddedStore;
use stonechat_server::storage::{AppendBatch, Head, MessageLog, PendingAppend};

use crate::Outcome;

/// Entries of a batch: what one conversation's actor commits at most.
pub(crate) const BATCH: u64 = 64;
/// Bytes of a message's text.
const TEXT_BYTES: usize = 100;

/// What appending took.
pub(crate) struct Appended {
    /// All of it.
    pub(crate) seconds: f64,
    /// Each batch, microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Appends so many messages of a user to a conversation of an embedded store, and says how long it took, in seconds.
pub(crate) async fn append(folder: &Path, conversation: ConversationId, user: &str, count: u64) -> Outcome<f64> {
    let store = EmbeddedStore::open(folder, &Host::system())?;
    Ok(append_to(&store, conversation, user, count, BATCH).await?.seconds)
}

/// Appends so many messages of a user to a conversation of any log, so many at a time.
pub(crate) async fn append_to(
    store: &dyn MessageLog,
    conversation: ConversationId,
    user: &str,
    count: u64,
    at_a_time: u64,
) -> Outcome<Appended> {
    let sender = Sender {
        user: Some(UserId::parse(user)?),
        device: Some(DeviceId::parse(user)?),
    };
    let mut head = store.head(conversation).await?.unwrap_or_default();
    let mut latency = Histogram::new(3)?;
    let begun = stonechat_host::monotonic();
    let last = head.seq.0 + count;
    while head.seq.0 < last {
        // A batch never straddles two buckets.
        let room = 4_096 - (head.seq.0 + 1) % 4_096;
        let entries = at_a_time.min(last - head.seq.0).min(room);
        let batch = batch(conversation, head, &sender, entries)?;
        head = batch.head;
        let started = stonechat_host::monotonic();
        store.append(batch).await?;
        latency.record(u64::try_from(started.elapsed().as_micros())?)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Appended { seconds, latency })
}

fn batch(conversation: ConversationId, expected: Head, sender: &Sender, count: u64) -> Outcome<AppendBatch> {
    let mut head = Head {
        floor: Seq(1),
        ..expected
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        head.seq = head.seq.next();
        head.ordinal = Ordinal(head.ordinal.0 + 1);
        let text = format!("{:<TEXT_BYTES$}", head.seq.0);
        let entry = Entry {
            conversation,
            seq: head.seq,
            time: head.time,
            ordinal: head.ordinal,
            sender: sender.clone(),
            client_msg_id: ClientMsgId::parse(&format!("bench-{}", head.seq.0))?,
            correlation: CorrelationId([9; 16]),
            origin_time: None,
            body: Body::Message(MessageContent {
                content: Content::Text(text),
                reply_to: None,
                media: Vec::new(),
            }),
        };
        entries.push(PendingAppend {
            entry,
            payload: [7; 32],
        });
    }
    Ok(AppendBatch {
        conversation,
        expected,
        entries,
        head,
    })
}
