//! What an actor knows of its conversation, and how it learns it.

use std::sync::Arc;

use tracing::error;

use super::Backends;
use super::fanout::read_range;
use super::limits::REPLAY_PAGE;
use super::projection::{concerns_directory, project};
use crate::domain::limits::PINS_SHOWN_MAX;
use crate::domain::{
    Body, ConversationId, Effect, Entry, Epoch, Kind, Member, Ordinal, Reason, Refusal, Role, Roster, Sender, Seq,
    UnixMillis, UserId,
};
use crate::storage::{
    AppendBatch, AppendError, ConversationRecord, DirectoryError, Head, MarkerError, NewConversation, PageLimit,
    PayloadHash, PendingAppend, Projection, ReadError,
};

/// A conversation as of its head. Readers share it; the actor replaces it after each commit, before the acks.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) id: ConversationId,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) created: UnixMillis,
    pub(super) head: Head,
    pub(super) roster: Arc<Roster>,
    /// In the order they were pinned.
    pub(super) pins: Arc<Vec<Seq>>,
    /// For a 1:1: one of the two has blocked the other.
    pub(super) blocked: bool,
}

impl State {
    /// The members now, by user.
    pub(super) fn members(&self) -> Vec<Member> {
        let member = |(user, role): (&UserId, Role)| Member {
            user: user.clone(),
            role,
        };
        self.roster.members().map(member).collect()
    }

    /// The same as of a head of the log, for reading; `None` when the members changed up to there, so that it must be loaded.
    pub(super) fn at(self: &Arc<Self>, head: Head) -> Option<Arc<Self>> {
        if head.seq <= self.head.seq {
            return Some(Arc::clone(self));
        }
        let same_members = head.epoch == self.head.epoch;
        same_members.then(|| {
            Arc::new(Self {
                head,
                ..Self::clone(self)
            })
        })
    }

    /// Takes in an appended entry.
    pub(super) fn apply(&mut self, entry: &Entry) {
        if entry.body.changes_membership() {
            Arc::make_mut(&mut self.roster).apply(entry);
        }
        match &entry.body {
            Body::Renamed(name) => self.name.clone_from(name),
            // A message that is pinned already keeps its place.
            Body::Pin { target, pinned: true } if self.pins.contains(target) => {}
            Body::Pin { target, pinned: true } => Arc::make_mut(&mut self.pins).push(*target),
            Body::Pin { target, .. } | Body::Redacted { target, .. } => self.unpin(*target),
            _ => {}
        }
    }

    fn unpin(&mut self, target: Seq) {
        if self.pins.contains(&target) {
            Arc::make_mut(&mut self.pins).retain(|pin| *pin != target);
        }
    }

    /// The newest pinned messages, in the order they were pinned.
    pub(super) fn pins_shown(&self) -> Vec<Seq> {
        let older = self.pins.len().saturating_sub(PINS_SHOWN_MAX);
        self.pins[older..].to_vec()
    }
}

/// Loads a conversation: the directory's record, brought up to the log's head. Its first entry is appended here when a
/// crash came between the decision to create it and the append.
pub(super) async fn load(backends: &Backends, id: ConversationId, now: UnixMillis) -> Result<State, Refusal> {
    let record = backends.directory.conversation(id).await.map_err(directory_refusal)?;
    let record = record.ok_or_else(Refusal::no_conversation)?;
    let head = match backends.log.head(id).await.map_err(read_refusal)? {
        Some(head) => head,
        None => append_first(backends, &record, now).await?,
    };
    let mut state = State {
        id,
        kind: record.first.kind,
        name: record.name,
        created: record.first.created,
        head,
        roster: Arc::new(record.roster),
        pins: Arc::new(record.pins),
        blocked: false,
    };
    replay(backends, &mut state, record.applied).await?;
    state.blocked = is_blocked(backends, &state).await?;
    Ok(state)
}

/// The conversation at the log's head by the log alone, while the directory cannot answer; `None` when what came since would have to
/// be projected into the directory, in order, before anything later is.
pub(super) async fn followed(backends: &Backends, known: &State) -> Result<Option<State>, Refusal> {
    let head = backends.log.head(known.id).await.map_err(read_refusal)?;
    let head = head.ok_or_else(damaged)?;
    let missed = read_range(backends, known.id, known.head.seq.next(), head.seq).await?;
    if missed.iter().any(|stored| concerns_directory(&stored.entry)) {
        return Ok(None);
    }
    let mut state = State::clone(known);
    missed.iter().for_each(|stored| state.apply(&stored.entry));
    state.head = head;
    Ok(Some(state))
}

/// Whether the two users of a 1:1 have a block between them.
pub(super) async fn is_blocked(backends: &Backends, state: &State) -> Result<bool, Refusal> {
    if state.kind == Kind::Group {
        return Ok(false);
    }
    let pair: Vec<_> = state.roster.members().map(|(user, _)| user.clone()).collect();
    let [one, other] = pair.as_slice() else {
        return Ok(false);
    };
    let blocked = backends.directory.blocked_among(one, std::slice::from_ref(other)).await;
    Ok(!blocked.map_err(directory_refusal)?.is_empty())
}

