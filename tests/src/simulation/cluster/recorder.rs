//! What people did and saw, in simulated time, for the history checker.

use std::sync::{Mutex, MutexGuard, PoisonError};

use stonechat_server::domain::{Body, Content, Entry};
use tokio::time::Instant;

use crate::checker::{
    BodyHash, Conversation, Device, FinalEntry, History, Membership, MessageId, MessageKey, Moment, OpId, Seq,
    SessionRef, Sighting, User, What,
};

/// Shared by everybody of a run.
pub(super) struct Recorder {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    history: History,
    ops: u64,
    sessions: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            started: stonechat_host::monotonic(),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn push(&self, what: What) {
        let at = self.now();
        self.lock().history.push(at, what);
    }

    pub(super) fn op(&self) -> OpId {
        let mut inner = self.lock();
        inner.ops += 1;
        OpId(inner.ops)
    }

    pub(super) fn session(&self) -> SessionRef {
        let mut inner = self.lock();
        inner.sessions += 1;
        SessionRef(inner.sessions)
    }

    pub(super) fn take(&self) -> History {
        std::mem::take(&mut self.lock().history)
    }
}

/// Hash of a body; `None` for a tombstone.
pub(super) fn body_hash(body: &Body) -> Option<BodyHash> {
    match body {
        Body::Tombstone { .. } => None,
        Body::Message(message) => match &message.content {
            Content::Text(text) => Some(BodyHash::of(text.as_bytes())),
            Content::Ciphertext { data, .. } => Some(BodyHash::of(data)),
        },
        other => Some(BodyHash::of(format!("{other:?}").as_bytes())),
    }
}

fn key(conversation: &Conversation, entry: &Entry) -> MessageKey {
    let text = |of: Option<&str>| of.unwrap_or_default().to_owned();
    MessageKey {
        conversation: conversation.clone(),
        user: User(text(entry.sender.user.as_ref().map(|user| user.as_str()))),
        device: Device(text(entry.sender.device.as_ref().map(|device| device.as_str()))),
        id: MessageId(entry.client_msg_id.as_str().to_owned()),
    }
}

/// An entry as a reader sees it.
pub(super) fn sighting(conversation: &Conversation, entry: &Entry) -> Sighting {
    Sighting {
        seq: Seq(entry.seq.0),
        key: key(conversation, entry),
        body: body_hash(&entry.body),
    }
}

/// An entry as it lies in the end.
pub(super) fn final_entry(conversation: &Conversation, entry: &Entry) -> FinalEntry {
    let seen = sighting(conversation, entry);
    let membership = match &entry.body {
        Body::Created { members, .. } | Body::Members(members) => {
            Membership::Joined(members.iter().map(|member| User(member.user.to_string())).collect())
        }
        Body::Left { user, .. } => Membership::Left(User(user.to_string())),
        _ => Membership::Unchanged,
    };
    FinalEntry {
        seq: seen.seq,
        key: seen.key,
        body: seen.body,
        membership,
    }
}
