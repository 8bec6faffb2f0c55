//! Entries and batches for the suites.

use std::sync::Arc;

use crate::domain::{
    Body, ClientMsgId, Content, ConversationId, CorrelationId, DeviceId, Entry, Epoch, MessageContent, Ordinal, Sender,
    Seq, UnixMillis, UserId,
};
use crate::storage::{AppendBatch, AppendError, Head, MessageLog, PageLimit, PendingAppend, StoredEntry};

pub(crate) const WIDE: PageLimit = PageLimit {
    entries: usize::MAX,
    bytes: usize::MAX,
};

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).expect("well-formed")
}

pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("well-formed")
}

pub(crate) fn id(name: &str) -> ClientMsgId {
    ClientMsgId::parse(name).expect("well-formed")
}

/// Conversations whose keys lie next to each other.
pub(crate) fn conversation(number: u16) -> ConversationId {
    let mut bytes = [7; 16];
    bytes[14..].copy_from_slice(&number.to_be_bytes());
    ConversationId(bytes)
}

pub(crate) fn sender(user_name: &str, device_name: &str) -> Sender {
    Sender {
        user: Some(user(user_name)),
        device: Some(device(device_name)),
    }
}

pub(crate) fn text(text: &str) -> MessageContent {
    MessageContent {
        content: Content::Text(text.to_owned()),
        reply_to: None,
        media: Vec::new(),
    }
}

/// What a test wants appended.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) sender: Sender,
    pub(crate) id: ClientMsgId,
    pub(crate) body: Body,
}

pub(crate) fn wish(id_text: &str, body: Body) -> Wish {
    Wish {
        sender: sender("ada", "phone"),
        id: id(id_text),
        body,
    }
}

pub(crate) fn message(id_text: &str) -> Wish {
    wish(id_text, Body::Message(text(id_text)))
}

pub(crate) fn edit(id_text: &str, target: u64) -> Wish {
    let content = text(&format!("edit {id_text}"));
    wish(
        id_text,
        Body::Edited {
            target: Seq(target),
            content,
        },
    )
}

pub(crate) fn redact(id_text: &str, target: u64) -> Wish {
    wish(
        id_text,
        Body::Redacted {
            target: Seq(target),
            reason: "why".to_owned(),
        },
    )
}

/// The payload hash a test gives an id: distinct per id.
pub(crate) fn payload_of(id: &ClientMsgId) -> [u8; 32] {
    let mut payload = [0; 32];
    for (at, byte) in id.as_str().bytes().enumerate() {
        payload[at % 32] ^= byte.wrapping_add(u8::try_from(at / 32).unwrap_or(0));
    }
    payload
}

/// A well-formed batch on top of `expected`.
pub(crate) fn batch(conversation: ConversationId, expected: Head, wishes: &[Wish]) -> AppendBatch {
    let mut head = Head {
        floor: Seq(1),
        ..expected
    };
    let mut entries = Vec::new();
    for wish in wishes {
        head.seq = head.seq.next();
        head.time = UnixMillis(head.time.0 + 10);
        head.ordinal = Ordinal(head.ordinal.0 + u64::from(wish.body.counts_as_unread()));
        head.epoch = Epoch(head.epoch.0 + u64::from(wish.body.changes_membership()));
        entries.push(PendingAppend {
            entry: entry_at(conversation, head, wish),
            payload: payload_of(&wish.id),
        });
    }
    AppendBatch {
        conversation,
        expected,
        entries,
        head,
    }
}

fn entry_at(conversation: ConversationId, head: Head, wish: &Wish) -> Entry {
    Entry {
        conversation,
        seq: head.seq,
        time: head.time,
        ordinal: head.ordinal,
        sender: wish.sender.clone(),
        client_msg_id: wish.id.clone(),
        correlation: CorrelationId([9; 16]),
        origin_time: None,
        body: wish.body.clone(),
    }
}

/// Appends on top of the present head.
pub(crate) async fn append(
    log: &dyn MessageLog,
    conversation: ConversationId,
    wishes: &[Wish],
) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
    let head = log.head(conversation).await.expect("readable").unwrap_or_default();
    log.append(batch(conversation, head, wishes)).await
}

/// The whole log of a conversation.
pub(crate) async fn everything(log: &dyn MessageLog, conversation: ConversationId) -> Vec<Arc<StoredEntry>> {
    let read = log.read(conversation, Seq(1), Seq(u64::MAX), WIDE).await;
    read.expect("readable")
}

pub(crate) fn seqs(entries: &[Arc<StoredEntry>]) -> Vec<u64> {
    entries.iter().map(|stored| stored.entry.seq.0).collect()
}
