//! Other nodes: who owns a conversation, appends handed to its owner, and conversations taken over from owners that died.
//!
//! Ownership is for speed alone. The log's compare-and-set keeps the order whoever appends, so when the owner cannot be
//! reached the append is done here; what may have been stored by the owner is looked for like any retry (I2, C9).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use stonechat_host::Host;
use tokio::sync::oneshot;

use super::actor::Command;
use super::core::Core;
use super::limits::Limits;
use super::state::{State, read_refusal, unavailable};
use super::{AppendRequest, Appended, Backends, Caller, Conversations, queue_full};
use crate::domain::{ConversationId, Effect, Reason, Refusal, Seq};
use crate::storage::{Durability, LeftFanout};
use crate::telemetry::meters::meters;

/// An owner that does not answer within this time is passed by: longer than the store's own wait for a conditional write, so
/// that a slow store does not make two nodes append to one conversation.
const FORWARD_WITHIN: Duration = Duration::from_secs(5);
/// How often the log is asked for fan-out that was left. What was there at the last look as well is taken over: with the look
/// that first saw a node stand still, what it left is visible within 15 s (I5).
const LEFT_LOOK_EVERY: Duration = Duration::from_secs(3);
/// Conversations that are taken over at a time by one node: each is a message, or a load.
const TAKEN_AT_ONCE: usize = 64;

/// An append on its way to the conversation's owner.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// Who asks.
    pub caller: Caller,
    /// For what.
    pub request: AppendRequest,
    /// An earlier try may have been stored: no refusal is certain (C9).
    pub unsure: bool,
}

/// The owner's answer; an error when there will be none, and the outcome is unknown.
pub type ForwardAnswer = oneshot::Receiver<Result<Appended, Refusal>>;
/// Up to where the owner took fan-out over; an error when nobody knows whether it did.
pub type TakenAnswer = oneshot::Receiver<Result<Seq, Refusal>>;

/// The other nodes, as one of them sees them. Nodes may disagree.
pub trait Peers: Send + Sync {
    /// Whether this node is the one to append to a conversation.
    fn owns(&self, conversation: ConversationId) -> bool;

    /// Hands an append to the owner, without waiting: appends of one conversation arrive in the order of the calls. `None`
    /// when this node is to do it: it owns the conversation, or nobody who does can be reached, and nothing was sent.
    fn forward(&self, append: &Forwarded) -> Option<ForwardAnswer>;

    /// Asks the owner to take over what was left of a conversation's fan-out from a seq on; the answer is up to where it did.
    /// `None` when this node is to do it, as for [`Self::forward`].
    fn take_over(&self, conversation: ConversationId, from: Seq) -> Option<TakenAnswer>;
}

impl Conversations {
    /// Stands on backends that other nodes stand on, too.
    #[must_use]
    pub fn among(peers: Arc<dyn Peers>, backends: Backends, host: Host, limits: Limits) -> Self {
        Self {
            core: Arc::new(Core::new(backends, host, limits, Some(peers))),
        }
    }

    /// Appends one change; answers after it is durable (I1). A retry answers with the first try's seq (I2). Calls for one
    /// conversation take their places in the order in which they are first polled.
    ///
    /// # Errors
    /// Typed, with whether it was certainly not done.
    pub async fn append(&self, caller: &Caller, request: AppendRequest) -> Result<Appended, Refusal> {
        let mut append = Forwarded {
            caller: caller.clone(),
            request,
            unsure: false,
        };
        let Some(peers) = &self.core.peers else {
            return self.append_at_last(append).await;
        };
        let Some(answer) = peers.forward(&append) else {
            return self.append_at_last(append).await;
        };
        meters().forwards.inc();
        match tokio::time::timeout(FORWARD_WITHIN, answer).await {
            Ok(Ok(Err(refusal))) if is_going(&refusal) => {}
            Ok(Ok(answer)) => return answer,
            Ok(Err(_)) | Err(_) => append.unsure = true,
        }
        meters().forwards_failed.inc();
        self.append_at_last(append).await
    }

