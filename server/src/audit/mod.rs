//! Audit: compares what a store keeps of its conversations with the logs that it all follows from, so that damage is found
//! before a user finds it (D3). It reads alone, beside a server or without one.

mod conversation;
mod history;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::StreamExt;

use crate::conversation::Backends;
use crate::domain::ConversationId;
use crate::storage::walk::conversations;
use crate::storage::{DirectoryError, MarkerError, ReadError};

/// What is found is looked at again after this: rows and projections follow the log within it where the store is in use.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Looks at a conversation for which a store does not answer: a short failure does not end a night's run.
const TRIES: u32 = 3;

/// The audit stopped: a store cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log.
    #[error(transparent)]
    Log(ReadError),
    /// The markers.
    #[error(transparent)]
    Markers(#[from] MarkerError),
}

/// A share of all conversations, so that many runs see each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which, from 1.
    pub number: u8,
    /// Of how many.
    pub of: u8,
}

impl Part {
    /// Everything.
    pub const ALL: Self = Self { number: 1, of: 1 };

    fn holds(self, id: ConversationId) -> bool {
        // Ids are random in all but a few bits; any byte at the end is.
        id.0[15] % self.of.max(1) == self.number.saturating_sub(1)
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// Conversations.
    pub conversations: u64,
    /// Their entries.
    pub entries: u64,
    /// Conversations some of whose members are still to be told of the end: a server makes up for it.
    pub pending: u64,
    /// Contradictions.
    pub contradictions: u64,
}

/// Is told how a conversation contradicts itself, as the audit goes on.
pub type Tell<'a> = dyn FnMut(ConversationId, &str) + Send + 'a;

/// Looks through a part of the conversations, so many at a time.
///
/// # Errors
/// A store cannot answer; what was told until then holds.
pub async fn audit(
    backends: &Backends,
    part: Part,
    at_once: usize,
    tell: &mut Tell<'_>,
) -> Result<Audited, AuditError> {
    let ids = conversations(&*backends.directory);
    let looking = ids.filter_map(|id| async move {
        match id {
            Ok(id) if !part.holds(id) => None,
            Ok(id) => Some(Ok(id)),
            Err(error) => Some(Err(AuditError::from(error))),
        }
    });
    let looking = looking.map(|id| async move {
        let id = id?;
        Ok::<_, AuditError>((id, look_twice(backends, id).await?))
    });
    let mut looking = Box::pin(looking.buffer_unordered(at_once.max(1)));
    let mut all = Audited::default();
    while let Some(seen) = looking.next().await {
        let (id, seen) = seen?;
        all.conversations += 1;
        all.entries += seen.entries;
        all.pending += u64::from(seen.pending);
        all.contradictions += seen.contradictions.len() as u64;
        for why in &seen.contradictions {
            tell(id, why);
        }
    }
    Ok(all)
}

/// Where a server is at work, something may be read between two of its steps.
async fn look_twice(backends: &Backends, id: ConversationId) -> Result<conversation::Seen, AuditError> {
    let seen = look_patiently(backends, id).await?;
    if seen.contradictions.is_empty() {
        return Ok(seen);
    }
    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    look_patiently(backends, id).await
}

async fn look_patiently(backends: &Backends, id: ConversationId) -> Result<conversation::Seen, AuditError> {
    for _ in 1..TRIES {
        if let Ok(seen) = conversation::look(backends, id).await {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    conversation::look(backends, id).await
}
