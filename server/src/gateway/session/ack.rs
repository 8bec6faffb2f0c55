//! Acks: they free the window at once, and become durable positions a moment later.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use super::close::Close;
use super::deliver::text;
use super::jobs::Done;
use super::window::AckOutcome;
use crate::domain::{ConversationId, Reason, Refusal, Seq};
use crate::gateway::limits::ACKS_AT_A_TIME;
use crate::wire;
use stonechat_proto::v1;

/// What became of an ack.
pub(super) type AckStored = ((ConversationId, Seq), Result<(), Refusal>);

/// Acks on their way into the store. Bounded: an ack with an id counts as a request in flight, and one without merges
/// into those of its conversation, of which there are as many as deliveries in the window.
#[derive(Debug, Default)]
pub(super) struct Acks {
    waiting: BTreeMap<ConversationId, Waiting>,
    flying: BTreeMap<ConversationId, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    up_to: Seq,
    replies: Vec<u64>,
}

impl Acks {
    fn add(&mut self, conversation: ConversationId, seq: Seq, reply: Option<u64>) {
        let waiting = self.waiting.entry(conversation).or_default();
        waiting.up_to = waiting.up_to.max(seq);
        waiting.replies.extend(reply);
    }

    /// What to store next, in one write; nothing while such a write is under way: the others gather.
    fn take(&mut self) -> Vec<(ConversationId, Seq)> {
        if self.flying.is_empty() {
            let rest = self.waiting.keys().nth(ACKS_AT_A_TIME).copied();
            let rest = rest.map_or_else(BTreeMap::new, |first| self.waiting.split_off(&first));
            self.flying = std::mem::replace(&mut self.waiting, rest);
            return self.flying.iter().map(|(id, ack)| (*id, ack.up_to)).collect();
        }
        Vec::new()
    }

    /// One of the write under way came to an end; the requests it answers.
    fn landed(&mut self, conversation: ConversationId) -> Vec<u64> {
        self.flying.remove(&conversation).unwrap_or_default().replies
    }
}

impl Session {
    /// An ack came.
    pub(super) fn ack(&mut self, reply: Option<u64>, frame: &v1::Ack) {
        let (conversation, seq) = match wire::session::ack(frame) {
            Ok(ack) => ack,
            Err(refusal) => return self.refuse_request(reply, &refusal),
        };
        match self.plan.ack(conversation, seq) {
            Some(AckOutcome::Freed(0)) if seq == Seq::ZERO => self.reply_done(reply),
            Some(AckOutcome::Freed(_)) => self.acks.add(conversation, seq, reply),
            Some(AckOutcome::BeyondSent) => self.ack_beyond_sent(reply),
            None => self.check_ack(conversation, seq, reply),
        }
    }

    /// The session remembers nothing of the conversation: an ack of what the device has is harmless.
    fn check_ack(&mut self, conversation: ConversationId, seq: Seq, reply: Option<u64>) {
        let (gateway, who) = (Arc::clone(&self.gateway), Arc::clone(&self.who));
        self.in_flight.nameless += 1;
        self.job(async move {
            let markers = gateway.on.conversations.markers();
            let read = markers.device_positions(&who.user, &who.device, &[conversation]).await;
            let stored = read.map(|positions| positions.first().copied().unwrap_or_default());
            Done::AckChecked(conversation, seq, reply, stored.map_err(text))
        });
    }

    pub(super) fn ack_checked(
        &mut self,
        conversation: ConversationId,
        seq: Seq,
        reply: Option<u64>,
        stored: Result<Seq, String>,
    ) {
        self.answered(None);
        match stored {
            Ok(stored) if seq <= stored => self.reply_done(reply),
            // It may have been delivered while the position was read.
            Ok(_) => match self.plan.ack(conversation, seq) {
                Some(AckOutcome::Freed(_)) => self.acks.add(conversation, seq, reply),
                _ => self.ack_beyond_sent(reply),
            },
            Err(error) => {
                self.store_failed(&error);
                let reason = Reason::Unavailable { retry_after_ms: 0 };
                self.refuse_request(
                    reply,
                    &Refusal::not_done(reason, "the ack could not be checked; not done"),
                );
            }
        }
    }

    fn ack_beyond_sent(&mut self, reply: Option<u64>) {
        let message = "an ack of what was never delivered on this stream";
        self.refuse_request(reply, &Refusal::not_done(Reason::Protocol, message));
        self.close(Close::Protocol(message.into()));
    }

    /// Stores what waits.
    pub(super) fn flush_acks(&mut self) {
        if self.timers.is_paused() {
            return;
        }
        let acks = self.acks.take();
        if !acks.is_empty() {
            let caller = self.who.caller(self.correlation());
            let gateway = Arc::clone(&self.gateway);
            self.job(async move {
                let stored = gateway.on.conversations.acknowledge(&caller, &acks).await;
                Done::Acked(acks.into_iter().zip(stored).collect())
            });
        }
    }

    /// Whether an ack waits or is under way.
    pub(super) fn acks_open(&self) -> bool {
        !self.acks.waiting.is_empty() || !self.acks.flying.is_empty()
    }

    pub(super) fn acked(&mut self, stored: Vec<AckStored>) {
        for ((conversation, seq), result) in stored {
            self.ack_landed(conversation, seq, result);
        }
    }

    fn ack_landed(&mut self, conversation: ConversationId, seq: Seq, result: Result<(), Refusal>) {
        let replies = self.acks.landed(conversation);
        match result {
            Ok(()) => {
                if let Some(stamp) = self.plan.stored(conversation, seq) {
                    self.synced(stamp);
                }
                for reply in replies {
                    self.reply_done(Some(reply));
                }
            }
            Err(refusal) => self.ack_failed(conversation, seq, &replies, &refusal),
        }
    }

    fn ack_failed(&mut self, conversation: ConversationId, seq: Seq, replies: &[u64], refusal: &Refusal) {
        for reply in replies {
            self.refuse_request(Some(*reply), refusal);
        }
        if matches!(refusal.reason, Reason::Unavailable { .. } | Reason::Internal) {
            // The device has it: raising again is harmless, and not raising would deliver it twice.
            self.acks.add(conversation, seq, None);
            self.store_failed(&refusal.message);
        } else {
            tracing::debug!(conversation = ?conversation, reason = ?refusal.reason, "ack not stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(number: u16) -> ConversationId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        ConversationId(bytes)
    }

    /// I8, I9: one write at a time and of so many at most; whatever comes meanwhile goes with the next one, and each request
    /// is answered once.
    #[test]
    fn acks_gather_while_a_write_is_under_way() {
        let mut acks = Acks::default();
        let count = u16::try_from(ACKS_AT_A_TIME).expect("small") + 3;
        for number in 0..count {
            acks.add(conversation(number), Seq(1), Some(u64::from(number)));
        }
        let first = acks.take();
        assert_eq!(first.len(), ACKS_AT_A_TIME);
        acks.add(conversation(0), Seq(2), Some(1_000));
        acks.add(conversation(0), Seq(3), Some(1_001));
        assert!(acks.take().is_empty(), "the first write is under way");
        let answered: Vec<u64> = first.iter().flat_map(|(id, _)| acks.landed(*id)).collect();
        assert_eq!(answered.len(), ACKS_AT_A_TIME);
        let second = acks.take();
        assert_eq!(second.len(), 4);
        assert_eq!(second[0], (conversation(0), Seq(3)));
        assert_eq!(acks.landed(conversation(0)), [1_000, 1_001]);
    }
}
