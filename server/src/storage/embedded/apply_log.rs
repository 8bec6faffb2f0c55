//! How the writer applies appends and fan-out marks.

use std::collections::BTreeSet;
use std::sync::Arc;

use stonechat_host::rule_holds;

use super::fault::Fault;
use super::group::Group;
use super::keys::{self, Space};
use super::rows;
use crate::domain::{Body, ConversationId, Seq};
use crate::storage::rules::tombstone_of;
use crate::storage::{AppendBatch, AppendError, Head, Prior, StoredEntry};
use crate::wire::entry;

/// A batch with its entries already encoded, so that the writer does not spend its time on it.
pub(super) struct Append {
    pub(super) batch: AppendBatch,
    pub(super) stored: Vec<Arc<StoredEntry>>,
}

/// Checks and writes one batch; on an error nothing is left of it.
pub(super) fn append(group: &mut Group<'_>, append: Append) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
    let Append { batch, mut stored } = append;
    check_head(group, &batch)?;
    put_entries(group, &batch, &stored)?;
    for pending in &batch.entries {
        match pending.entry.body {
            Body::Edited { target, .. } => {
                let key = keys::edit(batch.conversation, target, pending.entry.seq);
                group.put(Space::Index, key, []);
            }
            Body::Redacted { target, .. } => redact(group, &batch, target, pending.entry.seq, &mut stored)?,
            _ => {}
        }
    }
    let pending = keys::pending(batch.conversation);
    if group.get(Space::Index, &pending)?.is_none() {
        group.put(Space::Index, pending, rows::number(batch.expected.seq.next().0));
    }
    group.put(Space::Index, keys::head(batch.conversation), rows::head(batch.head));
    Ok(stored)
}

fn check_head(group: &mut Group<'_>, batch: &AppendBatch) -> Result<(), AppendError> {
    let key = keys::head(batch.conversation);
    let known = group.known(Space::Index, &key);
    let is_known = known.is_some();
    let stored = match known {
        Some(row) => row,
        None => group.get_once(Space::Index, &key)?,
    };
    let head = stored.map(|bytes| rows::read_head(&bytes)).transpose()?;
    if head.is_none() {
        refuse_lost_head(group, batch.conversation)?;
    }
    let head = head.unwrap_or_default();
    if !rule_holds("compare_and_set") {
        return Ok(());
    }
    if (head.seq, head.epoch) != (batch.expected.seq, batch.expected.epoch) {
        return Err(AppendError::Conflict);
    }
    // Nothing lay above it when it became known, and whatever was written since was written with its head.
    if is_known {
        return Ok(());
    }
    let first = keys::entry(batch.conversation, head.seq.next());
    if group.get_once(Space::Entries, &first)?.is_some() {
        let why = format!(
            "entry {} of {} lies above the head",
            head.seq.next(),
            batch.conversation
        );
        return Err(AppendError::Corrupt(why));
    }
    // Asked for again so that it is remembered, and only now.
    group.get(Space::Index, &key)?;
    Ok(())
}

/// A conversation without a head must have no entries: else it would start again at 1.
fn refuse_lost_head(group: &Group<'_>, conversation: ConversationId) -> Result<(), Fault> {
    if group.scan_any(Space::Entries, &conversation.0)? {
        return Err(Fault::damaged(format!("{conversation} has entries but no head")));
    }
    Ok(())
}

fn put_entries(group: &mut Group<'_>, batch: &AppendBatch, stored: &[Arc<StoredEntry>]) -> Result<(), AppendError> {
    let mut senders = BTreeSet::new();
    for (pending, stored) in batch.entries.iter().zip(stored) {
        let entry = &pending.entry;
        let id = keys::id(batch.conversation, &entry.sender, &entry.client_msg_id);
        // Sees the ids of this batch too.
        if group.get_once(Space::Index, &id)?.is_some() && rule_holds("one_place_per_id") {
            return Err(AppendError::Conflict);
        }
        let prior = Prior {
            seq: entry.seq,
            payload: pending.payload,
        };
        group.put(Space::Index, id, rows::prior(&prior));
        group.put(
            Space::Entries,
            keys::entry(batch.conversation, entry.seq),
            &*stored.wire,
        );
    }
    for pending in batch.entries.iter().rev() {
        let entry = &pending.entry;
        if senders.insert(&entry.sender) {
            let key = keys::newest(batch.conversation, &entry.sender);
            group.put(Space::Index, key, entry.client_msg_id.as_str());
        }
    }
    Ok(())
}

/// Puts tombstones in place of the target and of all its edits.
fn redact(
    group: &mut Group<'_>,
    batch: &AppendBatch,
    target: Seq,
    by: Seq,
    stored: &mut [Arc<StoredEntry>],
) -> Result<(), Fault> {
    let mut seqs = vec![target];
    for (key, _) in group.scan(Space::Index, &keys::edits(batch.conversation, target))? {
        let edit = keys::last_number(&key).ok_or_else(|| Fault::damaged("an edit row has no seq"))?;
        seqs.push(Seq(edit));
    }
    for seq in seqs {
        let key = keys::entry(batch.conversation, seq);
        let Some(bytes) = group.get_once(Space::Entries, &key)? else {
            continue;
        };
        let before = entry::decode(&bytes).map_err(|error| Fault::damaged(error.to_string()))?;
        let Some(tombstone) = tombstone_of(&before, by) else {
            continue;
        };
        group.put(Space::Entries, key, &*tombstone.wire);
        if let Some(own) = stored.iter_mut().find(|own| own.entry.seq == seq) {
            *own = tombstone;
        }
    }
    Ok(())
}

/// Moves or removes the mark of fan-out pending.
pub(super) fn fanout_done(group: &mut Group<'_>, conversation: ConversationId, up_to: Seq) -> Result<(), Fault> {
    let key = keys::pending(conversation);
    let Some(first) = group.get(Space::Index, &key)? else {
        return Ok(());
    };
    let first = rows::read_number(&first)?;
    // Not to make a head known: that says that nothing lies above it.
    let head = group.get_once(Space::Index, &keys::head(conversation))?;
    let head = head.map_or_else(|| Ok(Head::default()), |bytes| rows::read_head(&bytes))?;
    if up_to >= head.seq {
        group.remove(Space::Index, key);
    } else if up_to.0 >= first {
        group.put(Space::Index, key, rows::number(up_to.next().0));
    }
    Ok(())
}
