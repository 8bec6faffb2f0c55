//! The conversation rules: sequencing, membership, fan-out, receipts, sync. Names neither tonic nor the proto crate.
//!
//! One message's way: [`Conversations::append`] → `actor` (one per conversation) → `sequencer` (what it becomes) →
//! `storage::MessageLog` (durable) → ack → `fanout` (everybody else).

mod actor;
mod barrier;
mod behind;
mod change;
mod core;
mod create;
mod fanout;
mod history;
mod known;
mod limits;
mod looks;
mod membership;
mod moved;
mod owed;
mod peers;
mod people;
mod projection;
mod rate;
mod receipts;
mod sequencer;
mod state;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod types;

pub use limits::Limits;
pub use peers::{ForwardAnswer, Forwarded, Peers, TakenAnswer};
pub use people::People;
pub use types::{
    AppendRequest, Appended, Caller, ConversationInfo, CreateRequest, HistoryAnchor, HistoryPage, HistoryQuery,
    ListPage, MemberReceipt, OwnMarkers, Receipts, Summary,
};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stonechat_host::{Host, rule_holds};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::actor::Command;
use self::core::Core;
use self::limits::RETRY_AFTER_MS;
use self::sequencer::{Append, doubted, payload_of, unasked};
use self::state::{State, directory_refusal, not_read, read_refusal, unavailable};
use crate::bus::{Bus, Event};
use crate::domain::authorization::Action;
use crate::domain::{ConversationId, CorrelationId, Kind, Reason, Refusal, UserId};
use crate::storage::{Directory, Durability, Markers, MessageLog};
use crate::telemetry::meters::{Held, Shed, meters};
use crate::telemetry::traces::{Stage, within};

/// What the conversation rules stand on.
#[derive(Clone)]
pub struct Backends {
    /// The log.
    pub log: Arc<dyn MessageLog>,
    /// Markers and inbox.
    pub markers: Arc<dyn Markers>,
    /// Users, devices, conversations.
    pub directory: Arc<dyn Directory>,
    /// Live delivery.
    pub bus: Arc<dyn Bus>,
}

/// The conversation rules. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    core: Arc<Core>,
}

impl Conversations {
    /// Stands on these backends.
    #[must_use]
    pub fn new(backends: Backends, host: Host, limits: Limits) -> Self {
        Self {
            core: Arc::new(Core::new(backends, host, limits, None)),
        }
    }

    /// Takes over the conversations in which a crash left fan-out pending, which fans it out; call once before serving.
    /// Returns how many there were.
    ///
    /// # Errors
    /// The store cannot answer; do not serve.
    pub async fn recover(&self) -> Result<usize, Refusal> {
        if self.core.peers.is_some() {
            // Others may be about to finish it: `look_after_fanout` finds what nobody does.
            return Ok(0);
        }
        let pending = self.core.backends.log.fanout_pending().await.map_err(read_refusal)?;
        for (id, from) in pending.iter().filter(|_| rule_holds("pending_fanout_done_at_start")) {
            let adopted = self.core.backends.log.adopt_fanout(*id, *from).await;
            adopted.map_err(read_refusal)?;
            self.core.state(*id).await?;
            self.core.barrier.wait_for(*id).await;
        }
        Ok(pending.len())
    }

    /// Stops taking appends and waits until all accepted ones are answered and fanned out.
    pub async fn drain(&self) {
        self.core.closing.store(true, Ordering::Release);
        for actor in self.core.registry.all() {
            let (done, flushed) = oneshot::channel();
            if actor.commands.send(Command::Flush(done)).await.is_ok() {
                let _ended = flushed.await;
            }
        }
        self.core.barrier.wait().await;
        self.core.registry.clear();
        self.core.backends.log.retire().await;
    }

