//! The log table: every statement on it, and the one path on which it is written. Each write is a conditional statement or
//! batch of one partition; a plain write beside them would be lost or win at random (D5).

use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use tokio::sync::OnceCell;

use super::CqlError;
use super::client::{Client, Steps, Values};
use super::rows::{blob, conversation, kind, number, signed};
use crate::domain::{ConversationId, Seq};
use crate::storage::{Head, PayloadHash};

/// Rows of a partition, in their order.
pub(super) const ENTRY: i8 = 0;
/// A sender's id: where it is, and the hash of what was asked for.
pub(super) const ID: i8 = 1;
/// A sender's newest id in this bucket.
pub(super) const NEWEST: i8 = 2;
/// An edit in this bucket: seq of the target, then of the edit.
pub(super) const EDIT: i8 = 3;
/// A redaction that comes, or came, from a later bucket: seq of its target, then its own.
pub(super) const MARK: i8 = 4;
/// A later bucket that may hold edits of an entry of this one: seq of the target, then the bucket.
pub(super) const EDITED_IN: i8 = 5;

/// Whether a mark counts is not known yet.
pub(super) const OPEN: i8 = 0;
/// Its redaction is in the log, and the bytes are gone.
pub(super) const DONE: i8 = 1;
/// Another entry took its redaction's place.
pub(super) const VOID: i8 = 2;

/// One partition: a bucket of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) conversation: ConversationId,
    pub(super) bucket: u64,
}

impl Place {
    fn key(self) -> [CqlValue; 2] {
        [conversation(self.conversation), number(self.bucket)]
    }

    fn row(self, of_kind: i8, seq: u64, key: &[u8]) -> Values {
        let mut values = Vec::from(self.key());
        values.extend([kind(of_kind), number(seq), blob(key)]);
        values
    }
}

/// One statement of a conditional batch.
pub(super) enum Write {
    /// The first entries of a bucket: it must not be there.
    Open { head: Head, append_id: [u8; 16] },
    /// The bucket's head must be here.
    Extend {
        from: Head,
        head: Head,
        append_id: [u8; 16],
    },
    /// An entry.
    Entry {
        seq: Seq,
        wire: Vec<u8>,
        append_id: [u8; 16],
    },
    /// An id, which must not be taken.
    Claim {
        key: Vec<u8>,
        place: Seq,
        payload: PayloadHash,
    },
    /// A sender's newest id.
    Newest { key: Vec<u8>, id: Vec<u8> },
    /// An edit of a target.
    Edit { target: Seq, edit: Seq },
    /// Other bytes in place of an entry's.
    Replace { seq: Seq, wire: Vec<u8> },
    /// A row of notes, unless it is there.
    Note { of_kind: i8, target: Seq, number: u64 },
    /// What became of a mark, in a bucket that is full: its head is there for ever.
    Settle { target: Seq, by: Seq, state: i8, full: Seq },
}

pub(super) struct LogTable {
    open: PreparedStatement,
    extend: PreparedStatement,
    entry: PreparedStatement,
    claim: PreparedStatement,
    newest: PreparedStatement,
    edit: PreparedStatement,
    replace: PreparedStatement,
    note: PreparedStatement,
    settle: PreparedStatement,
    pub(super) heads: Read,
    pub(super) entries: Read,
    pub(super) writers: Read,
    pub(super) ids: Read,
    pub(super) newest_ids: Read,
    pub(super) notes: Read,
    pub(super) notes_of: Read,
    /// Prepared by the first audit: no server asks them.
    whole: OnceCell<Box<Whole>>,
}

/// Reads of a whole bucket, with what its batches left beside the entries.
pub(super) struct Whole {
    pub(super) tokens: Read,
    pub(super) written: Read,
    pub(super) claimed: Read,
    pub(super) newest_ids: Read,
}

/// One partition.
const HERE: &str = "WHERE conversation = ? AND bucket = ?";

impl Whole {
    async fn prepare(client: &Client) -> Result<Box<Self>, CqlError> {
        let range = "AND kind = 0 AND seq >= ? AND seq <= ? LIMIT ?";
        Ok(Box::new(Self {
            tokens: Read::prepare(client, &format!("SELECT append_id FROM log {HERE} LIMIT 1")).await?,
            written: Read::prepare(client, &format!("SELECT seq, wire, written_by FROM log {HERE} {range}")).await?,
            claimed: Read::prepare(client, &format!("SELECT key, place FROM log {HERE} AND kind = 1")).await?,
            newest_ids: Read::prepare(client, &format!("SELECT key, wire FROM log {HERE} AND kind = 2")).await?,
        }))
    }
}

/// A read, in both strengths.
pub(super) struct Read {
    pub(super) quorum: PreparedStatement,
    pub(super) serial: PreparedStatement,
}

impl Read {
    async fn prepare(client: &Client, text: &str) -> Result<Self, CqlError> {
        let quorum = client.prepare(text).await?;
        let serial = Client::serial(&quorum);
        Ok(Self { quorum, serial })
    }

    pub(super) fn at(&self, strength: Strength) -> &PreparedStatement {
        match strength {
            Strength::Quorum => &self.quorum,
            Strength::Serial => &self.serial,
        }
    }
}

/// How sure a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strength {
    /// Sees what was answered as applied.
    Quorum,
    /// Also ends what is under way.
    Serial,
}

