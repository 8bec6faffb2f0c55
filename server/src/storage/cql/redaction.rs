//! Redactions that reach into full buckets, which no batch can change together with the newest.
//!
//! What lies in the bucket of the redaction itself is replaced in its own batch. For what lies in an older one, a mark
//! `(target, seq of the redaction)` is written there before the batch. It counts once the log holds, at that seq, a
//! redaction of that target, and from then on every reader of the old bucket shows tombstones: the redaction's ack comes
//! after both, and a read after it sees both. After the batch the bytes are replaced and the mark is settled; when a crash
//! prevents that, the next reader does it. A mark whose redaction lost its place is void, for the place is taken for ever.
//!
//! Edits are found in the same way: an edit leaves a row in its own bucket, and before that a note in its target's
//! ("a later bucket may hold edits"), so a redaction knows which buckets to mark. An edit that comes between the look at
//! the notes and the redaction's batch moves the head, and the batch is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::warn;

use super::log_table::{DONE, EDIT, EDITED_IN, MARK, OPEN, Place, Strength, VOID, Write, place_key};
use super::rows::{kind, number, read_number};
use super::{CqlError, Inner};
use crate::domain::{Body, ConversationId, Seq};
use crate::storage::rules::tombstone_of;
use crate::storage::{AppendBatch, StoredEntry};

/// What a batch changes beside its own entries.
#[derive(Default)]
pub(super) struct Reach {
    /// Entries of the batch's bucket, stored before, and their tombstones.
    pub(super) replaced: BTreeMap<Seq, Arc<StoredEntry>>,
    /// Older buckets, and (target, redaction) that reach into them.
    marks: BTreeSet<(u64, Seq, Seq)>,
    /// Edits of targets in older buckets: bucket of the target, target, bucket of the edit.
    edits: BTreeSet<(u64, Seq, u64)>,
}

/// Redactions that reach into a bucket from later ones: target, seq; oldest first.
#[derive(Default)]
pub(super) struct Marks(Vec<(Seq, Seq)>);

impl Marks {
    /// What a reader may see of an entry.
    pub(super) fn over(&self, stored: &Arc<StoredEntry>) -> Arc<StoredEntry> {
        let reaching = |(target, _): &&(Seq, Seq)| is_reached(stored, *target);
        let redactions = self.0.iter().filter(reaching).map(|(_, by)| *by);
        let first = redactions.filter(|by| *by > stored.entry.seq).min();
        let tombstone = first.and_then(|by| tombstone_of(&stored.entry, by));
        tombstone.unwrap_or_else(|| Arc::clone(stored))
    }
}

fn is_reached(stored: &StoredEntry, redacted: Seq) -> bool {
    stored.entry.seq == redacted || matches!(stored.entry.body, Body::Edited { target, .. } if target == redacted)
}

/// Lets the redactions of a batch reach the entries before them in the same batch.
pub(super) fn redacted_in_batch(stored: &mut [Arc<StoredEntry>]) {
    for at in 0..stored.len() {
        let Body::Redacted { target, .. } = stored[at].entry.body else {
            continue;
        };
        let by = stored[at].entry.seq;
        for before in &mut stored[..at] {
            if is_reached(before, target)
                && let Some(tombstone) = tombstone_of(&before.entry, by)
            {
                *before = tombstone;
            }
        }
    }
}

