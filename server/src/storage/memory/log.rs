//! The log in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::{Body, ClientMsgId, ConversationId, Sender, Seq};
use crate::storage::rules::{check_shape, encode_all, page_is_full, tombstone_of};
use crate::storage::{
    AppendBatch, AppendError, Durability, Head, MessageLog, PageLimit, Prior, ReadError, StoredEntry,
};

/// Every conversation's log.
pub(super) type Logs = BTreeMap<ConversationId, Log>;

/// One conversation's log.
#[derive(Default)]
pub(super) struct Log {
    pub(super) head: Option<Head>,
    pub(super) entries: BTreeMap<Seq, Arc<StoredEntry>>,
    ids: BTreeMap<Sender, BTreeMap<ClientMsgId, Prior>>,
    newest: BTreeMap<Sender, ClientMsgId>,
    edits: BTreeMap<Seq, Vec<Seq>>,
    pending: Option<Seq>,
}

impl Log {
    fn check(&self, batch: &AppendBatch) -> Result<(), AppendError> {
        let head = self
            .checked_head()
            .map_err(|error| AppendError::Corrupt(error.to_string()))?;
        let head = head.unwrap_or_default();
        if (head.seq, head.epoch) != (batch.expected.seq, batch.expected.epoch) {
            return Err(AppendError::Conflict);
        }
        let mut fresh = std::collections::BTreeSet::new();
        for pending in &batch.entries {
            let entry = &pending.entry;
            if self.prior(&entry.sender, &entry.client_msg_id).is_some()
                || !fresh.insert((&entry.sender, &entry.client_msg_id))
            {
                return Err(AppendError::Conflict);
            }
        }
        Ok(())
    }

    /// The head, when it agrees with the entries.
    fn checked_head(&self) -> Result<Option<Head>, ReadError> {
        let newest = self.entries.last_key_value().map_or(Seq::ZERO, |(seq, _)| *seq);
        let head = self.head.map_or(Seq::ZERO, |head| head.seq);
        if newest > head {
            return Err(ReadError::Corrupt(format!("entry {newest} lies above the head {head}")));
        }
        Ok(self.head)
    }

    fn prior(&self, sender: &Sender, id: &ClientMsgId) -> Option<Prior> {
        self.ids.get(sender)?.get(id).copied()
    }

    fn apply(&mut self, batch: &AppendBatch, stored: &[Arc<StoredEntry>]) {
        for (pending, stored) in batch.entries.iter().zip(stored) {
            let entry = &pending.entry;
            let prior = Prior {
                seq: entry.seq,
                payload: pending.payload,
            };
            self.entries.insert(entry.seq, Arc::clone(stored));
            let ids = self.ids.entry(entry.sender.clone()).or_default();
            ids.insert(entry.client_msg_id.clone(), prior);
            self.newest.insert(entry.sender.clone(), entry.client_msg_id.clone());
            match entry.body {
                Body::Edited { target, .. } => self.edits.entry(target).or_default().push(entry.seq),
                Body::Redacted { target, .. } => self.redact(target, entry.seq),
                _ => {}
            }
        }
        self.head = Some(batch.head);
        self.pending = self.pending.or_else(|| Some(batch.expected.seq.next()));
    }

    fn redact(&mut self, target: Seq, by: Seq) {
        let edits = self.edits.get(&target).map_or(&[][..], Vec::as_slice);
        for seq in std::iter::once(&target).chain(edits) {
            if let Some(entry) = self.entries.get_mut(seq)
                && let Some(tombstone) = tombstone_of(&entry.entry, by)
            {
                *entry = tombstone;
            }
        }
    }

    fn read(&self, from: Seq, to: Seq, limit: PageLimit) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        let Some(head) = self.checked_head()? else {
            return Ok(Vec::new());
        };
        let mut page = Vec::new();
        let mut bytes = 0;
        let mut seq = from.max(head.floor);
        while seq <= to.min(head.seq) && !page_is_full(limit, page.len(), bytes) {
            let Some(entry) = self.entries.get(&seq) else {
                return Err(ReadError::Corrupt(format!("entry {seq} is missing below the head")));
            };
            bytes += entry.wire.len();
            page.push(Arc::clone(entry));
            seq = seq.next();
        }
        Ok(page)
    }
}

#[async_trait]
impl MessageLog for MemoryStore {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    async fn append(&self, batch: AppendBatch) -> Result<Vec<Arc<StoredEntry>>, AppendError> {
        check_shape(&batch)?;
        let stored = encode_all(&batch);
        let mut logs = self.logs();
        let log = logs.entry(batch.conversation).or_default();
        log.check(&batch)?;
        log.apply(&batch, &stored);
        let as_stored = batch
            .entries
            .iter()
            .filter_map(|pending| log.entries.get(&pending.entry.seq));
        Ok(as_stored.cloned().collect())
    }

    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>, ReadError> {
        self.logs().get(&conversation).map_or(Ok(None), Log::checked_head)
    }

    async fn read(
        &self,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        limit: PageLimit,
    ) -> Result<Vec<Arc<StoredEntry>>, ReadError> {
        let logs = self.logs();
        logs.get(&conversation)
            .map_or_else(|| Ok(Vec::new()), |log| log.read(from, to, limit))
    }

    async fn find(
        &self,
        conversation: ConversationId,
        sender: &Sender,
        id: &ClientMsgId,
        _known_head: Seq,
    ) -> Result<Option<Prior>, ReadError> {
        Ok(self.logs().get(&conversation).and_then(|log| log.prior(sender, id)))
    }

    async fn newest_id(&self, conversation: ConversationId, sender: &Sender) -> Result<Option<ClientMsgId>, ReadError> {
        let logs = self.logs();
        Ok(logs.get(&conversation).and_then(|log| log.newest.get(sender).cloned()))
    }

    async fn fanout_pending(&self) -> Result<Vec<(ConversationId, Seq)>, ReadError> {
        let logs = self.logs();
        let pending = logs.iter().filter_map(|(id, log)| log.pending.map(|seq| (*id, seq)));
        Ok(pending.collect())
    }

    async fn fanout_pending_from(&self, conversation: ConversationId) -> Result<Option<Seq>, ReadError> {
        Ok(self.logs().get(&conversation).and_then(|log| log.pending))
    }

    async fn fanout_done(&self, conversation: ConversationId, up_to: Seq) {
        if let Some(log) = self.logs().get_mut(&conversation) {
            let head = log.head.unwrap_or_default().seq;
            log.pending = log
                .pending
                .map(|first| first.max(up_to.next()))
                .filter(|first| *first <= head);
        }
    }
}
