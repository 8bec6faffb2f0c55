//! Small news of a user's conversations: own rows that changed, receipts that moved. They merge while the queue is full.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::Session;
use super::jobs::Done;
use crate::bus::ReceiptsMoved;
use crate::conversation::Summary;
use crate::domain::{ConversationId, Refusal, Seq, UserId};
use crate::gateway::limits::{NOTICES_MAX, RECEIPT_MEMBERS_MAX};
use crate::telemetry::meters::{Resync, meters};
use crate::wire;

/// News that waits for room.
#[derive(Debug, Default)]
pub(super) struct Notices {
    rows: BTreeSet<ConversationId>,
    row_flying: bool,
    receipts: BTreeMap<ConversationId, Merged>,
    /// Members in `receipts`, over all conversations.
    members: usize,
    resync: bool,
    /// Changed rows were not noted: those that the inbox shows as changed since its last reading are.
    rows_lost: bool,
}

#[derive(Debug, Default)]
struct Merged {
    members: BTreeMap<UserId, (Seq, Seq)>,
    delivered_to_all: Seq,
    read_by_all: Seq,
}

impl Notices {
    /// The user's own row of a conversation changed.
    pub(super) fn row(&mut self, conversation: ConversationId) {
        if self.rows.len() < NOTICES_MAX {
            self.rows.insert(conversation);
        } else {
            self.lost();
        }
    }

    /// Receipts moved; only the highest values matter (I6).
    pub(super) fn receipts(&mut self, moved: &ReceiptsMoved) {
        if !self.receipts.contains_key(&moved.conversation) && self.receipts.len() >= NOTICES_MAX {
            self.resync = true;
            return;
        }
        if self.members + moved.members.len() > NOTICES_MAX {
            self.forget_members();
        }
        let merged = self.receipts.entry(moved.conversation).or_default();
        for (user, delivered, read) in moved.members.iter().take(NOTICES_MAX) {
            let known = merged.members.entry(user.clone()).or_insert_with(|| {
                self.members += 1;
                (Seq::ZERO, Seq::ZERO)
            });
            *known = (known.0.max(*delivered), known.1.max(*read));
        }
        merged.delivered_to_all = merged.delivered_to_all.max(moved.delivered_to_all);
        merged.read_by_all = merged.read_by_all.max(moved.read_by_all);
    }

    /// What all have received and read still goes out; of single members the client must ask again.
    fn forget_members(&mut self) {
        self.receipts.values_mut().for_each(|merged| merged.members.clear());
        self.members = 0;
        self.resync = true;
    }

    /// Events were lost: the client is told, and rows that changed are read again.
    pub(super) fn lost(&mut self) {
        self.resync = true;
        self.rows_lost = true;
    }

    /// Rows of the inbox that changed since its last reading; `end` when these are all.
    pub(super) fn changed(&mut self, rows: impl Iterator<Item = ConversationId>, end: bool) {
        if self.rows_lost {
            self.rows.extend(rows);
            self.rows_lost = !end;
        }
    }

    fn take_receipts(&mut self) -> Option<Vec<ReceiptsMoved>> {
        let (conversation, merged) = self.receipts.pop_first()?;
        self.members = self.members.saturating_sub(merged.members.len());
        let members: Vec<(UserId, Seq, Seq)> = merged
            .members
            .into_iter()
            .map(|(user, (delivered, read))| (user, delivered, read))
            .collect();
        let event = |members: &[(UserId, Seq, Seq)]| ReceiptsMoved {
            conversation,
            members: members.to_vec(),
            delivered_to_all: merged.delivered_to_all,
            read_by_all: merged.read_by_all,
        };
        if members.is_empty() {
            return Some(vec![event(&[])]);
        }
        Some(members.chunks(RECEIPT_MEMBERS_MAX).map(event).collect())
    }
}

impl Session {
    /// Sends what waits, as long as there is room.
    pub(super) fn flush_notices(&mut self) {
        while self.out.has_room()
            && let Some(events) = self.notices.take_receipts()
        {
            for moved in &events {
                self.push(0, Reply::Receipts(wire::receipt::moved(moved)));
            }
        }
        if self.notices.resync && self.out.has_room() {
            self.notices.resync = false;
            meters().resyncs.inc(Resync::EventsLost);
            self.push(0, Reply::Resync(v1::Resync {}));
        }
        self.read_row();
    }

    /// Reads one changed row at a time.
    fn read_row(&mut self) {
        if self.notices.row_flying || self.timers.is_paused() || !self.out.has_room() {
            return;
        }
        let Some(conversation) = self.notices.rows.pop_first() else {
            return;
        };
        self.notices.row_flying = true;
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        self.job(async move {
            let conversations = &gateway.on.conversations;
            let summary = conversations.summary(&who.user, Some(&who.device), conversation);
            Done::Row(conversation, summary.await)
        });
    }

    pub(super) fn row(&mut self, conversation: ConversationId, summary: Result<Option<Summary>, Refusal>) {
        self.notices.row_flying = false;
        match summary {
            Ok(None) => {}
            Ok(Some(summary)) => {
                self.push(0, Reply::Markers(wire::summary::markers(&summary.markers)));
                self.push(0, Reply::Conversation(wire::summary::summary(&summary)));
            }
            Err(refusal) => {
                self.notices.row(conversation);
                self.store_failed(&refusal.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(conversation: u8, users: std::ops::Range<usize>, seq: u64) -> ReceiptsMoved {
        ReceiptsMoved {
            conversation: ConversationId([conversation; 16]),
            members: users
                .map(|user| (UserId::parse(&format!("u{user:03}")).expect("an id"), Seq(seq), Seq(1)))
                .collect(),
            delivered_to_all: Seq(seq),
            read_by_all: Seq(1),
        }
    }

    /// I6: whatever order receipts come in, what is sent is the highest of each.
    #[test]
    fn merged_receipts_only_go_forward() {
        let mut notices = Notices::default();
        notices.receipts(&moved(1, 0..2, 9));
        notices.receipts(&moved(1, 1..3, 4));
        let events = notices.take_receipts().expect("an event");
        let seqs: Vec<u64> = events[0].members.iter().map(|(_, delivered, _)| delivered.0).collect();
        assert_eq!(seqs, [9, 9, 4]);
        assert_eq!(events[0].delivered_to_all, Seq(9));
        assert_eq!(notices.members, 0);
    }

    /// I9: at most 50 members in an event, and a bounded number in all; what does not fit is announced.
    #[test]
    fn receipts_are_bounded() {
        let mut notices = Notices::default();
        notices.receipts(&moved(1, 0..120, 1));
        let sizes: Vec<usize> = notices
            .take_receipts()
            .expect("events")
            .iter()
            .map(|event| event.members.len())
            .collect();
        assert_eq!(sizes, [50, 50, 20]);
        for conversation in 0..50 {
            notices.receipts(&moved(conversation, 0..100, 1));
        }
        assert!(notices.resync);
        assert!(notices.members <= NOTICES_MAX);
        let told: Vec<u8> = std::iter::from_fn(|| notices.take_receipts())
            .map(|events| events[0].conversation.0[0])
            .collect();
        assert_eq!(told, (0..50).collect::<Vec<_>>(), "what all have is told of each");
    }
}