impl LogTable {
    pub(super) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let head =
            format!("UPDATE log SET head = ?, ordinal = ?, epoch = ?, time = ?, floor = ?, append_id = ? {HERE}");
        let insert = |columns: &str, marks: &str| {
            format!("INSERT INTO log (conversation, bucket, kind, seq, key{columns}) VALUES (?, ?, ?, ?, ?{marks})")
        };
        let at_row = format!("{HERE} AND kind = ? AND seq = ? AND key = ?");
        let settle = format!("UPDATE log SET state = ? {at_row} IF head = ?");
        Ok(Self {
            open: client.prepare(&format!("{head} IF head = null")).await?,
            extend: client.prepare(&format!("{head} IF head = ? AND epoch = ?")).await?,
            entry: client.prepare(&insert(", wire, written_by", ", ?, ?")).await?,
            claim: client
                .prepare(&format!("{} IF NOT EXISTS", insert(", place, payload", ", ?, ?")))
                .await?,
            newest: client.prepare(&insert(", wire", ", ?")).await?,
            edit: client.prepare(&insert("", "")).await?,
            replace: client.prepare(&format!("UPDATE log SET wire = ? {at_row}")).await?,
            note: client
                .prepare(&format!("{} IF NOT EXISTS", insert(", state", ", ?")))
                .await?,
            settle: client.prepare(&settle).await?,
            // Also gives a row's kind: rows without a head are a log that lost it.
            heads: Read::prepare(
                client,
                &format!("SELECT head, ordinal, epoch, time, floor, kind FROM log {HERE} LIMIT 1"),
            )
            .await?,
            entries: Read::prepare(
                client,
                &format!("SELECT seq, wire FROM log {HERE} AND kind = 0 AND seq >= ? AND seq <= ? LIMIT ?"),
            )
            .await?,
            writers: Read::prepare(client, &format!("SELECT written_by FROM log {at_row}")).await?,
            ids: Read::prepare(client, &format!("SELECT place, payload FROM log {at_row}")).await?,
            newest_ids: Read::prepare(client, &format!("SELECT wire FROM log {at_row}")).await?,
            notes: Read::prepare(client, &format!("SELECT seq, key, state FROM log {HERE} AND kind = ?")).await?,
            notes_of: Read::prepare(client, &format!("SELECT key FROM log {HERE} AND kind = ? AND seq = ?")).await?,
            whole: OnceCell::new(),
        })
    }

    /// Reads of whole buckets.
    pub(super) async fn whole(&self, client: &Client) -> Result<&Whole, CqlError> {
        let whole = self.whole.get_or_try_init(|| Box::pin(Whole::prepare(client))).await?;
        Ok(whole)
    }

    /// The one path on which the log table is written: all of it, or nothing.
    pub(super) async fn decide(&self, client: &Client, place: Place, writes: &[Write]) -> Result<bool, CqlError> {
        debug_assert!(
            writes.iter().any(Write::is_condition),
            "a write of the log has a condition"
        );
        let steps: Steps<'_> = writes.iter().map(|write| self.step(place, write)).collect();
        #[cfg(test)]
        return client.decide_faulty(steps).await;
        #[cfg(not(test))]
        client.decide_soon(steps).await
    }

    fn step(&self, place: Place, write: &Write) -> (&PreparedStatement, Values) {
        match write {
            Write::Open { head, append_id } => (&self.open, head_values(place, head, append_id)),
            Write::Extend { from, head, append_id } => {
                let mut values = head_values(place, head, append_id);
                values.extend([number(from.seq.0), number(from.epoch.0)]);
                (&self.extend, values)
            }
            Write::Entry { seq, wire, append_id } => {
                let mut values = place.row(ENTRY, seq.0, &[]);
                values.extend([blob(wire), blob(append_id)]);
                (&self.entry, values)
            }
            Write::Claim {
                key,
                place: at,
                payload,
            } => {
                let mut values = place.row(ID, 0, key);
                values.extend([number(at.0), blob(payload)]);
                (&self.claim, values)
            }
            Write::Newest { key, id } => {
                let mut values = place.row(NEWEST, 0, key);
                values.push(blob(id));
                (&self.newest, values)
            }
            Write::Edit { target, edit } => (&self.edit, place.row(EDIT, target.0, &edit.0.to_be_bytes())),
            Write::Replace { seq, wire } => {
                let mut values = vec![blob(wire)];
                values.extend(place.row(ENTRY, seq.0, &[]));
                (&self.replace, values)
            }
            Write::Note {
                of_kind,
                target,
                number,
            } => {
                let mut values = place.row(*of_kind, target.0, &number.to_be_bytes());
                values.push(kind(OPEN));
                (&self.note, values)
            }
            Write::Settle {
                target,
                by,
                state,
                full,
            } => {
                let mut values = vec![kind(*state)];
                values.extend(place.row(MARK, target.0, &by.0.to_be_bytes()));
                values.push(number(full.0));
                (&self.settle, values)
            }
        }
    }
}

impl Write {
    fn is_condition(&self) -> bool {
        matches!(
            self,
            Self::Open { .. } | Self::Extend { .. } | Self::Claim { .. } | Self::Note { .. } | Self::Settle { .. }
        )
    }
}

fn head_values(place: Place, head: &Head, append_id: &[u8; 16]) -> Values {
    let mut values = vec![
        number(head.seq.0),
        number(head.ordinal.0),
        number(head.epoch.0),
        signed(head.time.0),
        number(head.floor.0),
        blob(append_id),
    ];
    values.extend(place.key());
    values
}

/// Values for the key of one row.
pub(super) fn row_key(place: Place, of_kind: i8, seq: Seq, key: &[u8]) -> Values {
    place.row(of_kind, seq.0, key)
}

/// Values for the key of a partition.
pub(super) fn place_key(place: Place) -> Values {
    Vec::from(place.key())
}
