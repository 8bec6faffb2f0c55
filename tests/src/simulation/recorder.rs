//! What the players did and saw, in simulated time, for the history checker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;
use stonechat_proto::v1;
use stonechat_proto::v1::entry::Body;

use crate::checker::{BodyHash, History, MessageId, MessageKey, Moment, OpId, Seq, Sighting, What};

/// Shared by all players of a run.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    history: History,
    ops: u64,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, what: What) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        self.lock().history.push(Moment(micros), what);
    }

    pub(super) fn op(&self) -> OpId {
        let mut inner = self.lock();
        inner.ops += 1;
        OpId(inner.ops)
    }

    pub(super) fn take(&self) -> History {
        std::mem::take(&mut self.lock().history)
    }
}

/// Hash of an entry's body; `None` for a tombstone.
pub(super) fn body_hash(entry: &v1::Entry) -> Option<BodyHash> {
    match &entry.body {
        Some(Body::Tombstone(_)) | None => None,
        Some(_) => {
            let body = v1::Entry {
                body: entry.body.clone(),
                ..v1::Entry::default()
            };
            Some(BodyHash::of(&body.encode_to_vec()))
        }
    }
}

/// Hash of the body that a message becomes.
pub(super) fn message_hash(content: &v1::MessageContent) -> BodyHash {
    let body = v1::Entry {
        body: Some(Body::Message(content.clone())),
        ..v1::Entry::default()
    };
    BodyHash::of(&body.encode_to_vec())
}

pub(super) fn key_of(entry: &v1::Entry) -> MessageKey {
    MessageKey {
        conversation: entry.conversation_id.as_str().into(),
        user: entry.sender_user_id.as_str().into(),
        device: entry.sender_device_id.as_str().into(),
        id: MessageId(entry.client_msg_id.clone()),
    }
}

pub(super) fn sighting(entry: &v1::Entry) -> Sighting {
    Sighting {
        seq: Seq(entry.seq),
        key: key_of(entry),
        body: body_hash(entry),
    }
}