    /// The conversation as it is now also when another node appends to it.
    pub(super) async fn present_state(&self, id: ConversationId) -> Result<Arc<State>, Refusal> {
        match &self.core.peers {
            None => self.core.state(id).await,
            Some(_) => self.fresh_state(id).await,
        }
    }

    /// Has fan-out that was left taken over, for as long as it is awaited. Nothing to do for a process alone on its log: what one
    /// before it left was found at its start.
    pub async fn look_after_fanout(self) {
        let log = &self.core.backends.log;
        if self.core.peers.is_none() && log.durability() != Durability::Quorum {
            return;
        }
        let mut seen = BTreeSet::new();
        loop {
            tokio::time::sleep(LEFT_LOOK_EVERY).await;
            match self.look_for_left(&seen).await {
                Ok(left) => seen = left,
                Err(refusal) => tracing::warn!(%refusal, "fan-out that was left cannot be looked for"),
            }
        }
    }

    /// Has taken over what was left at the last look as well. Returns what is left now.
    async fn look_for_left(&self, seen: &BTreeSet<LeftFanout>) -> Result<BTreeSet<LeftFanout>, Refusal> {
        // Who would own a conversation of a process's id is responsible for what that process left.
        let ours = |process: [u8; 16]| self.core.owns(ConversationId(process));
        let left = self.core.backends.log.fanout_left(&ours).await.map_err(read_refusal)?;
        let left: BTreeSet<_> = left.into_iter().collect();
        let again: Vec<LeftFanout> = left.intersection(seen).copied().collect();
        stream::iter(again)
            .map(|left| self.see_to(left))
            .buffer_unordered(TAKEN_AT_ONCE)
            .for_each(async |()| ())
            .await;
        Ok(left)
    }

    async fn see_to(&self, left: LeftFanout) {
        let LeftFanout {
            conversation,
            from,
            own,
        } = left;
        if own {
            if let Ok(actor) = self.core.actor(conversation) {
                // A full queue: it appends, and the next look comes.
                let _busy = actor.commands.try_send(Command::Redrive(from));
            }
            return;
        }
        match self.taken_over(conversation, from).await {
            Ok(up_to) => self.core.backends.log.fanout_adopted(conversation, up_to).await,
            Err(refusal) => tracing::warn!(%conversation, %refusal, "fan-out is not taken over, trying again"),
        }
    }

    /// By the owner, or here when that is this node.
    async fn taken_over(&self, id: ConversationId, from: Seq) -> Result<Seq, Refusal> {
        let peers = self.core.peers.as_ref();
        let Some(answer) = peers.and_then(|peers| peers.take_over(id, from)) else {
            return self.take_over(id, from).await;
        };
        match tokio::time::timeout(FORWARD_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(unavailable("the owner did not answer")),
        }
    }

    /// Takes over what another process left of a conversation's fan-out from a seq on. Returns up to where: it is this node's to
    /// do from then on.
    ///
    /// # Errors
    /// There is no room, or the log cannot be written; not taken over.
    pub async fn take_over(&self, id: ConversationId, from: Seq) -> Result<Seq, Refusal> {
        self.refuse_when_closing()?;
        let commands = self.core.actor(id)?.commands;
        let place = commands.try_reserve_owned().map_err(|_| queue_full())?;
        let adopted = self.core.backends.log.adopt_fanout(id, from).await;
        let up_to = adopted.map_err(read_refusal)?;
        meters().fanout_taken_over.inc();
        place.send(Command::Redrive(from));
        Ok(up_to)
    }
}

/// The owner goes down, or has no room, and has not done it: somebody else may.
fn is_going(refusal: &Refusal) -> bool {
    refusal.effect == Effect::NotDone && matches!(refusal.reason, Reason::Unavailable { .. })
}
