//! The one code behind frames of a stream and unary rpcs: check the request, ask the rules, build the answer.
//!
//! Operations never fail: a refusal is in the answer. They reach the conversation's queue before anything is awaited,
//! so pipelined appends of a stream keep their order when their futures are polled in order (I4).

mod conversations;
mod messages;
mod people;
mod presence;
mod receipts;

use crate::api::CallContext;
use crate::conversation::{AppendRequest, Conversations, People};
use crate::domain::{Reason, Refusal};
use crate::presence::Presence;
use crate::wire::{self, Answer, answer};
use stonechat_proto::v1;

/// Every public operation. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    conversations: Conversations,
    people: People,
    presence: Presence,
}

impl Operations {
    /// Stands on the rules.
    #[must_use]
    pub fn new(conversations: Conversations, people: People, presence: Presence) -> Self {
        Self {
            conversations,
            people,
            presence,
        }
    }

    async fn append(&self, context: &CallContext, request: AppendRequest) -> Result<v1::Appended, Refusal> {
        let appended = self.conversations.append(&context.caller()?, request).await?;
        Ok(wire::message::appended(&appended))
    }
}

/// Writes the one line of a finished operation, and builds its answer.
pub(super) fn finish<A: Answer>(name: &'static str, context: &CallContext, result: Result<A::Value, Refusal>) -> A {
    let result = result.map_err(|refusal| named(name, refusal));
    match &result {
        Ok(_) => tracing::debug!(operation = name, correlation = %context.correlation, "operation done"),
        Err(refusal) => log_refusal(name, context, refusal),
    }
    answer(result)
}

/// The rules name a field of the request without the operation around it; the parsers name both.
fn named(name: &str, refusal: Refusal) -> Refusal {
    let operation = name.strip_prefix("admin.").unwrap_or(name);
    match &refusal.reason {
        Reason::Invalid { field } if field.split('.').next() != Some(operation) => refusal.within(operation),
        _ => refusal,
    }
}

fn log_refusal(name: &'static str, context: &CallContext, refusal: &Refusal) {
    let reason = wire::refusal::code(&refusal.reason).as_str_name();
    let (correlation, effect, message) = (context.correlation, refusal.effect, &refusal.message);
    if refusal.reason == Reason::Internal {
        tracing::error!(operation = name, %correlation, ?effect, message, "operation failed");
    } else {
        tracing::debug!(operation = name, %correlation, reason, ?effect, message, "operation refused");
    }
}