impl Inner {
    /// Finds what the redactions and edits of a batch reach outside of it, as of the head that it expects.
    pub(super) async fn reach(&self, batch: &AppendBatch, place: Place) -> Result<Reach, CqlError> {
        let mut reach = Reach::default();
        for pending in &batch.entries {
            let by = pending.entry.seq;
            match pending.entry.body {
                Body::Edited { target, .. } if self.bucket_of(target) < place.bucket => {
                    let edit = (self.bucket_of(target), target, place.bucket);
                    reach.edits.insert(edit);
                }
                Body::Redacted { target, .. } if target < by => {
                    self.reach_older(place, target, by, &mut reach).await?;
                    if self.bucket_of(target) == place.bucket && target <= batch.expected.seq {
                        self.replace(place, target, by, &mut reach).await?;
                    }
                    for edit in self.numbers_of(place, EDIT, target).await? {
                        self.replace(place, Seq(edit), by, &mut reach).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(reach)
    }

    async fn reach_older(&self, place: Place, target: Seq, by: Seq, reach: &mut Reach) -> Result<(), CqlError> {
        let home = self.bucket_of(target);
        if home == place.bucket {
            return Ok(());
        }
        reach.marks.insert((home, target, by));
        let home = Place { bucket: home, ..place };
        for bucket in self.numbers_of(home, EDITED_IN, target).await? {
            if bucket < place.bucket {
                reach.marks.insert((bucket, target, by));
            }
        }
        Ok(())
    }

    async fn replace(&self, place: Place, seq: Seq, by: Seq, reach: &mut Reach) -> Result<(), CqlError> {
        if reach.replaced.contains_key(&seq) {
            return Ok(());
        }
        let before = self.entry_at(place.conversation, seq, Strength::Serial).await?;
        if let Some(tombstone) = before.and_then(|before| tombstone_of(&before.entry, by)) {
            reach.replaced.insert(seq, tombstone);
        }
        Ok(())
    }

    async fn numbers_of(&self, place: Place, of_kind: i8, target: Seq) -> Result<Vec<u64>, CqlError> {
        let mut values = place_key(place);
        values.extend([kind(of_kind), number(target.0)]);
        let rows: Vec<(Vec<u8>,)> = self.client.rows(&self.log.notes_of.serial, values).await?;
        rows.into_iter().map(|(key,)| read_key(key)).collect()
    }

    /// Before the batch: marks and notes in older buckets. They may stand there for nothing.
    pub(super) async fn note_reach(&self, conversation: ConversationId, reach: &Reach) -> Result<(), CqlError> {
        let marks = reach
            .marks
            .iter()
            .map(|(bucket, target, by)| (*bucket, MARK, *target, by.0));
        let edits = reach
            .edits
            .iter()
            .map(|(home, target, bucket)| (*home, EDITED_IN, *target, *bucket));
        for (bucket, of_kind, target, number) in marks.chain(edits) {
            let place = Place { conversation, bucket };
            let note = Write::Note {
                of_kind,
                target,
                number,
            };
            // Not applied: it is there already.
            self.log.decide(&self.client, place, &[note]).await?;
        }
        Ok(())
    }

    /// After the batch: takes the bytes away. What fails here is done by the next reader.
    pub(super) async fn carry_out(&self, conversation: ConversationId, reach: &Reach, head: Seq) {
        let buckets: BTreeSet<u64> = reach.marks.iter().map(|(bucket, _, _)| *bucket).collect();
        for bucket in buckets {
            let place = Place { conversation, bucket };
            if let Err(error) = self.marks_of(place, head).await {
                warn!(%conversation, %error, "a redaction was not carried out at once");
            }
        }
    }

    /// The marks of a full bucket that count, given the head of the log. Open ones are settled on the way.
    pub(super) async fn marks_of(&self, place: Place, head: Seq) -> Result<Marks, CqlError> {
        let mut values = place_key(place);
        values.push(kind(MARK));
        let rows: Vec<(i64, Vec<u8>, Option<i8>)> = self.client.rows(&self.log.notes.quorum, values).await?;
        let mut marks = Vec::new();
        for (target, by, state) in rows {
            let (target, by) = (Seq(read_number(target, "a mark's target")?), Seq(read_key(by)?));
            let counts = match state.unwrap_or(OPEN) {
                DONE => true,
                VOID => false,
                _ if by > head => false,
                _ => self.open_mark_counts(place, target, by).await?,
            };
            if counts {
                marks.push((target, by));
            }
        }
        marks.sort_by_key(|(_, by)| *by);
        Ok(Marks(marks))
    }

    async fn open_mark_counts(&self, place: Place, target: Seq, by: Seq) -> Result<bool, CqlError> {
        let redaction = self.entry_at(place.conversation, by, Strength::Serial).await?;
        let redaction =
            redaction.ok_or_else(|| CqlError::Damaged(format!("entry {by} of {} is missing", place.conversation)))?;
        let counts = matches!(redaction.entry.body, Body::Redacted { target: of, .. } if of == target);
        if let Err(error) = self.settle_mark(place, target, by, counts).await {
            // Readers go on to look at the mark.
            warn!(conversation = %place.conversation, %error, "a mark of a redaction stays open");
        }
        Ok(counts)
    }

    async fn settle_mark(&self, place: Place, target: Seq, by: Seq, counts: bool) -> Result<(), CqlError> {
        let mut writes = vec![Write::Settle {
            target,
            by,
            state: if counts { DONE } else { VOID },
            full: self.last_of(place.bucket),
        }];
        if counts {
            let edits = self.numbers_of(place, EDIT, target).await?;
            let home = (self.bucket_of(target) == place.bucket).then_some(target.0);
            for seq in edits.into_iter().chain(home) {
                let stored = self.entry_at(place.conversation, Seq(seq), Strength::Serial).await?;
                if let Some(tombstone) = stored.and_then(|stored| tombstone_of(&stored.entry, by)) {
                    writes.push(Write::Replace {
                        seq: Seq(seq),
                        wire: tombstone.wire.to_vec(),
                    });
                }
            }
        }
        let applied = self.log.decide(&self.client, place, &writes).await?;
        if applied {
            Ok(())
        } else {
            let why = format!("bucket {} of {} is not full", place.bucket, place.conversation);
            Err(CqlError::Damaged(why))
        }
    }
}

fn read_key(key: Vec<u8>) -> Result<u64, CqlError> {
    let bytes = key.try_into().map(u64::from_be_bytes);
    bytes.map_err(|_| CqlError::Damaged("a note of a bucket is no number".to_owned()))
}