/// Folds entries after `applied` into the state, and into the directory when that lags behind.
async fn replay(backends: &Backends, state: &mut State, applied: Seq) -> Result<(), Refusal> {
    let (mut next, head) = (applied.next(), state.head.seq);
    let mut projection = Projection::default();
    while next <= head {
        let limit = PageLimit {
            entries: REPLAY_PAGE,
            bytes: usize::MAX,
        };
        let page = backends
            .log
            .read(state.id, next, head, limit)
            .await
            .map_err(read_refusal)?;
        for stored in &page {
            state.apply(&stored.entry);
            project(&mut projection, &stored.entry, &state.roster);
        }
        match page.last() {
            Some(last) => next = last.entry.seq.next(),
            None => return Err(read_refusal(ReadError::Corrupt("hole below the head".to_owned()))),
        }
    }
    if projection.applied > applied {
        backends
            .directory
            .apply(state.id, projection)
            .await
            .map_err(directory_refusal)?;
    }
    Ok(())
}

/// Appends the entry that creates a conversation, from its record.
async fn append_first(backends: &Backends, record: &ConversationRecord, now: UnixMillis) -> Result<Head, Refusal> {
    if record.applied > Seq::ZERO {
        error!(conversation = %record.first.id, "head is missing though entries were projected, refusing to start again");
        return Err(damaged());
    }
    let entry = first_entry(&record.first, now);
    let head = Head {
        seq: entry.seq,
        ordinal: Ordinal::ZERO,
        epoch: Epoch::ZERO.next(),
        time: entry.time,
        floor: entry.seq,
    };
    let batch = AppendBatch {
        conversation: record.first.id,
        expected: Head::default(),
        entries: vec![PendingAppend {
            payload: PayloadHash::default(),
            entry,
        }],
        head,
    };
    match backends.log.append(batch).await {
        Ok(_) => Ok(head),
        // Another node was faster with the same entry.
        Err(AppendError::Conflict) => {
            let found = backends.log.head(record.first.id).await.map_err(read_refusal)?;
            found.ok_or_else(damaged)
        }
        Err(error) => Err(append_refusal(&error)),
    }
}

fn first_entry(first: &NewConversation, now: UnixMillis) -> Entry {
    Entry {
        conversation: first.id,
        seq: Seq::ZERO.next(),
        time: now,
        ordinal: Ordinal::ZERO,
        sender: Sender::clone(&first.creator),
        client_msg_id: first.client_msg_id.clone(),
        correlation: first.correlation,
        origin_time: Some(first.created),
        body: Body::Created {
            kind: first.kind,
            name: first.name.clone(),
            members: first.members.clone(),
        },
    }
}

fn damaged() -> Refusal {
    Refusal::not_done(Reason::Internal, "the conversation's log is damaged; nothing was done")
}

/// Answer for a read that failed.
pub(super) fn read_refusal(error: ReadError) -> Refusal {
    match error {
        ReadError::Unavailable(cause) => {
            tracing::warn!(cause, "log cannot be read");
            unavailable("the log cannot be read now; nothing was done")
        }
        ReadError::Corrupt(cause) => {
            error!(cause, "log is damaged");
            damaged()
        }
    }
}

/// Answer for a directory call that failed. Directory writes may be repeated, so the effect is reported as unknown.
pub(super) fn directory_refusal(error: DirectoryError) -> Refusal {
    match error {
        DirectoryError::Unavailable(cause) => {
            tracing::warn!(cause, "directory is not available");
            let reason = Reason::Unavailable {
                retry_after_ms: super::limits::RETRY_AFTER_MS,
            };
            Refusal::unknown(reason, "the directory cannot answer now; retry with the same id")
        }
        DirectoryError::IdReused => Refusal::not_done(
            Reason::AlreadyExists,
            "client_msg_id was used for another conversation; nothing was created",
        ),
        DirectoryError::NoSuchUser(user) => Refusal::not_done(Reason::NotFound, format!("no such user: {user}")),
        DirectoryError::TooManyDevices(_) => Refusal::too_many_devices(),
    }
}

/// Answer for a read of the directory that failed: it has no effect that could be unknown.
pub(super) fn not_read(error: DirectoryError) -> Refusal {
    Refusal {
        effect: Effect::NotDone,
        ..directory_refusal(error)
    }
}

/// Answer for markers that could not be read or raised; raising again is harmless.
pub(super) fn marker_refusal(error: MarkerError) -> Refusal {
    tracing::warn!(cause = error.0, "markers are not available");
    let reason = Reason::Unavailable {
        retry_after_ms: super::limits::RETRY_AFTER_MS,
    };
    Refusal::unknown(reason, "markers cannot be read or written now; try again")
}

/// Answer for an append that failed and will not be tried again here.
pub(super) fn append_refusal(error: &AppendError) -> Refusal {
    tracing::warn!(%error, "append failed");
    let reason = Reason::Unavailable {
        retry_after_ms: super::limits::RETRY_AFTER_MS,
    };
    match error {
        // It may also be that the id is taken: by an earlier try, which this one did not look for again (C9).
        AppendError::Conflict => {
            Refusal::unknown(reason, "others append faster; outcome unknown, retry with the same id")
        }
        AppendError::NotDone(_) => Refusal::not_done(reason, "the store refuses; not stored, retry with the same id"),
        AppendError::Unknown(_) => Refusal::unknown(reason, "outcome unknown; retry with the same id"),
        AppendError::Corrupt(_) => damaged(),
    }
}

/// Certainly not done, and worth another try.
pub(super) fn unavailable(message: &str) -> Refusal {
    let reason = Reason::Unavailable {
        retry_after_ms: super::limits::RETRY_AFTER_MS,
    };
    Refusal::not_done(reason, message)
}
