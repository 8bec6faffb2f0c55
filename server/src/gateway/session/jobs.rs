//! What comes of the things a session starts and does not wait for.

use std::sync::Arc;

use stonechat_proto::v1;

use super::Session;
use super::ack::AckStored;
use super::plan::ReadOrder;
use super::watch::Watched;
use crate::auth::Principal;
use crate::conversation::Summary;
use crate::domain::{ConversationId, Refusal, Seq, UnixMillis};
use crate::storage::{ChangeStamp, InboxRow, StoredEntry};

/// A page of the inbox, and where the device is in each of its conversations.
pub(super) struct Page {
    /// The rows with the device's positions, oldest change first.
    pub(super) rows: Vec<(InboxRow, Seq)>,
    /// There were no more.
    pub(super) end: bool,
}

impl Page {
    /// The part of it that changed after a stamp.
    pub(super) fn after(&self, stamp: ChangeStamp) -> Self {
        let rows = self.rows.iter().filter(|(row, _)| row.change > stamp);
        Self {
            rows: rows.copied().collect(),
            end: self.end,
        }
    }
}

/// The end of a job. Errors were made into text: they are logged, and tried again.
pub(super) enum Done {
    /// Nothing to do.
    Nothing,
    /// Inbox rows after a stamp.
    Page(Result<Page, String>),
    /// Device positions.
    Positions(Result<Vec<(ConversationId, Seq)>, String>),
    /// Entries of a conversation.
    Read(ReadOrder, Result<Vec<Arc<StoredEntry>>, Refusal>),
    /// Acks were made durable, or not.
    Acked(Vec<AckStored>),
    /// Where the device is in a conversation that the session had no memory of, for an ack there.
    AckChecked(ConversationId, Seq, Option<u64>, Result<Seq, String>),
    /// A row of the user's list.
    Row(ConversationId, Result<Option<Summary>, Refusal>),
    /// Presence of watched users.
    Watched(Watched),
    /// The newest inbox rows, for a pong.
    Newest(Option<u64>, Result<Vec<InboxRow>, String>),
    /// A new token was checked.
    Reauthenticated(Option<u64>, Result<Principal, Refusal>),
    /// The token, issued then, was checked once more.
    CheckedAgain(UnixMillis, Result<(), Refusal>),
}

impl Session {
    /// Takes in what came of a job.
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Page(page) => self.page(page),
            Done::Positions(positions) => self.positions(positions),
            Done::Read(order, entries) => self.read(order, entries),
            Done::Acked(stored) => self.acked(stored),
            Done::AckChecked(conversation, seq, reply, stored) => self.ack_checked(conversation, seq, reply, stored),
            Done::Row(conversation, summary) => self.row(conversation, summary),
            Done::Watched(watched) => self.watched(watched),
            Done::Newest(reply, rows) => self.pong(reply, rows),
            Done::Reauthenticated(reply, principal) => self.reauthenticated(reply, principal),
            Done::CheckedAgain(issued, checked) => self.checked_again(issued, checked),
        }
    }

    /// Says that everything up to a stamp is on the device: the next hello starts there.
    pub(super) fn synced(&mut self, stamp: ChangeStamp) {
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        self.job(async move {
            let markers = gateway.on.conversations.markers();
            // The device has every row that was visible; one below the stamp may still become so.
            let settled = markers.settled(stamp);
            markers.raise_synced(&who.user, &who.device, settled).await;
            Done::Nothing
        });
    }

    /// The answer of requests whose answer says nothing else.
    pub(super) fn reply_done(&mut self, reply: Option<u64>) {
        if reply.is_some() {
            self.answered(reply);
        }
        self.reply(reply, v1::server_frame::Body::Done(v1::Done {}));
    }
}
