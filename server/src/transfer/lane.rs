//! Appends in flight: many at a time, each conversation's in the order of the file.

use std::collections::BTreeMap;
use std::task::Poll;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::conversation::Appended;
use crate::domain::{ConversationId, Refusal};

/// Appends in flight: enough to fill the batches of many conversations; 64 MiB at the largest texts.
const IN_FLIGHT_MAX: usize = 4_096;
/// Appends in flight of one conversation: half its actor's queue, so that none is refused for a full queue.
const PER_CONVERSATION_MAX: usize = 128;

/// An append that ended.
pub(super) struct Landed {
    pub(super) line: u64,
    pub(super) conversation: ConversationId,
    pub(super) result: Result<Appended, Refusal>,
    /// The line says that its content is gone.
    pub(super) redacted: bool,
}

/// Appends in flight.
#[derive(Default)]
pub(super) struct Lanes {
    flying: FuturesUnordered<BoxFuture<'static, Landed>>,
    per_conversation: BTreeMap<ConversationId, usize>,
}

impl Lanes {
    /// Starts an append: it takes its place in the conversation before this returns.
    pub(super) fn start(
        &mut self,
        conversation: ConversationId,
        mut append: BoxFuture<'static, Landed>,
    ) -> Option<Landed> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // First polled here, in the order of the file; polled again by `next`, with a waker that counts.
        if let Poll::Ready(landed) = append.poll_unpin(&mut context) {
            return Some(landed);
        }
        *self.per_conversation.entry(conversation).or_default() += 1;
        self.flying.push(append);
        None
    }

    /// Whether one more of this conversation may start.
    pub(super) fn has_room(&self, conversation: ConversationId) -> bool {
        self.flying.len() < IN_FLIGHT_MAX && self.in_flight(conversation) < PER_CONVERSATION_MAX
    }

    /// How many of this conversation are in flight.
    pub(super) fn in_flight(&self, conversation: ConversationId) -> usize {
        self.per_conversation.get(&conversation).copied().unwrap_or_default()
    }

    /// The next one to land; `None` when none is in flight.
    pub(super) async fn next(&mut self) -> Option<Landed> {
        let landed = self.flying.next().await?;
        if let Some(count) = self.per_conversation.get_mut(&landed.conversation) {
            *count -= 1;
            if *count == 0 {
                self.per_conversation.remove(&landed.conversation);
            }
        }
        Some(landed)
    }
}
