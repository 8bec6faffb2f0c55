//! One conversation: its log by itself, and what is kept of it elsewhere.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::AuditError;
use super::history::History;
use crate::conversation::Backends;
use crate::domain::roster::Standing;
use crate::domain::{ConversationId, MarkerSet, Seq, UserId};
use crate::storage::walk::entries;
use crate::storage::{ConversationRecord, Head, InboxRow, ReadError};

/// Inbox rows of members that are asked for at a time: each is a round trip to a remote store.
const ROWS_AT_ONCE: usize = 16;

/// What one look at a conversation showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) entries: u64,
    /// Some rows are behind, and the store knows that they are.
    pub(super) pending: bool,
    pub(super) contradictions: Vec<String>,
}

/// What is kept of one user.
struct Kept {
    user: UserId,
    markers: MarkerSet,
    row: Option<InboxRow>,
}

/// The order counts: rows must have reached the end that the log had before they were read, and nothing may be ahead of
/// the one that it has afterwards.
pub(super) async fn look(backends: &Backends, id: ConversationId) -> Result<Seen, AuditError> {
    let mut seen = Seen::default();
    let Some(record) = backends.directory.conversation(id).await? else {
        return Ok(seen);
    };
    let looked = look_at(backends, &record, &mut seen).await;
    match looked {
        Err(AuditError::Log(ReadError::Corrupt(why))) => {
            seen.contradictions.push(why);
            Ok(seen)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(seen),
    }
}

async fn look_at(backends: &Backends, record: &ConversationRecord, seen: &mut Seen) -> Result<(), AuditError> {
    let id = record.first.id;
    let Some(before) = head(backends, id).await? else {
        if record.applied > Seq::ZERO {
            seen.contradictions.push("its log is gone".to_owned());
        }
        return Ok(());
    };
    let kept = kept(backends, record).await?;
    let head = head(backends, id).await?.unwrap_or_default();
    seen.entries = head.seq.0;
    if head.floor > Seq(1) {
        seen.contradictions.push(format!("its log begins at {}", head.floor));
        return Ok(());
    }
    let mut history = History::new(kept.iter().flat_map(asked_ordinals));
    let follows = read(backends, record, head, &mut history).await?;
    seen.contradictions.append(&mut history.found);
    if history.end() != head {
        let why = format!("its head is {head:?}, and its entries end at {:?}", history.end());
        seen.contradictions.push(why);
    }
    let beside = backends
        .log
        .contradictions(id, head.seq)
        .await
        .map_err(AuditError::Log)?;
    seen.contradictions.extend(beside);
    seen.contradictions.extend(projection_differs(record, &follows));
    let mut behind = Vec::new();
    for one in &kept {
        seen.contradictions.extend(one.ahead(&history, head));
        behind.extend(one.behind(follows.latest.roster.standing(&one.user), before.seq));
    }
    if !behind.is_empty() {
        let pending = backends.log.fanout_pending_from(id).await.map_err(AuditError::Log)?;
        match pending {
            Some(_) => seen.pending = true,
            None => seen.contradictions.append(&mut behind),
        }
    }
    Ok(())
}

async fn head(backends: &Backends, id: ConversationId) -> Result<Option<Head>, AuditError> {
    backends.log.head(id).await.map_err(AuditError::Log)
}

/// Of everybody of whom the directory knows that they are or were a member.
async fn kept(backends: &Backends, record: &ConversationRecord) -> Result<Vec<Kept>, AuditError> {
    let id = record.first.id;
    let users: Vec<UserId> = record.roster.standings().map(|(user, _)| user.clone()).collect();
    let markers = backends.markers.of_users(id, &users).await?;
    let kept = users.into_iter().zip(markers).map(|(user, markers)| async move {
        let row = backends.markers.inbox_row(&user, id).await?;
        Ok::<_, AuditError>(Kept { user, markers, row })
    });
    stream::iter(kept).buffered(ROWS_AT_ONCE).try_collect().await
}

fn asked_ordinals(kept: &Kept) -> Vec<Seq> {
    let row = kept.row.map(|row| row.head.seq);
    let markers = [kept.markers.read.seq, kept.markers.unread_floor.seq];
    markers.into_iter().chain(row).collect()
}

/// The record as it follows from the log.
struct Follows {
    /// Where the directory says that it is.
    applied: Option<ConversationRecord>,
    /// At the end.
    latest: ConversationRecord,
}

async fn read(
    backends: &Backends,
    record: &ConversationRecord,
    head: Head,
    history: &mut History,
) -> Result<Follows, AuditError> {
    let latest = ConversationRecord::before(record.first.clone());
    let applied = (record.applied == Seq::ZERO).then(|| latest.clone());
    let mut follows = Follows { applied, latest };
    let mut all = entries(&*backends.log, record.first.id, Seq(1), head.seq);
    while let Some(stored) = all.next().await {
        let entry = &stored.map_err(AuditError::Log)?.entry;
        history.take_in(entry);
        follows.latest.take_in(entry);
        if entry.seq == record.applied {
            follows.applied = Some(follows.latest.clone());
        }
    }
    Ok(follows)
}

fn projection_differs(record: &ConversationRecord, follows: &Follows) -> Option<String> {
    let Some(wanted) = &follows.applied else {
        let why = format!("the directory has it at {}, which is above its head", record.applied);
        return Some(why);
    };
    let what = if record.roster != wanted.roster {
        "members"
    } else if record.name != wanted.name {
        "name"
    } else if record.pins != wanted.pins {
        "pins"
    } else {
        return None;
    };
    Some(format!(
        "its {what} in the directory are not those of its log at {} (I7)",
        record.applied
    ))
}

impl Kept {
    /// What says more than the log.
    fn ahead(&self, history: &History, head: Head) -> Vec<String> {
        let (user, markers) = (&self.user, &self.markers);
        let mut found = Vec::new();
        if markers.delivered > head.seq {
            found.push(format!(
                "delivered of {user} is {}, above its head (I6)",
                markers.delivered
            ));
        }
        if markers.read.seq > markers.delivered {
            let why = format!(
                "{user} has read {} of {} delivered (I6)",
                markers.read.seq, markers.delivered
            );
            found.push(why);
        }
        let row = self.row.map(|row| ("inbox row", row.head.seq, row.head.ordinal));
        let read = ("read", markers.read.seq, markers.read.ordinal);
        let floor = ("unread floor", markers.unread_floor.seq, markers.unread_floor.ordinal);
        for (what, seq, ordinal) in [read, floor].into_iter().chain(row) {
            if history.ordinal_at(seq) != Some(ordinal) {
                let why = format!(
                    "the {what} of {user} says that {seq} counts as {}, and it does not (I6)",
                    ordinal.0
                );
                found.push(why);
            }
        }
        found
    }

    /// What says less than was in the log before it was read.
    fn behind(&self, standing: Option<&Standing>, head: Seq) -> Option<String> {
        let wanted = newest_readable(standing?, head)?;
        let row = self.row.map_or(Seq::ZERO, |row| row.head.seq);
        (row < wanted).then(|| format!("the inbox row of {} is at {row} of {wanted} (I5)", self.user))
    }
}

/// The newest seq up to `head` in a user's audience.
fn newest_readable(standing: &Standing, head: Seq) -> Option<Seq> {
    let spans = standing.spans.iter().filter(|span| span.joined <= head);
    spans.map(|span| span.left.map_or(head, |left| left.min(head))).max()
}