    /// The same by this node, whoever owns the conversation.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn append_here(&self, forwarded: Forwarded) -> Result<Appended, Refusal> {
        let unsure = forwarded.unsure;
        match self.queue(forwarded) {
            Ok(queued) => queued.answer().await,
            Err(refusal) if unsure => Err(doubted(refusal)),
            Err(refusal) => Err(refusal),
        }
    }

    /// The same, when nobody is left to ask whether it is the retry of what is stored.
    pub(super) async fn append_at_last(&self, forwarded: Forwarded) -> Result<Appended, Refusal> {
        match self.queue(forwarded) {
            Ok(queued) => queued.answer().await,
            Err(refusal) => Err(unasked(refusal)),
        }
    }

    /// Gives it its place among what waits; certainly not taken when it fails.
    fn queue(&self, forwarded: Forwarded) -> Result<Queued, Refusal> {
        let Forwarded {
            caller,
            request,
            unsure,
        } = forwarded;
        self.refuse_when_closing()?;
        let (reply, answer) = oneshot::channel();
        let queued = Queued {
            correlation: caller.correlation,
            at: stonechat_host::monotonic(),
            answer,
            _waiting: meters().appends_waiting.hold(),
        };
        let (payload, bytes) = payload_of(&request);
        let append = Append {
            payload,
            bytes,
            caller,
            unsure,
            reply,
            request,
            room: None,
        };
        self.enqueue(append)?;
        Ok(queued)
    }

    fn enqueue(&self, mut append: Append) -> Result<(), Refusal> {
        let (id, bytes) = (append.request.conversation, append.bytes);
        let actor = self.core.actor(id)?;
        append.room = actor.room.take(bytes).zip(self.core.room.take(bytes));
        if append.room.is_none() {
            return Err(queue_full());
        }
        let command = Command::Append(Box::new(append));
        match actor.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(queue_full()),
            // The actor went idle at this very moment and left the registry before it closed: the next one takes over.
            Err(mpsc::error::TrySendError::Closed(command)) => {
                let sent = self.core.actor(id)?.commands.try_send(command);
                sent.map_err(|_| unavailable("the conversation is not loaded; not stored, retry with the same id"))
            }
        }
    }

    /// Ids of all conversations, ascending, and whether more follow; for integrators.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn list_all(
        &self,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<(Vec<ConversationId>, bool), Refusal> {
        let listed = self.core.backends.directory.list_conversations(after, limit + 1).await;
        let mut ids = listed.map_err(directory_refusal)?;
        let has_more = ids.len() > limit;
        ids.truncate(limit);
        Ok((ids, has_more))
    }

    /// Tells the other online members that the caller types, or stopped: all but those with whom there is a block, in groups
    /// as well.
    ///
    /// # Errors
    /// Hidden and absent answer alike; `Blocked` in a 1:1.
    pub async fn set_typing(&self, caller: &Caller, id: ConversationId, stopped: bool) -> Result<(), Refusal> {
        let user = receipts::require_user(caller)?;
        let state = self.present_state(id).await?;
        state.check_visible(&caller.actor)?;
        let members = state.roster.members().map(|(member, _)| member);
        let mut others: Vec<UserId> = members.filter(|member| *member != user).cloned().collect();
        // Asked each time: what this node knows of a 1:1 may be older than a block set through another one.
        let directory = &self.core.backends.directory;
        let blocked = directory.blocked_among(user, &others).await.map_err(not_read)?;
        let between_two = state.kind == Kind::Direct && !blocked.is_empty();
        state.authorize_when(between_two, &caller.actor, Action::Type)?;
        others.retain(|other| !blocked.contains(other));
        let event = Event::Typing {
            conversation: id,
            user: user.clone(),
            stopped,
        };
        self.core.backends.bus.publish_to_users(&others, event).await;
        Ok(())
    }

    /// A block between two users was set or lifted: their 1:1, if it is loaded or loads, must see it.
    ///
    /// # Errors
    /// It cannot look: on this node the pair may go on as before.
    pub async fn block_changed(&self, one: &UserId, other: &UserId) -> Result<(), Refusal> {
        let direct = self.core.backends.directory.direct(one, other).await;
        let Some(id) = direct.map_err(directory_refusal)? else {
            return Ok(());
        };
        match self.core.registry.get(id) {
            // Behind a load that is under way: it may have asked before the block was there.
            Some(actor) => reload(&actor.commands).await,
            None => Ok(()),
        }
    }

    /// What an acknowledged append outlives.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.core.backends.log.durability()
    }

    /// The markers store, for a session's positions and its user's inbox rows.
    #[must_use]
    pub fn markers(&self) -> &Arc<dyn Markers> {
        &self.core.backends.markers
    }

    /// Waits until everything acknowledged before the call is in the user's inbox rows.
    pub async fn settled(&self, user: &UserId) {
        self.core.barrier.wait_for_user(user).await;
    }

    fn refuse_when_closing(&self) -> Result<(), Refusal> {
        if self.core.closing.load(Ordering::Acquire) {
            return Err(unavailable("the node is going down; not done"));
        }
        Ok(())
    }

    /// The conversation as of the log's head, which another node may have moved.
    async fn fresh_state(&self, id: ConversationId) -> Result<Arc<State>, Refusal> {
        let state = self.core.state(id).await?;
        let head = self.core.backends.log.head(id).await.map_err(read_refusal)?;
        let head = head.unwrap_or(state.head);
        if let Some(state) = state.at(head) {
            return Ok(state);
        }
        // Whether it could shows in what is known then.
        let _reloaded = reload(&self.core.actor(id)?.commands).await;
        // When it failed: with the members of before, who was removed meanwhile would read on (I7).
        let unread = || unavailable("the members of the conversation cannot be read now; not done");
        self.core.state(id).await?.at(head).ok_or_else(unread)
    }
}

fn queue_full() -> Refusal {
    meters().shed.inc(Shed::ConversationQueue);
    let reason = Reason::RateLimited {
        retry_after_ms: RETRY_AFTER_MS,
    };
    unasked(Refusal::not_done(reason, "this conversation's queue is full"))
}

/// An append that waits for its place, and so has it.
struct Queued {
    correlation: CorrelationId,
    at: Instant,
    answer: oneshot::Receiver<Result<Appended, Refusal>>,
    _waiting: Held,
}

impl Queued {
    async fn answer(self) -> Result<Appended, Refusal> {
        let answered = within(Stage::Append, self.correlation, self.answer).await;
        meters().ack_seconds.since(self.at);
        answered.unwrap_or_else(|_| {
            let reason = Reason::Unavailable {
                retry_after_ms: RETRY_AFTER_MS,
            };
            Err(Refusal::unknown(
                reason,
                "the conversation stopped; outcome unknown, retry with the same id",
            ))
        })
    }
}

/// Makes an actor look again. One that ends meanwhile has nothing to learn: whoever comes after it loads.
async fn reload(commands: &mpsc::Sender<Command>) -> Result<(), Refusal> {
    let (done, reloaded) = oneshot::channel();
    if commands.send(Command::Reload(done)).await.is_err() {
        return Ok(());
    }
    reloaded.await.unwrap_or(Ok(()))
}
