//! Appending: what is checked before, the one conditional batch, and what it holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Inner;
use super::log_table::{Place, Strength, Write};
use super::redaction::{Reach, redacted_in_batch};
use super::rows::{id_key, sender_key};
use crate::domain::{Body, Seq};
use crate::storage::rules::{check_shape, encode_all};
use crate::storage::{AppendBatch, AppendError, StoredEntry};

impl Inner {
    pub(super) async fn append_batch(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        check_shape(&batch)?;
        let place = self.place_of(batch.conversation, batch.expected.seq.next());
        if self.bucket_of(batch.head.seq) != place.bucket {
            return Err(AppendError::NotDone("the batch lies in two buckets".to_owned()));
        }
        let mut ids = BTreeSet::new();
        let mut pairs = batch.entries.iter().map(|pending| &pending.entry);
        if !pairs.all(|entry| ids.insert((&entry.sender, &entry.client_msg_id))) {
            return Err(AppendError::Conflict);
        }
        let opens = self.may_open(&batch, place).await?;
        let mut stored = encode_all(&batch);
        redacted_in_batch(&mut stored);
        let reach = self.reach(&batch, place).await?;
        self.note_reach(batch.conversation, &reach).await?;
        let append_id = self.host.random.bytes16();
        let writes = writes_of(&batch, &stored, &reach, opens, append_id);
        let first = batch.expected.seq.next();
        let flight = self.announce(batch.conversation, first, batch.head.seq).await?;
        match self.settle_append(&batch, place, &writes, append_id).await {
            Ok(()) => drop(flight),
            // It may be there: what says that fan-out is pending stays.
            Err(error @ AppendError::Unknown(_)) => return Err(error),
            Err(error) => {
                flight.missed();
                return Err(error);
            }
        }
        self.hints.saw(batch.conversation, place.bucket);
        if opens {
            self.hints.opened(&self.client, batch.conversation, place.bucket).await;
        }
        self.carry_out(batch.conversation, &reach, batch.head.seq).await;
        Ok(stored)
    }

    /// Whether the batch opens its bucket: only when nothing was ever appended, or on serial proof that the bucket
    /// before is full. Full is for ever.
    async fn may_open(&self, batch: &AppendBatch, place: Place) -> Result<bool, AppendError> {
        let expected = batch.expected;
        if expected.seq == Seq::ZERO {
            if expected.epoch.0 != 0 {
                return Err(AppendError::Conflict);
            }
            return match self.newest(batch.conversation).await? {
                None => Ok(true),
                Some(_) => Err(AppendError::Conflict),
            };
        }
        if self.bucket_of(expected.seq) == place.bucket {
            return Ok(false);
        }
        let before = self.place_of(batch.conversation, expected.seq);
        match self.head_of(before, Strength::Serial).await? {
            Some(head) if (head.seq, head.epoch) == (expected.seq, expected.epoch) => Ok(true),
            _ => Err(AppendError::Conflict),
        }
    }
}

fn writes_of(
    batch: &AppendBatch,
    stored: &[Arc<StoredEntry>],
    reach: &Reach,
    opens: bool,
    append_id: [u8; 16],
) -> Vec<Write> {
    let (from, head) = (batch.expected, batch.head);
    let mut writes = vec![if opens {
        Write::Open { head, append_id }
    } else {
        Write::Extend { from, head, append_id }
    }];
    let mut senders = BTreeSet::new();
    for (pending, stored) in batch.entries.iter().zip(stored).rev() {
        let entry = &pending.entry;
        if senders.insert(&entry.sender) {
            writes.push(Write::Newest {
                key: sender_key(&entry.sender),
                id: entry.client_msg_id.as_str().as_bytes().to_vec(),
            });
        }
        writes.push(Write::Entry {
            seq: entry.seq,
            wire: stored.wire.to_vec(),
            append_id,
        });
        writes.push(Write::Claim {
            key: id_key(&entry.sender, &entry.client_msg_id),
            place: entry.seq,
            payload: pending.payload,
        });
        if let Body::Edited { target, .. } = entry.body {
            writes.push(Write::Edit {
                target,
                edit: entry.seq,
            });
        }
    }
    let replaced = reach.replaced.iter().map(|(seq, tombstone)| Write::Replace {
        seq: *seq,
        wire: tombstone.wire.to_vec(),
    });
    writes.extend(replaced);
    writes
}
