//! Other nodes: who owns a conversation, appends handed to its owner, and conversations taken over from owners that died.
//!
//! Ownership is for speed alone. The log's compare-and-set keeps the order whoever appends, so when the owner cannot be
//! reached the append is done here; what may have been stored by the owner is looked for like any retry (I2, C9).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Host;
use tokio::sync::oneshot;

use super::actor::Command;
use super::core::Core;
use super::limits::Limits;
use super::state::{State, read_refusal};
use super::{AppendRequest, Appended, Backends, Caller, Conversations};
use crate::domain::{ConversationId, Effect, Reason, Refusal, Seq};
use crate::telemetry::meters::meters;

/// An owner that does not answer within this time is passed by: longer than the store's own wait for a conditional write, so
/// that a slow store does not make two nodes append to one conversation.
const FORWARD_WITHIN: Duration = Duration::from_secs(5);
/// How often the log is asked for fan-out that nobody finished. What was there at the last look as well is taken over: with
/// the time in which a dead node is noticed, everything is visible within 15 s (I5).
const PENDING_LOOK_EVERY: Duration = Duration::from_secs(3);

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

/// The other nodes, as one of them sees them. Nodes may disagree.
pub trait Peers: Send + Sync {
    /// Whether this node is the one to append to a conversation.
    fn owns(&self, conversation: ConversationId) -> bool;

    /// Hands an append to the owner, without waiting: appends of one conversation arrive in the order of the calls. `None`
    /// when this node is to do it: it owns the conversation, or nobody who does can be reached, and nothing was sent.
    fn forward(&self, append: &Forwarded) -> Option<ForwardAnswer>;
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

    /// Takes over fan-out that a dead node left behind, for as long as it is awaited. Nothing to do for a node alone.
    pub async fn take_over_pending(self) {
        if self.core.peers.is_none() {
            return;
        }
        let mut seen = BTreeSet::new();
        loop {
            tokio::time::sleep(PENDING_LOOK_EVERY).await;
            match self.look_for_pending(&seen).await {
                Ok(pending) => seen = pending,
                Err(refusal) => tracing::warn!(%refusal, "fan-out left by other nodes cannot be looked for"),
            }
        }
    }

    /// Takes over what this node owns of the fan-out that was pending at the last look as well. Returns what is pending now.
    async fn look_for_pending(
        &self,
        seen: &BTreeSet<(ConversationId, Seq)>,
    ) -> Result<BTreeSet<(ConversationId, Seq)>, Refusal> {
        let pending = self.core.backends.log.fanout_pending().await.map_err(read_refusal)?;
        let pending: BTreeSet<_> = pending.into_iter().collect();
        for (id, from) in pending.intersection(seen) {
            if self.core.owns(*id)
                && let Ok(actor) = self.core.actor(*id)
            {
                meters().fanout_taken_over.inc();
                // A full queue: it appends, and the next look comes.
                let _busy = actor.commands.try_send(Command::Redrive(*from));
            }
        }
        Ok(pending)
    }
}

/// The owner goes down, or has no room, and has not done it: somebody else may.
fn is_going(refusal: &Refusal) -> bool {
    refusal.effect == Effect::NotDone && matches!(refusal.reason, Reason::Unavailable { .. })
}
